package blast_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

const minute = time.Minute

func component(id string) blast.Subject { return blast.Subject{Kind: blast.Component, ID: id} }

// shown is the rows in short: what else a test looks at it looks at itself.
func shown(a *blast.Answer, all bool) (list []string) {
	for _, r := range a.Rows {
		if all || r.Class != blast.Excluded {
			list = append(list, fmt.Sprintf("%s %s %s %d", r.Class, r.Credential, r.Unit, r.Uses))
		}
	}
	return list
}

// Each class, for each kind of subject.
func TestRadius(t *testing.T) {
	e := newEstate(t)
	uses := func(w *world) {
		w.use(2, 5*minute, "research-agent", "g1", "research-openai", "bearer")
		w.use(3, 6*minute, "support-agent", "g1", "support-openai", "pop")
		w.use(1, 7*minute, "support-agent", "g2", "support-openai", "token")
		w.use(4, 8*minute, "support-agent", "g1", "lab-openai", "pop")
	}
	revoke := func(at time.Duration, e entry.Entry) func(*world) {
		return func(w *world) {
			e.Actor = []string{"cora"}
			if e.Type == "" {
				e.Type = entry.Revoke
			}
			w.put(logC1, at, e)
		}
	}
	for _, c := range []struct {
		name    string
		subject blast.Subject
		world   []func(*world)
		options blast.Options
		all     bool // with what is excluded
		want    []string
	}{
		{"a gateway without uses reaches what policy permits", component("g1"), nil, blast.Options{}, true, []string{
			"REACHABLE lab-openai lab 0", "REACHABLE lab-openai support 0", "REACHABLE research-openai research 0", "REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0",
			"EXCLUDED lab-bait lab 0", "EXCLUDED research-anthropic research 0"}},
		{"a gateway's uses, proven and asserted; it reads nothing", component("g1"), []func(*world){uses}, blast.Options{}, true, []string{
			"USED-ASSERTED research-openai research 2", "USED-PROVEN lab-openai support 4", "USED-PROVEN support-openai support 3",
			"REACHABLE lab-openai lab 0", "REACHABLE support-anthropic support 0", "EXCLUDED lab-bait lab 0", "EXCLUDED research-anthropic research 0"}},
		{"a gateway that was found to forward within the window read what it may ask for", component("g2"), []func(*world){uses, found("g2", 10*minute, register.Forward)}, blast.Options{}, false, []string{
			"READ support-anthropic support 0", "READ support-openai support 1"}},
		{"a verdict that runs out within the window", component("v1"), []func(*world){lapsing(10 * minute)}, blast.Options{}, false, []string{"READ outside-key support 0", "READ support-openai support 0"}},
		{"the most serious class of a pair", component("g2"), []func(*world){uses, func(w *world) { w.use(5, 9*minute, "support-agent", "g2", "support-openai", "pop") }}, blast.Options{}, false, []string{
			"USED-ASSERTED support-openai support 6", "REACHABLE support-anthropic support 0"}},
		{"a custodian read what it held, and its word proves nothing", component("c1"), []func(*world){uses}, blast.Options{}, true, []string{
			"READ research-anthropic research 0", "READ research-openai research 2", "READ support-anthropic support 0", "READ support-openai support 4",
			"EXCLUDED lab-bait lab 0", "EXCLUDED lab-openai lab 0", "EXCLUDED lab-openai support 0"}},
		{"what a custodian serves it reaches, whatever policy says", component("c2"), []func(*world){uses}, blast.Options{}, false, []string{
			"READ lab-openai lab 0", "READ lab-openai support 4", "REACHABLE lab-bait lab 0"}},
		{"the authority reaches by those that it alone vouches for", component("a1"), []func(*world){uses, func(w *world) {
			w.use(1, 3*minute, "vouched-agent", "g1", "research-openai", "bearer")
			w.use(1, 4*minute, "vouched-agent", "g1", "research-openai", "pop")
		}},
			blast.Options{}, false, []string{"USED-ASSERTED research-openai research 1"}},
		{"the authority without uses", component("a1"), []func(*world){uses}, blast.Options{}, false, []string{"REACHABLE research-openai research 0"}},
		{"the auditor reaches nothing", component("w1"), []func(*world){uses}, blast.Options{}, true, nil},
		{"a vendor's gateway without a probe reads all that it was given", component("v1"), []func(*world){uses, vendor(register.Transport)}, blast.Options{}, false, []string{
			"READ outside-key support 0", "READ support-openai support 0"}},
		{"a foreign gateway that only invokes reaches", component("v1"), []func(*world){func(w *world) {
			vendor(register.Transport, register.Invoke)(w)
			w.others[0].Kind = register.Foreign
		}}, blast.Options{}, false, []string{"REACHABLE support-openai support 0"}},
		{"a credential, for every unit", blast.Subject{Kind: blast.Credential, ID: "lab-openai"}, []func(*world){uses}, blast.Options{}, true, []string{
			"USED-PROVEN lab-openai support 4", "REACHABLE lab-openai lab 0", "EXCLUDED lab-openai research 0"}},
		{"a workload", blast.Subject{Kind: blast.Workload, ID: "support-agent"}, []func(*world){uses}, blast.Options{}, true, []string{
			"USED-ASSERTED support-openai support 4", "USED-PROVEN lab-openai support 4", "REACHABLE support-anthropic support 0"}},
		{"a person read what he handed over", blast.Subject{Kind: blast.Person, ID: "cora"}, []func(*world){uses}, blast.Options{}, false, []string{
			"READ lab-openai lab 0", "READ research-anthropic research 0", "READ research-openai research 0", "READ support-anthropic support 0", "READ support-openai support 0"}},
		{"a person knew the keys that he issued", blast.Subject{Kind: blast.Person, ID: "ada"}, []func(*world){uses, func(w *world) {
			w.put(logC1, 0, entry.Entry{Type: entry.Issue, Reason: "workload-key", Workload: "research-agent", Tenant: "acme", Unit: "research", Actor: []string{"ada"}})
		}}, blast.Options{}, false, []string{"USED-ASSERTED research-openai research 2"}},
		{"a unit: what it used, and what of its own others used", blast.Subject{Kind: blast.Unit, ID: "lab"}, []func(*world){uses}, blast.Options{}, true, []string{
			"USED-PROVEN lab-openai support 4", "REACHABLE lab-openai lab 0", "EXCLUDED lab-bait lab 0"}},
		{"a tenant", blast.Subject{Kind: blast.Tenant, ID: "acme"}, []func(*world){uses}, blast.Options{}, false, []string{
			"USED-ASSERTED research-openai research 2", "USED-ASSERTED support-openai support 4", "USED-PROVEN lab-openai support 4", "REACHABLE lab-openai lab 0", "REACHABLE support-anthropic support 0"}},
		{"out of band", component("g2"), nil, blast.Options{OutOfBand: []blast.Stray{
			{Credential: "support-openai", Provider: "openai", Count: 7, First: start().Add(minute), Last: start().Add(2 * minute), Why: "it counted 7"},
			{Credential: "support-anthropic", Provider: "anthropic", Count: 7, First: start().Add(window), Last: start().Add(2 * window), Why: "after the window"},
			{Credential: "research-openai", Provider: "openai", Count: 7, Why: "g2 serves it not"}}}, false, []string{
			"OUT-OF-BAND support-openai support 0", "REACHABLE support-anthropic support 0"}},
		{"closed all the time", component("g2"), []func(*world){revoke(0, entry.Entry{Credential: "support-openai", Unit: "support", Tenant: "acme"})}, blast.Options{}, true, []string{
			"REACHABLE support-anthropic support 0", "EXCLUDED lab-bait lab 0", "EXCLUDED lab-openai lab 0", "EXCLUDED lab-openai support 0", "EXCLUDED research-anthropic research 0", "EXCLUDED research-openai research 0",
			"EXCLUDED support-openai support 0"}},
		{"closed a second too late", component("g2"), []func(*world){revoke(time.Second, entry.Entry{Credential: "support-openai"})}, blast.Options{}, false, []string{
			"REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"opened again", component("g2"), []func(*world){revoke(0, entry.Entry{Credential: "support-openai"}), revoke(9*minute, entry.Entry{Type: entry.Unfreeze, Credential: "support-openai"})},
			blast.Options{}, false, []string{"REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"the gateway was closed", component("g2"), []func(*world){revoke(0, entry.Entry{Type: entry.Freeze, Gateway: "g2"})}, blast.Options{}, false, nil},
		{"the workload was closed", component("g2"), []func(*world){revoke(0, entry.Entry{Workload: "support-agent", Unit: "support"})}, blast.Options{}, false, nil},
		{"another unit was closed", component("g2"), []func(*world){revoke(0, entry.Entry{Unit: "research", Tenant: "acme"})}, blast.Options{}, false, []string{
			"REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"everything was closed", component("g2"), []func(*world){revoke(0, entry.Entry{Reason: "everything: drill"})}, blast.Options{}, false, nil},
		{"closed at one custodian of two", component("g1"), []func(*world){revoke(0, entry.Entry{Reason: "everything: drill"})}, blast.Options{}, false, []string{
			"REACHABLE lab-openai lab 0", "REACHABLE lab-openai support 0"}},
		{"an owner was closed, and his credentials with him", component("g2"), []func(*world){func(w *world) {
			for _, log := range []string{logC1, logC2} {
				w.put(log, 0, entry.Entry{Type: entry.Revoke, Actor: []string{"ada", "person:cora"}, Reason: "left"})
			}
		}}, blast.Options{}, false, nil},
		{"silence makes what was excluded unknown", component("g2"), []func(*world){func(w *world) { w.quiet[logC2] = [2]time.Duration{5 * minute, 6 * minute} }}, blast.Options{}, true, []string{
			"REACHABLE lab-bait lab 0", "REACHABLE lab-openai lab 0", "REACHABLE lab-openai support 0", "REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0",
			"EXCLUDED research-anthropic research 0", "EXCLUDED research-openai research 0"}},
		{"a silence that is allowed", component("g2"), []func(*world){func(w *world) { w.quiet[logC2] = [2]time.Duration{5 * minute, 6 * minute} }}, blast.Options{Silence: 2 * minute}, false, []string{
			"REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"a ledger that ends before the window", component("g2"), []func(*world){func(w *world) { w.quiet[logC1] = [2]time.Duration{20 * minute, window} }}, blast.Options{}, false, []string{
			"REACHABLE research-anthropic research 0", "REACHABLE research-openai research 0", "REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"a refusal is no use", component("g1"), []func(*world){func(w *world) {
			w.put(logC1, minute, entry.Entry{Type: entry.Deny, Tenant: "acme", Unit: "support", Workload: "support-agent", Gateway: "g1", Credential: "research-openai", Decision: "deny", Reason: "cross_unit", Count: 9})
		}}, blast.Options{}, true, []string{
			"REACHABLE lab-openai lab 0", "REACHABLE lab-openai support 0", "REACHABLE research-openai research 0", "REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0",
			"EXCLUDED lab-bait lab 0", "EXCLUDED research-anthropic research 0", "EXCLUDED research-openai support 0"}},
		{"who was refused had nothing that was read", component("c1"), []func(*world){func(w *world) {
			w.put(logC1, minute, entry.Entry{Type: entry.Deny, Tenant: "acme", Unit: "support", Workload: "support-agent", Gateway: "g1", Credential: "research-openai", Decision: "deny", Reason: "cross_unit"})
		}}, blast.Options{}, true, []string{
			"READ research-anthropic research 0", "READ research-openai research 0", "READ support-anthropic support 0", "READ support-openai support 0",
			"EXCLUDED lab-bait lab 0", "EXCLUDED lab-openai lab 0", "EXCLUDED lab-openai support 0", "EXCLUDED research-openai support 0"}},
		{"break-glass opens beyond policy", component("g1"), []func(*world){func(w *world) {
			w.put(logC1, minute, entry.Entry{Type: entry.BreakGlass, Tenant: "acme", Unit: "research", Workload: "research-agent", Credential: "research-anthropic", Reason: "open: outage"})
		}}, blast.Options{}, false, []string{
			"REACHABLE lab-openai lab 0", "REACHABLE lab-openai support 0", "REACHABLE research-anthropic research 0", "REACHABLE research-openai research 0", "REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
		{"a policy of part of the window counts", component("g2"), []func(*world){func(w *world) {
			w.e = newEstate(w.t)
			w.e.Now = start().Add(10 * minute)
			w.e.Republish(w.t, func(p *estate.Plan) { p.Cedar["support"]["use.cedar"] = `forbid (principal, action, resource);` }, "policy-support")
		}}, blast.Options{}, false, []string{"REACHABLE support-anthropic support 0", "REACHABLE support-openai support 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, e)
			for _, f := range c.world {
				f(w)
			}
			a := w.ask(c.subject, c.options)
			if f, ok := w.found[c.subject.ID]; ok && !slices.Equal(a.Component.Observed, f.flags) {
				t.Errorf("observed %v, want %v", a.Component.Observed, f.flags)
			}
			if d := cmp.Diff(c.want, shown(a, c.all)); d != "" {
				t.Error(d)
			}
			n := 0
			for _, count := range a.Counts {
				n += count
			}
			if n != len(a.Rows) || len(a.Counts) != len(blast.Classes) {
				t.Errorf("%d counted, %d rows", n, len(a.Rows))
			}
			for _, r := range a.Rows {
				if r.Why == "" || !strings.HasSuffix(r.Why, ".") || len(r.Classes) == 0 || r.Classes[0] != r.Class {
					t.Errorf("%+v", r)
				}
				if (c.subject.ID == "g1" || c.subject.ID == "g2") && r.Class == blast.Read && len(w.found) == 0 {
					t.Errorf("a gateway read %s", r.Credential)
				}
			}
		})
	}
}

// found registers what a gateway of the estate was seen to do from then on.
func found(id string, from time.Duration, flags ...register.Flag) func(*world) {
	return func(w *world) {
		w.found = map[string]seen{id: {start().Add(from), flags}}
	}
}

// lapsing registers a vendor's gateway whose probe saw that it transports, until then.
func lapsing(until time.Duration) func(*world) {
	return func(w *world) {
		vendor(register.Transport)(w)
		w.others[0].Probed = start().Add(until)
	}
}

// vendor registers one that holds two credentials, one of which the estate does not have.
func vendor(flags ...register.Flag) func(*world) {
	return func(w *world) {
		w.others = []register.Component{{ID: "v1", Kind: register.Vendor, Units: []string{"support"}, Credentials: []string{"outside-key", "support-openai"}, Declared: flags}}
	}
}

// Who answers, what lives on, and what cannot be known.
func TestRow(t *testing.T) {
	w := newWorld(t, newEstate(t))
	w.use(2, 5*minute, "support-agent", "g1", "lab-openai", "bearer")
	w.intent(6*minute, "support-agent", "g1", "lab-openai", "pop") // without an outcome
	a := w.ask(component("g1"), blast.Options{})
	r := a.Rows[0]
	if r.Credential != "lab-openai" || r.Unit != "support" || r.Owning != "lab" || r.Tenant != "acme" || r.Uses != 3 || r.Unknown != 1 {
		t.Errorf("%+v", r)
	}
	if d := cmp.Diff(blast.Accountable{Policy: []string{"ada"}, Operations: []string{"bea"}, Lifecycle: "cora", Approvers: []string{"ada", "bea", "cora"}}, r.Accountable); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int64{"W0 bearer": 2, "W2 pop": 1}, r.Proofs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]blast.Class{blast.UsedAsserted, blast.UsedProven}, r.Classes); d != "" {
		t.Error(d)
	}
	if len(r.Refs) != 2 || r.Refs[0].Log != logC2 || r.Refs[0].Seq >= r.Refs[1].Seq || !r.First.Equal(start().Add(5*minute)) || !r.Last.Equal(start().Add(6*minute)) {
		t.Errorf("%+v", r)
	}
	if !r.Live || !r.LiveUntil.IsZero() || r.State != "active" || a.Residual != (blast.Residual{Credentials: 1, Unbounded: 1}) {
		t.Errorf("%+v, %+v", r, a.Residual)
	}
	all := strings.Join(a.Cannot, "\n")
	for _, want := range []string{"What became of 1 use", "after 2026-11-02T08:29:50.000Z, 10s before", "prompts and answers"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said in\n%s", want, all)
		}
	}
}

// What still lives, by what happened to the versions that were exposed.
func TestLive(t *testing.T) {
	e := newEstate(t)
	end := start().Add(2 * time.Hour)
	for _, c := range []struct {
		name    string
		subject string
		world   func(*world)
		live    bool
		until   time.Time
	}{
		{"a static secret", "c1", func(*world) {}, true, time.Time{}},
		{"one that expires", "c1", version("active", end), true, end},
		{"one that has expired", "c1", version("active", start().Add(minute)), false, time.Time{}},
		{"proven dead", "c1", version("revoked-proven", time.Time{}), false, time.Time{}},
		{"revoked, and nobody has seen that it is dead", "c1", version("revoked-unproven", time.Time{}), true, time.Time{}},
		{"its bytes are gone here, but were read", "c1", version("destroyed", time.Time{}), true, time.Time{}},
		{"its bytes are gone here, and a gateway never had them", "g1", version("destroyed", time.Time{}), false, time.Time{}},
		{"used, revoked, and nobody has seen that it is dead", "g1", version("revoked-unproven", time.Time{}), true, time.Time{}},
		{"not used, and revoked", "g2", func(w *world) {
			w.put(logC1, 20*minute, entry.Entry{Type: entry.Version, Credential: "support-openai", Lease: "1", State: "revoked-unproven", Reason: "test"})
		}, false, time.Time{}},
		{"closed since, and never read", "g1", func(w *world) {
			w.put(logC1, 20*minute, entry.Entry{Type: entry.Freeze, Credential: "research-openai", Actor: []string{"cora"}})
		}, false, time.Time{}},
		{"closed since, but read", "c1", func(w *world) {
			w.put(logC1, 20*minute, entry.Entry{Type: entry.Freeze, Credential: "research-openai", Actor: []string{"cora"}})
		}, true, time.Time{}},
		{"rotated: the one that was read overlaps", "c1", func(w *world) {
			version("overlapping", end)(w)
			w.hand(logC1, "research-openai", "2", 21*minute)
		}, true, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, e)
			w.use(1, 5*minute, "research-agent", "g1", "research-openai", "bearer")
			c.world(w)
			a := w.ask(component(c.subject), blast.Options{})
			for _, r := range a.Rows {
				if (r.Credential == "research-openai" && r.Uses+int64(len(r.Fingerprints)) > 0 || r.Credential == "support-openai" && c.subject == "g2") && (r.Live != c.live || !r.LiveUntil.Equal(c.until)) {
					t.Errorf("live %v until %v, %s", r.Live, r.LiveUntil, r.State)
				}
			}
		})
	}
}

// version gives the secret of research-openai another state.
func version(state string, expires time.Time) func(*world) {
	return func(w *world) {
		e := entry.Entry{Type: entry.Version, Credential: "research-openai", Lease: "1", CredFP: "fp-research-openai-1", State: state, Reason: "test"}
		if !expires.IsZero() {
			e.Expires = expires.Unix()
		}
		w.put(logC1, 20*minute, e)
	}
}

// What no known policy permits is not excluded when not all statements of the window are known.
func TestGap(t *testing.T) {
	w := newWorld(t, newEstate(t))
	set := *w.e.Set
	later := set
	later.Lock.Version, later.Lock.Created = set.Lock.Version+2, start().Add(20*minute)
	younger := set
	younger.Lock.Version++
	younger.Lock.Created = start().Add(10 * minute)
	for _, c := range []struct {
		name string
		sets []*statement.Set
		lost bool
		want string
	}{
		{"all of them", []*statement.Set{&set}, false, ""},
		{"one between two", []*statement.Set{&set, &later}, false, "version 2 of the lock"},
		{"those before", []*statement.Set{&younger}, false, "does not reach back"},
		{"one that uses name", []*statement.Set{&set}, true, "Under which policies 1 uses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, w.e)
			if c.lost {
				w.put(logC1, 5*minute, entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: "research", Workload: "research-agent", Gateway: "g1", Credential: "research-openai", Level: "W0", Proof: "bearer", Estate: strings.Repeat("ab", 32)})
			}
			b := w.books()
			b.History = history.New(c.sets...)
			b.Register = register.New(b.History, nil)
			a, err := blast.Radius(t.Context(), b, component("g2"), start(), start().Add(window), blast.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if a.Counts[blast.Excluded] == 0 {
					t.Fatal("nothing is excluded: the test shows nothing")
				}
				return
			}
			if n := a.Counts[blast.Excluded]; n > 0 || !strings.Contains(strings.Join(a.Cannot, "\n"), c.want) {
				t.Errorf("%d excluded; %q", n, a.Cannot)
			}
		})
	}
}

