package statement_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// The attacks that The Update Framework lists (theupdateframework.io, "Security"), and those that its key rules exclude, each
// tried against a verifier that has a set in force and against one that has only its memory of the last lock. All are refused.
func TestAttacks(t *testing.T) {
	e := estatetest.New(t)
	one := copyStore(t, e)
	e.Republish(t, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Concurrent = 9 }, "policy-research")
	two := copyStore(t, e)
	inForce := e.Set
	memory := e.Pin
	memory.LastLock = e.Set.Locked()
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	day := e.Now.Add(24 * time.Hour)
	far := func(t *testing.T, m mem) { // a lock whose predecessor nobody has
		for _, f := range []string{"manifest.json", "estate.lock"} {
			m["lock/1099511627775/"+f] = m["lock/2/"+f]
		}
		m.Lock(t, 1<<40, nil, e.Ada, e.Bea)
		delete(m, "lock/1099511627775/manifest.json")
		delete(m, "lock/1099511627775/estate.lock")
	}

	for _, c := range []struct {
		name, rule string
		at         time.Time // of loading, if not the time of signing
		do         func(t *testing.T, m mem) mem
	}{
		{"rollback: an older lock", "rollback", time.Time{}, func(_ *testing.T, _ mem) mem { return maps.Clone(one) }},
		{"rollback: an older statement under a new lock", "rollback", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["policy-research"] = statement.Locked{Version: 1, SHA256: hash(m["policy-research/1/manifest.json"])}
			}, e.Ada, e.Bea)
			return m
		}},
		{"freeze: a set kept alive beyond its expiry", "expired", day, func(_ *testing.T, m mem) mem { return m }},
		{"freeze: a lock for ever", "expired", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, func(_ *statement.Lock, man *statement.Manifest) { man.Expires = e.Now.AddDate(2, 0, 0) }, e.Ada, e.Bea)
			return m
		}},
		{"mix and match: statements of two versions", "hash", time.Time{}, func(t *testing.T, m mem) mem {
			m.Put(t, "policy-research", 3, map[string][]byte{"use.cedar": []byte("permit (principal, action, resource);\n")}, nil, e.Bea, e.Ada)
			m.Lock(t, 3, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["policy-research"] = statement.Locked{Version: 2, SHA256: l.Statements["policy-research"].SHA256}
			}, e.Ada, e.Bea)
			return m
		}},
		{"mix and match: a statement that the lock does not bind", "lock", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, func(l *statement.Lock, _ *statement.Manifest) { delete(l.Statements, "custody-research") }, e.Ada, e.Bea)
			return m
		}},
		{"stripped signature", "author", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			m["lock/3/signatures.json"] = []byte("[]")
			return m
		}},
		{"stripped signature: the approver's", "approvers", time.Time{}, func(t *testing.T, m mem) mem {
			m.Put(t, "policy-research", 3, nil, nil, e.Bea)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"stripped signature: the item owner's", "items", time.Time{}, func(t *testing.T, m mem) mem {
			m.Put(t, "operations", 2, map[string][]byte{"operations.yaml": bytes.ReplaceAll(m["operations/1/operations.yaml"], []byte(":7800"), []byte(":7999"))}, nil, e.Ada, e.Bea)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"wrong role", "approvers", time.Time{}, func(t *testing.T, m mem) mem {
			m.Put(t, "policy-research", 3, nil, nil, e.Bea, e.Cora)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"wrong key under a known id", "approvers", time.Time{}, func(t *testing.T, m mem) mem {
			forger := *dan
			forger.Keys = []statement.Key{dan.Key()}
			forger.Keys[0].ID = "ada-1"
			m.Put(t, "policy-research", 3, nil, nil, e.Bea, &forger)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"one key twice", "approvers", time.Time{}, func(t *testing.T, m mem) mem {
			m.Put(t, "charter", 2, nil, nil, e.Ada, e.Ada)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"one key under two ids", "separation", time.Time{}, func(t *testing.T, m mem) mem {
			key := "      - id: ada-2\n        type: ed25519\n        public: " + e.Ada.Key().Public + "\n"
			charter := strings.Replace(string(m["charter/1/charter.yaml"]), "  - id: bea\n", key+"  - id: bea\n", 1)
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": []byte(charter)}, nil, e.Ada, e.Bea, e.Cora)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"one person in two roles", "separation", time.Time{}, func(t *testing.T, m mem) mem {
			charter := strings.Replace(string(m["charter/1/charter.yaml"]), "      lifecycle:\n        - cora\n", "      lifecycle:\n        - cora\n        - ada\n", 1)
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": []byte(charter)}, nil, e.Ada, e.Bea, e.Cora)
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			return m
		}},
		{"fast-forward: a version far ahead", "missing", time.Time{}, func(t *testing.T, m mem) mem {
			far(t, m)
			return m
		}},
		{"fast-forward: a charter far ahead", "rollback", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, func(l *statement.Lock, _ *statement.Manifest) {
				l.Statements["charter"] = statement.Locked{Version: 1 << 40, SHA256: l.Statements["charter"].SHA256}
			}, e.Ada, e.Bea)
			return m
		}},
		{"endless data: a file", "size", time.Time{}, func(t *testing.T, m mem) mem {
			m.Lock(t, 3, nil, e.Ada, e.Bea)
			m["lock/3/signatures.json"] = bytes.Repeat([]byte("["), 5<<20)
			return m
		}},
		{"fork: two former owners sign another lock with the version in force", "rollback", time.Time{}, func(t *testing.T, m mem) mem {
			fork := maps.Clone(one)
			fork.Lock(t, 2, nil, e.Cora, e.Ada)
			return fork
		}},
		{"fork: two former owners sign a branch that goes on", "chain", time.Time{}, func(t *testing.T, m mem) mem {
			fork := maps.Clone(one)
			fork.Lock(t, 2, nil, e.Cora, e.Ada)
			fork.Lock(t, 3, nil, e.Cora, e.Ada)
			return fork
		}},
		{"fork: the part of the history that shows it is left out", "missing", time.Time{}, func(t *testing.T, m mem) mem {
			fork := maps.Clone(one)
			for v := range int64(3) {
				fork.Lock(t, v+2, nil, e.Cora, e.Ada)
			}
			delete(fork, "lock/3/manifest.json")
			return fork
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := e.Now
			if !c.at.IsZero() {
				at = c.at
			}
			m := c.do(t, maps.Clone(two))
			_, err := statement.Load(m, e.Pin, inForce, at)
			refused(t, err, c.rule, "")
			_, err = statement.Load(m, memory, nil, at)
			refused(t, err, c.rule, "")
		})
	}

	t.Run("fast-forward: the way back", func(t *testing.T) {
		// A verifier that started from its pin alone has taken a version far ahead, signed by two keys that were then stolen. The root
		// quorum replaces them, and who runs the verifier gives it the lock that the owners confirm.
		ahead := maps.Clone(two)
		far(t, ahead)
		taken, err := statement.Load(ahead, e.Pin, nil, e.Now)
		if err != nil {
			t.Fatalf("nothing shows a fresh verifier that versions are missing: %v", err)
		}
		stuck := e.Pin
		stuck.LastLock = taken.Locked()
		next := maps.Clone(two)
		next.Lock(t, 3, nil, e.Cora, e.Bea)
		_, err = statement.Load(next, stuck, nil, e.Now)
		refused(t, err, "rollback", "lock")
		if set, err := statement.Load(next, memory, nil, e.Now); err != nil || set.Lock.Version != 3 {
			t.Fatalf("with the confirmed lock: %v", err)
		}
	})

	t.Run("a workload key dated back by an owner whose attestation ran out", func(t *testing.T) {
		soon := e.Now.Add(time.Hour)
		e := estatetest.New(t, estatetest.At(e.Now), estatetest.Edit(func(p *estate.Plan) { p.Charter.People[0].AttestedUntil = soon }))
		_, env, err := estate.NewKey("demo", "research-agent", soon.Add(-time.Minute), 24*time.Hour, e.Ada)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Set.OpenWorkloadKey(env, soon.Add(-time.Second)); err != nil {
			t.Fatalf("while she is attested: %v", err)
		}
		_, err = e.Set.OpenWorkloadKey(env, soon)
		refused(t, err, "right", "")
	})
}
