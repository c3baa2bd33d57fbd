package sample

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/statement"
)

const day = 24 * time.Hour

// govern publishes the sets of the month: the first; grants and policies for what is lent later; a person who leaves and the gateway that another
// takes over; one who leaves without a deputy; after the compromise another owner of a unit's policy and of a credential.
func (m *month) govern(pin *statement.Pin) error {
	publish := func(t time.Time, names ...string) error {
		set, err := m.publish(m.dir, pin, t, names...)
		if err != nil {
			return fmt.Errorf("version %d of the lock: %w", len(m.sets)+1, err)
		}
		m.sets = append(m.sets, set)
		return nil
	}
	if err := publish(m.start.Add(-time.Hour), m.statements()...); err != nil {
		return err
	}
	var names []string
	for _, l := range m.loans {
		if l.late {
			m.grant(l)
			names = append(names, "custody-"+l.credential.unit, "policy-"+l.to.id)
		}
	}
	slices.Sort(names)
	if err := publish(m.start.Add(6*day), slices.Compact(names)...); err != nil {
		return err
	}
	m.leave(leaver, m.start.Add(10*day))
	ops := &m.plan.Operations.Gateways[2]
	ops.Owners.Operations = "oona"
	if err := publish(m.start.Add(10*day), "charter", "operations"); err != nil {
		return err
	}
	m.leave(lonely, m.start.Add(14*day))
	return publish(m.start.Add(14*day), "charter")
}

// afterwards changes who answers for what the compromise touched.
func (m *month) afterwards(pin *statement.Pin) error {
	u, _ := m.find(m.Proven)
	k := u.credentials[6] // not one that its owner has closed
	for _, p := range slices.Sorted(maps.Keys(m.Used)) {
		id, unit, _ := strings.Cut(p, " for ")
		if home, other := m.find(id); unit == u.id && home == u && id != m.Proven {
			k = other
			break
		}
	}
	roles := m.plan.Charter.Roles.Units[u.id]
	roles.Policy = []string{"paul"}
	roles.Lifecycle = append(roles.Lifecycle, "lars")
	m.plan.Charter.Roles.Units[u.id] = roles
	cu := m.plan.Custody[u.id]
	cu.Credentials[k.n].Owner = "lars"
	m.ApprovedNow = []string{"odin", "paul"}
	m.Since = map[string]string{u.id: "paul", k.id: "lars"}
	set, err := m.publish(m.dir, pin, m.start.Add(26*day), "charter", "custody-"+u.id, "policy-"+u.id)
	if err != nil {
		return fmt.Errorf("the set after the compromise: %w", err)
	}
	m.sets = append(m.sets, set)
	return nil
}

func (m *month) leave(person string, at time.Time) {
	i := slices.IndexFunc(m.plan.Charter.People, func(p statement.Person) bool { return p.ID == person })
	m.plan.Charter.People[i].Left = at
	m.gone[person] = at
}

