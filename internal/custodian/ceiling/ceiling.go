// Package ceiling counts what each workload does with each credential and says when a bound of the signed policy is reached.
// Each custodian counts for itself. Nothing here is written to disk: a restart begins with empty counters.
package ceiling

import (
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// The bounds an Excess names.
const (
	Requests    = "requests_per_minute"
	Concurrent  = "concurrent"
	Bytes       = "bytes_per_minute"
	Credentials = "credentials_per_minute"
	Denials     = "denials_per_minute"
)

// apiece is how many denials of one workload in a minute are worth an entry of their own, whatever policy bounds.
const apiece = 600

// each stands for every workload or every credential, each counted separately.
const each = "*"

// Excess is a bound that was reached.
type Excess struct {
	Bound  string // one of the constants above
	Freeze bool   // the policy asks for the workload to be frozen
	First  bool   // no excess of this workload was reported in the last minute: worth an alarm
	Retry  int    // seconds after which a new attempt may succeed
}

// Table has the counters of every workload of one set, and the set's bounds. Two tables of successive sets share their
// counters, so that publishing a set resets nothing. Safe for concurrent use; workloads do not contend with one another.
type Table struct {
	set       *statement.Set
	epoch     time.Time
	workloads map[string]*counter
}

// counter is one workload's. mu spans every field, and those of its pairs.
type counter struct {
	mu       sync.Mutex
	of       *Table // that limits and the pairs' bounds were read from
	limits   []statement.WorkloadLimit
	denials  window           // that count towards the bound
	refusals window           // all of them
	recent   map[string]int64 // credential to the second of its last use
	pairs    map[string]*pair // by credential
	alarmed  int64            // second of the last excess that was reported as the first
}

// pair is one workload with one credential.
type pair struct {
	of       *Table
	bounds   []statement.Ceiling
	requests window
	bytes    window
	inFlight int64
}

// Slot is a request that was let in. Leave it once. The zero Slot is of a request that was not.
type Slot struct {
	t *Table
	c *counter
	p *pair
}

// New returns the table of a set that follows prev, which is nil for the first.
func New(set *statement.Set, prev *Table, now time.Time) *Table {
	t := &Table{set: set, epoch: now, workloads: make(map[string]*counter, len(set.Charter.Workloads))}
	if prev != nil {
		t.epoch = prev.epoch
	}
	for _, w := range set.Charter.Workloads {
		if prev != nil && prev.workloads[w.ID] != nil {
			t.workloads[w.ID] = prev.workloads[w.ID]
			continue
		}
		t.workloads[w.ID] = &counter{recent: map[string]int64{}, pairs: map[string]*pair{}, alarmed: -span}
	}
	return t
}

// Enter counts a request of size bytes, or says which bound it would break and counts nothing. Every bound is checked that
// the workload's or the credential's unit signed for them.
func (t *Table) Enter(workload, credential string, size int64, now time.Time) (Slot, *Excess) {
	c := t.workloads[workload]
	if c == nil {
		return Slot{}, &Excess{Bound: Requests, Retry: 1} // not of this set: no bound is known, so nothing is let in
	}
	sec := t.second(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read(t, workload)
	p := c.pair(t, workload, credential)
	if x := c.over(p, credential, size, sec); x != nil {
		return Slot{}, c.report(x, sec)
	}
	c.recent[credential] = sec
	p.requests.add(sec, 1)
	p.bytes.add(sec, size)
	p.inFlight++
	return Slot{t, c, p}, nil
}

// Denied counts a denial of the workload. One that counts towards the workload's bound is an Excess past it. The denial
// is one of many when a flood of them could fill the disk.
func (t *Table) Denied(workload string, counts bool, now time.Time) (x *Excess, many bool) {
	c := t.workloads[workload]
	if c == nil {
		return nil, true
	}
	sec := t.second(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read(t, workload)
	c.refusals.add(sec, 1)
	many = c.refusals.at(sec) > apiece
	if !counts {
		return nil, many
	}
	if x := c.denied(sec); x != nil {
		return c.report(x, sec), many // not counted: a workload that is shut out recovers after a minute
	}
	c.denials.add(sec, 1)
	return nil, many
}

// Add counts bytes of the answer before they pass. They count also when they break a bound, which the Excess says then: the
// answer is cut, and the minute is used up.
func (s Slot) Add(n int64, now time.Time) (x *Excess) {
	sec := s.t.second(now)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.p.bytes.add(sec, n)
	for i := range s.p.bounds {
		if b := &s.p.bounds[i]; b.BytesPerMinute > 0 && s.p.bytes.at(sec) > b.BytesPerMinute {
			x = x.or(Bytes, b.OnExcess, s.p.bytes.frees(sec))
		}
	}
	if x != nil {
		s.c.report(x, sec)
	}
	return x
}

// Leave ends the request.
func (s Slot) Leave() {
	if s.c == nil {
		return
	}
	s.c.mu.Lock()
	s.p.inFlight--
	s.c.mu.Unlock()
}

// second numbers the seconds since the first table was made, on the monotonic clock.
func (t *Table) second(now time.Time) int64 { return int64(now.Sub(t.epoch) / time.Second) }

// read brings the workload's own limits up to the table in use. "*" is each workload of the unit.
func (c *counter) read(t *Table, workload string) {
	if c.of == t {
		return
	}
	c.of, c.limits = t, nil
	_, unit, ok := t.set.Workload(workload)
	if !ok || t.set.Policies[unit.ID] == nil {
		return
	}
	for _, l := range t.set.Policies[unit.ID].Limits {
		if l.Workload == workload || l.Workload == each {
			c.limits = append(c.limits, l)
		}
	}
}

// pair brings the pair's bounds up to the table in use: those that the workload's or the credential's unit signed.
func (c *counter) pair(t *Table, workload, credential string) *pair {
	p := c.pairs[credential]
	if p == nil {
		p = &pair{}
		c.pairs[credential] = p
	}
	if p.of == t {
		return p
	}
	p.of, p.bounds = t, nil
	_, home, _ := t.set.Workload(workload)
	_, owner, _ := t.set.Credential(credential)
	for id, policy := range t.set.Policies {
		if (home == nil || home.ID != id) && (owner == nil || owner.ID != id) {
			continue
		}
		for _, b := range policy.Ceilings {
			if (b.Workload == workload || b.Workload == each) && (b.Credential == credential || b.Credential == each) {
				p.bounds = append(p.bounds, b)
			}
		}
	}
	return p
}

// over returns the first bound that one more request would break, and whether any bound that it breaks asks for a freeze.
func (c *counter) over(p *pair, credential string, size, sec int64) *Excess {
	x := c.denied(sec)
	for i := range c.limits {
		if l := &c.limits[i]; l.CredentialsPerMinute > 0 && c.distinct(credential, sec) > l.CredentialsPerMinute {
			x = x.or(Credentials, l.OnExcess, span)
		}
	}
	for i := range p.bounds {
		b := &p.bounds[i]
		if b.RequestsPerMinute > 0 && p.requests.at(sec)+1 > b.RequestsPerMinute {
			x = x.or(Requests, b.OnExcess, p.requests.frees(sec))
		}
		if b.Concurrent > 0 && p.inFlight+1 > b.Concurrent {
			x = x.or(Concurrent, b.OnExcess, 1)
		}
		if b.BytesPerMinute > 0 && p.bytes.at(sec)+size > b.BytesPerMinute {
			x = x.or(Bytes, b.OnExcess, p.bytes.frees(sec))
		}
	}
	return x
}

func (c *counter) denied(sec int64) (x *Excess) {
	for i := range c.limits {
		if l := &c.limits[i]; l.DenialsPerMinute > 0 && c.denials.at(sec) >= l.DenialsPerMinute {
			x = x.or(Denials, l.OnExcess, c.denials.frees(sec))
		}
	}
	return x
}

// distinct counts the credentials used in the last minute as if this one were used now.
func (c *counter) distinct(credential string, sec int64) int64 {
	n := int64(1)
	for id, last := range c.recent {
		switch {
		case last <= sec-span:
			delete(c.recent, id)
		case id != credential:
			n++
		}
	}
	return n
}

// report says whether this excess is the workload's first in a minute.
func (c *counter) report(x *Excess, sec int64) *Excess {
	if x.First = sec-c.alarmed >= span; x.First {
		c.alarmed = sec
	}
	return x
}

func (x *Excess) or(bound, onExcess string, retry int64) *Excess {
	if x == nil {
		x = &Excess{Bound: bound, Retry: int(retry)}
	}
	x.Freeze = x.Freeze || onExcess == "freeze"
	return x
}
