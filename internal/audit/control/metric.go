package control

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
)

// Metric is one figure of the catalogue.
type Metric struct {
	ID    string   `json:"id"`
	Title string   `json:"title"`
	Unit  string   `json:"unit"`          // s, share or count
	Value *float64 `json:"value"`         // null where there is nothing that it could be taken from
	Of    int      `json:"of"`            // how many it was taken from
	Why   string   `json:"why,omitempty"` // of what, or why there is none
}

// Metrics are the figures at a time, from what happened in the window before it.
type Metrics struct {
	AsOf   time.Time     `json:"as_of"`
	Window time.Duration `json:"-"`
	List   []Metric      `json:"metrics"`
}

// Measure takes the metrics of the catalogue: how fast was answered, ended and contained, what was left alive, and what nobody answers for.
func Measure(ctx context.Context, b *books.Books, o Options) (*Metrics, error) {
	f, err := newFacts(ctx, b, o)
	if err != nil {
		return nil, err
	}
	if err := f.ofUnit(); err != nil {
		return nil, err
	}
	m := &Metrics{AsOf: f.asOf.UTC(), Window: f.opts.Window}
	for _, step := range []func(context.Context, *facts) error{m.incidents, m.endings, m.contained, m.resolved, m.static, m.judged, m.unledgered} {
		if err := step(ctx, f); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) add(id, title, unit string, v float64, of int, why string) {
	x := Metric{ID: id, Title: title, Unit: unit, Of: of, Why: why}
	if of > 0 {
		x.Value = &v
	}
	m.List = append(m.List, x)
}

// incidents is how long it took to name everybody who is accountable.
func (m *Metrics) incidents(_ context.Context, f *facts) error {
	var took []float64
	for _, i := range f.courses() {
		if !i.Attributed.IsZero() && !i.Attributed.After(f.asOf) && i.Attributed.After(f.from) {
			took = append(took, i.Attributed.Sub(i.Opened).Seconds())
		}
	}
	m.add("time_to_attribute", "time to attribute, longest", "s", greatest(took), len(took), "incidents, from their opening to the naming of everybody accountable")
	return nil
}

// endings is how long revoked secrets lived on, from the entry of the revocation to their proof.
func (m *Metrics) endings(ctx context.Context, f *facts) error {
	list, err := f.endings(ctx)
	if err != nil {
		return err
	}
	var took []float64
	residual := 0.0
	for _, r := range list {
		begun, dead := time.Unix(0, r.Time), r.dead
		if dead.IsZero() {
			dead = f.asOf // and counting
		} else {
			took = append(took, dead.Sub(begun).Seconds())
		}
		residual += max(0, dead.Sub(begun).Seconds())
	}
	slices.Sort(took)
	for _, p := range []struct {
		id, title string
		share     float64
	}{{"time_to_revoke_p50", "time to revoke, median", 0.5}, {"time_to_revoke_p95", "time to revoke, 95th percentile", 0.95}, {"time_to_revoke_max", "time to revoke, longest", 1}} {
		m.add(p.id, p.title, "s", percentile(took, p.share), len(took), "versions of secrets, from the revocation's first entry to the proof that they are dead")
	}
	m.add("residual_credential_seconds", "credential-seconds after the kill", "s", residual, len(list), "versions of secrets that were revoked, until they were proven dead, or still")
	left, secrets := 0.0, 0
	for _, i := range f.courses() {
		if i.AsOf.After(f.from) {
			left, secrets = left+i.Residual, secrets+i.Dead+i.Unproven
		}
	}
	m.add("incident_credential_seconds", "credential-seconds after the kill, of incidents", "s", left, secrets, "secrets that were ended for incidents, as people signed for it")
	return nil
}

// contained is how long closings took from their first entry in any ledger to the last custodian's.
func (m *Metrics) contained(ctx context.Context, f *facts) error {
	var took []float64
	for _, i := range f.courses() {
		if !i.Contained.IsZero() && !i.Contained.After(f.asOf) && i.Contained.After(f.from) {
			took = append(took, i.Contain().Seconds())
		}
	}
	why := "incidents, from their opening to containment"
	if len(took) == 0 {
		why = "closings, from their first entry to the last process that enforced them"
		events, err := f.events(ctx, f.opts.Window, entry.Revoke)
		if err != nil {
			return err
		}
		first, last := map[string]int64{}, map[string]int64{}
		for _, e := range events { // in the order of time
			if _, seen := first[e.Record]; !seen {
				first[e.Record] = e.Time
			} else if e.Record != "" {
				last[e.Record] = e.Time
			}
		}
		for record, t := range last {
			took = append(took, time.Duration(t-first[record]).Seconds())
		}
	}
	m.add("time_to_contain", "time to contain, longest", "s", greatest(took), len(took), why)
	return nil
}

// resolved is the share of uses of which it is certain whose they were, and who answered for them.
func (m *Metrics) resolved(ctx context.Context, f *facts) error {
	t := newTally("", f)
	if err := scoping(ctx, f, t); err != nil {
		return err
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	all, bad := int64(0), int64(0)
	wrong := map[Ref]bool{}
	for _, x := range t.findings {
		wrong[x.Refs[0]] = true
	}
	for i := range uses {
		if u := &uses[i]; t.here(u.Unit) {
			if all += u.Count; wrong[refs(u)[0]] {
				bad += u.Count
			}
		}
	}
	m.add("uses_to_one_live_owner", "uses that resolve to one live owner", "share", share(all-bad, all), int(all), "uses")
	return nil
}

// static is the share of uses with a secret that lives a day or more, or has no end.
func (m *Metrics) static(ctx context.Context, f *facts) error {
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	short := map[[2]string]bool{} // by log and fingerprint
	for _, v := range versions {
		short[[2]string{v.Log, v.Fingerprint}] = v.Expires != 0 && time.Unix(v.Expires, 0).Sub(time.Unix(0, v.Bound)) < day
	}
	all, static := int64(0), int64(0)
	for _, u := range uses {
		if _, known := short[[2]string{u.Log, u.Fingerprint}]; !known || f.opts.Unit != "" && u.Unit != f.opts.Unit {
			continue
		}
		if all += u.Count; !short[[2]string{u.Log, u.Fingerprint}] {
			static += u.Count
		}
	}
	m.add("static_share", "uses of static secrets", "share", share(static, all), int(all), "uses of secrets whose beginning the ledgers have")
	return nil
}

// judged are the metrics that controls count.
func (m *Metrics) judged(ctx context.Context, f *facts) error {
	count := func(id, title, why string, checks ...check) error {
		bad, of := 0, 0
		for _, c := range checks {
			t := newTally("", f)
			if err := c(ctx, f, t); err != nil {
				return err
			}
			bad, of = bad+t.bad, of+t.checked
		}
		m.add(id, title, "count", float64(bad), of, why)
		return nil
	}
	if err := count("orphans", "orphaned credentials", "credentials", owners); err != nil {
		return err
	}
	return count("duty_violations", "violations of the separation of duties", "gateways and people who sign policy", gatewayOwners, separation)
}

// unledgered are the uses that only providers saw.
func (m *Metrics) unledgered(_ context.Context, f *facts) error {
	strays, of := int64(0), 0
	for _, r := range f.evidence.Reconciliations {
		if r.Undecided == "" && !r.To.After(f.asOf) && r.To.After(f.from) && (f.opts.Unit == "" || f.home(r.Credential) == f.opts.Unit) {
			strays, of = strays+r.Strays, of+1
		}
	}
	m.add("unledgered_uses", "uses that no ledger has", "count", float64(strays), of, "comparisons with providers' records")
	return nil
}

func share(part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

func greatest(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Max(list)
}

// percentile is the smallest value that a share of the sorted list does not exceed.
func percentile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// String writes the value for people.
func (m *Metric) String() string {
	switch {
	case m.Value == nil:
		return "unknown"
	case m.Unit == "share":
		return fmt.Sprintf("%.1f %%", *m.Value*100)
	case m.Unit == "count":
		return fmt.Sprintf("%.0f", *m.Value)
	}
	return (time.Duration(*m.Value * float64(time.Second))).Round(time.Millisecond).String()
}
