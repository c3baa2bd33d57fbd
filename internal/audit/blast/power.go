package blast

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// power is what the subject had in its hands, as the design's table of captured parties says, in the terms of the books.
type power struct {
	uses   []index.Filter                                                    // what of the index counts, one query each
	own    func(*index.Uses) bool                                            // which of it; nil for all
	proven func(*index.Uses) bool                                            // whether a request-bound proof proves that it was the workload; nil for yes
	ask    *reach.Ask                                                        // what policy lets it reach; nil for nothing
	serves func(*history.Span, *statement.Credential) bool                   // what it reaches whatever policy says
	scope  func(c *statement.Credential, owning, using *statement.Unit) bool // which pairs get a row in any case; nil for none
	every  bool                                                              // the rows of a credential are those of all units
	holds  []held                                                            // plaintext
	keys   []keyring.Key                                                     // with which more can be had
	cannot []string
}

// held is plaintext that was in the subject's hands.
type held struct {
	credential, unit string // unit: where the estate has no such credential
	fingerprint      string
	version          *index.Version // nil for what no ledger tells of
	why              string
}

// wield finds the subject's power.
func (r *radius) wield(ctx context.Context) (p power, err error) {
	all := func(*statement.Credential, *statement.Unit, *statement.Unit) bool { return true }
	id := r.subject.ID
	switch r.subject.Kind {
	case Credential:
		p.uses, p.ask, p.every = []index.Filter{{Credential: id}}, &reach.Ask{Credential: id}, true
		p.scope = func(c *statement.Credential, _, _ *statement.Unit) bool { return c.ID == id }
	case Workload:
		home := map[string]bool{}
		for _, s := range r.spans {
			if w, _, ok := s.Workload(id); ok {
				home[w.Unit] = true
			}
		}
		p.uses, p.ask = []index.Filter{{Workload: id}}, &reach.Ask{Workload: func(w *statement.Workload) bool { return w.ID == id }}
		p.scope = func(_ *statement.Credential, _, using *statement.Unit) bool { return home[using.ID] }
	case Tenant:
		p.uses, p.ask = []index.Filter{{Tenant: id}}, &reach.Ask{}
		p.scope = func(_ *statement.Credential, owning, _ *statement.Unit) bool { return owning.Tenant == id }
	case Unit:
		p.uses, p.ask = []index.Filter{{Unit: id}}, &reach.Ask{}
		for _, c := range r.lent(id) {
			p.uses = append(p.uses, index.Filter{Credential: c})
		}
		p.own = func(u *index.Uses) bool { return u.Unit == id || r.owning(u.Credential) == id }
		p.scope = func(_ *statement.Credential, owning, using *statement.Unit) bool {
			return owning.ID == id || using.ID == id
		}
	case Person:
		return r.person(ctx)
	case Component:
		switch c := &r.component; c.Kind {
		case register.Gateway:
			p.uses, p.ask, p.scope = []index.Filter{{Gateway: id}}, &reach.Ask{Gateway: id}, all
			p.cannot = append(p.cannot, "What "+id+" did with prompts and answers that passed it: it could read and forge all of them, and the ledgers hold none.")
			r.exposed(&p)
		case register.Custodian:
			p.scope, err = all, r.custodian(ctx, &p)
		case register.Authority:
			r.authority(&p)
			p.scope = all
		case register.Auditor:
			p.cannot = append(p.cannot, id+" holds no secret and permits nothing, but these answers come from its books: check them with 'reeve verify' against the published ledgers.")
		default:
			r.foreign(&p)
		}
	}
	return p, err
}

