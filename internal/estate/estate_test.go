package estate_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

func TestKeyFile(t *testing.T) {
	s, err := estate.NewSigner("ada")
	if err != nil {
		t.Fatal(err)
	}
	words := func(w string) func() (secret.Value, error) {
		return func() (secret.Value, error) { return secret.New([]byte(w)), nil }
	}
	for name, pass := range map[string]string{"plain": "", "protected": "three words here"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "people", "ada.key")
			if err := s.Save(file, secret.New([]byte(pass))); err != nil {
				t.Fatal(err)
			}
			if err := s.Save(file, secret.Value{}); !errors.Is(err, os.ErrExist) {
				t.Errorf("an existing key file was replaced: %v", err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			back, err := estate.Open(file, words(pass))
			if err != nil || back.Key() != s.Key() || back.Person != "ada" {
				t.Fatalf("%+v, %v", back, err)
			}
			if cmp.Diff(estatetest.Signature(t, s, "t", []byte("p")), estatetest.Signature(t, back, "t", []byte("p"))) != "" {
				t.Error("the key that was read signs otherwise")
			}
			if pass != "" {
				for _, ask := range []func() (secret.Value, error){nil, words("other words")} {
					if _, err := estate.Open(file, ask); !errors.Is(err, estate.ErrPassphrase) {
						t.Errorf("opened without the passphrase: %v", err)
					}
				}
			}
			b, _ := os.ReadFile(file)
			other, _ := estate.NewSigner("ada")
			swapped := strings.Replace(string(b), s.Key().Public, other.Key().Public, 1)
			for name, text := range map[string]string{"another public key": swapped, "another type": strings.Replace(string(b), "ed25519", "rsa", 1), "an unknown member": strings.Replace(string(b), `"person"`, `"persom"`, 1)} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := estate.Open(file, words(pass)); err == nil {
					t.Errorf("%s: opened", name)
				}
			}
			if err := os.Chmod(file, 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := estate.Open(file, words(pass)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("opened though others may read it: %v", err)
			}
		})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, s); strings.Contains(out, "Seed") || len(out) > 600 {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

// A statement goes from the owners' files into force in the steps of its people, and no sooner.
func TestSignApprovePublish(t *testing.T) {
	e := estatetest.New(t)
	dir := e.Dir
	terms := estate.Terms{Created: e.Now, Expires: e.Now.Add(time.Hour)}
	edit := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(string(dir), "units", "research", "use.cedar"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := func() map[string]string {
		t.Helper()
		r, err := dir.Report(e.Pin, e.Now)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, s := range r.Statements {
			text := fmt.Sprint(s.Version.Version)
			if s.Changed {
				text += " changed"
			}
			if s.Pending != nil {
				text += fmt.Sprintf(" pending %d by %s", s.Pending.Version.Version, s.Pending.By())
			}
			m[s.Statement] = text
		}
		return m
	}
	publish := func() error { _, err := dir.Publish(e.Pin, e.Now); return err }

	if s := state(); s["policy-research"] != "1" || s["lock"] != "1" || len(s) != 7 {
		t.Fatalf("at first: %v", s)
	}
	edit("permit (principal, action, resource) when { context.stream };\n")
	if s := state(); s["policy-research"] != "1 changed" {
		t.Fatalf("edited: %v", s)
	}
	if v, err := dir.Sign("demo", "policy-research", e.Bea, terms); err != nil || v != 2 {
		t.Fatal(v, err)
	}
	if s := state(); s["policy-research"] != "1 pending 2 by bea-1" {
		t.Fatalf("drafted: %v", s)
	}
	if err := publish(); err == nil || !strings.Contains(err.Error(), "sign a new lock") {
		t.Fatalf("published without a lock: %v", err)
	}
	lock := func() {
		t.Helper()
		if _, err := dir.Sign("demo", "lock", e.Ada, terms); err != nil {
			t.Fatal(err)
		}
		if err := dir.Approve("lock", e.Cora); err != nil {
			t.Fatal(err)
		}
	}
	lock()
	var refusal *statement.Error
	if err := publish(); !errors.As(err, &refusal) || refusal.Rule != "approvers" {
		t.Fatalf("published without the owner: %v", err)
	}
	if err := dir.Approve("policy-research", e.Cora); err != nil {
		t.Fatal(err)
	}
	if err := publish(); !errors.As(err, &refusal) || refusal.Rule != "approvers" {
		t.Fatalf("published with another's approval: %v", err)
	}
	draft := filepath.Join(string(dir), ".pending", "policy-research", "2")
	shown, err := os.ReadFile(filepath.Join(draft, "use.cedar"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"use.cedar": "forbid (principal, action, resource);\n", "more.cedar": ""} {
		if err := os.WriteFile(filepath.Join(draft, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := dir.Approve("policy-research", e.Ada); err == nil {
			t.Errorf("%s: what was read is not what would be signed, and it was approved", name)
		}
		os.Remove(filepath.Join(draft, "more.cedar"))
		if err := os.WriteFile(filepath.Join(draft, "use.cedar"), shown, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second replaces the first
		if err := dir.Approve("policy-research", e.Ada); err != nil {
			t.Fatal(err)
		}
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	if s := state(); s["policy-research"] != "2" || s["lock"] != "2" {
		t.Fatalf("published: %v", s)
	}
	if err := dir.Approve("policy-research", e.Ada); err == nil {
		t.Error("nothing waits, and it was approved")
	}
	versions, err := estate.Log(dir.Store(), "policy-research")
	if err != nil || len(versions) != 2 || versions[0].Author != "bea" || versions[0].Version != 2 {
		t.Errorf("log %+v, %v", versions, err)
	}
	edit("permit everything;")
	if _, err := dir.Check(); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("checked: %v", err)
	}
	if r, err := dir.Report(e.Pin, e.Now); err != nil || r.Draft == "" || r.Refused != "" || r.Lock != 2 {
		t.Errorf("report %+v, %v", r, err)
	}
}

// Publishing that stops after any of its moves leaves the old set in force, and can be done again.
func TestPublishStopsAnywhere(t *testing.T) {
	for stop := range 3 {
		e := estatetest.New(t)
		if err := e.Dir.SignAll(&e.Plan.Charter, []string{"policy-research", "custody-research", "lock"}, e.People(), e.Now, e.Lives); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"custody-research", "policy-research"}[:stop] {
			if err := os.Rename(filepath.Join(string(e.Dir), ".pending", name, "2"), filepath.Join(e.Dir.Signed(), name, "2")); err != nil {
				t.Fatal(err)
			}
		}
		if set, err := statement.Load(e.Dir.Store(), e.Pin, e.Set, e.Now); err != nil || set.Lock.Version != 1 {
			t.Fatalf("after %d moves: %v", stop, err)
		}
		if set, err := e.Dir.Publish(e.Pin, e.Now); err != nil || set.Lock.Version != 2 {
			t.Fatalf("again after %d moves: %v", stop, err)
		}
	}
}

func TestRevoke(t *testing.T) {
	e := estatetest.New(t)
	cred, all := statement.Target{Kind: "credential", ID: "research-openai"}, statement.Target{Kind: "everything"}
	revoke := func(target statement.Target, open bool, by ...*estate.Signer) (*statement.Revocation, error) {
		t.Helper()
		env, err := e.Dir.Revoke(e.Set, statement.Revocation{Target: target, Open: open, Reason: "test"}, e.Now, by...)
		if err != nil {
			return nil, err
		}
		return e.Set.OpenRevocation(env, e.Now)
	}
	closed := func() string {
		t.Helper()
		m, err := e.Dir.Closed(e.Set, e.Now)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for k := range m {
			text += k.String()
		}
		return text
	}
	r, err := revoke(cred, false, e.Cora)
	if err != nil || r.Number != 1 || closed() != "credential research-openai" {
		t.Fatalf("%+v, %v, %s", r, err, closed())
	}
	var waits *estate.Awaiting
	if _, err = revoke(cred, true, e.Cora); !errors.As(err, &waits) || waits.Name != "revocation/cora-2" {
		t.Fatalf("opened alone: %v", err)
	}
	if closed() == "" {
		t.Fatal("it is open")
	}
	if r, err = revoke(all, false, e.Cora, e.Bea); err != nil || r.Number != 3 {
		t.Fatalf("the number of a record that waits was used again: %+v, %v", r, err)
	}
	if _, err := e.Dir.ApproveRecord(e.Set, waits.Name, e.Bea, e.Now); err != nil {
		t.Fatal(err)
	}
	if closed() != "everything" {
		t.Fatalf("closed: %s", closed())
	}
	if _, err := e.Dir.ApproveRecord(e.Set, waits.Name, e.Bea, e.Now); err == nil {
		t.Error("it does not wait any more")
	}
	opened, err := revoke(all, true, e.Cora, e.Bea)
	if err != nil || closed() != "" {
		t.Fatalf("%v, %s", err, closed())
	}
	// The same instant, or a clock that is behind: the closing that comes last still wins.
	if r, err = revoke(all, false, e.Ada, e.Bea); err != nil || !r.Time.After(opened.Time) || closed() != "everything" {
		t.Fatalf("%+v, %v, %s", r, err, closed())
	}
	if _, err = revoke(statement.Target{Kind: "credential", ID: "other"}, false, e.Cora); !errors.Is(err, statement.ErrRefused) || errors.As(err, &waits) && waits.Name == "" {
		t.Errorf("unknown credential: %v", err)
	}
}

func TestKeys(t *testing.T) {
	e := estatetest.New(t)
	key, record, err := e.Dir.IssueKey(e.Set, "research-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(key.Reveal()), record.Prefix) {
		t.Errorf("the key does not begin with %s", record.Prefix)
	}
	if _, _, err := e.Dir.IssueKey(e.Set, "research-agent", e.Now, time.Hour, e.Bea); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("issued by the operations owner: %v", err)
	}
	if _, _, err := e.Dir.IssueKey(e.Set, "research-agent", e.Now, 31*24*time.Hour, e.Ada); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("issued for 31 days: %v", err)
	}
	if got, err := e.Dir.FindKey(record.SHA256[:12]); err != nil || got != record.SHA256 {
		t.Errorf("by its hash: %s, %v", got, err)
	}
	if got, err := e.Dir.FindKey(record.Prefix); err != nil || got != record.SHA256 {
		t.Errorf("by its beginning: %s, %v", got, err)
	}
	if got, err := e.Dir.FindKey(string(key.Reveal())); err != nil || got != record.SHA256 {
		t.Errorf("by itself: %s, %v", got, err)
	}
	for _, s := range []string{"", "rv_", "0000000000000000"} {
		if got, err := e.Dir.FindKey(s); err == nil {
			t.Errorf("%q finds %s", s, got)
		}
	}
	if _, err := e.Dir.Revoke(e.Set, statement.Revocation{Target: statement.Target{Kind: "key", ID: record.SHA256}, Reason: "test"}, e.Now, e.Ada); err != nil {
		t.Fatal(err)
	}
	states := func(now time.Time) string {
		list, err := e.Dir.Keys(e.Set, now)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, k := range list {
			s = append(s, k.Workload+" "+k.State)
		}
		return strings.Join(s, ", ")
	}
	if got := states(e.Now); got != "research-agent valid, research-agent closed, support-agent valid" {
		t.Error(got)
	}
	if got := states(e.Now.Add(25 * time.Hour)); got != "research-agent expired, research-agent closed, support-agent expired" {
		t.Error(got)
	}
	if err := e.Dir.WriteRecord("../x", &statement.Envelope{PayloadType: statement.RecordType("revocation")}); err == nil {
		t.Error("a record was written outside its folder")
	}
}

func TestWarnings(t *testing.T) {
	e := estatetest.New(t, estatetest.Lives(estate.Lives{Statements: 100 * 24 * time.Hour, Lock: 90 * 24 * time.Hour}), estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			p.Charter.People[i].AttestedUntil = p.Charter.People[i].AttestedUntil.Add(60 * 24 * time.Hour) // 90 days
		}
		p.Charter.People[2].AttestedUntil = p.Charter.People[0].AttestedUntil.Add(-83 * 24 * time.Hour) // cora: 7 days
	}))
	if got := estate.Warnings(e.Set, e.Now); len(got) != 2 || !strings.HasPrefix(got[0], "cora's attestation ends in 7 days") || !strings.HasPrefix(got[1], "orphaned within 7 days") {
		t.Errorf("%q", got)
	}
	got := strings.Join(estate.Warnings(e.Set, e.Now.Add(8*24*time.Hour)), "\n")
	for _, want := range []string{"cora's attestation has ended", "orphaned and not used, for neither cora nor a deputy is live: gateway g1, credential research-anthropic, credential research-openai"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nmisses %q", got, want)
		}
	}
}

