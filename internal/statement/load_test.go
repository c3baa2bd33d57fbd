package statement_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// mem is a store in memory that a test corrupts.
type mem = estatetest.Store

func copyStore(t *testing.T, e *estatetest.Estate) mem { return estatetest.CopyStore(t, e.Dir) }

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func canonical(t *testing.T, v any) []byte {
	t.Helper()
	b, err := statement.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every way to tamper with a store is refused under its rule; what is tampered with is not signed for by who must.
func TestTampering(t *testing.T) {
	e := estatetest.New(t)
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	const man = "policy-research/1/manifest.json"
	for _, c := range []struct {
		name, rule, file string
		do               func(t *testing.T, m mem)
	}{
		{"no lock", "missing", "", func(t *testing.T, m mem) {
			for _, f := range []string{"estate.lock", "manifest.json", "signatures.json"} {
				delete(m, "lock/1/"+f)
			}
		}},
		{"a file is gone", "missing", "policy-research/1/use.cedar", func(t *testing.T, m mem) { delete(m, "policy-research/1/use.cedar") }},
		{"signatures are gone", "missing", "custody-support/1/signatures.json", func(t *testing.T, m mem) { delete(m, "custody-support/1/signatures.json") }},
		{"one byte of a file", "hash", "policy-research/1/use.cedar", func(t *testing.T, m mem) {
			m["policy-research/1/use.cedar"] = bytes.Replace(m["policy-research/1/use.cedar"], []byte("permit"), []byte("permiT"), 1)
		}},
		{"line endings", "hash", "charter/1/charter.yaml", func(t *testing.T, m mem) {
			m["charter/1/charter.yaml"] = bytes.ReplaceAll(m["charter/1/charter.yaml"], []byte("\n"), []byte("\r\n"))
		}},
		{"a longer file", "hash", "operations/1/operations.yaml", func(t *testing.T, m mem) {
			m["operations/1/operations.yaml"] = append(m["operations/1/operations.yaml"], '\n')
		}},
		{"endless file", "size", "operations/1/operations.yaml", func(t *testing.T, m mem) { m["operations/1/operations.yaml"] = make([]byte, 5<<20) }},
		{"endless lock", "size", "lock/1/signatures.json", func(t *testing.T, m mem) { m["lock/1/signatures.json"] = bytes.Repeat([]byte("["), 2<<20) }},
		{"manifest with a space", "hash", man, func(t *testing.T, m mem) { m[man] = append(m[man], ' ') }},
		{"lock's manifest with a space", "json", "lock/1/manifest.json", func(t *testing.T, m mem) { m["lock/1/manifest.json"] = append(m["lock/1/manifest.json"], ' ') }},
		{"lock's manifest with a member twice", "json", "lock/1/manifest.json", func(t *testing.T, m mem) {
			m["lock/1/manifest.json"] = bytes.Replace(m["lock/1/manifest.json"], []byte(`{"author"`), []byte(`{"author":"dan","author"`), 1)
		}},
		{"lock's manifest with another member", "json", "lock/1/manifest.json", func(t *testing.T, m mem) {
			m["lock/1/manifest.json"] = bytes.Replace(m["lock/1/manifest.json"], []byte(`"author"`), []byte(`"Author"`), 1)
		}},
		{"lock's manifest without a member", "json", "lock/1/manifest.json", func(t *testing.T, m mem) {
			m["lock/1/manifest.json"] = bytes.Replace(m["lock/1/manifest.json"], []byte(`"prev":"",`), nil, 1)
		}},
		{"lock with other bytes", "hash", "lock/1/estate.lock", func(t *testing.T, m mem) {
			m["lock/1/estate.lock"] = bytes.Replace(m["lock/1/estate.lock"], []byte(`"version":1`), []byte(`"version":2`), 1)
		}},
		{"signatures stripped", "author", "policy-research/1", func(t *testing.T, m mem) { m["policy-research/1/signatures.json"] = []byte("[]") }},
		{"signatures null", "author", "policy-research/1", func(t *testing.T, m mem) { m["policy-research/1/signatures.json"] = []byte("null") }},
		{"signatures of another statement", "author", "policy-research/1", func(t *testing.T, m mem) {
			m["policy-research/1/signatures.json"] = m["policy-support/1/signatures.json"]
		}},
		{"signatures of the lock stripped", "author", "lock/1", func(t *testing.T, m mem) { m["lock/1/signatures.json"] = []byte("[]") }},
		{"signature with another payload type", "author", "policy-research/1", func(t *testing.T, m mem) {
			raw := m[man]
			m["policy-research/1/signatures.json"] = canonical(t, []statement.Signature{estatetest.Signature(t, e.Ada, "text/plain", raw), estatetest.Signature(t, e.Bea, "text/plain", raw)})
		}},
		{"only the author signed", "approvers", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, nil, e.Bea)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"the owner is the author and only approver", "approvers", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, nil, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"the owner names another author who did not sign", "author", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Author = "bea" }, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"an approver without the role", "approvers", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, nil, e.Bea, e.Cora)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"a stranger as author", "author", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, nil, dan, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"a stranger under the owner's key id", "approvers", "policy-research/2", func(t *testing.T, m mem) {
			dan := *dan
			dan.Keys[0].ID = e.Ada.Key().ID
			m.Put(t, "policy-research", 2, nil, nil, e.Bea, &dan)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"the same signature twice", "approvers", "charter/2", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, nil, nil, e.Ada, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"created when its author was not attested any more", "author", "custody-research/1", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": lapse(m["charter/1/charter.yaml"], e.Now)}, nil, e.Cora, e.Bea)
			m.Lock(t, 2, nil, e.Bea, e.Cora)
		}},
		{"lock by a person who is not attested any more", "author", "lock/2", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": lapse(m["charter/1/charter.yaml"], e.Now)}, nil, e.Cora, e.Bea)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"charter written by a person who is not attested any more", "author", "charter/2", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": lapse(m["charter/1/charter.yaml"], e.Now)}, nil, e.Ada, e.Bea, e.Cora)
			m.Lock(t, 2, nil, e.Bea, e.Cora)
		}},
		{"lock by one person", "approvers", "lock/2", func(t *testing.T, m mem) { m.Lock(t, 2, nil, e.Ada) }},
		{"lock by a stranger and one person", "author", "lock/2", func(t *testing.T, m mem) { m.Lock(t, 2, nil, dan, e.Ada) }},
		{"lock that does not bind a statement", "lock", "lock", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) { delete(l.Statements, "custody-support") }, e.Ada, e.Bea)
		}},
		{"lock that binds one too many", "lock", "lock", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["policy-other"] = l.Statements["policy-research"]
			}, e.Ada, e.Bea)
		}},
		{"lock that binds another statement's version", "lock", "policy-research/2", func(t *testing.T, m mem) {
			m["policy-research/2/manifest.json"] = m["policy-support/1/manifest.json"]
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"lock with a hash that is none", "lock", "lock/2", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["operations"] = statement.Locked{Version: 1, SHA256: strings.Repeat("A", 64)}
			}, e.Ada, e.Bea)
		}},
		{"mixed set: an old statement under a new lock", "hash", "policy-research/1", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, map[string][]byte{"use.cedar": []byte("// nothing\n")}, nil, e.Bea, e.Ada)
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["policy-research"] = statement.Locked{Version: 1, SHA256: l.Statements["policy-research"].SHA256}
			}, e.Ada, e.Bea)
		}},
		{"statement made after its lock", "lock", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Created = m.Created.Add(time.Minute) }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"from the future", "value", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Created = m.Created.Add(6 * time.Minute) }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"expired when it was made", "value", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Expires = m.Created }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"lock that lives for ever", "expired", "lock/2", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(_ *statement.Lock, man *statement.Manifest) { man.Expires = e.Now.AddDate(2, 0, 0) }, e.Ada, e.Bea)
		}},
		{"no predecessor named", "chain", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Prev = "" }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"another estate", "lock", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Estate = "other" }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"a file in a folder", "size", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Files[0].Path = "../1/policy.yaml" }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"a file twice", "size", "policy-research/2", func(t *testing.T, m mem) {
			m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Files = append(m.Files, m.Files[1]) }, e.Bea, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"a file of another kind", "missing", "custody-research/2", func(t *testing.T, m mem) {
			m.Put(t, "custody-research", 2, nil, func(man *statement.Manifest) {
				man.Files[0].Path = "other.yaml"
				m["custody-research/2/other.yaml"] = m["custody-research/1/custody.yaml"]
			}, e.Bea, e.Cora)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"charter by the author alone", "approvers", "charter/2", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, nil, nil, e.Ada)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"charter that does not descend", "chain", "charter/2", func(t *testing.T, m mem) {
			m.Put(t, "charter", 2, nil, func(m *statement.Manifest) { m.Prev = strings.Repeat("0", 64) }, e.Ada, e.Bea, e.Cora)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
		}},
		{"charter far ahead", "rollback", "lock", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["charter"] = statement.Locked{Version: 1 << 40, SHA256: l.Statements["charter"].SHA256}
			}, e.Ada, e.Bea)
		}},
		{"charter of another version", "lock", "lock", func(t *testing.T, m mem) {
			m.Lock(t, 2, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["charter"] = statement.Locked{Version: 1, SHA256: strings.Repeat("0", 64)}
			}, e.Ada, e.Bea)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := copyStore(t, e)
			if _, err := statement.Load(m, e.Pin, nil, e.Now); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.do(t, m)
			_, err := statement.Load(m, e.Pin, nil, e.Now)
			refused(t, err, c.rule, c.file)
		})
	}
}

