package detect

import (
	"context"
	"errors"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
)

// Watch sends findings as entries come. A finding is sent when it begins.
type Watch struct {
	*Detector
	Sinks []Sink
	// Statements reads the history anew: an entry may name a set that is not in it yet.
	Statements func() (*history.History, error)

	read time.Time           // when Statements was asked last
	owed map[string]*Finding // begun, and not sent to all
	sent map[string]map[Sink]bool
	last map[string]int64 // by log: number of the newest entry that was added
}

// Take adds entries and sends what begins. An error means that a finding is still owed: the same entries are given again.
func (w *Watch) Take(ctx context.Context, list []*entry.Entry) error {
	if w.owed == nil {
		w.owed, w.sent, w.last = map[string]*Finding{}, map[string]map[Sink]bool{}, map[string]int64{}
	}
	for _, e := range list {
		if last, ok := w.last[e.Log]; ok && e.Seq <= last {
			continue // given again
		}
		w.last[e.Log] = e.Seq
		if w.History != nil && e.Estate != "" && w.History.Of(e.Estate) == nil && time.Since(w.read) > time.Minute {
			w.read = time.Now()
			if h, err := w.Statements(); err == nil {
				w.History = h
			}
		}
		for _, f := range w.Add(e) {
			w.owed[f.ID] = f
		}
	}
	var failed []error
	for id, f := range w.owed {
		left, f := false, f.visible()
		for _, s := range w.Sinks {
			if w.sent[id][s] {
				continue
			}
			if err := s.Send(ctx, f); err != nil { // the others get it all the same
				failed, left = append(failed, err), true
				continue
			}
			if w.sent[id] == nil {
				w.sent[id] = map[Sink]bool{}
			}
			w.sent[id][s] = true
		}
		if !left {
			delete(w.owed, id)
			delete(w.sent, id)
		}
	}
	return errors.Join(failed...)
}