// exposed: a gateway of ours never has plaintext, unless it was found to do what was not declared of it. Whatever it may ask a custodian for counts as read then.
func (r *radius) exposed(p *power) {
	id, can := r.component.ID, r.component.control()
	if can == "" {
		return
	}
	why := id + " was found to " + can + ": whatever it may ask for counts as read"
	seen := map[string]bool{}
	for _, s := range r.spans {
		at := s.From
		if at.Before(r.from) {
			at = r.from
		}
		for _, cu := range s.Custody {
			for i := range cu.Credentials {
				c := cu.Credentials[i].ID
				if seen[c] || !slices.ContainsFunc(s.Custodians(id, c), func(k string) bool { return s.Route(id, k, c, at) == "" }) {
					continue
				}
				seen[c] = true
				p.holds = append(p.holds, r.versionsOf(c, why)...)
			}
		}
	}
}

// versionsOf is plaintext of a credential: each version that a custodian held before the window's end, or one that no ledger tells of.
func (r *radius) versionsOf(credential, why string) (list []held) {
	for i := range r.versions[credential] {
		if v := &r.versions[credential][i]; instant(v.Bound).Before(r.to) {
			list = append(list, held{credential: credential, fingerprint: v.Fingerprint, version: v, why: why})
		}
	}
	if list == nil {
		list = []held{{credential: credential, why: why}}
	}
	return list
}

// custodian: every secret that it held was read, whatever it serves it could use without asking policy, and its word proves nothing.
func (r *radius) custodian(ctx context.Context, p *power) error {
	id := r.subject.ID
	for _, l := range r.ledgers.of[id] {
		p.uses = append(p.uses, index.Filter{Log: l.ID})
		versions, err := r.b.Index.Versions(ctx, index.Filter{Log: l.ID, From: r.from, To: r.to})
		if err != nil {
			return err
		}
		for i, v := range versions {
			p.holds = append(p.holds, held{credential: v.Credential, fingerprint: v.Fingerprint, version: &versions[i],
				why: fmt.Sprintf("%s held version %s of its secret in the window", id, v.Lease)})
		}
	}
	if err := r.keys(ctx, p); err != nil {
		return err
	}
	p.proven = func(*index.Uses) bool { return false }
	p.serves = func(s *history.Span, c *statement.Credential) bool { return s.Serves(id, c.ID) }
	p.cannot = append(p.cannot, "What "+id+" used without an entry: a captured custodian can, and the providers' own records alone show it ('reeve reconcile' compares them).")
	return nil
}

// keys are the captured custodian's.
func (r *radius) keys(ctx context.Context, p *power) (err error) {
	a := keyring.Asked{Custodian: r.subject.ID, Spans: r.spans, From: r.from, To: r.to, Now: r.now, AsOf: r.asOf}
	for _, l := range r.ledgers.of[r.subject.ID] {
		a.Logs = append(a.Logs, l.ID)
	}
	if p.keys, err = keyring.Of(ctx, r.b.Index, a); err == nil && len(p.keys) > 0 {
		p.cannot = append(p.cannot, "What was got with the keys and logins of "+r.subject.ID+" elsewhere, and with what its service could read on its host besides: the providers' own records alone show it.")
	}
	return err
}

// authority: it can vouch for those workloads that the charter lets it vouch for, and reads nothing.
func (r *radius) authority(p *power) {
	vouched := map[string]bool{}
	for _, s := range r.spans {
		for _, w := range s.Charter.Workloads {
			if w.VouchedBy(statement.IssuerAuthority) {
				vouched[w.ID] = true
			}
		}
	}
	p.uses = []index.Filter{{}}
	p.own = func(u *index.Uses) bool { return vouched[u.Workload] && u.Level != "W0" }
	p.proven = func(*index.Uses) bool { return false }
	p.ask = &reach.Ask{Asserted: true, Workload: func(w *statement.Workload) bool { return w.VouchedBy(statement.IssuerAuthority) }}
	p.cannot = append(p.cannot, "Which of the uses counted rest on "+r.subject.ID+"'s own word: all with a token of a workload that it may vouch for are counted.")
}

