package incident

import (
	"context"
	"encoding/base64"
	"fmt"
	"sort"
	"time"

	"github.com/reevehq/reeve/internal/audit/logs"
)

// brackets finds the window in each log.
func (m *maker) brackets(context.Context) error {
	m.Brackets = []Bracket{}
	for _, l := range m.in.Books.Logs {
		before, err := number(l, m.From)
		if err != nil {
			return err
		}
		last, err := number(l, m.To)
		if err != nil {
			return err
		}
		m.Brackets = append(m.Brackets, Bracket{Process: l.Process, Log: l.ID, Origin: l.Checkpoint.Log.Origin, Before: before - 1, Last: last - 1, Size: l.Checkpoint.N,
			Root: base64.StdEncoding.EncodeToString(l.Checkpoint.Hash[:]), Cosigned: l.Checkpoint.Time.UTC()})
		m.Commands = append(m.Commands, fmt.Sprintf("reeve verify --ledger logs/%s --trust trust.json --need included", l.ID))
	}
	return nil
}

// number is that of the first entry of a log at t or later.
func number(l *logs.Log, t time.Time) (int64, error) {
	var failed error
	n := sort.Search(int(l.Checkpoint.N), func(i int) bool {
		e, _, err := l.Entry(int64(i))
		if err != nil {
			failed = err
			return true
		}
		return e.TimeNS >= t.UnixNano()
	})
	return int64(n), failed
}