// lapse ends the attestation of the first person of a charter, ada, at t.
func lapse(charter []byte, t time.Time) []byte {
	before, rest, _ := strings.Cut(string(charter), "attested_until: ")
	_, after, _ := strings.Cut(rest, "\n")
	return []byte(before + "attested_until: " + t.UTC().Format(time.RFC3339) + "\n" + after)
}

// What is legitimate is accepted, so that the refusals above are not refusals of everything.
func TestSuccession(t *testing.T) {
	e := estatetest.New(t)
	m := copyStore(t, e)
	set := e.Set
	step := func(name string) {
		t.Helper()
		next, err := statement.Load(m, e.Pin, set, e.Now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cold, err := statement.Load(m, e.Pin, nil, e.Now)
		if err != nil || cold.LockHash != next.LockHash {
			t.Fatalf("%s, read afresh: %v", name, err)
		}
		set = next
	}
	same, err := statement.Load(m, e.Pin, set, e.Now)
	if err != nil || same != set {
		t.Fatalf("the same lock gives another set: %v", err)
	}
	m.Put(t, "policy-research", 2, nil, nil, e.Bea, e.Ada)
	m.Put(t, "policy-research", 3, nil, nil, e.Cora, e.Ada)
	m.Lock(t, 2, nil, e.Ada, e.Bea)
	step("two versions of a policy under one lock")
	m.Lock(t, 3, nil, e.Cora, e.Ada)
	m.Lock(t, 4, nil, e.Bea, e.Cora)
	step("two locks")
	m.Put(t, "charter", 2, nil, nil, e.Ada, e.Bea)
	m.Lock(t, 5, nil, e.Bea, e.Cora)
	step("a charter by two of three")
	m["policy-research/3/.DS_Store"] = []byte("x")
	m["lock/notes.txt"], m["lock/007/manifest.json"] = []byte("x"), []byte("x")
	step("files that nothing names")
}

func TestRollback(t *testing.T) {
	e := estatetest.New(t)
	old, first := copyStore(t, e), e.Set
	e.Republish(t, nil, "policy-research")
	second := e.Set
	now := copyStore(t, e)

	_, err := statement.Load(old, e.Pin, second, e.Now)
	refused(t, err, "rollback", "lock")
	pin := e.Pin
	pin.LastLock = second.Locked()
	_, err = statement.Load(old, pin, nil, e.Now)
	refused(t, err, "rollback", "lock")

	fork := mem{}
	for k, v := range old {
		fork[k] = v
	}
	fork.Lock(t, 2, nil, e.Cora, e.Ada)
	_, err = statement.Load(fork, e.Pin, second, e.Now)
	refused(t, err, "rollback", "lock/2")
	fork.Lock(t, 3, nil, e.Cora, e.Ada)
	_, err = statement.Load(fork, e.Pin, second, e.Now)
	refused(t, err, "chain", "lock/3")
	if _, err := statement.Load(fork, e.Pin, first, e.Now); err != nil {
		t.Fatalf("the fork is a successor of the first set: %v", err)
	}

	back := mem{}
	for k, v := range now {
		back[k] = v
	}
	back.Lock(t, 3, func(l *statement.Lock, _ *statement.Manifest) {
		l.Statements["policy-research"] = first.Lock.Statements["policy-research"]
	}, e.Ada, e.Bea)
	_, err = statement.Load(back, e.Pin, second, e.Now)
	refused(t, err, "rollback", "policy-research/1")

	late := mem{}
	for k, v := range now {
		late[k] = v
	}
	late.Lock(t, 3, func(_ *statement.Lock, m *statement.Manifest) { m.Created = e.Now.Add(-time.Second) }, e.Ada, e.Bea)
	_, err = statement.Load(late, e.Pin, nil, e.Now)
	refused(t, err, "chain", "lock/3") // a lock cannot be dated back: who has left since cannot sign one

	cut := mem{}
	for k, v := range now {
		cut[k] = v
	}
	cut.Lock(t, 3, nil, e.Ada, e.Bea)
	cut.Lock(t, 4, nil, e.Ada, e.Bea)
	delete(cut, "lock/3/manifest.json")
	_, err = statement.Load(cut, e.Pin, second, e.Now)
	refused(t, err, "missing", "lock/3/manifest.json")
}

// reads remembers what was read: what an authority sends to the processes.
type reads struct {
	statement.Store
	got mem
}

func (r reads) ReadFile(name string) ([]byte, error) {
	b, err := r.Store.ReadFile(name)
	if err == nil {
		r.got[name] = b
	}
	return b, err
}

// What Load reads is enough for a process that has nothing yet, and for one that is several versions behind.
func TestReadIsEnough(t *testing.T) {
	e := estatetest.New(t)
	first, m := e.Set, copyStore(t, e)
	for v := range int64(3) {
		m.Put(t, "charter", v+2, nil, nil, e.Ada, e.Bea)
		m.Put(t, "policy-research", v+2, nil, nil, e.Bea, e.Ada)
		m.Lock(t, v+2, nil, e.Ada, e.Cora)
	}
	r := reads{m, mem{}}
	if _, err := statement.Load(r, e.Pin, nil, e.Now); err != nil {
		t.Fatal(err)
	}
	for name, prev := range map[string]*statement.Set{"cold": nil, "behind": first} {
		next := reads{r.got, mem{}}
		if set, err := statement.Load(next, e.Pin, prev, e.Now); err != nil || set.Lock.Version != 4 {
			t.Errorf("%s: %v", name, err)
		}
		if set, err := statement.Load(next.got, e.Pin, nil, e.Now); err != nil || set.Lock.Version != 4 {
			t.Errorf("%s, from what it kept: %v", name, err)
		}
	}
	// A store that was pruned is enough for who has nothing.
	for _, name := range []string{"lock/2/manifest.json", "policy-research/1/manifest.json"} {
		delete(r.got, name)
	}
	if _, err := statement.Load(r.got, e.Pin, nil, e.Now); err != nil {
		t.Error(err)
	}
	_, err := statement.Load(r.got, e.Pin, first, e.Now)
	refused(t, err, "missing", "lock/2")
}

func TestFreeze(t *testing.T) {
	e := estatetest.New(t)
	day := e.Now.Add(24 * time.Hour)
	if _, err := statement.Load(e.Dir.Store(), e.Pin, nil, day.Add(-time.Nanosecond)); err != nil {
		t.Fatal(err)
	}
	for _, prev := range []*statement.Set{nil, e.Set} {
		_, err := statement.Load(e.Dir.Store(), e.Pin, prev, day)
		refused(t, err, "expired", "lock/1")
	}
	m := copyStore(t, e)
	soon := e.Now.Add(time.Minute)
	m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Expires = soon }, e.Bea, e.Ada)
	m.Lock(t, 2, nil, e.Ada, e.Bea)
	if set, err := statement.Load(m, e.Pin, nil, e.Now); err != nil || !set.Expires.Equal(soon) {
		t.Fatalf("%v, %v", set, err)
	}
	_, err := statement.Load(m, e.Pin, nil, soon)
	refused(t, err, "expired", "lock/2")
	if why := e.Set.Route("g1", "c1", "research-openai", day); why != "expired_set" {
		t.Fatalf("an expired set is still used: %q", why)
	}
	// A clock that is set back by more than the skew does not bring anything to life either.
	_, err = statement.Load(e.Dir.Store(), e.Pin, nil, e.Now.Add(-6*time.Minute))
	refused(t, err, "value", "lock/1")
}

