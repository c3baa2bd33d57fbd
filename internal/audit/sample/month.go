package sample

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// month is what happens in the company.
type month struct {
	*company
	dir        estate.Dir
	random     *rand.Rand
	start, end time.Time
	from, to   time.Time // while Captured was in somebody else's hands
	reopened   time.Time // when it was believed again
	sets       []*statement.Set
	journals   map[string]*journal
	minted     map[*credential]*lease     // the newest of what is not sealed
	gone       map[string]time.Time       // people who left
	hourly     map[string]map[int64]int64 // uses of OpenAI's keys: by credential and Unix time of the hour
	*Answers
}

// lease is one version of a secret.
type lease struct {
	id, fp string
	until  time.Time // zero for none
}

// lockAt is the hash of the lock in force.
func (m *month) lockAt(t time.Time) string {
	hash := ""
	for _, s := range m.sets {
		if !s.Lock.Created.After(t) {
			hash = hex.EncodeToString(s.LockHash[:])
		}
	}
	return hash
}

// usable is whether a workload's use of a credential through a gateway is allowed at t.
func (m *month) usable(w *workload, k *credential, gateway string, t time.Time) bool {
	switch {
	case k.honey, k.owner == lonely && !t.Before(m.gone[lonely]):
		return false
	case !slices.Contains(gatewaysOf(m.unitOf(k).index), gateway):
		return false
	case w.low && k.class == "high" && k.unit == w.unit.id, closedTo(m.unitOf(k), gateway) && k.class == "high":
		return false
	case gateway == Captured && !t.Before(m.to) && t.Before(m.reopened):
		return false // closed
	case k.unit == w.unit.id:
		return true
	}
	return w == w.unit.workloads[0] && m.lent(k, w.unit, t)
}

func (c *company) unitOf(k *credential) *unit {
	return c.unit[slices.Index(unitNames(), k.unit)]
}

// lent reports whether the credential was lent to the unit at t.
func (m *month) lent(k *credential, to *unit, t time.Time) bool {
	return slices.ContainsFunc(m.loans, func(l loan) bool {
		return l.credential == k && l.to == to && (!l.late || !t.Before(m.sets[1].Lock.Created))
	})
}

// sha is the hex SHA-256 of what stands for some text.
func sha(format string, args ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, args...))
	return hex.EncodeToString(sum[:])
}

// about begins an entry about a workload and a credential.
func (m *month) about(t time.Time, typ entry.Type, w *workload, k *credential, gateway string) entry.Entry {
	e := entry.Entry{Type: typ, Gateway: gateway, Credential: k.id, Estate: m.lockAt(t), Tenant: w.unit.tenant, Unit: w.unit.id, Workload: w.id, FeedAgeMS: 120}
	day := t.Unix() / 86400
	switch {
	case w.pop:
		e.Level, e.Proof, e.Actor = "W2", "pop", []string{"key:" + sha("%s", w.id)[:32], "issuer:" + agentProof}
	case w.low:
		e.Level, e.Proof, e.Actor = "W0", "bearer", []string{"key:" + sha("%s", w.id)[:32]}
	default: // a token a day
		e.Level, e.Proof, e.Actor = "W1", "token", []string{"token:" + sha("%s %d", w.id, day), "issuer:" + agentProof}
	}
	e.Dest, e.Method, e.PathHash = k.origin, "POST", sha("/%s", k.template)
	return e
}

// of is an entry about a credential itself.
func (m *month) of(t time.Time, typ entry.Type, k *credential) entry.Entry {
	return entry.Entry{Type: typ, Credential: k.id, Tenant: k.tenant, Unit: k.unit, Estate: m.lockAt(t), FeedAgeMS: 120}
}

// current is the version of a credential's secret in use at t. What is minted or leased is got when the last one has run out.
func (m *month) current(t time.Time, k *credential) *lease {
	l := m.minted[k]
	if k.source == "sealed" || l != nil && t.Before(l.until) {
		return l
	}
	life, kind := time.Hour, "token"
	if k.source == "vault" {
		life, kind = 12*time.Hour, "lease"
	}
	at := t.Add(-80 * time.Millisecond)
	id := fmt.Sprintf("%s/%s", kind, sha("%s %d", k.id, t.UnixNano())[:20])
	l = &lease{id, fingerprint(k.custodian, k.id, id), t.Add(life).Truncate(time.Second)}
	m.minted[k] = l
	e := m.of(at, entry.Mint, k)
	e.Reason = "fetch"
	j := m.journals[k.custodian]
	first := j.add(at, e, nil)
	e = m.of(at, entry.Outcome, k)
	e.Reason, e.CredFP, e.Lease, e.State, e.Expires = "fetched", l.fp, l.id, "active", l.until.Unix()
	j.add(at.Add(60*time.Millisecond), e, first)
	return l
}

// use is one use: intent and outcome in the custodian's ledger. It keeps the books of the answers.
func (m *month) use(t time.Time, w *workload, k *credential, gateway string, unanswered bool) {
	l := m.current(t, k)
	e := m.about(t, entry.Intent, w, k, gateway)
	e.CredFP, e.Lease, e.Decision = l.fp, l.id, "allow"
	e.Policies = []string{w.unit.id + "/use.cedar#own"}
	if k.unit != w.unit.id {
		e.Policies = []string{w.unit.id + "/use.cedar#lent-" + k.id}
	}
	j := m.journals[k.custodian]
	first := j.add(t, e, nil)
	if !unanswered {
		o := m.about(t, entry.Outcome, w, k, gateway)
		o.Actor, o.Level, o.Proof, o.Dest, o.Method, o.PathHash, o.FeedAgeMS = nil, "", "", "", "", "", 0
		o.Status, o.Bytes = 200, 400+m.random.Int64N(4000)
		j.add(t.Add(time.Duration(200+m.random.IntN(900))*time.Millisecond), o, first)
	}
	m.used(t, w, k, gateway, l, unanswered)
}

