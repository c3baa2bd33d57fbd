package dossier

import (
	"cmp"
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

// signed is one record, and the statements that it is judged by.
type signed struct {
	control.Voucher
	*history.Span
}

// readVouchers judges each record by the statements in force when a ledger got it; one that no ledger has, by those of the time that its signers say.
// What several people sign each on his own machine counts together.
func readVouchers(ctx context.Context, store statement.Store, b *books.Books) (*vouchers, error) {
	records, err := estate.ReadRecords(store, "evidence")
	if err != nil {
		return nil, fmt.Errorf("reading the records of evidence: %w", err)
	}
	list, err := b.Entered(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what ledgers have of evidence: %w", err)
	}
	entered, by := books.First(list), map[string][]signed{}
	for _, env := range records {
		said, err := statement.ReadEvidence(env)
		if err != nil {
			continue
		}
		id := env.ID()
		v := control.Voucher{Record: hex.EncodeToString(id[:]), Made: said.Created}
		in, anchored := entered[v.Record]
		if v.Anchored = anchored; anchored {
			v.Made = in.Time
		} else if in.Span, err = b.History.At(v.Made); err != nil || v.Made.After(b.Now.Add(skew)) {
			continue // who was entitled then cannot be known
		}
		if _, v.By, err = in.Span.OpenEvidence(env, v.Made); err == nil { // else of nobody who was live then
			by[said.SHA256] = append(by[said.SHA256], signed{v, in.Span})
		}
	}
	all := &vouchers{map[string]control.Voucher{}, map[string][]string{}}
	for sum, list := range by {
		slices.SortFunc(list, func(a, b signed) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.Record, b.Record)) })
		v, ok := together(slices.DeleteFunc(slices.Clone(list), func(s signed) bool { return !s.Anchored }))
		if !ok {
			if v, ok = together(list); ok {
				v.Anchored = false
			}
		}
		if ok {
			all.hold[sum] = v
			continue
		}
		for _, s := range list {
			all.without[sum] = append(all.without[sum], s.By...)
		}
	}
	return all, nil
}

// skew is by how much a signer's clock may be ahead.
const skew = 5 * time.Minute

// together is what the records of one document come to, the oldest first: the first that an operations owner or a root holder signed, the rule of the
// register; or that with which two people of two roles had, that of incidents. False for neither.
func together(list []signed) (v control.Voucher, ok bool) {
	var people, owners []string
	for _, s := range list {
		people = append(people, s.By...)
		for _, p := range s.By {
			if register.Entitled(&s.Charter, p, s.Made) {
				if owners = append(owners, p); !ok {
					v, ok = s.Voucher, true
				}
			}
		}
		if s.Charter.Two(people, s.Made) {
			if !ok {
				v, ok = s.Voucher, true
			}
			v.Two, owners = true, people
		}
	}
	slices.Sort(owners)
	v.By = slices.Compact(slices.Clone(owners))
	return v, ok
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