func TestPin(t *testing.T) {
	e := estatetest.New(t)
	other := estatetest.New(t)
	root := func(s ...*estate.Signer) (keys []string) {
		for _, k := range s {
			keys = append(keys, k.Key().Public)
		}
		return keys
	}
	base := statement.Pin{Estate: "demo", AllowDemo: true}
	with := func(f func(*statement.Pin)) statement.Pin { p := base; f(&p); return p }
	for _, c := range []struct {
		name, rule string
		pin        statement.Pin
	}{
		{"hash", "", e.Pin},
		{"two of the root keys", "", with(func(p *statement.Pin) { p.RootKeys = root(e.Ada, e.Bea) })},
		{"two of three root keys, one unknown", "", with(func(p *statement.Pin) { p.RootKeys = root(e.Ada, other.Ada, e.Cora) })},
		{"nothing", "pin", base},
		{"one root key", "pin", with(func(p *statement.Pin) { p.RootKeys = root(e.Ada) })},
		{"one root key in two spellings", "pin", with(func(p *statement.Pin) { p.RootKeys = []string{root(e.Ada)[0], root(e.Ada)[0] + "\n"} })},
		{"one root key twice", "pin", with(func(p *statement.Pin) { p.RootKeys = root(e.Ada, e.Ada) })},
		{"other root keys", "pin", with(func(p *statement.Pin) { p.RootKeys = root(other.Ada, other.Bea) })},
		{"another charter", "pin", other.Pin},
		{"another estate", "lock", with(func(p *statement.Pin) { p.Estate, p.CharterSHA256 = "other", e.Pin.CharterSHA256 })},
		{"a later charter", "rollback", with(func(p *statement.Pin) { p.MinCharter, p.CharterSHA256 = 2, e.Pin.CharterSHA256 })},
		{"no demo", "demo", with(func(p *statement.Pin) { p.AllowDemo, p.CharterSHA256 = false, e.Pin.CharterSHA256 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := statement.Load(e.Dir.Store(), c.pin, nil, e.Now)
			if c.rule == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, c.rule, "")
		})
	}
}