// deny is a refused use.
func (m *month) deny(t time.Time, w *workload, k *credential, gateway, reason string) {
	e := m.about(t, entry.Deny, w, k, gateway)
	e.Decision, e.Reason = "deny", reason
	m.journals[k.custodian].add(t, e, nil)
	m.denied(t, w, k, gateway)
}

// habits are the credentials that a workload uses day by day: some of its unit's, and what was lent to it.
func (m *month) habits(w *workload) (list []*credential) {
	at := slices.Index(w.unit.workloads, w)
	for _, k := range w.unit.credentials {
		if k.n < min(60, len(w.unit.credentials)/20*10) && k.n%3 == at && !k.honey && !(w.low && k.class == "high") {
			list = append(list, k)
		}
	}
	for _, l := range m.loans {
		if l.to == w.unit && at == 0 {
			list = append(list, l.credential)
		}
	}
	return list
}

// ordinary is a month of honest work: so many uses, at any time, by everybody's habits.
func (m *month) ordinary(uses int) {
	var all []*workload
	for _, u := range m.unit {
		all = append(all, u.workloads...)
	}
	habits := map[*workload][]*credential{}
	for _, w := range all {
		habits[w] = m.habits(w)
	}
	times := make([]time.Time, uses)
	for i := range times {
		times[i] = m.start.Add(2*time.Hour + time.Duration(m.random.Int64N(int64(m.end.Sub(m.start)-3*time.Hour))))
	}
	slices.SortFunc(times, time.Time.Compare)
	for _, t := range times {
		w := all[m.random.IntN(len(all))]
		k := habits[w][m.random.IntN(len(habits[w]))]
		through := gatewaysOf(m.unitOf(k).index)
		gateway := through[m.random.IntN(len(through))]
		if m.usable(w, k, gateway, t) {
			m.use(t, w, k, gateway, m.random.IntN(2000) == 0)
		}
	}
}

// revoke signs a revocation into the store and writes what authority and custodians say of it.
func (m *month) revoke(t time.Time, target statement.Target, open, end bool, reason string, k *credential, by ...string) (record string, err error) {
	var signers []*estate.Signer
	var actors []string
	for _, p := range by {
		signers = append(signers, m.signers[p])
		actors = append(actors, p)
	}
	env, err := m.dir.Revoke(m.setAt(t), statement.Revocation{Target: target, Open: open, End: end, Reason: reason}, t, signers...)
	if err != nil {
		return "", fmt.Errorf("revoking %s: %w", target, err)
	}
	id := env.ID()
	record = hex.EncodeToString(id[:])
	e := entry.Entry{Type: entry.Revoke, Actor: actors, Reason: reason, Record: record, Estate: m.lockAt(t), Proof: "feed"}
	if open {
		e.Type = entry.Unfreeze
	}
	if target.Kind == "gateway" {
		e.Gateway = target.ID
	} else if k != nil {
		e.Credential, e.Tenant, e.Unit = k.id, k.tenant, k.unit
	}
	for i, p := range slices.Sorted(maps.Keys(m.journals)) {
		if p[0] == 'a' || p[0] == 'c' {
			m.journals[p].add(t.Add(time.Duration(100+40*i)*time.Millisecond), e, nil)
		}
	}
	return record, nil
}

func (m *month) setAt(t time.Time) (set *statement.Set) {
	for _, s := range m.sets {
		if !s.Lock.Created.After(t) {
			set = s
		}
	}
	return set
}

// version says what has become of a secret.
func (m *month) version(t time.Time, k *credential, state, reason, record string) {
	l := m.minted[k]
	e := m.of(t, entry.Version, k)
	e.CredFP, e.Lease, e.State, e.Reason, e.Record = l.fp, l.id, state, reason, record
	m.journals[k.custodian].add(t, e, nil)
}

// probe asks whether a secret still works.
func (m *month) probe(t time.Time, k *credential, record, answer string, status int) {
	l, j := m.minted[k], m.journals[k.custodian]
	e := m.of(t, entry.Probe, k)
	e.CredFP, e.Lease, e.State, e.Record, e.Dest, e.Method, e.PathHash = l.fp, l.id, "frozen", record, k.origin, "GET", sha("/v1/models")
	first := j.add(t, e, nil)
	o := m.of(t, entry.Outcome, k)
	o.Reason, o.Status, o.Lease = answer, status, l.id
	j.add(t.Add(300*time.Millisecond), o, first)
}

// handOver is how every sealed secret came, in the first hour.
func (m *month) handOver() {
	for _, u := range m.unit {
		for i, k := range u.credentials {
			if k.source != "sealed" {
				continue
			}
			t := m.start.Add(time.Minute + time.Duration(u.index*len(u.credentials)+i)*200*time.Millisecond)
			l := &lease{"v1", fingerprint(k.custodian, k.id, "v1"), time.Time{}}
			m.minted[k] = l
			e := m.of(t, entry.Publish, k)
			e.CredFP, e.Lease, e.Actor, e.Reason, e.State = l.fp, l.id, []string{k.owner + "-1"}, "handover", "active"
			m.journals[k.custodian].add(t, e, nil)
		}
	}
}
