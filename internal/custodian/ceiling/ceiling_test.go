package ceiling

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// set is an estate whose units have these bounds.
func set(t testing.TB, policies map[string]*statement.PolicyStatement) *statement.Set {
	return estatetest.New(t, estatetest.Edit(func(p *estate.Plan) {
		for unit, s := range policies {
			p.Policies[unit].Ceilings, p.Policies[unit].Limits = s.Ceilings, s.Limits
		}
	})).Set
}

func research(ceilings []statement.Ceiling, limits ...statement.WorkloadLimit) map[string]*statement.PolicyStatement {
	return map[string]*statement.PolicyStatement{"research": {Ceilings: ceilings, Limits: limits}, "support": {}}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestBounds(t *testing.T) {
	const agent, openai, anthropic = "research-agent", "research-openai", "research-anthropic"
	enter := func(credential string, size int64) func(*Table, time.Time) *Excess {
		return func(tb *Table, now time.Time) *Excess { _, x := tb.Enter(agent, credential, size, now); return x }
	}
	for _, tt := range []struct {
		name   string
		bounds map[string]*statement.PolicyStatement
		first  func(*Table, time.Time) *Excess
		then   func(*Table, time.Time) *Excess
		want   *Excess
	}{
		{"no bound", research(nil), enter(openai, 1<<30), enter(openai, 1<<30), nil},
		{"requests", research([]statement.Ceiling{{Workload: agent, Credential: openai, RequestsPerMinute: 1}}), enter(openai, 0), enter(openai, 0), &Excess{Requests, false, true, span}},
		{"each credential of * is counted by itself", research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 1}}), enter(openai, 0), enter(anthropic, 0), nil},
		{"the tightest of several bounds holds", research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 1}, {Workload: agent, Credential: openai, RequestsPerMinute: 100}}), enter(openai, 0), enter(openai, 0), &Excess{Requests, false, true, span}},
		{"any bound that is broken may ask for a freeze", research([]statement.Ceiling{{Workload: agent, Credential: "*", RequestsPerMinute: 1}, {Workload: "*", Credential: openai, BytesPerMinute: 10, OnExcess: "freeze"}}), enter(openai, 6), enter(openai, 6), &Excess{Requests, true, true, span}},
		{"another workload's bound", research([]statement.Ceiling{{Workload: "*", Credential: anthropic, RequestsPerMinute: 1}}), enter(openai, 0), enter(openai, 0), nil},
		{"concurrent", research([]statement.Ceiling{{Workload: "*", Credential: "*", Concurrent: 1}}), enter(openai, 0), enter(openai, 0), &Excess{Concurrent, false, true, 1}},
		{"bytes", research([]statement.Ceiling{{Workload: "*", Credential: "*", BytesPerMinute: 10}}), enter(openai, 6), enter(openai, 5), &Excess{Bytes, false, true, span}},
		{"bytes of one request", research([]statement.Ceiling{{Workload: "*", Credential: "*", BytesPerMinute: 10}}), enter(openai, 11), enter(openai, 10), nil},
		{"credentials", research(nil, statement.WorkloadLimit{Workload: "*", CredentialsPerMinute: 1}), enter(openai, 0), enter(anthropic, 0), &Excess{Credentials, false, true, span}},
		{"the same credential again", research(nil, statement.WorkloadLimit{Workload: "*", CredentialsPerMinute: 1}), enter(openai, 0), enter(openai, 0), nil},
		{"denials shut out what is allowed", research(nil, statement.WorkloadLimit{Workload: agent, DenialsPerMinute: 1, OnExcess: "freeze"}),
			func(tb *Table, now time.Time) *Excess { x, _ := tb.Denied(agent, true, now); return x }, enter(openai, 0), &Excess{Denials, true, true, span}},
		{"a workload of no set", research(nil), enter(openai, 0), func(tb *Table, now time.Time) *Excess { _, x := tb.Enter("ghost", openai, 0, now); return x }, &Excess{Bound: Requests, Retry: 1}},
	} {
		table := New(set(t, tt.bounds), nil, start)
		tt.first(table, start)
		if diff := cmp.Diff(tt.want, tt.then(table, start)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if x := tt.then(table, start.Add(2*time.Minute)); tt.want != nil && tt.want.Bound != Concurrent && tt.want.Retry > 1 && x != nil {
			t.Errorf("%s: two minutes later: %+v", tt.name, x)
		}
	}
}

// TestNoSixtySecondsHoldMore: also across the ends of seconds.
func TestNoSixtySecondsHoldMore(t *testing.T) {
	table := New(set(t, research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 1}})), nil, start)
	enter := func(at time.Duration) bool {
		_, x := table.Enter("research-agent", "research-openai", 0, start.Add(at))
		return x == nil
	}
	for _, tt := range []struct {
		at time.Duration
		in bool
	}{{900 * time.Millisecond, true}, {60500 * time.Millisecond, false}, {60*time.Second + 899*time.Millisecond, false}, {62 * time.Second, true}} {
		if got := enter(tt.at); got != tt.in {
			t.Errorf("at %s: let in %v", tt.at, got)
		}
	}
}