// A custodian that a statement names no more may hold the secret: while its ledger is silent, nothing is known of what it did.
func TestFormerCustodian(t *testing.T) {
	w := newWorld(t, newEstate(t))
	w.hand(logC2, "support-anthropic", "1", 0) // c1 alone serves it
	w.quiet[logC2] = [2]time.Duration{5 * minute, 20 * minute}
	for _, r := range w.ask(component("g2"), blast.Options{}).Rows {
		if r.Credential == "support-anthropic" && (r.Class == blast.Excluded || r.Complete) {
			t.Errorf("%s, %v: %s", r.Class, r.Complete, r.Why)
		}
	}
}

func TestUnknown(t *testing.T) {
	w := newWorld(t, newEstate(t))
	for _, c := range []struct {
		subject blast.Subject
		from    time.Duration
		want    error
	}{
		{component("g9"), 0, blast.ErrUnknown},
		{blast.Subject{Kind: blast.Person, ID: "nobody"}, 0, blast.ErrUnknown},
		{blast.Subject{Kind: blast.Unit, ID: "g1"}, 0, blast.ErrUnknown},
		{component("g1"), window, blast.ErrWindow},
	} {
		if _, err := blast.Radius(t.Context(), w.books(), c.subject, start().Add(c.from), start().Add(window), blast.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.subject, err)
		}
	}
	// What was recorded later is not in an answer as of an earlier time.
	w.use(1, 20*minute, "research-agent", "g1", "research-openai", "bearer")
	a := w.ask(component("g1"), blast.Options{AsOf: start().Add(10 * minute)})
	if !a.To.Equal(start().Add(10 * minute)) {
		t.Errorf("to %s", a.To)
	}
}

