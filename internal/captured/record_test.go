package captured

import (
	"crypto/ed25519"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// Whoever has the keys of services alone, the authority's, a custodian's, a gateway's, an auditor's, makes no record in the name of a
// person, under no key id: but that a token key closes tokens, and nothing else.
func TestServiceKeys(t *testing.T) {
	closed := 0
	each(t, func(t *testing.T, w *world) {
		c := &w.Set.Charter
		held := slices.Sorted(maps.Keys(w.Service))
		for range *attacks {
			made := w.Now.Add(-time.Duration(w.rng.Intn(40)) * time.Minute)
			who := w.pick("ada", "a1", "a1", "c1")
			unit := c.Units[w.rng.Intn(len(c.Units))].ID
			cred := w.Set.Custody[unit].Credentials[w.rng.Intn(2)].ID
			targets := []statement.Target{{Kind: "token", ID: "jti-1"}, {Kind: "credential", ID: cred}, {Kind: "workload", ID: unit + "-agent"}, {Kind: "unit", ID: unit}, {Kind: "gateway", ID: "g1"},
				{Kind: "token", ID: "jti-2"}, {Kind: "person", ID: "ada"}, {Kind: "everything"}}
			target := targets[w.rng.Intn(len(targets))]
			for kind, v := range map[string]any{
				"revocation":         statement.Revocation{Estate: "demo", Signer: who, Number: 1, Target: target, Open: w.rng.Intn(2) == 0, Reason: "x", Time: made},
				"extension":          statement.Extension{Estate: "demo", Custodian: "c1", What: w.pick("feed", "witness"), Created: made, Until: made.Add(50 * time.Minute), Reason: "x"},
				"retirement":         statement.Retirement{Estate: "demo", Log: "reeve/demo/c1", Root: strings.Repeat("A", 43) + "=", Reason: "x", Created: made},
				"recovery":           statement.Announcement{Estate: "demo", Version: 2, SHA256: strings.Repeat("0", 64), Reason: "x", Created: made},
				"break-glass":        w.glass(cred, made, ""),
				"break-glass-review": statement.Review{Estate: "demo", BreakGlass: strings.Repeat("0", 64), Finding: "x", Created: made},
				"handover":           statement.Handover{Estate: "demo", Credential: cred, Version: 2, Custodian: w.pick("c1", "c2"), SHA256: strings.Repeat("0", 64), Created: made},
				"workload-key":       statement.WorkloadKey{Estate: "demo", Workload: unit + "-agent", Prefix: "rv_", SHA256: strings.Repeat("0", 64), NotBefore: made, NotAfter: made.Add(time.Hour)},
			} {
				env, err := estate.Seal(kind, v)
				if err != nil {
					t.Fatal(err)
				}
				keys := []string{w.pick("token a1", held[w.rng.Intn(len(held))])}
				if w.rng.Intn(3) == 0 { // all that there are
					keys = held
				}
				for i, k := range keys {
					id := w.pick(k, "ada-1", "bea-1", "cora-1")
					if len(keys) > 1 {
						id = []string{"ada-1", "bea-1", "cora-1", "x-1"}[min(i, 3)] + strings.Repeat("x", max(i-3, 0))
					}
					env.Signatures = append(env.Signatures, statement.Signature{KeyID: id, Sig: ed25519.Sign(w.Service[k], statement.PAE(env.PayloadType, env.Payload))})
				}
				err = estate.Take(w.Set, env, w.Now)
				if err != nil {
					w.rule(t, err)
					continue
				}
				r, _ := v.(statement.Revocation)
				if kind != "revocation" || r.Open || r.Target.Kind != "token" || r.Signer != "a1" || keys[0] != "token a1" {
					t.Fatalf("seed %d: the keys %v made a %s: %s", *seed, keys, kind, env.Payload)
				}
				closed++
			}
		}
	}, estatetest.Service("token", "a1"), estatetest.Service("log", "c2"), estatetest.Service("witness", "w2"))
	t.Logf("%d tokens were closed", closed)
	if *estates**attacks >= 200 && closed == 0 {
		t.Error("no token was closed by the authority")
	}
}

// Break-glass by any people, for any time, credential, workload and recipient: it is a lifecycle owner's of the credential's unit with
// somebody of another role of it, for an hour at most, recovers to nobody who signed or decides about uses, and stays what they signed.
func TestBreakGlass(t *testing.T) {
	taken, refusals := 0, map[string]int{}
	each(t, func(t *testing.T, w *world) {
		everybody := slices.Sorted(maps.Keys(w.by))
		for n := range *attacks {
			unit := w.Set.Charter.Units[w.rng.Intn(len(w.Set.Charter.Units))].ID
			roles, made := w.Set.Charter.Roles, w.Now.Add(-time.Duration(w.rng.Intn(10))*time.Minute)
			people := []string{everybody[w.rng.Intn(len(everybody))]}
			if n%2 == 0 {
				people = []string{w.acted(w.pick(roles.Units[unit].Lifecycle...), made)}
			}
			if n%4 > 0 {
				people = append(people, w.acted(w.pick(append(slices.Clone(roles.Operations), roles.Units[unit].Policy...)...), made))
			}
			people = slices.DeleteFunc(people, func(id string) bool { return id == "" })
			if slices.Sort(people); len(people) == 0 {
				continue
			}
			people = slices.Compact(people)
			b := w.glass(w.Set.Custody[unit].Credentials[w.rng.Intn(2)].ID, made, []string{"", "", everybody[w.rng.Intn(len(everybody))], "nobody"}[w.rng.Intn(4)])
			b.Until = made.Add([]time.Duration{time.Minute, 30 * time.Minute, time.Hour, time.Hour + time.Second, 24 * time.Hour}[w.rng.Intn(5)])
			if b.Recipient == "" && w.rng.Intn(2) == 0 {
				b.Waive, b.Workload = []string{statement.WaivePolicy}, w.pick("research-agent", "support-agent", "other-agent")
			}
			env, err := estate.Seal("break-glass", b, w.signers(people)...)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(env.Signatures, func(a, b statement.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
			if _, _, err = w.Set.OpenBreakGlass(env, w.Now); err != nil {
				refusals[w.rule(t, err)]++
				continue
			}
			taken++
			acts := func(people2 []string) func(string) bool {
				return func(id string) bool {
					return slices.ContainsFunc(people2, func(q string) bool { return w.acted(q, made) == id })
				}
			}
			life, policy, operations := slices.ContainsFunc(people, acts(roles.Units[unit].Lifecycle)), slices.ContainsFunc(people, acts(roles.Units[unit].Policy)), slices.ContainsFunc(people, acts(roles.Operations))
			switch {
			case len(people) < 2, !life, !policy && !operations:
				t.Fatalf("seed %d: %v broke the glass of %s", *seed, people, b.Credential)
			case b.Until.Sub(made) > time.Hour:
				t.Fatalf("seed %d: for %s", *seed, b.Until.Sub(made))
			case slices.Contains(people, b.Recipient):
				t.Fatalf("seed %d: %v recover for %s", *seed, people, b.Recipient)
			}
			for _, r := range roles.Units {
				if slices.ContainsFunc([]string{b.Recipient}, acts(r.Policy)) {
					t.Fatalf("seed %d: %s decides about uses and recovers the secret", *seed, b.Recipient)
				}
			}
			// What they signed can be made into nothing else: not with a destination, which a break-glass has not, nor for another.
			for name, v := range map[string]any{"destination": map[string]any{"origin": "https://elsewhere.example"}, "credential": w.pick("research-anthropic", "support-anthropic") + "x", "until": b.Until.Add(time.Second), "recipient": "eve2", "workload": ""} {
				var fields map[string]any
				if err := json.Unmarshal(env.Payload, &fields); err != nil {
					t.Fatal(err)
				}
				if old, ok := fields[name]; ok && old == v {
					continue
				}
				fields[name] = v
				altered := *env
				if altered.Payload, err = json.Marshal(fields); err != nil {
					t.Fatal(err)
				}
				if _, _, err := w.Set.OpenBreakGlass(&altered, w.Now); err == nil {
					t.Fatalf("seed %d: its %s was altered", *seed, name)
				}
			}
		}
	}, estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			p.Charter.People[i].Recipient = p.Custody["research"].Custodians[0].Recipient
		}
	}))
	t.Logf("%d were taken; refused: %v", taken, refusals)
	if *estates**attacks >= 200 && (taken < 10 || refusals["right"] < 10 || refusals["expired"] < 10 || refusals["separation"] < 2) {
		t.Error("too few came through, or failed for the sake of the rules that are tried here")
	}
}
