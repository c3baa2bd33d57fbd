package blast

import (
	"cmp"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/statement"
)

// draft is a row that is being made.
type draft struct {
	Row
	proven, asserted int64
	held             []held
	strays           []Stray
	scoped           bool                // the unit owns it, or it is lent to the unit
	open             bool                // the policy in force let the subject reach it
	served           bool                // the subject reaches it whatever policy says
	glass            bool                // a break-glass opened it
	closed           *closings.Change    // what kept it closed for the whole window, where policy let it be reached
	target           statement.Target    // of that
	seqs             map[string][2]int64 // first and last number, by log
	keepers          map[string]bool     // custodians that serve the credential
}

// row is the row of a credential and a unit.
func (r *radius) row(credential, unit string) *draft {
	d := r.rows[pair{credential, unit}]
	if d == nil {
		d = &draft{Row: Row{Credential: credential, Unit: unit, Proofs: map[string]int64{}}, seqs: map[string][2]int64{}, keepers: map[string]bool{}}
		r.rows[pair{credential, unit}] = d
	}
	return d
}

// add counts a sum of the index.
func (d *draft) add(u *index.Uses, proven func(*index.Uses) bool) {
	d.Tenant = cmp.Or(d.Tenant, u.Tenant)
	s, had := d.seqs[u.Log]
	if !had {
		s = [2]int64{u.FirstSeq, u.LastSeq}
	}
	if u.Type == entry.Deny {
		d.Denied += u.Count
		return
	}
	d.seqs[u.Log] = [2]int64{min(s[0], u.FirstSeq), max(s[1], u.LastSeq)}
	if d.Uses == 0 || instant(u.First).Before(d.First) {
		d.First = instant(u.First)
	}
	if instant(u.Last).After(d.Last) {
		d.Last = instant(u.Last)
	}
	d.Uses += u.Count
	d.Unknown += u.Count - u.Done
	d.Proofs[strings.TrimSpace(u.Level+" "+u.Proof)] += u.Count
	if u.Proof == "pop" && u.Level >= "W2" && (proven == nil || proven(u)) {
		d.proven += u.Count
	} else {
		d.asserted += u.Count
	}
	d.Workloads, d.Gateways, d.Fingerprints = insert(d.Workloads, u.Workload), insert(d.Gateways, u.Gateway), insert(d.Fingerprints, u.Fingerprint)
}

// insert adds a word to a sorted list of distinct ones.
func insert(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if found || s == "" {
		return list
	}
	return slices.Insert(list, i, s)
}

// union merges into a sorted list of distinct words.
func union(list, more []string) []string {
	for _, s := range more {
		list = insert(list, s)
	}
	return list
}

// concerned reports whether anything but a policy that denied speaks of the row.
func (d *draft) concerned() bool {
	return d.Uses+d.Denied > 0 || d.open || d.served || d.glass || d.closed != nil || len(d.held) > 0
}
