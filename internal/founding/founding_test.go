package founding

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/secret"
)

func answers() *Answers {
	return &Answers{Estate: "acme", Unit: "research", Provider: "openai", URL: "https://ai.acme.example",
		Policy: Person{ID: "ada"}, Operations: Person{ID: "bea"}, Lifecycle: Person{ID: "cora"}}
}

func passphrase(string) (secret.Value, error) {
	return secret.New([]byte("demo-passphrase")), nil
}

// TestDraftIsAccepted founds an estate with each template, has it signed as its own charter wants, and loads it.
func TestDraftIsAccepted(t *testing.T) {
	now := time.Now()
	for _, provider := range Providers() {
		t.Run(provider, func(t *testing.T) {
			a := answers()
			a.Authority = "https://authority.example.com"
			if a.Provider = provider; provider == "openai-compatible" {
				a.Origin, a.Prefix = "https://llm.example.com:8443", "/api"
			}
			bea, cora := signer(t, "bea"), signer(t, "cora")
			beas, coras := bea.Key(), cora.Key()
			a.Operations.Key, a.Lifecycle.Key = &beas, &coras
			if err := a.Complete(); err != nil {
				t.Fatal(err)
			}
			d, err := host.Create(filepath.Join(t.TempDir(), "acme"), t.TempDir(), false, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(d.State)
			if err := Found(d, a, passphrase, now); err != nil {
				t.Fatal(err)
			}
			signers := []*estate.Signer{open(t, d, "ada"), bea, cora}
			dir := estate.Dir(d.Join("estate"))
			names := []string{"charter", "operations", "policy-research", "custody-research", "lock"}
			plan := a.Plan(nil, &host.Public{}, now)
			if err := dir.SignAll(&plan.Charter, names, signers, now, estate.Lives{Statements: time.Hour, Lock: time.Hour}); err != nil {
				t.Fatal(err)
			}
			set, err := dir.Publish(d.Pin(), now)
			if err != nil {
				t.Fatal(err)
			}
			if set.Charter.Authority.Issuer != a.Authority {
				t.Errorf("the token issuer is %q, want %q", set.Charter.Authority.Issuer, a.Authority)
			}
			if why := set.Route("g1", "c1", a.Credential(), now); why != "" {
				t.Errorf("route: %s", why)
			}
			p, err := policy.Compile(set)
			if err != nil {
				t.Fatal(err)
			}
			r := policy.Request{Workload: "research-agent", Credential: a.Credential(), Gateway: "g1", Method: "POST",
				Path: "/v1/chat/completions", Model: "any", MaxTokens: -1, Proof: "bearer", Isolation: "host", Time: now}
			if got := p.Decide(&r); !got.Allow {
				t.Errorf("decision: %+v", got)
			}
		})
	}
}

func signer(t *testing.T, person string) *estate.Signer {
	t.Helper()
	s, err := estate.NewSigner(person)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, d *host.Dir, person string) *estate.Signer {
	t.Helper()
	file := d.Join("people", person+".key")
	if _, err := estate.Open(file, nil); !errors.Is(err, estate.ErrPassphrase) {
		t.Errorf("%s's key opens without its passphrase: %v", person, err)
	}
	s, err := estate.Open(file, func() (secret.Value, error) { return passphrase(person) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswersThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		want string
		edit func(*Answers)
	}{
		{"three people", func(a *Answers) { a.Policy.ID = "cora" }},
		{"the unit", func(a *Answers) { a.Unit = "" }},
		{"the estate", func(a *Answers) { a.Estate = "Acme Inc." }},
		{"the provider", func(a *Answers) { a.Provider = "other" }},
		{"needs its origin", func(a *Answers) { a.Provider = "openai-compatible" }},
		{"is fixed", func(a *Answers) { a.Origin = "https://example.com" }},
	} {
		a := answers()
		c.edit(a)
		if err := a.Complete(); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

func TestNoPassphraseNoKey(t *testing.T) {
	a := answers()
	if err := a.Complete(); err != nil {
		t.Fatal(err)
	}
	d, err := host.Create(filepath.Join(t.TempDir(), "acme"), t.TempDir(), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(d.State)
	err = Found(d, a, func(string) (secret.Value, error) { return secret.Value{}, nil }, time.Now())
	if !errors.Is(err, ErrAnswer) {
		t.Errorf("found: %v", err)
	}
}