// A rotation leaves the old keys good for the overlap; whoever holds the role now may cut short what another issued.
func TestRotateKey(t *testing.T) {
	e := estatetest.New(t)
	later := e.Now.Add(2 * time.Hour)
	key, record, cut, err := e.Dir.RotateKey(e.Set, "research-agent", later, time.Hour, 10*time.Minute, e.Ada, "10.0.0.0/8")
	if err != nil || len(cut) != 1 || !cut[0].NotAfter.Equal(later.Add(10*time.Minute)) || len(record.Networks) != 1 {
		t.Fatalf("%+v, %+v, %v", record, cut, err)
	}
	records, err := estate.ReadRecords(e.Dir.Store(), "workload-key")
	if err != nil {
		t.Fatal(err)
	}
	opened := e.KeyRecords // what a custodian has had from the start
	for _, env := range records {
		k, err := e.Set.OpenWorkloadKey(env, later)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, k)
	}
	keys := workload.NewKeys(e.Set, opened)
	for _, c := range []struct {
		key   []byte
		after time.Duration
		err   error
	}{
		{e.Keys["research-agent"].Reveal(), 0, nil}, {e.Keys["research-agent"].Reveal(), 10*time.Minute - 1, nil}, {e.Keys["research-agent"].Reveal(), 10 * time.Minute, workload.ErrExpired},
		{key.Reveal(), 0, nil}, {key.Reveal(), 10 * time.Minute, nil}, {e.Keys["support-agent"].Reveal(), 10 * time.Minute, nil},
	} {
		if _, err := keys.Verify(workload.Proof{Kind: workload.Bearer, Value: c.key}, later.Add(c.after)); !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("after %s: %v, want %v", c.after, err, c.err)
		}
	}
	if _, _, cut, err := e.Dir.RotateKey(e.Set, "research-agent", later, time.Hour, time.Hour, e.Ada); err != nil || len(cut) != 0 {
		t.Errorf("again: %+v, %v", cut, err) // nothing is drawn out
	}
	if _, _, _, err := e.Dir.RotateKey(e.Set, "research-agent", later, time.Hour, 0, e.Bea); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("by an owner of another role: %v", err)
	}
}