// capture is what whoever had the captured gateway did with the tokens and keys that went through it.
func (m *month) capture() {
	at := func(minutes float64) time.Time { return m.from.Add(time.Duration(minutes * float64(time.Minute))) }
	misuse := func(t time.Time, w *workload, k *credential) {
		m.use(t, w, k, m.Captured, false)
		m.Victims, m.Misused = add(m.Victims, w.id), add(m.Misused, k.id)
	}
	// A few sealed keys of two units, each again and again.
	first, second := m.unit[17], m.unit[19]
	half := len(first.credentials) / 20 * 10 // from here on, nobody has a habit of
	m.Proven, m.Unproven = first.credentials[half+7].id, second.credentials[half+8].id
	for i := range 12 {
		_, k := m.find(m.Proven)
		misuse(at(5+float64(i)*7), first.workloads[2], k)
		_, k = m.find(m.Unproven)
		misuse(at(6+float64(i)*9), second.workloads[2], k)
	}
	// Everything that a guest may use, within a minute.
	third := m.unit[21]
	w := third.workloads[2]
	m.Chainer = w.id
	for _, k := range third.credentials {
		if m.usable(w, k, m.Captured, m.from) && k.class == "normal" && k.n >= half && m.Chained < 40 {
			misuse(at(40).Add(time.Duration(m.Chained)*1300*time.Millisecond), w, k)
			m.Chained++
		}
	}
	// What another tenant's guest may use, slowly.
	fourth := m.unit[25]
	for i := range 9 {
		k := fourth.credentials[half+10*(i%3)+6]
		misuse(at(60+float64(i)*5), fourth.workloads[2], k)
	}
	// Others' credentials, which policy refuses, and bait.
	w = second.workloads[2]
	m.Prober = w.id
	for i := range 90 {
		m.deny(at(80).Add(time.Duration(i)*500*time.Millisecond), w, m.unit[16+i%4].credentials[i/4+1], m.Captured, "cross_unit")
	}
	bait := fourth.credentials[3]
	m.Bait, m.BaitBy = bait.id, fourth.workloads[2].id
	alarm := m.about(at(100), entry.Alarm, fourth.workloads[2], bait, m.Captured)
	alarm.Reason = "honey"
	m.journals[bait.custodian].add(at(100), alarm, nil)
	m.deny(at(100).Add(2*time.Millisecond), fourth.workloads[2], bait, m.Captured, "honey")
}

// contain is what people did then.
func (m *month) contain() error {
	closed := statement.Target{Kind: "gateway", ID: m.Captured}
	if _, err := m.revoke(m.to, closed, false, false, "in somebody else's hands", nil, "olga"); err != nil {
		return err
	}
	if _, err := m.revoke(m.reopened, closed, true, false, "built anew from a clean image", nil, "olga", m.unit[16].policy); err != nil {
		return err
	}
	for i, id := range []string{m.Proven, m.Unproven} {
		_, k := m.find(id)
		t := m.to.Add(time.Duration(10+10*i) * time.Minute)
		record, err := m.revoke(t, statement.Target{Kind: "credential", ID: id}, false, true, "used through the captured gateway", k, k.owner)
		if err != nil {
			return err
		}
		m.version(t.Add(2*time.Second), k, "frozen", "ending", record)
		m.version(t.Add(4*time.Second), k, "revoked-unproven", "ended", record)
		if id == m.Unproven {
			m.probe(t.Add(10*time.Second), k, record, "works", 200)
			continue
		}
		m.probe(t.Add(10*time.Second), k, record, "refused", 401)
		m.probe(t.Add(75*time.Second), k, record, "refused", 401)
		m.version(t.Add(76*time.Second), k, "revoked-proven", "proven", record)
	}
	return nil
}

