package index

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	open     map[string]map[int64]Key // intents and mints without an outcome, by log and number
	events   []Event
	versions map[place]*Version
	logs     map[string]*Log
}

// place is what a version is known by.
type place struct{ log, credential, workload, lease string }

// NewMemory returns an index of logs without entries.
func NewMemory(logs ...Log) *Memory {
	m := &Memory{uses: map[Key]*Uses{}, open: map[string]map[int64]Key{}, versions: map[place]*Version{}, logs: map[string]*Log{}}
	for _, l := range logs {
		m.logs[l.ID], m.open[l.ID] = &l, map[int64]Key{}
	}
	return m
}

// Add takes the next entry of a log.
func (m *Memory) Add(e *entry.Entry) error {
	l := m.logs[e.Log]
	if l == nil || e.Seq != l.Size {
		return fmt.Errorf("entry %d of log %s does not come next", e.Seq, e.Log)
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
	case entry.Outcome:
		m.outcome(e)
	case entry.Retire:
		l.PrevOrigin, l.PrevSize = e.PrevLog, e.PrevSize
		m.event(e)
	case entry.Heartbeat:
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

func keyOf(e *entry.Entry) Key {
	k := Key{Hour: e.TimeNS / hour * 3600, Log: e.Log, Type: e.Type, Tenant: e.Tenant, Unit: e.Unit, Workload: e.Workload, Gateway: e.Gateway, Credential: e.Credential,
		Fingerprint: e.CredFP, Estate: e.Estate, Decision: e.Decision, Level: e.Level, Proof: e.Proof}
	if e.Type == entry.Deny || e.Type == entry.Mint {
		k.Reason = e.Reason
	}
	return k
}

func (m *Memory) use(e *entry.Entry) {
	k := keyOf(e)
	u := m.uses[k]
	if u == nil {
		u = &Uses{Key: k, FirstSeq: e.Seq, First: e.TimeNS}
		m.uses[k] = u
	}
	u.Count += max(e.Count, 1)
	u.LastSeq, u.Last = e.Seq, e.TimeNS
	if e.Type == entry.Intent || e.Type == entry.Mint {
		m.open[e.Log][e.Seq] = k
	}
}

// outcome counts at the intent's own hour. The outcome of a mint binds a version; that of a probe is an event.
func (m *Memory) outcome(e *entry.Entry) {
	log := cmp.Or(e.IntentLog, e.Log)
	k, ok := m.open[log][e.IntentSeq]
	if !ok {
		m.event(e) // of a probe
		return
	}
	delete(m.open[log], e.IntentSeq)
	u := m.uses[k]
	u.Done++
	u.Bytes += e.Bytes
	if k.Type == entry.Intent && (e.Status < 200 || e.Status > 399) || k.Type == entry.Mint && e.State == "" {
		u.Failed++
	}
	if e.State != "" {
		m.version(e)
	}
}

func (m *Memory) version(e *entry.Entry) {
	p := place{e.Log, e.Credential, e.Workload, e.Lease}
	v := m.versions[p]
	if v == nil {
		v = &Version{Log: e.Log, Credential: e.Credential, Workload: e.Workload, Lease: e.Lease, Bound: e.TimeNS, BoundSeq: e.Seq}
		m.versions[p] = v
	}
	v.Tenant, v.Unit = cmp.Or(e.Tenant, v.Tenant), cmp.Or(e.Unit, v.Unit)
	v.Fingerprint, v.Expires = cmp.Or(e.CredFP, v.Fingerprint), cmp.Or(e.Expires, v.Expires)
	v.State, v.Since, v.StateSeq = cmp.Or(e.State, "pending"), e.TimeNS, e.Seq
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
	for k, u := range m.uses {
		at := u.First // any instant of it within the window
		if !f.From.IsZero() && u.Last >= f.From.UnixNano() {
			at = max(at, f.From.UnixNano())
		}
		if !f.has(at, k.Type, k.Log, k.Tenant, k.Unit, k.Workload, k.Gateway, k.Credential, k.Fingerprint) {
			continue
		}
		short := k.only(by)
		s := sums[short]
		if s == nil {
			c := *u
			c.Key = short
			sums[short] = &c
			continue
		}
		s.merge(u)
	}
	for _, s := range sums {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Uses) int { return a.Key.compare(b.Key) })
	return list, nil
}

// merge adds another sum.
func (u *Uses) merge(o *Uses) {
	u.Count += o.Count
	u.Done += o.Done
	u.Failed += o.Failed
	u.Bytes += o.Bytes
	u.FirstSeq, u.LastSeq, u.First, u.Last = min(u.FirstSeq, o.FirstSeq), max(u.LastSeq, o.LastSeq), min(u.First, o.First), max(u.Last, o.Last)
}

// only keeps the columns.
func (k Key) only(by []Column) (s Key) {
	for _, c := range by {
		switch c {
		case ByHour:
			s.Hour = k.Hour
		case ByLog:
			s.Log = k.Log
		case ByType:
			s.Type = k.Type
		case ByTenant:
			s.Tenant = k.Tenant
		case ByUnit:
			s.Unit = k.Unit
		case ByWorkload:
			s.Workload = k.Workload
		case ByGateway:
			s.Gateway = k.Gateway
		case ByCredential:
			s.Credential = k.Credential
		case ByFingerprint:
			s.Fingerprint = k.Fingerprint
		case ByEstate:
			s.Estate = k.Estate
		case ByDecision:
			s.Decision = k.Decision
		case ByReason:
			s.Reason = k.Reason
		case ByLevel:
			s.Level = k.Level
		case ByProof:
			s.Proof = k.Proof
		}
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
	slices.SortFunc(list, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Seq, b.Seq))
	})
	return list, nil
}

