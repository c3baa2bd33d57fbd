package custodian

import (
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/metrics"
)

// tally counts refusals that are not written one by one, so that a flood of them cannot fill the disk.
type tally struct {
	mu      sync.Mutex
	counts  map[refused]int64
	second  int64 // Unix time
	claimed int   // refusals written in that second whose requests are only claimed to be a workload's
}

// few reports whether another refusal of a claimed request may be written as an entry of its own in this second.
func (t *tally) few(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := now.Unix(); s != t.second {
		t.second, t.claimed = s, 0
	}
	t.claimed++
	return t.claimed <= maxClaimed
}

// maxClaimed bounds the entries a second of claimed requests.
const maxClaimed = 20

// refused is what one entry of a tally stands for.
type refused struct{ reason, gateway, tenant, unit, workload string }

func (t *tally) add(reason string, u *use) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[refused]int64{}
	}
	t.counts[refused{reason, u.Gateway, u.who.Tenant, u.who.Unit, u.who.Workload}]++
}

// take returns what was counted since the last time.
func (t *tally) take() map[refused]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := t.counts
	t.counts = nil
	return counts
}

// Flush writes one entry for each kind of refusal that was counted, and what is closed if that is not on disk yet.
func (c *Custodian) Flush() {
	c.save()
	for r, n := range c.tally.take() {
		e := (&use{view: c.view.Load(), age: c.News()}).entry(entry.Deny)
		e.Decision, e.Reason, e.Count = "deny", r.reason, n
		e.Gateway, e.Tenant, e.Unit, e.Workload = r.gateway, r.tenant, r.unit, r.workload
		c.note(e)
	}
}

// meters are the custodian's metrics.
type meters struct {
	denials    *metrics.Set
	outcomes   *metrics.Set
	alarms     *metrics.Set
	lost       *metrics.Counter
	ledgerWait *metrics.Histogram
	sources    *metrics.Set
}

// source counts how a call to a source of secrets ended.
func (m *meters) source(e *entry.Entry) {
	if e.Type == entry.Outcome {
		m.sources.Of(e.Reason).Inc()
	}
}

func newMeters(c *Custodian) *meters {
	r := c.Metrics
	r.GaugeFunc("reeve_custodian_in_flight", "Uses that are open.", func() float64 { return float64(c.Gate.Live()) })
	r.GaugeFunc("reeve_custodian_feed_age_seconds", "Age of the newest news of revocations; -1 when unknown.", func() float64 { return c.News().Seconds() })
	r.GaugeFunc("reeve_custodian_owner_ends_seconds", "Seconds until the first credential or gateway of the estate is orphaned; negative since one is.", func() float64 {
		if v := c.view.Load(); v != nil {
			if list := v.set.Orphans(); len(list) > 0 {
				return list[0].At.Sub(c.Clock()).Seconds()
			}
		}
		return 0
	})
	r.GaugeFunc("reeve_custodian_uncosigned_seconds", "Age of the oldest ledger entry without enough cosignatures; above 30 nothing is used.", func() float64 {
		oldest, _ := c.Ledger.Uncosigned()
		return oldest.Seconds()
	})
	return &meters{
		denials:    r.CounterSet("reeve_custodian_denials_total", "Requests refused before anything was sent.", "reason"),
		outcomes:   r.CounterSet("reeve_custodian_outcomes_total", "Uses of a secret, by how they ended.", "reason"),
		alarms:     r.CounterSet("reeve_custodian_alarms_total", "Alarms.", "reason"),
		lost:       r.Counter("reeve_custodian_entries_lost_total", "Ledger entries that could not be written."),
		sources:    r.CounterSet("reeve_custodian_sources_total", "Calls to the sources of secrets and probes, by how they ended.", "reason"),
		ledgerWait: r.Histogram("reeve_custodian_ledger_wait_seconds", "How long an intent waited to be durable."),
	}
}
