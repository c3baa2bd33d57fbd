package lifecycle

import (
	"cmp"
	"time"

	"github.com/reevehq/reeve/internal/admin"
)

// Show fills in what an operator sees.
func (k *Keeper) Show(a *admin.Credential, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a.State = Pending
	for _, v := range k.versions {
		x := admin.Version{Lease: v.Lease, Workload: v.Workload, Fingerprint: v.Fingerprint, State: v.State, Issued: v.Issued, Expires: v.Expires,
			Age: int64(now.Sub(v.Issued) / time.Second)}
		if v.held != nil {
			k.Uses.count(v.held, now)
			x.InUse = v.held.InUse()
		}
		switch {
		case v.State != Active:
		case v.held == nil: // of an earlier process; the next that is fetched takes its place
			x.State = Overlapping
		case a.Closed != "":
			a.State, x.State = Frozen, Frozen
		default:
			a.State = Active
		}
		a.Versions = append(a.Versions, x)
	}
	all := []*slot{&k.shared}
	for _, s := range *k.each.Load() {
		all = append(all, s)
	}
	for _, s := range all {
		if s.err != nil {
			a.Error = cmp.Or(a.Error, s.err.Error())
		}
		if s.held.Load() != nil && !s.due.IsZero() && (a.Next.IsZero() || s.due.Before(a.Next)) {
			a.Next = s.due
		}
	}
	a.Ending = k.showEnding()
	a.LastUse, a.Uses = k.Uses.last, k.Uses.show(now)
}

// Active names the version in force that everybody uses; nothing when there is none.
func (k *Keeper) Active() (fingerprint, lease string) {
	if h := k.shared.held.Load(); h != nil {
		return h.Fingerprint, h.Lease
	}
	return "", ""
}

// showEnding needs mu.
func (k *Keeper) showEnding() *admin.Ending {
	e := k.ending
	if e == nil {
		return nil
	}
	a := &admin.Ending{Record: e.Record, Frozen: e.Frozen, Provider: e.Provider, Proven: e.Proven, Note: e.Note}
	for _, v := range k.versions {
		if v.Ending != e.Record {
			continue
		}
		last := v.Expires
		switch {
		case !v.Proven.IsZero():
			if last = v.Dead; !v.Expires.IsZero() && v.Expires.Before(last) {
				last = v.Expires
			}
		case v.Expires.IsZero():
			a.Open = true
		}
		if last.After(a.LastUse) {
			a.LastUse = last
		}
	}
	if a.Open {
		a.LastUse = time.Time{}
	}
	return a
}
