package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func create(t *testing.T) *host.Dir {
	t.Helper()
	d, err := host.Create(filepath.Join(t.TempDir(), "demo"), t.TempDir(), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.Run.State != "" {
			os.RemoveAll(d.Run.State)
		}
	})
	if err := Create(d, start, RandomKey); err != nil {
		t.Fatal(err)
	}
	return d
}

func load(t *testing.T, d *host.Dir, now time.Time) (*statement.Set, error) {
	t.Helper()
	return statement.Load(estate.Dir(d.Join("estate")).Store(), d.Pin(), nil, now)
}

func TestCreate(t *testing.T) {
	d := create(t)
	set, err := load(t, d, start)
	if err != nil {
		t.Fatal(err)
	}
	list, err := handover.List(estate.Dir(d.Join("estate")), set, start)
	if err != nil || len(list) != 4 {
		t.Fatalf("credentials: %+v, %v", list, err)
	}
	for _, h := range list {
		if h.Version != 1 || h.Owner != "cora" {
			t.Errorf("%+v", h)
		}
	}
	env, err := os.ReadFile(d.Env())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"REEVE_URL", "REEVE_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL",
		"ANTHROPIC_AUTH_TOKEN", "REEVE_MODEL", "REEVE_ANTHROPIC_MODEL"} {
		if !strings.Contains(string(env), "export "+name+"=") {
			t.Errorf("env lacks %s", name)
		}
	}
	for _, path := range []string{d.Env(), EnvFile(d, "support-agent"), keyFile(d, "ada"), d.Join("custodian", "identity.age"), d.Join("custodian", "log.key")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// TestNoUpstreamKeyIsKept looks for the upstream's keys, which only the custodian may be able to open, in all files.
func TestNoUpstreamKeyIsKept(t *testing.T) {
	d := create(t)
	err := filepath.WalkDir(d.State, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "demo-upstream-key-") {
			t.Errorf("%s has an upstream key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRenew(t *testing.T) {
	d := create(t)
	if changed, err := Renew(d, start.Add(24*time.Hour)); err != nil || changed {
		t.Fatalf("a day later: changed %v, %v", changed, err)
	}
	before, err := os.ReadFile(d.Env())
	if err != nil {
		t.Fatal(err)
	}
	edited := filepath.Join(d.Join("estate"), "units", "research", "use.cedar")
	cedar, err := os.ReadFile(edited)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(edited, append(cedar, "// kept\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{25 * 24 * time.Hour, 27 * 24 * time.Hour, 400 * 24 * time.Hour} {
		now := start.Add(later)
		changed, err := Renew(d, now)
		if err != nil {
			t.Fatalf("%s later: %v", later, err)
		}
		set, err := load(t, d, now.Add(margin))
		if err != nil {
			t.Fatalf("%s later: changed %v, yet %v", later, changed, err)
		}
		if _, live := set.Owner("research-openai", now.Add(margin)); !live {
			t.Errorf("%s later: the credential is orphaned", later)
		}
		if !strings.Contains(string(set.Cedar["research"]["use.cedar"]), "// kept") {
			t.Errorf("%s later: an edit was lost", later)
		}
		if !keysLast(estate.Dir(d.Join("estate")), set, now.Add(margin)) {
			t.Errorf("%s later: a workload has no key", later)
		}
		if !secretsLast(estate.Dir(d.Join("estate")), set, now.Add(margin)) {
			t.Errorf("%s later: a secret is too old", later)
		}
	}
	if after, err := os.ReadFile(d.Env()); err != nil || string(after) == string(before) {
		t.Errorf("env still has the old key, %v", err)
	}
}

func TestUpstreamAcceptsWhatWasHandedOver(t *testing.T) {
	d := create(t)
	s, err := upstream.New(upstream.Config{State: d.Join(host.Upstream)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set, err := load(t, d, start)
	if err != nil {
		t.Fatal(err)
	}
	if c, _, _ := set.Credential("research-openai"); c.Destination.CA != string(s.CA().PEM) {
		t.Error("the custody record pins another CA")
	}
}

func TestTrustFileIsAccepted(t *testing.T) {
	d := create(t)
	b, err := os.ReadFile(d.Trust())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verify.ParseTrust(b)
	if err != nil || len(trust.Logs) != 3 || len(trust.Witnesses) != 1 {
		t.Errorf("%+v, %v", trust, err)
	}
}

// TestRenewFederation: a demo without any key of the upstream at rest is given its next federation keys before the last ones end, beside them,
// and the upstream trusts both (docs/procedures/federation-keys.md).
func TestRenewFederation(t *testing.T) {
	d, err := host.Create(filepath.Join(t.TempDir(), "demo"), t.TempDir(), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.Run.State != "" {
			os.RemoveAll(d.Run.State)
		}
	})
	if err := Create(d, start, nil); err != nil {
		t.Fatal(err)
	}
	set, err := load(t, d, start)
	if err != nil {
		t.Fatal(err)
	}
	if sealed, _ := filepath.Glob(d.Join("estate", ".signed", "sealed", "*", "*.age")); len(sealed) > 0 {
		t.Errorf("handed over: %v", sealed)
	}
	was := set.Custody["research"].Federation.Keys
	later := start.Add(statement.FederationKeyLife - margin + time.Hour)
	for now := start.Add(24 * time.Hour); now.Before(later); now = now.Add(20 * 24 * time.Hour) {
		if _, err := Renew(d, now); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := Renew(d, later); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if set, err = load(t, d, later); err != nil {
		t.Fatal(err)
	}
	f := set.Custody["research"].Federation
	if len(was) != 1 || len(f.Keys) != 2 || f.Keys[0].JWK != was[0].JWK || !f.Keys[1].NotAfter.After(later.Add(margin)) {
		t.Fatalf("before %d keys, now %d", len(was), len(f.Keys))
	}
	trusted, err := os.ReadFile(d.Join(host.Upstream, "federation.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range f.Keys {
		public, err := k.Parse()
		if err != nil || !strings.Contains(string(trusted), public.ID) {
			t.Errorf("the upstream does not trust %s, %v", public.ID, err)
		}
	}
}
