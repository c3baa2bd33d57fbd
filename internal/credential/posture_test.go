package credential

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func TestList(t *testing.T) {
	e := estatetest.New(t, estatetest.Federated(t), estatetest.Edit(func(p *estate.Plan) {
		c := p.Custody["research"].Credentials
		c[0].MaxLifetime = statement.Duration(30 * 24 * time.Hour)
		c[1].Honey, c[1].Template = "alarm", "nobody"
		p.Custody["support"].Credentials[0].Source = "oauth"
		p.Custody["support"].Credentials[0].From = statement.From{URL: "https://token.example.com/token", Parameters: map[string]string{"grant": "client_credentials", "client_id": "x"}}
	}))
	if _, err := handover.Put(e.Dir, e.Set, "research-openai", secret.New([]byte("demo-upstream-key-for-this-test")), e.Cora, e.Now); err != nil {
		t.Fatal(err)
	}
	now := e.Now.Add(time.Hour)
	list := func(asked ...*admin.Status) map[string]Posture {
		r, err := List(e.Dir, e.Set, asked, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Keys) != 2 || r.Keys[0].Can != "mint" || r.Keys[0].Custodian != "c1" || r.Keys[0].ID == "" {
			t.Errorf("keys %+v", r.Keys)
		}
		m := map[string]Posture{}
		for _, p := range r.Credentials {
			m[p.Credential] = p
		}
		return m
	}

	// The statements alone.
	m := list()
	handed := e.Now.UTC().Truncate(time.Second)
	want := Posture{
		Held:   handover.Held{Credential: "research-openai", Unit: "research", Class: "normal", Owner: "cora", Origin: m["research-openai"].Origin, Version: 1, Custodians: []string{"c1"}},
		Source: "sealed", Standing: true, Handed: handed, Lives: Static, Age: int64(now.Sub(handed) / time.Second), Next: handed.Add(30 * 24 * time.Hour),
	}
	if diff := cmp.Diff(want, m["research-openai"]); diff != "" {
		t.Error(diff)
	}
	if p := m["research-anthropic"]; p.Honey != "alarm" || p.Unusable == "" || p.Version != 0 {
		t.Errorf("%+v", p)
	}
	if p := m["support-openai"]; !p.Standing || !p.Mint || p.Lives != "" || p.Known {
		t.Errorf("%+v", p)
	}

	// What two custodians say is one answer; one that does not serve it says nothing.
	issued := now.Add(-5 * time.Minute)
	says := func(id string, age int64, uses int64, expires time.Time) *admin.Status {
		return &admin.Status{ID: id, Credentials: []admin.Credential{{ID: "support-openai", State: "active", LastUse: issued, Next: now.Add(time.Duration(age) * time.Second),
			Uses:     admin.Uses{Since: e.Now, Quarters: uses, Hour: 1},
			Versions: []admin.Version{{State: "overlapping", Age: 1}, {State: "active", Age: age, Issued: issued, Expires: expires}}}}}
	}
	p := list(says("c1", 300, 4, issued.Add(10*time.Minute)), says("c9", 5, 100, time.Time{}))["support-openai"]
	if !p.Known || p.State != "active" || p.Age != 300 || p.Lifetime != 600 || p.Lives != Quarters || p.Uses.Quarters != 4 || p.Uses.Hour != 1 || !p.LastUse.Equal(issued) || !p.Next.Equal(now.Add(300*time.Second)) || len(p.Custodian) != 1 {
		t.Errorf("%+v", p)
	}

	// Who left no deputy leaves orphans.
	e.Set.Charter.People[2].Left = e.Now
	if p := list()["research-openai"]; !p.Orphan || p.Owner != "" {
		t.Errorf("%+v", p)
	}
}

func TestClass(t *testing.T) {
	for seconds, want := range map[int64]string{0: Static, 86400: Static, 86399: Day, 3600: Day, 3599: Hour, 901: Hour, 900: Quarters, 1: Quarters} {
		if got := class(seconds); got != want {
			t.Errorf("%d s: %s, want %s", seconds, got, want)
		}
	}
}
