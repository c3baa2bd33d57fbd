// Package history says which statements were in force when, and who answered for what under them: the sets of a signed store in time.
package history

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// ErrBefore means that the store does not reach back to the instant that is asked about.
var ErrBefore = errors.New("the signed store does not reach back to that time")

// Span is a set and the time that it was the newest. From is the lock's own word (valid time): an entry's Estate says exactly under which set
// something was decided.
type Span struct {
	Hash  string // hex, of the lock's manifest: the Estate of entries
	From  time.Time
	Until time.Time // zero for the newest
	Next  int64     // version of the lock of the span after it; 0 for the newest
	*statement.Set
}

// History is the spans of a store, the oldest first. It does not change.
type History struct{ spans []Span }

// Open verifies every set that the store has.
func Open(store statement.Store, pin statement.Pin, now time.Time) (*History, error) {
	sets, err := statement.Versions(store, pin, now)
	if err != nil {
		return nil, fmt.Errorf("reading what was in force when: %w", err)
	}
	return New(sets...), nil
}

// New makes a history of sets, the oldest first.
func New(sets ...*statement.Set) *History {
	h := &History{}
	for i, s := range sets {
		x := Span{Hash: hex.EncodeToString(s.LockHash[:]), From: s.Lock.Created, Set: s}
		if i+1 < len(sets) {
			x.Until, x.Next = sets[i+1].Lock.Created, sets[i+1].Lock.Version
		}
		h.spans = append(h.spans, x)
	}
	return h
}

// At is the span in force at t. The error is ErrBefore.
func (h *History) At(t time.Time) (*Span, error) {
	i := sort.Search(len(h.spans), func(i int) bool { return h.spans[i].From.After(t) })
	if i == 0 {
		return nil, fmt.Errorf("%w: %s", ErrBefore, t.UTC().Format(time.RFC3339))
	}
	return &h.spans[i-1], nil
}

// In is the spans that were in force at some time in [from, to), the oldest first.
func (h *History) In(from, to time.Time) (list []*Span) {
	for i := range h.spans {
		if s := &h.spans[i]; s.From.Before(to) && (s.Until.IsZero() || s.Until.After(from)) {
			list = append(list, s)
		}
	}
	return list
}

// Of is the span of a lock's hash, as entries name it; nil when the store has it no more.
func (h *History) Of(hash string) *Span {
	if i := slices.IndexFunc(h.spans, func(s Span) bool { return s.Hash == hash }); i >= 0 {
		return &h.spans[i]
	}
	return nil
}

// Until is the history as it stood at t: without what came after. The error is ErrBefore.
func (h *History) Until(t time.Time) (*History, error) {
	last, err := h.At(t)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(h.spans, func(s Span) bool { return s.Hash == last.Hash })
	cut := &History{slices.Clone(h.spans[:i+1])}
	cut.spans[i].Until, cut.spans[i].Next = time.Time{}, 0
	return cut, nil
}

// Newest is the span in force now.
func (h *History) Newest() *Span { return &h.spans[len(h.spans)-1] }
