package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// Bundle is a self-contained proof of one entry: what 'reeve receipt get' writes. docs/formats/receipt.md describes it.
type Bundle struct {
	V          int     `json:"v"`                 // 1
	Receipt    string  `json:"receipt,omitempty"` // empty when it was made from a copy of the log, without the promise
	Leaf       Proven  `json:"leaf"`
	Outcome    *Proven `json:"outcome,omitempty"` // of an intent, if it was in the tree
	Checkpoint string  `json:"checkpoint"`        // with cosignatures
}

// Proven is an entry and its inclusion proof in the bundle's checkpoint.
type Proven struct {
	Entry string      `json:"entry"` // its bytes
	Proof []tlog.Hash `json:"proof"`
}

// Encode returns the file.
func (b *Bundle) Encode() []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(b) // strings, integers and hashes always encode
	return buf.Bytes()
}

// ParseBundle reads a bundle strictly. It verifies nothing.
func ParseBundle(raw []byte) (*Bundle, error) {
	b := new(Bundle)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return nil, fails("bundle: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fails("bundle: data after its end")
	}
	// One spelling only: what the parser would overlook (a doubled member, other white space) is refused.
	if b.V != 1 || !bytes.Equal(b.Encode(), raw) {
		return nil, fails("bundle is not version 1 in its canonical form")
	}
	return b, nil
}

// Result says how far one entry is proven.
type Result struct {
	Level      Level        `json:"level"`
	Process    string       `json:"process"`
	Origin     string       `json:"origin"`
	Seq        int64        `json:"seq"`
	TimeNS     int64        `json:"time_ns,string"`
	Entry      *entry.Entry `json:"-"`
	Leaf       string       `json:"entry,omitempty"`   // the entry's bytes
	Outcome    string       `json:"outcome,omitempty"` // the outcome's bytes
	Cosigners  []string     `json:"cosigners,omitempty"`
	CosignedAt string       `json:"cosigned_at,omitempty"` // RFC 3339
	Unknown    []string     `json:"unknown,omitempty"`     // what cannot be known from what was given
}

// Bundle verifies a bundle. The result's level is what is proven, whatever was asked for.
func (t *Trust) Bundle(raw []byte) (*Result, error) {
	b, err := ParseBundle(raw)
	if err != nil {
		return nil, err
	}
	c, err := t.Checkpoint([]byte(b.Checkpoint))
	if err != nil {
		return nil, err
	}
	e, err := t.leaf(b, c)
	if err != nil {
		return nil, err
	}
	res := t.result(c, e, b.Leaf.Entry)
	if b.Outcome == nil {
		if e.Type == entry.Intent {
			res.Unknown = append(res.Unknown, "used, outcome unknown: the bundle holds no outcome entry")
		}
		return res, nil
	}
	o, err := entry.Parse([]byte(b.Outcome.Entry))
	if err != nil {
		return nil, fails("outcome: %w", err)
	}
	if _, err := b.Outcome.check(c, o.Seq); err != nil {
		return nil, err
	}
	if !isOutcome(o, e) {
		return nil, fails("the outcome belongs to another entry")
	}
	res.Outcome = b.Outcome.Entry
	return res, nil
}

// leaf verifies the bundle's entry in its checkpoint, and that it is what its receipt, if it has one, promised.
func (t *Trust) leaf(b *Bundle, c *Checkpoint) (*entry.Entry, error) {
	if b.Receipt == "" {
		e, err := entry.Parse([]byte(b.Leaf.Entry))
		if err != nil {
			return nil, fails("entry: %w", err)
		}
		return b.Leaf.check(c, e.Seq)
	}
	r, l, err := t.Receipt(b.Receipt)
	if err != nil {
		return nil, err
	}
	if c.Log.Origin != l.Origin {
		return nil, fails("the receipt is of %s, the checkpoint of %s", l.Origin, c.Log.Origin)
	}
	e, err := b.Leaf.check(c, r.Seq)
	if err != nil {
		return nil, err
	}
	return e, matches(r, []byte(b.Leaf.Entry), e)
}

func isOutcome(o, intent *entry.Entry) bool {
	return o.Type == entry.Outcome && o.HasIntent && o.IntentLog == "" && o.IntentSeq == intent.Seq && intent.Type == entry.Intent
}

// check verifies an entry's inclusion at seq.
func (p *Proven) check(c *Checkpoint, seq int64) (*entry.Entry, error) {
	e, err := entry.Parse([]byte(p.Entry))
	if err != nil {
		return nil, fails("entry: %w", err)
	}
	if e.Seq != seq || e.Log != entry.LogID(c.Log.Key) {
		return nil, fails("the entry is number %d of log %s, not %d of %s", e.Seq, e.Log, seq, entry.LogID(c.Log.Key))
	}
	if seq >= c.N {
		return nil, fails("entry %d is not in a tree of %d", seq, c.N)
	}
	if err := tlog.CheckRecord(p.Proof, c.N, c.Hash, seq, tlog.RecordHash([]byte(p.Entry))); err != nil {
		return nil, fails("inclusion of entry %d: %w", seq, err)
	}
	return e, nil
}

// matches holds an entry against the promise of it.
func matches(r *entry.Receipt, leaf []byte, e *entry.Entry) error {
	if tlog.RecordHash(leaf) != r.Leaf {
		return fails("the log holds another entry at number %d than it promised: the promise was broken", r.Seq)
	}
	if e.TimeNS != r.TimeNS {
		return fails("the receipt and the entry name different times")
	}
	return nil
}

