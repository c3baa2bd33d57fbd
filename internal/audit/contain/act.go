package contain

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	together = 16              // records on their way at a time
	settle   = 2 * time.Second // after which a custodian that wrote of no secret has none
)

// Means are how a plan is carried out.
type Means struct {
	Set     *statement.Set
	Estate  estate.Dir
	Signers []*estate.Signer // the first is whose the records are, where he may sign alone
	Index   index.Reader     // where records that were sent before entered the logs
	// Dispatch prepares to send a record, before it is signed.
	Dispatch func() (*dispatch.Dispatch, error)
	Say      func(format string, args ...any) // progress, a line at a time; safe for concurrent use
	Prove    time.Duration                    // how long to wait for proofs
	Now      func() time.Time
}

// sent is a step with what carries it.
type sent struct {
	*Step
	to     *dispatch.Dispatch
	report *dispatch.Report
	err    error
}

// Act carries the plan out, in the catalogue's order: the custodians deny, then leases and providers are revoked, then probes prove it; every step
// is an entry of theirs. When ctx ends, what is known by then is the outcome. What is closed already is sent again, which does nothing, and looked up: so an interrupted containment goes on. An error
// means that nothing could be sent; what was not done otherwise is in the outcome.
func (p *Plan) Act(ctx context.Context, m *Means) (*Outcome, error) {
	o := &Outcome{Plan: p, Records: []Record{}, Past: []Record{}, Dead: []Death{}, Unproven: []Death{}, Waiting: []Waiting{}, Closed: []Closing{}}
	var all []*sent
	var failed error
	for _, end := range []bool{false, true} { // what closes most first
		var wave []*sent
		for i := range p.Steps {
			if p.Steps[i].End != end {
				continue
			}
			s, err := p.sign(m, &p.Steps[i], o)
			if err != nil { // the others are closed all the same
				failed = errors.Join(failed, o.fail(&p.Steps[i], err))
			} else if s != nil {
				wave = append(wave, s)
			}
		}
		p.send(ctx, m, wave)
		all = append(all, wave...)
	}
	for _, s := range all {
		if s.err != nil {
			failed = errors.Join(failed, o.fail(s.Step, s.err))
			continue
		}
		o.Records = append(o.Records, Record{Target: s.Target.String(), End: s.End, By: s.By, Report: s.report})
	}
	if len(o.Records) == 0 && failed != nil {
		return nil, failed
	}
	all = slices.DeleteFunc(all, func(s *sent) bool { return s.err != nil })
	p.prove(ctx, m, all, o)
	o.judge()
	return o, nil
}

// fail notes a record that could not be made.
func (o *Outcome) fail(s *Step, err error) error {
	o.Waiting = append(o.Waiting, Waiting{Target: s.Target.String(), End: s.End, Needs: "that this is mended: " + err.Error(), Command: "the same once more"})
	return fmt.Errorf("closing %s: %w", s.Target, err)
}

// sign makes the step's record, unless there is one. Nil means that it lacks a signature.
func (p *Plan) sign(m *Means, s *Step, o *Outcome) (*sent, error) {
	to, err := m.Dispatch()
	if err != nil {
		return nil, err
	}
	if s.Target.Kind == "credential" {
		to.Only(func(id string) bool { return m.Set.Serves(id, s.Target.ID) })
	}
	if s.env != nil {
		return &sent{Step: s, to: to}, p.past(m, s, to)
	}
	by := p.signers(m, s.Target, s.End)
	if by == nil && s.End { // its owner is elsewhere: until he signs, nobody uses it
		o.Waiting = append(o.Waiting, Waiting{Target: s.Target.String(), End: true, Needs: s.Needs(), Denied: true,
			Command: fmt.Sprintf("reeve contain credential %s --as %s --reason …", s.Target.ID, cmp.Or(strings.Join(s.Alone, "|"), "OWNER"))})
		if p.covered(s) {
			return nil, nil
		}
		s.End = false
		by = p.signers(m, s.Target, false)
	}
	if by == nil {
		if done, err := p.complete(m, s); done || err != nil {
			return &sent{Step: s, to: to}, err
		}
		return nil, p.wait(m, s, o)
	}
	if s.env, err = m.Estate.Revoke(m.Set, statement.Revocation{Target: s.Target, End: s.End, Reason: p.Reason}, m.Now(), by...); err != nil {
		return nil, err
	}
	s.signed(m)
	return &sent{Step: s, to: to}, nil
}