// glass is a break-glass that two people opened, used and reviewed.
func (m *month) glass() error {
	u := m.unit[30]
	k, w, t := u.credentials[8], u.workloads[0], m.start.Add(17*day)
	m.Glass = k.id
	b := statement.BreakGlass{Estate: ID, Credential: k.id, Workload: w.id, Waive: []string{"policy"}, Reason: "the night run failed", Created: t, Until: t.Add(30 * time.Minute)}
	env, err := estate.Seal("break-glass", b, m.signers[k.owner], m.signers[u.policy])
	if err == nil {
		_, _, err = m.setAt(t).OpenBreakGlass(env, t)
	}
	if err != nil {
		return fmt.Errorf("the break-glass: %w", err)
	}
	id := env.ID()
	record := hex.EncodeToString(id[:])
	if err := m.dir.WriteRecord(record[:16], env); err != nil {
		return err
	}
	e := m.of(t, entry.BreakGlass, k)
	e.Workload, e.Actor, e.Policies, e.Record, e.Proof, e.Reason = w.id, []string{k.owner, u.policy}, b.Waive, record, "feed", "opened: "+b.Reason
	m.journals[k.custodian].add(t.Add(time.Second), e, nil)
	e.Reason, e.Actor = "break_glass_opened", []string{k.owner}
	e.Type = entry.Alarm
	m.journals[k.custodian].add(t.Add(1100*time.Millisecond), e, nil)
	for i := range 3 {
		m.use(t.Add(time.Duration(2+i)*time.Minute), w, k, "g3", false)
	}
	e.Type, e.Reason, e.Actor = entry.BreakGlass, "ended", []string{k.owner, u.policy}
	m.journals[k.custodian].add(b.Until, e, nil)
	review := statement.Review{Estate: ID, BreakGlass: record, Finding: "as it was asked for", Created: t.Add(day)}
	env, err = estate.Seal("break-glass-review", review, m.signers["oona"])
	if err == nil {
		_, _, err = m.setAt(review.Created).OpenReview(env, review.Created)
	}
	if err != nil {
		return fmt.Errorf("the review: %w", err)
	}
	e.Reason, e.Actor = "reviewed: "+review.Finding, []string{"oona"}
	m.journals[k.custodian].add(review.Created, e, nil)
	return m.dir.WriteRecord(record[:16], env)
}

// register is a vendor's gateway that people say is there, with an entry of the authority that says when they did.
func (m *month) register() error {
	t := m.start.Add(8 * day)
	said := register.Said{ID: m.Vendor, Kind: register.Vendor, Name: "Chatbridge Cloud", Declared: []register.Flag{register.Transport, register.Invoke}, Valid: t,
		Owners: register.Owners{Policy: "ada", Operations: "olga", Lifecycle: "alma", Contract: "odin"}}
	_, file, err := register.Append(m.dir, history.New(m.sets...), said, t, m.signers["olga"], m.signers["ada"])
	if err != nil {
		return fmt.Errorf("registering the vendor: %w", err)
	}
	_, err = m.attest(t, evidence.Component, m.Vendor, file, "olga")
	return err
}

// bill writes what the provider says of two keys on the day of the compromise, by the hour: of one it saw more than the ledgers have.
func (m *month) bill(dir string) error {
	type result struct {
		Object   string `json:"object"`
		Requests int64  `json:"num_model_requests"`
		Key      string `json:"api_key_id"`
	}
	type bucket struct {
		Object  string   `json:"object"`
		Start   int64    `json:"start_time"`
		End     int64    `json:"end_time"`
		Results []result `json:"results"`
	}
	page := struct {
		Object string   `json:"object"`
		Data   []bucket `json:"data"`
		More   bool     `json:"has_more"`
	}{"page", nil, false}
	stolen := m.to.Truncate(time.Hour).Add(4 * time.Hour)
	m.OutsideAt, m.OutsideUses = stolen, 23
	names := []string{m.Outside, m.unit[18].credentials[9].id}
	for h := m.from.Truncate(day); h.Before(m.from.Truncate(day).Add(day)); h = h.Add(time.Hour) {
		b := bucket{"bucket", h.Unix(), h.Add(time.Hour).Unix(), []result{}}
		for _, id := range names {
			n := m.hourly[id][h.Unix()]
			if id == m.Outside && h.Equal(stolen) {
				n += m.OutsideUses
			}
			if n > 0 {
				b.Results = append(b.Results, result{"organization.usage.completions.result", n, "key_" + id})
			}
		}
		page.Data = append(page.Data, b)
	}
	b, err := json.MarshalIndent(page, "", "  ")
	if err != nil {
		return err
	}
	keys := fmt.Sprintf("%[1]s: [key_%[1]s]\n%[2]s: [key_%[2]s]\n", names[0], names[1])
	return errors.Join(os.WriteFile(filepath.Join(dir, "usage-openai.json"), b, 0o600), os.WriteFile(filepath.Join(dir, "usage-keys.yaml"), []byte(keys), 0o600))
}
