package policy_test

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// compile replaces the Cedar of research in a set and compiles it.
func compile(t testing.TB, set *statement.Set, cedar string) (*policy.Policies, error) {
	t.Helper()
	s := *set
	s.Cedar = map[string]map[string][]byte{"research": {"use.cedar": []byte(cedar)}, "support": set.Cedar["support"]}
	return policy.Compile(&s)
}

func request() policy.Request {
	return policy.Request{Workload: "research-agent", Credential: "research-openai", Gateway: "g1", Method: "POST", Path: "/v1/chat/completions",
		Model: "demo-small", MaxTokens: -1, Proof: "bearer", Isolation: "none", Time: time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)}
}

const permitAll = "permit (principal, action, resource);\n"

func TestDecide(t *testing.T) {
	e := estatetest.New(t)
	for _, c := range []struct {
		name, cedar string
		edit        func(*policy.Request)
		reason, ids string
	}{
		{"permitted", permitAll, nil, "allowed", "research/use.cedar#0"},
		{"nothing permits", "", nil, "no_permit", ""},
		{"by id", "@id(\"a\")\n" + permitAll, nil, "allowed", "research/use.cedar#a"},
		{"by two", permitAll + "permit (principal == Workload::\"research-agent\", action == Action::\"use\", resource in Unit::\"research\");", nil, "allowed", "research/use.cedar#0 research/use.cedar#1"},
		{"forbidden", permitAll + "forbid (principal, action, resource) when { context.model == \"demo-small\" };", nil, "forbidden", "research/use.cedar#1"},
		{"a forbid that does not match", permitAll + "forbid (principal, action, resource) when { context.model == \"other\" };", nil, "allowed", "research/use.cedar#0"},
		{"by class", "permit (principal, action, resource) when { resource.class == \"normal\" && resource.dialect == \"openai\" };", nil, "allowed", "research/use.cedar#0"},
		{"by level", "permit (principal, action, resource) when { context.level >= 2 };", nil, "no_permit", ""},
		{"by who acts", "permit (principal, action, resource) when { context.actors.contains(\"planner\") };", func(r *policy.Request) { r.Actors = []string{"runner", "planner"} }, "allowed", "research/use.cedar#0"},
		{"nobody acts", "permit (principal, action, resource) when { context.actors.contains(\"planner\") };", nil, "no_permit", ""},
		{"whoever acts is refused", permitAll + "forbid (principal, action, resource) unless { context.actors.isEmpty() };", func(r *policy.Request) { r.Actors = []string{"runner"} }, "forbidden", "research/use.cedar#1"},
		{"by path", "permit (principal, action, resource) when { context.path like \"/v1/*\" && context.method == \"POST\" };", nil, "allowed", "research/use.cedar#0"},
		{"by time", "permit (principal, action, resource) when { context.time < datetime(\"2026-11-23T06:00:01Z\") };", nil, "allowed", "research/use.cedar#0"},
		{"too late", "permit (principal, action, resource) when { context.time < datetime(\"2026-11-23T06:00:00Z\") };", nil, "no_permit", ""},
		{"an error in a permit denies, though another permits", permitAll + "permit (principal, action, resource) when { context.max_tokens + 9223372036854775807 > 0 };", func(r *policy.Request) { r.MaxTokens = 1 }, "evaluation_error", "research/use.cedar#1"},
		{"an error in a forbid denies", permitAll + "forbid (principal, action, resource) when { context.max_tokens + 9223372036854775807 < 0 };", func(r *policy.Request) { r.MaxTokens = 1 }, "evaluation_error", "research/use.cedar#1"},
		{"by every member", "permit (principal, action, resource) when { context.method == \"POST\" && context.path == \"/v1/chat/completions\" && context.model == \"demo-small\" && context.max_tokens == -1 && !context.stream && context.level == 0 && context.proof == \"bearer\" && context.isolation == \"none\" && context.gateway == \"g1\" && context.time == datetime(\"2026-11-23T06:00:00Z\") };", nil, "allowed", "research/use.cedar#0"},
		{"has a member", "permit (principal, action, resource) when { context has model };", nil, "allowed", "research/use.cedar#0"},
		{"another unit's credential", permitAll, func(r *policy.Request) { r.Credential = "support-openai" }, "cross_unit", ""},
		{"another unit's workload", permitAll, func(r *policy.Request) { r.Workload = "support-agent" }, "cross_unit", ""},
		{"an unknown workload", permitAll, func(r *policy.Request) { r.Workload = "other" }, "unknown_workload", ""},
		{"an unknown credential", permitAll, func(r *policy.Request) { r.Credential = "other" }, "unknown_credential", ""},
		{"an assertion that forbids", permitAll + "forbid (principal, action, resource) when { context.asserted has client_ip && !context.asserted.client_ip.isInRange(ip(\"10.0.0.0/8\")) };",
			func(r *policy.Request) { r.Asserted = map[string]string{"client_ip": "192.0.2.1"} }, "forbidden", "research/use.cedar#1"},
		{"an assertion in range", permitAll + "forbid (principal, action, resource) when { context.asserted has client_ip && !context.asserted.client_ip.isInRange(ip(\"10.0.0.0/8\")) };",
			func(r *policy.Request) { r.Asserted = map[string]string{"client_ip": "::ffff:10.0.0.1", "other": "x"} }, "allowed", "research/use.cedar#0"},
		{"an assertion that is missing", permitAll + "forbid (principal, action, resource) unless { context.asserted has spend && context.asserted.spend < 5 };", nil, "forbidden", "research/use.cedar#1"},
		{"an assertion of spending", permitAll + "forbid (principal, action, resource) unless { context.asserted has spend && context.asserted.spend < 5 };",
			func(r *policy.Request) { r.Asserted = map[string]string{"spend": "4"} }, "allowed", "research/use.cedar#0"},
		{"an address that is none", permitAll, func(r *policy.Request) { r.Asserted = map[string]string{"client_ip": "10.0.0.0/8"} }, "asserted_malformed", ""},
		{"a number that is none", permitAll, func(r *policy.Request) { r.Asserted = map[string]string{"spend": ""} }, "asserted_malformed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := compile(t, e.Set, c.cedar)
			if err != nil {
				t.Fatal(err)
			}
			r := request()
			if c.edit != nil {
				c.edit(&r)
			}
			d := p.Decide(&r)
			if d.Reason != c.reason || d.Allow != (c.reason == "allowed") || strings.Join(d.Policies, " ") != c.ids {
				t.Errorf("got %+v, want %s by %q", d, c.reason, c.ids)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	e := estatetest.New(t)
	when := func(effect, cond string) string {
		return effect + " (principal, action, resource) when { " + cond + " };"
	}
	for _, c := range []struct{ name, cedar, says string }{
		{"no Cedar", "permit everything;", "parser error"},
		{"very deep", when("permit", strings.Repeat("(", 1<<20)+"true"+strings.Repeat(")", 1<<20)), "deeper"},
		{"very long", when("permit", strings.Repeat("!", 1<<20)+"true"), "more than"},
		{"long, with semicolons in strings and comments", when("permit", "\";\\\";\" == \";\" // ;\n"+strings.Repeat("&& \";\" == \";\" // ;\n", 2000)), "more than"},
		{"an unknown type", "permit (principal == User::\"a\", action, resource);", "User"},
		{"an unknown action", "permit (principal, action == Action::\"read\", resource);", "read"},
		{"an unknown attribute", when("permit", "context.tokens > 1"), "tokens"},
		{"an unknown attribute of a credential", when("permit", "resource.owner == \"a\""), "owner"},
		{"another type", when("forbid", "context.model > 1"), ""},
		{"an optional attribute without has", when("forbid", "context.asserted.spend > 1"), "spend"},
		{"principal and resource the wrong way round", "permit (principal == Credential::\"research-openai\", action, resource);", ""},
		{"the same id twice", "@id(\"a\") " + permitAll + "@id(\"a\") " + permitAll, "id of its own"},
		{"an id like a number", permitAll + "@id(\"0\") " + permitAll, "id of its own"},
		{"an id that breaks lines", "@id(\"a\\nb\") " + permitAll, "id of its own"},
		{"an id too long", "@id(\"" + strings.Repeat("a", 64) + "\") " + permitAll, "id of its own"},
		{"an empty id", "@id(\"\") " + permitAll, "id of its own"},
		{"another unit's credential", "permit (principal, action, resource == Credential::\"support-openai\");", "does not belong"},
		{"another unit", "permit (principal, action, resource in Unit::\"support\");", "does not belong"},
		{"another unit, by type", "permit (principal, action, resource is Credential in Unit::\"support\");", "does not belong"},
		{"the tenant's credentials", "permit (principal, action, resource in Tenant::\"acme\");", "does not belong"},
		{"a forbid about another unit", "forbid (principal, action, resource in Unit::\"support\");", "does not belong"},
		{"another unit's workload", "permit (principal == Workload::\"support-agent\", action, resource);", "does not belong"},
		{"another unit's workloads", "permit (principal in Unit::\"support\", action, resource);", "does not belong"},
		{"a workload that is not there", "permit (principal == Workload::\"research-agnet\", action, resource);", "does not have"},
		{"a unit that is not there, in a condition", when("forbid", "principal in Unit::\"reserch\""), "does not have"},
		{"a permit by the tool, which nobody sets", when("permit", "context.tool == \"\""), "tool"},
		{"a forbid by the tool", when("forbid", "context.tool == \"shell\""), "tool"},
		{"a forbid that asks for the tool", when("forbid", "context has tool && false"), "tool"},
		{"a permit by what the gateway asserts", when("permit", "context.asserted has spend"), "asserted"},
		{"in brackets", when("permit", "context[\"asserted\"] has spend"), "asserted"},
		{"as a member", when("permit", "context has asserted"), "asserted"},
		{"as a member, deeper", when("permit", "context has asserted.spend"), "asserted"},
		{"through an unless", "permit (principal, action, resource) unless { context.asserted has spend };", "asserted"},
		{"through if", when("permit", "(if context.stream then context else context).asserted has spend"), "as a whole"},
		{"through a record", when("permit", "{a: context}.a.asserted has spend"), "as a whole"},
		{"through a set", when("permit", "[context].contains(context)"), "as a whole"},
		{"through equality", when("permit", "context == context"), "as a whole"},
		{"in the second condition", "permit (principal, action, resource) when { true } when { context.asserted has spend };", "asserted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := compile(t, e.Set, c.cedar)
			var se *statement.Error
			if !errors.As(err, &se) || se.Rule != "cedar" || !errors.Is(err, statement.ErrRefused) {
				t.Fatalf("not refused: %v", err)
			}
			if !strings.Contains(se.What, c.says) || se.File != "research/use.cedar" {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// A set with a Cedar file that is refused cannot be published.
func TestPublishCompiles(t *testing.T) {
	_, err := estatetest.Try(t, estatetest.Edit(func(p *estate.Plan) { p.Cedar["research"]["use.cedar"] = "permit everything;" }))
	if !errors.Is(err, statement.ErrRefused) {
		t.Fatalf("published: %v", err)
	}
}

// many gives research further workloads and credentials.
func many(workloads, credentials int) estatetest.Option {
	return estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Tenants = append(p.Charter.Tenants, "other")
		for i := range workloads {
			p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: fmt.Sprintf("w%d", i), Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
		}
		for i := range credentials {
			c := p.Custody["research"].Credentials[0]
			c.ID = fmt.Sprintf("c%d", i)
			p.Custody["research"].Credentials = append(p.Custody["research"].Credentials, c)
		}
	})
}

// The scope index decides as a scan of every policy does, on random policy sets and requests.
func TestIndexEqualsScan(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	e := estatetest.New(t, many(4, 4))
	pick := func(s ...string) string { return s[rng.Intn(len(s))] }
	scope := func(v string, entities ...string) string {
		x := pick(entities...)
		kind, _, _ := strings.Cut(x, "::")
		member := map[string]string{"principal": "Workload", "resource": "Credential"}[v]
		switch {
		case rng.Intn(4) == 0:
			return v
		case rng.Intn(6) == 0:
			return v + " is " + member
		case kind == member && rng.Intn(2) == 0:
			return v + " == " + x
		case rng.Intn(3) == 0:
			return v + " is " + member + " in " + x
		}
		return v + " in " + x
	}
	reasons := map[string]int{}
	for range 300 {
		var text strings.Builder
		for range rng.Intn(12) {
			effect := pick("permit", "permit", "forbid")
			principals := []string{`Workload::"w0"`, `Workload::"w1"`, `Workload::"w2"`, `Unit::"research"`}
			if effect == "forbid" {
				principals = append(principals, `Tenant::"acme"`, `Tenant::"other"`, `Unit::"support"`, `Workload::"support-agent"`)
			}
			fmt.Fprintf(&text, "%s (%s, action, %s)", effect, scope("principal", principals...), scope("resource", `Credential::"c0"`, `Credential::"c1"`, `Credential::"c2"`, `Unit::"research"`))
			fmt.Fprintf(&text, "%s;\n", pick("", "", ` when { context.stream }`, ` when { context has model }`, ` unless { context.level > 0 }`, ` when { context.max_tokens + 9223372036854775807 > 0 }`))
		}
		p, err := compile(t, e.Set, text.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, text.String())
		}
		for range 30 {
			r := request()
			r.Workload, r.Credential = pick("w0", "w1", "w2", "w3", "research-agent", "support-agent"), pick("c0", "c1", "c2", "c3", "research-openai", "support-openai")
			r.Stream, r.Level, r.MaxTokens = rng.Intn(2) == 0, rng.Intn(2), int64(rng.Intn(2))
			got, want := p.Decide(&r), p.Scan(&r)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%+v\n%s\n%s", r, d, text.String())
			}
			reasons[got.Reason]++
		}
	}
	for _, reason := range []string{"allowed", "no_permit", "forbidden", "evaluation_error", "cross_unit"} {
		if reasons[reason] < 50 {
			t.Errorf("the property was tested on %d decisions for %s only: %v", reasons[reason], reason, reasons)
		}
	}
}

// bench has 10,000 policies of 100 workloads and 100 credentials.
func bench(t testing.TB) (*policy.Policies, policy.Request) {
	e := estatetest.New(t, many(100, 100))
	var text strings.Builder
	for w := range 100 {
		for c := range 100 {
			fmt.Fprintf(&text, "permit (principal == Workload::\"w%d\", action == Action::\"use\", resource == Credential::\"c%d\") when { context.method == \"POST\" };\n", w, c)
		}
	}
	p, err := compile(t, e.Set, text.String())
	if err != nil {
		t.Fatal(err)
	}
	r := request()
	r.Workload, r.Credential = "w42", "c42"
	return p, r
}

// Of 10,000 policies the index leaves the one that can match.
func TestIndexIsNarrow(t *testing.T) {
	p, r := bench(t)
	if n := p.Candidates(&r); n != 1 {
		t.Errorf("%d candidates", n)
	}
	if d := p.Decide(&r); !d.Allow {
		t.Errorf("%+v", d)
	}
}

func BenchmarkDecide(b *testing.B) {
	p, r := bench(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(&r)
	}
}

func BenchmarkScan(b *testing.B) {
	p, r := bench(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Scan(&r)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("@id(\"a\")\npermit (principal == Workload::\"research-agent\", action == Action::\"use\", resource in Unit::\"research\") when { context.model like \"demo-*\" } unless { context.level > 1 };")
	f.Add("forbid (principal, action, resource) when { context.asserted has client_ip && context.asserted.client_ip.isInRange(ip(\"10.0.0.0/8\")) };")
	e := estatetest.New(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := compile(t, e.Set, text)
		if err != nil {
			if !errors.Is(err, statement.ErrRefused) {
				t.Fatal(err)
			}
			return
		}
		r := request()
		if d := cmp.Diff(p.Scan(&r), p.Decide(&r)); d != "" {
			t.Fatal(d)
		}
	})
}
