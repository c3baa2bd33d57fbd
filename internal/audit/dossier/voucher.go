package dossier

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrUnsigned means that nobody has signed for a document.
	ErrUnsigned = errors.New("nobody has signed for it, so it counts for nothing; reeve controls record signs")
	// ErrRole means that nobody has who was entitled to.
	ErrRole = errors.New("it takes an operations owner, a root holder, or two people of two roles, by the statements in force then, so it counts for nothing")
)

// vouchers are the records of evidence in a signed store, by the hash of their document: those that hold, and who signed those that do not.
type vouchers struct {
	hold    map[string]control.Voucher
	without map[string][]string
}

// readVouchers judges each record by the statements in force when a ledger got it; one that no ledger has, by those of the time that its signers say.
// Where several hold, that counts which was entered first.
func readVouchers(ctx context.Context, store statement.Store, b *books.Books) (*vouchers, error) {
	records, err := estate.ReadRecords(store, "evidence")
	if err != nil {
		return nil, fmt.Errorf("reading the records of evidence: %w", err)
	}
	list, err := b.Entered(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what ledgers have of evidence: %w", err)
	}
	entered, all := books.First(list), &vouchers{map[string]control.Voucher{}, map[string][]string{}}
	for _, env := range records {
		said, err := statement.ReadEvidence(env)
		if err != nil {
			continue
		}
		id := env.ID()
		v := control.Voucher{Record: hex.EncodeToString(id[:]), Made: said.Created}
		in, anchored := entered[v.Record]
		if v.Anchored, v.Made = anchored, said.Created; anchored {
			v.Made = in.Time
		} else if in.Span, err = b.History.At(v.Made); err != nil || v.Made.After(b.Now.Add(skew)) {
			continue // who was entitled then cannot be known
		}
		if _, v.By, err = in.Span.OpenEvidence(env, v.Made); err != nil {
			continue // of nobody who was live then
		}
		if !entitled(in.Span, v.By, v.Made) {
			all.without[said.SHA256] = append(all.without[said.SHA256], v.By...)
			continue
		}
		v.Two = in.Span.Charter.Two(v.By, v.Made)
		if old, ok := all.hold[said.SHA256]; !ok || better(v, old) {
			all.hold[said.SHA256] = v
		}
	}
	return all, nil
}

// skew is by how much a signer's clock may be ahead.
const skew = 5 * time.Minute

// better reports whether a record vouches sooner than another for the same document.
func better(a, b control.Voucher) bool {
	if a.Anchored != b.Anchored {
		return a.Anchored
	}
	return a.Made.Before(b.Made) || a.Made.Equal(b.Made) && a.Record < b.Record
}

// entitled is the rule of the register for what no statement says, and that of incidents.
func entitled(s *history.Span, by []string, t time.Time) bool {
	return s.Charter.Two(by, t) || slices.ContainsFunc(by, func(p string) bool { return register.Entitled(&s.Charter, p, t) })
}

// of is who vouches for a document. The error is ErrUnsigned or ErrRole.
func (all *vouchers) of(sum string) (control.Voucher, error) {
	if v, ok := all.hold[sum]; ok {
		return v, nil
	}
	if by := all.without[sum]; len(by) > 0 {
		slices.Sort(by)
		return control.Voucher{}, fmt.Errorf("%s signed for it, and %w", strings.Join(slices.Compact(by), ", "), ErrRole)
	}
	return control.Voucher{}, ErrUnsigned
}
