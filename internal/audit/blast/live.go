package blast

import (
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/statement"
)

// live says what of the row is still usable, and until when. Who read a secret can use it wherever its provider takes it; who could only cause uses
// needs a custodian that still permits them.
func (r *radius) live(d *draft) {
	all := r.versions[d.Credential]
	d.State = "none"
	if len(all) > 0 {
		newest := slices.MaxFunc(all, func(a, b index.Version) int { return instant(a.Bound).Compare(instant(b.Bound)) })
		if d.State = newest.State; newest.Expires != 0 && !time.Unix(newest.Expires, 0).After(r.asOf) {
			d.State = "expired"
		}
	}
	if d.Class == Excluded {
		return
	}
	list := r.lasting(d)
	if len(all) == 0 && (d.Uses > 0 || len(d.held)+len(d.strays) > 0) { // it was there, and nothing says what became of it
		d.State, d.Live = "unknown", true
		return
	}
	d.Live = len(list) > 0
	for _, v := range list {
		if v.Expires == 0 {
			d.LiveUntil = time.Time{}
			return
		}
		if end := time.Unix(v.Expires, 0).UTC(); end.After(d.LiveUntil) {
			d.LiveUntil = end
		}
	}
}

// lasting are the versions that were exposed and are usable still.
func (r *radius) lasting(d *draft) (list []index.Version) {
	beyond := d.Class == Read || d.Class == OutOfBand
	closed := !beyond && r.closedNow(d)
	for _, v := range r.versions[d.Credential] {
		switch {
		case !instant(v.Bound).Before(r.to) || v.Expires != 0 && !time.Unix(v.Expires, 0).After(r.asOf) || v.State == "revoked-proven":
		case d.Class == Read && !r.holds(d, &v):
		case beyond: // that its bytes are gone here, or that its source was told, ends it nowhere else
			list = append(list, v)
		case v.State == "revoked-unproven" && d.Uses > 0: // it was used, it was to end, and nobody has seen that it did
			list = append(list, v)
		case !closed && (v.State == "active" || v.State == "overlapping" || v.State == "pending"):
			list = append(list, v)
		}
	}
	return list
}

// holds reports whether the subject had the version in its hands.
func (r *radius) holds(d *draft, v *index.Version) bool {
	return slices.ContainsFunc(d.held, func(h held) bool {
		return h.version == nil || h.version.Log == v.Log && h.version.Lease == v.Lease && h.version.Workload == v.Workload
	})
}

// closedNow reports whether every custodian of the credential keeps it closed.
func (r *radius) closedNow(d *draft) bool {
	var custodians []string
	for k := range d.keepers {
		custodians = append(custodians, k)
	}
	targets := []statement.Target{{Kind: closing.Everything}, {Kind: closing.Credential, ID: d.Credential}, {Kind: closing.Unit, ID: d.Unit}, {Kind: closing.Unit, ID: d.Owning},
		{Kind: closing.Tenant, ID: d.Tenant}}
	if r.subject.Kind == Component {
		targets = append(targets, statement.Target{Kind: closing.Gateway, ID: r.component.ID})
	}
	if r.subject.Kind == Workload {
		targets = append(targets, statement.Target{Kind: closing.Workload, ID: r.subject.ID})
	}
	x, _ := r.closings.Every(custodians, targets, r.asOf, r.asOf)
	return x != nil
}

// remain adds what lives on.
func (r *radius) remain(d *draft, to *Residual) {
	to.Credentials++
	if d.LiveUntil.IsZero() {
		to.Unbounded++
		return
	}
	to.Seconds += int64(d.LiveUntil.Sub(r.asOf) / time.Second)
}