// signed fills in what the record says.
func (s *Step) signed(m *Means) {
	id := s.env.ID()
	s.Record, s.By = hex.EncodeToString(id[:]), nil
	if r, err := m.Set.OpenRevocation(s.env, m.Now()); err == nil {
		s.Signed = r.Time
	}
	for _, a := range m.Set.Charter.Approvals(s.env.PayloadType, s.env.Payload, s.env.Signatures) {
		s.By = append(s.By, a.Person)
	}
}

// covered reports whether another record of the plan closes the credential with more.
func (p *Plan) covered(s *Step) bool {
	return slices.ContainsFunc(p.Steps, func(o Step) bool {
		return o.Record != "" && (o.Target.Kind == "everything" || o.Target.Kind == "unit" && p.Scope.Kind == OfUnit)
	})
}

// signers are those at hand whose signatures suffice, one where one does; nil for none.
func (p *Plan) signers(m *Means, t statement.Target, end bool) []*estate.Signer {
	for _, a := range m.Signers {
		if m.Set.MayClose(t, end, m.Now(), a.Person) {
			return []*estate.Signer{a}
		}
	}
	for _, a := range m.Signers {
		for _, b := range m.Signers {
			if a.Person != b.Person && m.Set.MayClose(t, end, m.Now(), a.Person, b.Person) {
				return []*estate.Signer{a, b}
			}
		}
	}
	return nil
}

// wait puts a record aside that somebody else has to sign too, with the signature of who is here.
func (p *Plan) wait(m *Means, s *Step, o *Outcome) error {
	w := Waiting{Target: s.Target.String(), Needs: s.Needs()}
	defer func() { o.Waiting = append(o.Waiting, w) }()
	if len(m.Signers) == 0 {
		w.Command = "reeve contain " + p.Scope.String() + " --as PERSON --reason …"
		return nil
	}
	name, err := waits(m, s.Target)
	if err != nil {
		return err
	}
	if name == "" {
		_, err := m.Estate.Revoke(m.Set, statement.Revocation{Target: s.Target, Reason: p.Reason}, m.Now(), m.Signers[0])
		var a *estate.Awaiting
		if !errors.As(err, &a) {
			return err
		}
		name = a.Name
	}
	w.Draft, w.Command = name, "reeve approve "+name+" --as PERSON"
	return nil
}

// waits finds a record that closes the target and waits for a signature.
func waits(m *Means, t statement.Target) (string, error) {
	drafts, err := estate.ReadRecords(m.Estate.Drafting(), "revocation")
	if err != nil {
		return "", err
	}
	for name, env := range drafts {
		if r := new(statement.Revocation); json.Unmarshal(env.Payload, r) == nil && r.Target == t && !r.Open {
			return "revocation/" + name, nil
		}
	}
	return "", nil
}

// complete signs the record that waits for the target, and reports whether that was all that it lacked.
func (p *Plan) complete(m *Means, s *Step) (bool, error) {
	name, err := waits(m, s.Target)
	if name == "" || err != nil {
		return false, err
	}
	for _, by := range m.Signers {
		env, err := m.Estate.ApproveRecord(m.Set, name, by, m.Now())
		if err == nil {
			s.env = env
			s.signed(m)
			return true, nil
		}
		if !estate.Unsigned(err) {
			return false, err
		}
	}
	return false, nil
}

