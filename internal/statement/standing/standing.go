// Package standing tells what published revocation records close under a set, and whether a next version keeps that.
package standing

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Closings is what published revocation records close under a set, each with the newest record that did. Records that the set does not take are
// passed over.
func Closings(set *statement.Set, records iter.Seq[*statement.Envelope], now time.Time) map[statement.Target]*statement.Revocation {
	newest := map[statement.Target]*statement.Revocation{}
	for env := range records {
		r, err := set.Standing(env, now)
		if err != nil {
			continue
		}
		if was := newest[r.Target]; was == nil || r.Time.After(was.Time) || r.Time.Equal(was.Time) && was.Open {
			newest[r.Target] = r
		}
	}
	for t, r := range newest {
		if r.Open {
			delete(newest, t)
		}
	}
	return newest
}

// Keeps refuses a version after another if something that both have is closed by the published records under one of them alone: whoever starts
// anew would serve what was closed, or refuse what was opened. The refusals are of type *statement.Error, rule closing.
func Keeps(before, after *statement.Set, records iter.Seq[*statement.Envelope], now time.Time) error {
	was, then := Closings(before, records, now), Closings(after, records, now)
	var all []error
	differ := func(r *statement.Revocation, format string) {
		if before.Has(r.Target) && after.Has(r.Target) {
			all = append(all, &statement.Error{Rule: "closing", Person: r.Signer, What: fmt.Sprintf(format, r.Target, r.Number, r.Signer),
				Meaning: "A process that starts anew would not know of it", Do: "Have people who keep their roles close it, or open it, once more (reeve revoke), then publish"})
		}
	}
	for t, r := range was {
		if then[t] == nil {
			differ(r, "%s is closed by record %d of %s, which does not hold under this version")
		}
	}
	for t, r := range then {
		if was[t] == nil {
			differ(r, "%s was opened after record %d of %s closed it, and the record that opened it does not hold under this version")
		}
	}
	slices.SortFunc(all, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(all...)
}
