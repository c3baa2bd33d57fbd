package index

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
)

// Memory is an index in memory: what is added of each log, in order, from number 0. It is what an index on disk is held against, and gathers a
// batch for one. Not safe for concurrent use.
type Memory struct {
	uses     map[Key]*Uses
	open     map[intent]*Uses // intents and mints without an outcome, by what they are counted in
	events   []Event
	versions map[place]life
	said     int // what was said of versions
	logs     map[string]*Log

	// Of a batch that is added to an index: before finds what an intent that was open before it is counted in, and ended are those that
	// are open no more. What it counts of such intents is a sum of no uses, only of outcomes.
	before func(intent) (Uses, bool, error)
	ended  map[intent]bool
	apart  bool // every entry's sum is kept apart, by its time
}

// intent is the number of an entry that has an outcome later.
type intent struct {
	log string
	seq int64
}

// NewMemory returns an index of logs, each from its size on.
func NewMemory(logs ...Log) *Memory {
	m := &Memory{uses: map[Key]*Uses{}, open: map[intent]*Uses{}, versions: map[place]life{}, logs: map[string]*Log{}, ended: map[intent]bool{}}
	m.before = func(intent) (u Uses, ok bool, err error) { return u, false, nil }
	for _, l := range logs {
		m.logs[l.ID] = &l
	}
	return m
}

// Add takes the next entry of a log.
func (m *Memory) Add(e *entry.Entry) error {
	l := m.logs[e.Log]
	if l == nil || e.Seq != l.Size {
		return fmt.Errorf("entry %d of log %s does not come next", e.Seq, e.Log)
	}
	if e.Type == entry.Outcome { // first what can fail
		if err := m.outcome(e); err != nil {
			return err
		}
	}
	if l.Size == 0 {
		l.First = e.TimeNS
	} else if gap := e.TimeNS - l.Last; gap > l.Silence {
		l.Silence, l.SilenceSeq = gap, e.Seq
	}
	l.Size, l.Last = l.Size+1, e.TimeNS
	switch e.Type {
	case entry.Intent, entry.Deny, entry.Mint, entry.Exchange, entry.Issue:
		if m.use(e); e.Type == entry.Issue && strings.HasPrefix(e.Reason, "workload-key") {
			m.event(e)
		}
	case entry.Outcome, entry.Heartbeat:
	case entry.Retire:
		l.PrevOrigin, l.PrevSize = e.PrevLog, e.PrevSize
		m.event(e)
	case entry.Version:
		m.version(e)
	default:
		m.event(e)
		if e.Type == entry.Publish && e.Reason == "handover" {
			m.version(e)
		}
	}
	return nil
}

const hour = int64(time.Hour)

// KeyOf is what an entry is summed under, if it is of a type that is.
func KeyOf(e *entry.Entry) Key {
	k := Key{Hour: e.TimeNS / hour * 3600, Log: e.Log, Type: e.Type, Tenant: e.Tenant, Unit: e.Unit, Workload: e.Workload, Gateway: e.Gateway, Credential: e.Credential,
		Fingerprint: e.CredFP, Estate: e.Estate, Decision: e.Decision, Level: e.Level, Proof: e.Proof}
	if e.Type == entry.Deny || e.Type == entry.Mint || e.Type == entry.Intent && e.Reason != "allowed" { // something else than policy let it
		k.Reason = e.Reason
	}
	return k
}

// sum is what is summed under a key, to which an entry is added that was made at a time.
func (m *Memory) sum(k Key, at int64) *Uses {
	slot := k
	if m.apart {
		slot.Hour = at
	}
	u := m.uses[slot]
	if u == nil {
		u = &Uses{k, Sum{First: at, Last: at}}
		m.uses[slot] = u
	}
	return u
}

func (m *Memory) use(e *entry.Entry) {
	u := m.sum(KeyOf(e), e.TimeNS)
	u.merge(&Sum{Count: max(e.Count, 1), FirstSeq: e.Seq, LastSeq: e.Seq, First: e.TimeNS, Last: e.TimeNS})
	if e.Type == entry.Intent || e.Type == entry.Mint {
		m.open[intent{e.Log, e.Seq}] = u
	}
}

// outcome counts at the intent's own hour. The outcome of a mint binds a version; that of a probe is an event.
func (m *Memory) outcome(e *entry.Entry) error {
	of := intent{cmp.Or(e.IntentLog, e.Log), e.IntentSeq}
	u := m.open[of]
	if u == nil && !m.ended[of] {
		was, ok, err := m.before(of)
		if err != nil {
			return err
		}
		if ok {
			u, m.ended[of] = m.sum(was.Key, was.First), true
		}
	}
	if u == nil {
		m.event(e) // of a probe
		return nil
	}
	delete(m.open, of)
	u.Done++
	u.Bytes += e.Bytes
	if u.Type == entry.Intent && (e.Status < 200 || e.Status > 399) || u.Type == entry.Mint && e.State == "" {
		u.Failed++
	}
	if e.State != "" {
		m.version(e)
	}
	return nil
}

func (m *Memory) event(e *entry.Entry) {
	x := Event{Log: e.Log, Seq: e.Seq, Time: e.TimeNS, Type: e.Type, Tenant: e.Tenant, Unit: e.Unit, Workload: e.Workload, Gateway: e.Gateway, Credential: e.Credential,
		Fingerprint: e.CredFP, Lease: e.Lease, State: e.State, Actor: e.Actor, Proof: e.Proof, Record: e.Record, Estate: e.Estate, Reason: e.Reason, Decision: e.Decision,
		Status: e.Status, Intent: -1}
	if e.HasIntent {
		x.Intent = e.IntentSeq
	}
	m.events = append(m.events, x)
}

