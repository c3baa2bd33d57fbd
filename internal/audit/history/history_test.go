package history_test

import (
	"errors"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/statement"
)

// TestUntil: what came after an instant is not in the history as it stood then, and the whole one keeps it.
func TestUntil(t *testing.T) {
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var sets []*statement.Set
	for i := range 3 {
		s := new(statement.Set)
		s.Lock.Version, s.Lock.Created, s.LockHash[0] = int64(i+1), begin.Add(time.Duration(i)*time.Hour), byte(i+1)
		sets = append(sets, s)
	}
	h := history.New(sets...)
	for after, want := range map[time.Duration]int64{0: 1, 59 * time.Minute: 1, time.Hour: 2, 90 * time.Minute: 2, 100 * time.Hour: 3} {
		cut, err := h.Until(begin.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		if n := cut.Newest(); n.Lock.Version != want || !n.Until.IsZero() || n.Next != 0 {
			t.Errorf("after %s: %+v", after, n)
		}
		if spans := cut.In(begin, begin.Add(1000*time.Hour)); len(spans) != int(want) {
			t.Errorf("after %s: %d spans", after, len(spans))
		}
	}
	if first, err := h.At(begin); err != nil || first.Until.IsZero() || first.Next != 2 || h.Newest().Lock.Version != 3 {
		t.Errorf("the history was changed: %+v %v", first, err)
	}
	if _, err := h.Until(begin.Add(-1)); !errors.Is(err, history.ErrBefore) {
		t.Error(err)
	}
}