// As of a past instant what was still live is what the ledgers said by then: neither a later revocation nor a later renewal or version is in it.
func TestLiveAsOf(t *testing.T) {
	e := newEstate(t)
	w := newWorld(t, e)
	w.use(1, 2*minute, "support-agent", "g2", "support-openai", "bearer")
	w.use(1, 2*minute, "support-agent", "g2", "support-anthropic", "bearer")
	says := func(at time.Duration, credential, lease, state string, expires time.Duration) {
		x := entry.Entry{Type: entry.Version, Credential: credential, Lease: lease, State: state}
		if expires > 0 {
			x.Expires = start().Add(expires).Unix()
		}
		w.put(logC1, at, x)
	}
	says(3*minute, "support-openai", "1", "active", 10*minute)
	says(8*minute, "support-openai", "1", "active", 40*minute) // renewed
	says(12*minute, "support-openai", "2", "active", 90*minute)
	says(12*minute, "support-openai", "1", "overlapping", 0)
	says(20*minute, "support-openai", "1", "revoked-proven", 0)
	says(20*minute, "support-openai", "2", "destroyed", 0)
	says(4*minute, "support-anthropic", "1", "destroyed", 0)
	b := w.books()
	for _, c := range []struct {
		to, asOf     time.Duration
		state        string
		live         bool
		until        time.Duration
		other, ended bool
	}{
		{5 * minute, 3*minute + time.Second, "active", true, 10 * minute, true, false},
		{5 * minute, 9 * minute, "active", true, 40 * minute, false, true},
		{5 * minute, 13 * minute, "active", true, 40 * minute, false, true}, // its newest version came after the window: it was not exposed
		{window, 13 * minute, "active", true, 90 * minute, false, true},
		{5 * minute, window, "destroyed", false, 0, false, true},
	} {
		a, err := blast.Radius(t.Context(), b, component("g2"), start(), start().Add(c.to), blast.Options{AsOf: start().Add(c.asOf)})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range a.Rows {
			var until time.Duration
			if !r.LiveUntil.IsZero() {
				until = r.LiveUntil.Sub(start())
			}
			switch r.Credential {
			case "support-openai":
				if r.State != c.state || r.Live != c.live || until != c.until {
					t.Errorf("window to %s, as of %s: %s, live %v until %s; want %s, %v, %s", c.to, c.asOf, r.State, r.Live, until, c.state, c.live, c.until)
				}
			case "support-anthropic":
				if r.Live != c.other || (r.State == "destroyed") != c.ended {
					t.Errorf("as of %s the other one: %s, live %v", c.asOf, r.State, r.Live)
				}
			}
		}
	}
}