// over reports whether a version can be used no more, and since when.
func (v *Version) over() (since int64, yes bool) {
	if v.State == "destroyed" || v.State == "revoked-proven" {
		return v.Since, true
	}
	return v.Expires * int64(time.Second), v.Expires != 0
}

// Versions implements Reader.
func (m *Memory) Versions(_ context.Context, f Filter) (list []Version, err error) {
	g := f
	g.From, g.To, g.Types, g.Gateway = time.Time{}, time.Time{}, nil, ""
	for _, v := range m.versions {
		since, over := v.over()
		if !g.has(0, "", v.Log, v.Tenant, v.Unit, v.Workload, "", v.Credential, v.Fingerprint) || !f.To.IsZero() && v.Bound >= f.To.UnixNano() ||
			over && !f.From.IsZero() && since < f.From.UnixNano() {
			continue
		}
		list = append(list, *v)
	}
	slices.SortFunc(list, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.Bound, b.Bound), cmp.Compare(a.Log, b.Log), cmp.Compare(a.BoundSeq, b.BoundSeq))
	})
	return list, nil
}

// Logs implements Reader.
func (m *Memory) Logs(context.Context) (list []Log, err error) {
	for _, l := range m.logs {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Log) int { return cmp.Compare(a.Origin, b.Origin) })
	return list, nil
}

// Hash implements Reader: over every row as JSON, a line each, in the order of Logs, Uses, Events and Versions.
func (m *Memory) Hash(ctx context.Context) (string, error) {
	h := sha256.New()
	to := json.NewEncoder(h)
	put := func(rows []any) (err error) {
		for _, r := range rows {
			if err == nil {
				err = to.Encode(r)
			}
		}
		return err
	}
	logs, _ := m.Logs(ctx)
	uses, _ := m.Uses(ctx, Filter{}, Columns...)
	events, _ := m.Events(ctx, Filter{})
	versions, _ := m.Versions(ctx, Filter{})
	for _, rows := range [][]any{rows(logs), rows(uses), rows(events), rows(versions)} {
		if err := put(rows); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func rows[T any](list []T) (all []any) {
	for _, x := range list {
		all = append(all, x)
	}
	return all
}