// The root quorum hands over to another: both must have signed.
func TestCharterChange(t *testing.T) {
	e := estatetest.New(t)
	signer := func(id string) *estate.Signer {
		s, err := estate.NewSigner(id)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	dan, eve := signer("dan"), signer("eve")
	plan := *e.Plan
	for _, s := range []*estate.Signer{dan, eve} {
		plan.Charter.People = append(slices.Clone(plan.Charter.People), statement.Person{ID: s.Person, Name: s.Person, AttestedUntil: e.Now.Add(time.Hour), AttestedBy: "ada", Keys: []statement.Key{s.Key()}})
	}
	plan.Charter.Roles.Root = []string{"dan", "eve"}
	dir := estate.Dir(t.TempDir())
	if err := plan.Write(dir); err != nil {
		t.Fatal(err)
	}
	charter, err := os.ReadFile(path.Join(string(dir), "charter.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"charter.yaml": charter}
	for _, c := range []struct {
		name, rule string
		by         []*estate.Signer
	}{
		{"both", "", []*estate.Signer{dan, eve, e.Ada, e.Bea}},
		{"the new one only", "approvers", []*estate.Signer{dan, eve}},
		{"the new one and one of the old", "approvers", []*estate.Signer{dan, eve, e.Ada}},
		{"the old one only", "approvers", []*estate.Signer{e.Ada, e.Bea, e.Cora}},
		{"the old one and one of the new", "approvers", []*estate.Signer{dan, e.Ada, e.Bea}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := copyStore(t, e)
			m.Put(t, "charter", 2, files, nil, c.by...)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
			for _, prev := range []*statement.Set{nil, e.Set} {
				set, err := statement.Load(m, e.Pin, prev, e.Now)
				if c.rule != "" {
					refused(t, err, c.rule, "charter/2")
				} else if err != nil || !slices.Equal(set.Charter.Roles.Root, []string{"dan", "eve"}) {
					t.Fatal(err)
				}
			}
		})
	}
	m := copyStore(t, e)
	m.Put(t, "charter", 2, files, nil, dan, eve, e.Ada, e.Bea)
	m.Lock(t, 2, nil, e.Ada, e.Bea)
	pin := statement.Pin{Estate: "demo", AllowDemo: true, MinCharter: 2, RootKeys: []string{dan.Key().Public, eve.Key().Public}}
	if _, err := statement.Load(m, pin, nil, e.Now); err != nil {
		t.Fatalf("a pin on the second version: %v", err)
	}
	m.Put(t, "charter", 3, nil, nil, e.Ada, e.Bea, e.Cora)
	m.Lock(t, 3, nil, e.Ada, e.Bea)
	_, err = statement.Load(m, e.Pin, nil, e.Now)
	refused(t, err, "approvers", "charter/3")
}

// An expired charter blocks new statements, not the lock's renewal.
func TestCharterExpiry(t *testing.T) {
	e := estatetest.New(t)
	m := copyStore(t, e)
	m.Put(t, "charter", 1, nil, func(m *statement.Manifest) { m.Expires = e.Now.Add(time.Minute) }, e.Ada, e.Bea, e.Cora)
	pin := e.Pin
	pin.CharterSHA256 = hash(m["charter/1/manifest.json"])
	m.Lock(t, 1, nil, e.Ada, e.Bea)
	later := e.Now.Add(time.Hour)
	m.Lock(t, 2, func(_ *statement.Lock, man *statement.Manifest) { man.Created = later }, e.Ada, e.Bea)
	if _, err := statement.Load(m, pin, nil, later); err != nil {
		t.Fatalf("the lock could not be renewed: %v", err)
	}
	m.Put(t, "policy-research", 2, nil, func(m *statement.Manifest) { m.Created = later }, e.Bea, e.Ada)
	m.Lock(t, 3, func(_ *statement.Lock, man *statement.Manifest) { man.Created = later }, e.Ada, e.Bea)
	_, err := statement.Load(m, pin, nil, later)
	refused(t, err, "expired", "policy-research/2")
}

// A deputy stands in from the instant the first stops being live; the deputy who wrote a statement does not approve it.
func TestDeputies(t *testing.T) {
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	ends := now.Add(time.Hour)
	e := estatetest.New(t, estatetest.At(now), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.People = append(p.Charter.People, statement.Person{ID: "dan", Name: "Dan", AttestedUntil: now.Add(48 * time.Hour), AttestedBy: "ada", Keys: []statement.Key{dan.Key()}})
		cora := &p.Charter.People[2]
		cora.AttestedUntil, cora.Deputies = ends, []string{"dan"}
	}))
	for _, c := range []struct {
		at    time.Time
		owner string
	}{{ends.Add(-time.Nanosecond), "cora"}, {ends, "dan"}, {now.Add(48 * time.Hour), ""}} {
		p, live := e.Set.Owner("research-openai", c.at)
		if live != (c.owner != "") || live && p.ID != c.owner {
			t.Errorf("at %s the owner is %+v, %v; want %q", c.at, p, live, c.owner)
		}
	}
	if why := e.Set.Route("g1", "c1", "research-openai", ends); why != "" {
		t.Errorf("with the deputy: %s", why)
	}
	m := copyStore(t, e)
	late := func(m *statement.Manifest) { m.Created = ends }
	relock := func(_ *statement.Lock, m *statement.Manifest) { m.Created = ends }
	m.Put(t, "custody-research", 2, nil, late, e.Bea, dan)
	m.Lock(t, 2, relock, e.Ada, e.Bea)
	if _, err := statement.Load(m, e.Pin, nil, ends); err != nil {
		t.Fatalf("the deputy may approve: %v", err)
	}
	m.Put(t, "custody-research", 2, nil, late, dan)
	m.Lock(t, 2, relock, e.Ada, e.Bea)
	_, err = statement.Load(m, e.Pin, nil, ends)
	refused(t, err, "approvers", "custody-research/2")
	m.Put(t, "custody-research", 2, nil, nil, e.Bea, dan)
	m.Lock(t, 2, relock, e.Ada, e.Bea)
	_, err = statement.Load(m, e.Pin, nil, ends)
	refused(t, err, "approvers", "custody-research/2") // created while cora was live
}