// What the register lacks stands beside the answer, on the page too, and in no unit's annex.
func TestLacks(t *testing.T) {
	w := newWorld(t, newEstate(t))
	w.use(1, 5*minute, "research-agent", "g1", "research-openai", "bearer")
	if a := w.ask(component("g1"), blast.Options{}); len(a.Lacks) != 0 {
		t.Fatalf("%q", a.Lacks)
	}
	w.use(1, 6*minute, "support-agent", "g7", "support-openai", "bearer")
	w.others = []register.Component{{ID: "acme", Kind: register.Vendor}, {ID: "known", Kind: register.Vendor, Anchored: true}}
	b := w.books()
	b.Register = cut{b.Register}
	a, err := blast.Radius(t.Context(), b, component("g1"), start(), start().Add(window), blast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(a.Lacks, "\n")
	if len(a.Lacks) != 3 || !strings.Contains(all, "lacks a record") || !strings.Contains(all, "vendor-gateway acme is in no ledger yet") || !strings.Contains(all, "name the gateway g7") {
		t.Errorf("%q", a.Lacks)
	}
	var page bytes.Buffer
	if err := blast.WritePage(&page, a); err != nil || !strings.Contains(page.String(), "The register lacks: The ledgers name the gateway g7") {
		t.Errorf("the page does not say it: %v", err)
	}
	x, err := blast.AnnexOf(t.Context(), b, a, "research")
	if err != nil || len(x.Answer.Lacks) != 0 {
		t.Errorf("%+v, %v", x, err)
	}
}

// cut is a register whose journal was cut short.
type cut struct{ register.Reader }

func (cut) Lacks() error { return register.ErrMissing }