// foreign: of a component that keeps no ledger of ours, all is what its flags and the list of its credentials say.
func (r *radius) foreign(p *power) {
	c := &r.component
	why := c.control()
	if why != "" {
		why = c.ID + " can " + why + ": whatever it is known to reach counts as read"
		if c.unprobed {
			why += ", because it is a vendor's and no probe's verdict holds"
		} else if len(c.unseen) > 0 {
			why += fmt.Sprintf(", because it is a vendor's and a probe could not see %v", c.unseen)
		}
	}
	for _, id := range c.Credentials {
		if why != "" {
			p.holds = append(p.holds, r.outside(id, why)...)
		}
	}
	p.serves = func(_ *history.Span, cr *statement.Credential) bool {
		return len(c.flags) > 0 && slices.Contains(c.Credentials, cr.ID)
	}
	if len(c.Credentials) == 0 {
		p.cannot = append(p.cannot, "Which credentials "+c.ID+" was given: the register lists none, and it keeps no ledger of this estate.")
	}
	p.cannot = append(p.cannot, "What "+c.ID+" did: it keeps no ledger that the auditor follows.")
}

// outside is a credential that a foreign component reaches; for each unit that it serves when the estate does not have it.
func (r *radius) outside(id, why string) (list []held) {
	if r.owning(id) != "" || len(r.component.Units) == 0 {
		return []held{{credential: id, why: why}}
	}
	for _, u := range r.component.Units {
		list = append(list, held{credential: id, unit: u, why: why})
	}
	return list
}

// person: he knew what he handed over, and the keys that he issued; what he signs alone only closes.
func (r *radius) person(ctx context.Context) (p power, err error) {
	signs := map[string]bool{r.subject.ID: true}
	for _, s := range r.spans {
		if who, ok := s.Person(r.subject.ID); ok {
			for _, k := range who.Keys {
				signs[k.ID] = true
			}
		}
	}
	events, err := r.b.Index.Events(ctx, index.Filter{To: r.to, Types: []entry.Type{entry.Publish, entry.Issue, entry.BreakGlass}})
	if err != nil {
		return p, err
	}
	keyed := map[string]bool{}
	for _, e := range events {
		switch {
		case !slices.ContainsFunc(e.Actor, func(a string) bool { return signs[a] }):
		case e.Type == entry.Issue && e.Workload != "":
			keyed[e.Workload] = true
		case e.Type == entry.Publish && e.Reason == "handover":
			if v := r.version(e.Log, e.Credential, e.Lease); v != nil {
				p.holds = append(p.holds, held{credential: e.Credential, fingerprint: v.Fingerprint, version: v, why: r.subject.ID + " handed over version " + e.Lease + " of its secret"})
			}
		case e.Type == entry.BreakGlass && strings.HasPrefix(e.Reason, "recover"):
			p.holds = append(p.holds, held{credential: e.Credential, why: r.subject.ID + " signed the recovery of its secret at " + stamp(instant(e.Time))})
		}
	}
	p.uses = []index.Filter{{}}
	p.own = func(u *index.Uses) bool { return keyed[u.Workload] && u.Level == "W0" }
	p.proven = func(*index.Uses) bool { return false }
	p.ask = &reach.Ask{Workload: func(w *statement.Workload) bool { return keyed[w.ID] }}
	p.cannot = append(p.cannot, "Whether "+r.subject.ID+" kept a secret or a key that passed his hands: each one counts as if he did.")
	return p, nil
}

// lent are the credentials of a unit that others may use.
func (r *radius) lent(unit string) (ids []string) {
	for _, s := range r.spans {
		if cu := s.Custody[unit]; cu != nil {
			for _, g := range cu.Grants {
				ids = append(ids, g.Credential)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// owning is the unit whose credential it is, in the newest of the spans that has it.
func (r *radius) owning(credential string) string {
	for _, s := range slices.Backward(r.spans) {
		if _, u, ok := s.Credential(credential); ok {
			return u.ID
		}
	}
	return ""
}

// version is one version in one log, or nil.
func (r *radius) version(log, credential, lease string) *index.Version {
	for i, v := range r.versions[credential] {
		if v.Log == log && v.Lease == lease && instant(v.Bound).Before(r.to) {
			return &r.versions[credential][i]
		}
	}
	return nil
}