func (t *Trust) result(c *Checkpoint, e *entry.Entry, leaf string) *Result {
	res := &Result{Level: t.level(c), Process: c.Log.Process, Origin: c.Log.Origin, Seq: e.Seq, TimeNS: e.TimeNS, Entry: e, Leaf: leaf, Cosigners: c.Cosigners}
	if !c.Time.IsZero() {
		res.CosignedAt = c.Time.Format("2006-01-02T15:04:05Z")
	}
	if res.Level < Cosigned {
		res.Unknown = append(res.Unknown, fmt.Sprintf("%d of %d cosignatures: the log's key alone could have signed another tree too", len(c.Cosigners), t.need()))
	}
	return res
}

// Promise verifies a receipt alone.
func (t *Trust) Promise(receipt string) (*Result, error) {
	r, l, err := t.Receipt(receipt)
	if err != nil {
		return nil, err
	}
	return &Result{Level: Promised, Process: l.Process, Origin: l.Origin, Seq: r.Seq, TimeNS: r.TimeNS,
		Unknown: []string{"whether the log has kept its promise: give its published directory or a bundle"}}, nil
}

// Collect makes a bundle for a receipt from a published log, with the newest cosigned checkpoint. It fails with
// ErrUndecided while no checkpoint holds the entry (try again a second later), and with ErrDoesNotHold when another entry stands in its place.
func (t *Trust) Collect(dir fs.FS, receipt string) (*Bundle, error) {
	r, l, err := t.Receipt(receipt)
	if err != nil {
		return nil, err
	}
	d, err := published{dir}.volume(l.n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, undecided("%s is not in this directory", l.Origin)
	}
	if err != nil {
		return nil, err
	}
	c, err := d.checkpoint(t, cosignedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, undecided("%s has no cosigned checkpoint yet", l.Origin)
	}
	if err != nil {
		return nil, err
	}
	if c.Log.Origin != l.Origin {
		return nil, undecided("the directory holds %s, the receipt is of %s", c.Log.Origin, l.Origin)
	}
	if r.Seq >= c.N {
		return nil, undecided("the newest cosigned checkpoint of %s has %d entries, the receipt is for number %d", l.Origin, c.N, r.Seq)
	}
	b := &Bundle{V: 1, Receipt: receipt, Checkpoint: string(c.Raw)}
	leaf, err := d.prove(c, c, r.Seq, &b.Leaf)
	if err != nil {
		return nil, err
	}
	if err := matches(r, []byte(b.Leaf.Entry), leaf); err != nil {
		return nil, err
	}
	if leaf.Type != entry.Intent {
		return b, nil
	}
	seq, err := d.outcome(leaf, c.N)
	if err != nil || seq < 0 {
		return b, err
	}
	b.Outcome = new(Proven)
	_, err = d.prove(c, c, seq, b.Outcome)
	return b, err
}

// Prove makes a bundle of one entry, and of its outcome unless that is -1, from a folder that holds one log alone, as the auditor keeps its
// copies: without a receipt, in the cosigned checkpoint where that reaches so far and in the signed one otherwise.
func (t *Trust) Prove(dir fs.FS, seq, outcome int64) (*Bundle, error) {
	d := published{dir}
	c, err := d.checkpoint(t, cosignedFile) // first: the signed one is the newer
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	newest, err := d.checkpoint(t, signedFile)
	if err != nil {
		return nil, err
	}
	if c == nil || max(seq, outcome) >= c.N || c.Log.Origin != newest.Log.Origin {
		c = newest
	}
	b := &Bundle{V: 1, Checkpoint: string(c.Raw)}
	if _, err := d.prove(c, newest, seq, &b.Leaf); err != nil || outcome < 0 {
		return b, err
	}
	b.Outcome = new(Proven)
	_, err = d.prove(c, newest, outcome, b.Outcome)
	return b, err
}

// prove fills p with entry seq and its proof in c, read from the tiles of newest: c or a checkpoint that extends it.
func (d published) prove(c, newest *Checkpoint, seq int64, p *Proven) (*entry.Entry, error) {
	raw, err := d.entry(seq, newest.N)
	if err != nil {
		return nil, err
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, fails("entry %d: %w", seq, err)
	}
	proof, err := tlog.ProveRecord(c.N, seq, d.hashes(newest.Tree))
	if err != nil {
		return nil, fails("entry %d: %w", seq, err)
	}
	p.Entry, p.Proof = string(raw), proof
	_, err = p.check(c, seq)
	return e, err
}

// outcome looks for the outcome of an intent below size, or returns -1.
func (d published) outcome(intent *entry.Entry, size int64) (int64, error) {
	for n := intent.Seq / tileWidth; n*tileWidth < size; n++ {
		entries, err := d.bundle(n, int(min(size-n*tileWidth, tileWidth)))
		if err != nil {
			return -1, err
		}
		for _, raw := range entries {
			if !bytes.Contains(raw, []byte(`"intent_seq":`+strconv.FormatInt(intent.Seq, 10)+`,`)) {
				continue
			}
			if o, err := entry.Parse(raw); err == nil && isOutcome(o, intent) {
				return o.Seq, nil
			}
		}
	}
	return -1, nil
}