// has reports whether the filter chooses an entry at time t with these members.
func (f *Filter) has(t int64, typ entry.Type, log, tenant, unit, workload, gateway, credential, fingerprint string) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return (f.From.IsZero() || t >= f.From.UnixNano()) && (f.To.IsZero() || t < f.To.UnixNano()) && (len(f.Types) == 0 || slices.Contains(f.Types, typ)) &&
		is(f.Log, log) && is(f.Tenant, tenant) && is(f.Unit, unit) && is(f.Workload, workload) && is(f.Gateway, gateway) && is(f.Credential, credential) &&
		is(f.Fingerprint, fingerprint)
}

// Uses implements Reader; an hour counts whole.
func (m *Memory) Uses(_ context.Context, f Filter, by ...Column) (list []Uses, err error) {
	sums := map[Key]*Uses{}
	for _, u := range m.uses {
		k, at := u.Key, u.First // or any instant of it within the window
		if !f.From.IsZero() && u.Last >= f.From.UnixNano() {
			at = max(at, f.From.UnixNano())
		}
		if f.has(at, k.Type, k.Log, k.Tenant, k.Unit, k.Workload, k.Gateway, k.Credential, k.Fingerprint) {
			add(sums, k.Only(by...), &u.Sum)
		}
	}
	return sorted(sums), nil
}

// add adds a sum under a key.
func add(sums map[Key]*Uses, k Key, u *Sum) {
	s := sums[k]
	if s == nil {
		s = &Uses{Key: k}
		sums[k] = s
	}
	s.merge(u)
}

func sorted(sums map[Key]*Uses) (list []Uses) {
	for _, s := range sums {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Uses) int { return a.Key.compare(b.Key) })
	return list
}

// merge adds another sum. One without uses has no first and last.
func (u *Sum) merge(o *Sum) {
	switch {
	case o.Count == 0:
	case u.Count == 0:
		u.FirstSeq, u.LastSeq, u.First, u.Last = o.FirstSeq, o.LastSeq, o.First, o.Last
	default:
		u.FirstSeq, u.LastSeq, u.First, u.Last = min(u.FirstSeq, o.FirstSeq), max(u.LastSeq, o.LastSeq), min(u.First, o.First), max(u.Last, o.Last)
	}
	u.Count += o.Count
	u.Done += o.Done
	u.Failed += o.Failed
	u.Bytes += o.Bytes
}

// member is where a column but the hour stands.
func (k *Key) member(c Column) *string {
	switch c {
	case ByLog:
		return &k.Log
	case ByType:
		return (*string)(&k.Type)
	case ByTenant:
		return &k.Tenant
	case ByUnit:
		return &k.Unit
	case ByWorkload:
		return &k.Workload
	case ByGateway:
		return &k.Gateway
	case ByCredential:
		return &k.Credential
	case ByFingerprint:
		return &k.Fingerprint
	case ByEstate:
		return &k.Estate
	case ByDecision:
		return &k.Decision
	case ByReason:
		return &k.Reason
	case ByLevel:
		return &k.Level
	case ByProof:
		return &k.Proof
	}
	return new(string)
}

// Only keeps the columns.
func (k Key) Only(by ...Column) (s Key) {
	for _, c := range by {
		if c == ByHour {
			s.Hour = k.Hour
			continue
		}
		*s.member(c) = *k.member(c)
	}
	return s
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Hour, o.Hour), cmp.Compare(k.Log, o.Log), cmp.Compare(k.Type, o.Type), cmp.Compare(k.Tenant, o.Tenant), cmp.Compare(k.Unit, o.Unit),
		cmp.Compare(k.Workload, o.Workload), cmp.Compare(k.Gateway, o.Gateway), cmp.Compare(k.Credential, o.Credential), cmp.Compare(k.Fingerprint, o.Fingerprint),
		cmp.Compare(k.Estate, o.Estate), cmp.Compare(k.Decision, o.Decision), cmp.Compare(k.Reason, o.Reason), cmp.Compare(k.Level, o.Level), cmp.Compare(k.Proof, o.Proof))
}

// Events implements Reader.
func (m *Memory) Events(_ context.Context, f Filter) (list []Event, err error) {
	for _, e := range m.events {
		if f.has(e.Time, e.Type, e.Log, e.Tenant, e.Unit, e.Workload, e.Gateway, e.Credential, e.Fingerprint) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, Event.compare)
	return list, nil
}

func (e Event) compare(o Event) int {
	return cmp.Or(cmp.Compare(e.Time, o.Time), cmp.Compare(e.Log, o.Log), cmp.Compare(e.Seq, o.Seq))
}

// Logs implements Reader.
func (m *Memory) Logs(context.Context) (list []Log, err error) {
	for _, l := range m.logs {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Log) int { return cmp.Compare(a.Origin, b.Origin) })
	return list, nil
}

// Hash implements Reader: over every row as JSON, a line each, in the order of Logs, Uses, Events, Versions and what these were before.
func (m *Memory) Hash(ctx context.Context) (string, error) {
	h := sha256.New()
	to := json.NewEncoder(h)
	logs, _ := m.Logs(ctx)
	uses, _ := m.Uses(ctx, Filter{}, Columns...)
	events, _ := m.Events(ctx, Filter{})
	versions, _ := m.Versions(ctx, Filter{})
	err := errors.Join(encode(to, logs), encode(to, uses), encode(to, events), encode(to, versions), encode(to, m.past()))
	return hex.EncodeToString(h.Sum(nil)), err
}

func encode[T any](to *json.Encoder, rows []T) error {
	for _, r := range rows {
		if err := to.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
