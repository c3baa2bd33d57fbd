package ocsf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/verify"
)

// Sink takes events. When Send returns nil they are kept. It may be given the same ones again.
type Sink interface {
	Send(ctx context.Context, b Batch) error
}

// Batch is events of one log, in order.
type Batch struct {
	First, Last string // their uids
	Lines       []byte // one JSON object a line
}

// Exporter hands entries to a sink as events. One goroutine uses it.
type Exporter struct {
	State string // the auditor's state directory
	Trust *verify.Trust
	Sink  Sink

	known map[string]*logs.Log // by id
}

// log is the auditor's copy that has the entry.
func (x *Exporter) log(id string) (*logs.Log, error) {
	if l := x.known[id]; l != nil {
		return l, nil
	}
	all, err := logs.Open(x.State, x.Trust)
	if err != nil {
		return nil, err
	}
	x.known = map[string]*logs.Log{}
	for _, l := range all {
		x.known[l.ID] = l
	}
	if l := x.known[id]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("the auditor has no copy of log %s", id)
}

const maxBytes = 1 << 20 // of a batch's lines, but for the last one

// Deliver hands entries of one log over, in order. What it is given again it hands over again, with the same uids. It is what a cursor.Follower
// takes.
func (x *Exporter) Deliver(ctx context.Context, list []*entry.Entry) error {
	var b Batch
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for i, e := range list {
		l, err := x.log(e.Log)
		if err != nil {
			return err
		}
		v, err := From(e, e.AppendJSON(nil), l.Checkpoint.Log.Origin, l.Process)
		if err != nil {
			return err
		}
		if lines.Len() == 0 {
			b.First = v.Metadata.UID
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		if b.Last = v.Metadata.UID; lines.Len() < maxBytes && i+1 < len(list) {
			continue
		}
		b.Lines = lines.Bytes()
		if err := x.Sink.Send(ctx, b); err != nil {
			return err
		}
		lines.Reset()
	}
	return nil
}
