package blast

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// reached adds what the policy in force let the subject reach.
func (r *radius) reached(context.Context) error {
	var last *history.Span
	var pairs []reach.Pair
	for _, s := range r.spans {
		from, to := s.From, s.Until
		if from.Before(r.from) {
			from = r.from
		}
		if to.IsZero() || to.After(r.to) {
			to = r.to
		}
		if r.power.serves != nil {
			r.serves(s)
		}
		if r.power.ask == nil {
			continue
		}
		if last == nil || !maps.Equal(last.Lock.Statements, s.Lock.Statements) || !from.Before(last.Expires) {
			var err error
			// What a set opens only becomes less while it is in force: people leave, attestations run out.
			if pairs, err = reach.Pairs(r.without(s, from, to), from, *r.power.ask); err != nil {
				return fmt.Errorf("reading the policies of version %d of the lock: %w", s.Lock.Version, err)
			}
		}
		last = s
		for i := range pairs {
			r.reach(s, &pairs[i], from, to)
		}
	}
	return nil
}

// without is the set as if those people had left who were closed at every custodian all the time.
func (r *radius) without(s *history.Span, from, to time.Time) *statement.Set {
	var gone []string
	custodians := map[string]bool{}
	for _, cu := range s.Custody {
		for _, k := range cu.Custodians {
			custodians[k.ID] = true
		}
	}
	all := slices.Sorted(maps.Keys(custodians))
	for _, p := range s.Charter.People {
		if x, _ := r.closings.Every(all, []statement.Target{{Kind: closing.Person, ID: p.ID}}, from, to); x != nil {
			gone = append(gone, p.ID)
		}
	}
	return s.Without(gone...)
}

// serves adds what the subject reaches whatever policy says.
func (r *radius) serves(s *history.Span) {
	for _, u := range s.Charter.Units {
		for i := range s.Custody[u.ID].Credentials {
			if c := &s.Custody[u.ID].Credentials[i]; r.power.serves(s, c) {
				d := r.row(c.ID, u.ID)
				d.served = true
				d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, "custody-"+u.ID)) // who enrolled it
			}
		}
	}
}

// reach adds one pair that a set opens, unless it was closed for all of the span that lies in the window.
func (r *radius) reach(s *history.Span, p *reach.Pair, from, to time.Time) {
	c, owning, _ := s.Credential(p.Credential)
	using := r.unit(s, p.Unit)
	if d := r.rows[pair{p.Credential, p.Unit}]; d == nil && r.power.scope != nil && !r.power.scope(c, owning, using) {
		return
	}
	d := r.row(p.Credential, p.Unit)
	if d.Uses == 0 { // nobody used it: who could have
		d.Gateways = union(d.Gateways, p.Gateways)
	}
	targets := []statement.Target{{Kind: closing.Everything}, {Kind: closing.Credential, ID: p.Credential}, {Kind: closing.Unit, ID: owning.ID}, {Kind: closing.Unit, ID: p.Unit},
		{Kind: closing.Tenant, ID: owning.Tenant}}
	var closed *closings.Change
	var of statement.Target
	ways, could := 0, []string{}
	for _, g := range p.Gateways {
		custodians := s.Custodians(g, p.Credential)
		for _, w := range p.Workloads {
			own := append(targets[:len(targets):len(targets)], statement.Target{Kind: closing.Gateway, ID: g}, statement.Target{Kind: closing.Workload, ID: w})
			x, t := r.closings.Every(custodians, own, from, to)
			if x == nil {
				ways, could = ways+1, append(could, w)
			} else {
				closed, of = x, t
			}
		}
	}
	if ways == 0 {
		if !d.open {
			d.closed, d.target = closed, of
		}
		return
	}
	d.open, d.closed = true, nil
	if d.Uses == 0 {
		d.Workloads = union(d.Workloads, could)
	}
	d.Policies = union(d.Policies, p.Permits)
	for _, id := range p.Permits {
		d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, statementOf(id)))
	}
	if owning.ID != p.Unit { // who lent it answers too
		d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, "custody-"+owning.ID))
	}
}

// unit is a unit of a set, or nil.
func (r *radius) unit(s *history.Span, id string) *statement.Unit { return r.unitsOf(s)[id] }

// unitsOf are the units of a set by id.
func (r *radius) unitsOf(s *history.Span) map[string]*statement.Unit {
	m := r.units[s]
	if m == nil {
		m = make(map[string]*statement.Unit, len(s.Charter.Units))
		for i := range s.Charter.Units {
			m[s.Charter.Units[i].ID] = &s.Charter.Units[i]
		}
		r.units[s] = m
	}
	return m
}

// statementOf is the statement that a policy is of, by its id ("<unit>/<file>#<id>").
func statementOf(policy string) string {
	unit, _, _ := strings.Cut(policy, "/")
	if unit == "*" {
		return "charter"
	}
	return "policy-" + unit
}

// approvers are the people who signed a statement of a set.
func approvers(s *statement.Set, name string) (people []string) {
	for _, a := range s.Approvals[name] {
		people = insert(people, a.Person)
	}
	return people
}

// glass adds what break-glass opened beyond policy: each is over within an hour.
func (r *radius) glass(ctx context.Context) error {
	if r.power.ask == nil {
		return nil
	}
	events, err := r.b.Index.Events(ctx, index.Filter{From: r.from.Add(-time.Hour), To: r.to, Types: []entry.Type{entry.BreakGlass}})
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Workload == "" || e.Credential == "" || !strings.HasPrefix(e.Reason, "open") {
			continue
		}
		for _, s := range r.spans {
			w, using, ok := s.Workload(e.Workload)
			c, owning, known := s.Credential(e.Credential)
			if ask := r.power.ask; ok && known && (ask.Workload == nil || ask.Workload(w)) && (ask.Credential == "" || ask.Credential == c.ID) &&
				(r.power.scope == nil || r.power.scope(c, owning, using)) && (ask.Gateway == "" || len(s.Custodians(ask.Gateway, c.ID)) > 0) {
				r.row(c.ID, using.ID).glass = true
			}
		}
	}
	return nil
}