// past has a record that was signed before be found where it entered the logs.
func (p *Plan) past(m *Means, s *Step, to *dispatch.Dispatch) error {
	ctx := context.Background()
	events, err := m.Index.Events(ctx, index.Filter{From: s.Signed.Add(-time.Hour)})
	if err != nil {
		return fmt.Errorf("where %s was closed before: %w", s.Target, err)
	}
	logs, err := m.Index.Logs(ctx)
	if err != nil {
		return err
	}
	to.Past(func(custodian string) (string, int64, bool) {
		for _, l := range logs {
			if l.Process != custodian {
				continue
			}
			for _, e := range events {
				if e.Log == l.ID && e.Record == s.Record {
					return l.Origin, e.Seq, true
				}
			}
		}
		return "", 0, false
	})
	return nil
}

// send sends records, several at a time.
func (p *Plan) send(ctx context.Context, m *Means, wave []*sent) {
	var group sync.WaitGroup
	places := make(chan struct{}, together)
	for _, s := range wave {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			file, err := statement.Canonical(s.env)
			if err != nil {
				s.err = err
				return
			}
			m.Say("%s: signed by %s, on its way", s.Target, strings.Join(s.By, " and "))
			s.report = s.to.Run(ctx, s.env.ID(), file)
			for _, c := range s.report.Custodians {
				if c.Known {
					m.Say("%s: %s denies since %s (%s entry %d of log %s, %s)", s.Target, c.ID, c.At.Format("15:04:05.000Z"), c.Entry, c.Seq, c.Log, c.Level)
				} else {
					m.Say("%s: of %s nothing is known: %s", s.Target, c.ID, c.Error)
				}
			}
		})
	}
	group.Wait()
}

// prove waits for what the custodians write of the secrets that end.
func (p *Plan) prove(ctx context.Context, m *Means, all []*sent, o *Outcome) {
	ctx, cancel := context.WithTimeout(ctx, m.Prove)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, s := range all {
		i := slices.IndexFunc(p.Credentials, func(c Credential) bool { return s.End && c.ID == s.Target.ID })
		if i < 0 {
			continue
		}
		c := &p.Credentials[i]
		group.Go(func() {
			said := map[string]bool{}
			ends := s.to.Ends(ctx, c.ID, func(e *dispatch.End) bool {
				for _, v := range e.Versions {
					if k := e.Custodian + v.Lease + v.State; !said[k] {
						said[k] = true
						m.Say("%s: %s at %s is %s", c.ID, v.Lease, e.Custodian, v.State)
					}
				}
				held := slices.ContainsFunc(c.Versions, func(v Version) bool { return v.Custodian == e.Custodian })
				return e.Proved() || expired(e, m.Now()) || !c.Probe && !e.Provider().IsZero() || len(e.Versions) == 0 && !held && m.Now().Sub(e.Frozen) > settle
			})
			mu.Lock()
			defer mu.Unlock()
			for _, e := range ends {
				o.add(c, e, m.Now())
			}
			for _, k := range s.report.Custodians {
				if !k.Known {
					o.Unproven = append(o.Unproven, Death{Credential: c.ID, Unit: c.Unit, Custodian: k.ID, NoEnd: true, Why: "the custodian is not known to have frozen it: " + k.Error})
					o.Residual.NoEnd++
				}
			}
		})
	}
	group.Wait()
	order := func(a, b Death) int {
		return cmp.Or(strings.Compare(a.Credential, b.Credential), strings.Compare(a.Custodian, b.Custodian), strings.Compare(a.Lease, b.Lease))
	}
	slices.SortFunc(o.Dead, order)
	slices.SortFunc(o.Unproven, order)
}

// expired reports whether every secret has been proven dead or ended by itself.
func expired(e *dispatch.End, now time.Time) bool {
	until, ok := e.LastUse()
	return ok && !until.After(now) && !slices.ContainsFunc(e.Versions, func(v dispatch.Ended) bool {
		return v.Proven.IsZero() && (v.Expires.IsZero() || v.Expires.After(now))
	})
}