func TestOrphans(t *testing.T) {
	e := estatetest.New(t)
	for _, c := range []struct {
		name, want                     string
		gateway, custodian, credential string
		edit                           func(*statement.Set)
	}{
		{"agreed", "", "g1", "c1", "research-openai", nil},
		{"another gateway", "unknown_gateway", "g2", "c1", "research-openai", nil},
		{"another credential", "unknown_credential", "g1", "c1", "other", nil},
		{"another custodian", "wrong_custodian", "g1", "c2", "research-openai", nil},
		{"unit not served", "unit_not_served", "g1", "c1", "research-openai", func(s *statement.Set) { s.Operations.Gateways[0].Units = []string{"support"} }},
		{"custody names another custodian", "custodian_not_named", "g1", "c1", "research-openai", func(s *statement.Set) { s.Custody["research"].Credentials[0].Custodians = []string{"c2"} }},
		{"the credential's owner has left", "orphaned_credential", "g1", "c1", "research-openai", func(s *statement.Set) {
			s.Custody["research"].Credentials[0].Owner = "nobody"
		}},
		{"an owner of the gateway has left", "orphaned_gateway", "g1", "c1", "research-openai", func(s *statement.Set) { s.Charter.People[1].Left = e.Now }},
		{"an owner of the gateway is not attested", "orphaned_gateway", "g1", "c1", "research-openai", func(s *statement.Set) { s.Charter.People[0].AttestedUntil = e.Now }},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := statement.Load(e.Dir.Store(), e.Pin, nil, e.Now)
			if err != nil {
				t.Fatal(err)
			}
			if c.edit != nil {
				c.edit(set)
			}
			if got := set.Route(c.gateway, c.custodian, c.credential, e.Now); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A folder as store: nothing outside is read, nothing that blocks or does not end.
func TestDir(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "f"), []byte("x"))
	write(filepath.Join(dir, "big"), make([]byte, 4<<20+1))
	write(filepath.Join(dir, "ok"), make([]byte, 4<<20))
	if err := errors.Join(os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "link")), os.Symlink(outside, filepath.Join(dir, "folder")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o700), syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	store := statement.Dir(dir)
	for _, name := range []string{"link", "folder/f", "../" + filepath.Base(outside) + "/f", filepath.Join(outside, "f"), "sub", "fifo", "big", "none"} {
		if b, err := store.ReadFile(name); err == nil {
			t.Errorf("%s was read: %d bytes", name, len(b))
		}
	}
	if b, err := store.ReadFile("ok"); err != nil || len(b) != 4<<20 {
		t.Errorf("ok: %d bytes, %v", len(b), err)
	}
	if names, err := store.ReadDir("folder"); err == nil {
		t.Errorf("a folder outside was listed: %v", names)
	}
}

func BenchmarkRoute(b *testing.B) {
	e := estatetest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		if why := e.Set.Route("g1", "c1", "research-openai", e.Now); why != "" {
			b.Fatal(why)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	e := estatetest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := statement.Load(e.Dir.Store(), e.Pin, nil, e.Now); err != nil {
			b.Fatal(err)
		}
	}
}