// TestNextTableKeepsCounting: publishing a set gives nobody a fresh minute, and its bounds hold at once.
func TestNextTableKeepsCounting(t *testing.T) {
	loose := research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 3}})
	tight := research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 2}})
	old := New(set(t, loose), nil, start)
	slot, _ := old.Enter("research-agent", "research-openai", 0, start)
	old.Enter("research-agent", "research-openai", 0, start)
	next := New(set(t, tight), old, start.Add(time.Second))
	if _, x := next.Enter("research-agent", "research-openai", 0, start.Add(time.Second)); x == nil {
		t.Error("a third request was let in by the bound of 2")
	}
	slot.Leave() // of the old table
	if n := next.workloads["research-agent"].pairs["research-openai"].inFlight; n != 1 {
		t.Errorf("%d in flight, want 1", n)
	}
}

// event is one request that was let in.
type event struct {
	workload, credential string
	sec, size            int64
	open                 bool
}

// TestAgainstTheList compares the counters with a list of everything that happened, under random bounds and times.
func TestAgainstTheList(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for round := range 12 {
		bounds := map[string]*statement.PolicyStatement{}
		for _, unit := range []string{"research", "support"} {
			s := &statement.PolicyStatement{}
			for range rnd.IntN(3) {
				s.Ceilings = append(s.Ceilings, statement.Ceiling{Workload: pick("*", unit+"-agent"), Credential: pick("*", unit+"-openai"),
					RequestsPerMinute: rnd.Int64N(6), Concurrent: rnd.Int64N(4), BytesPerMinute: rnd.Int64N(200)})
			}
			if rnd.IntN(2) == 0 {
				s.Limits = append(s.Limits, statement.WorkloadLimit{Workload: pick("*", unit+"-agent"), CredentialsPerMinute: rnd.Int64N(3)})
			}
			bounds[unit] = s
		}
		table := New(set(t, bounds), nil, start)
		var all []event
		var slots []Slot
		sec := int64(0)
		for step := range 400 {
			sec += rnd.Int64N(8)
			unit := pick("research", "support")
			e := event{unit + "-agent", unit + pick("-openai", "-anthropic"), sec, rnd.Int64N(60), true}
			now := start.Add(time.Duration(sec)*time.Second + time.Duration(rnd.IntN(1000))*time.Millisecond)
			want := allowed(bounds[unit], all, e)
			slot, x := table.Enter(e.workload, e.credential, e.size, now)
			if (x == nil) != want {
				t.Fatalf("round %d step %d: %+v: let in %v, the list says %v\nbounds %+v", round, step, e, x == nil, want, bounds[unit])
			}
			if x == nil {
				all, slots = append(all, e), append(slots, slot)
			}
			if len(all) > 0 && rnd.IntN(2) == 0 {
				if i := rnd.IntN(len(all)); all[i].open {
					all[i].open = false
					slots[i].Leave()
				}
			}
		}
	}
}

// allowed is the rule in plain words: with e, no bound of the unit would be broken in the current second and the 60 before.
func allowed(s *statement.PolicyStatement, all []event, e event) bool {
	var requests, bytes, open int64
	credentials := map[string]bool{e.credential: true}
	for _, o := range all {
		if o.workload != e.workload {
			continue
		}
		recent := o.sec > e.sec-span
		if recent {
			credentials[o.credential] = true
		}
		if o.credential != e.credential {
			continue
		}
		if recent {
			requests++
			bytes += o.size
		}
		if o.open {
			open++
		}
	}
	for _, l := range s.Limits {
		if l.CredentialsPerMinute > 0 && int64(len(credentials)) > l.CredentialsPerMinute {
			return false
		}
	}
	for _, c := range s.Ceilings {
		if c.Credential != "*" && c.Credential != e.credential {
			continue
		}
		if c.RequestsPerMinute > 0 && requests+1 > c.RequestsPerMinute || c.Concurrent > 0 && open+1 > c.Concurrent || c.BytesPerMinute > 0 && bytes+e.size > c.BytesPerMinute {
			return false
		}
	}
	return true
}

// TestTogether: under concurrency the bounds hold exactly.
func TestTogether(t *testing.T) {
	table := New(set(t, research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 100, Concurrent: 5}})), nil, start)
	var mu sync.Mutex
	in, most, total := 0, 0, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				slot, x := table.Enter("research-agent", "research-openai", 1, start)
				if x != nil {
					continue
				}
				mu.Lock()
				in++
				total++
				most = max(most, in)
				mu.Unlock()
				slot.Add(1, start)
				mu.Lock()
				in--
				mu.Unlock()
				slot.Leave()
			}
		})
	}
	wg.Wait()
	if most > 5 || total != 100 {
		t.Errorf("%d at once, %d in all", most, total)
	}
}

func BenchmarkEnter(b *testing.B) {
	table := New(set(b, research([]statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 1 << 40, Concurrent: 1 << 40}})), nil, start)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			slot, x := table.Enter("research-agent", "research-openai", 100, start)
			if x != nil {
				panic(fmt.Sprint(x))
			}
			slot.Leave()
		}
	})
}
