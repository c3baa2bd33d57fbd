package statement_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/statement"
)

// refused fails the test unless err is a refusal under the rule, about the file.
func refused(t *testing.T, err error, rule, file string) *statement.Error {
	t.Helper()
	var e *statement.Error
	if !errors.As(err, &e) || !errors.Is(err, statement.ErrRefused) {
		t.Fatalf("want a refusal under %q, got %v", rule, err)
	}
	if e.Rule != rule || !strings.HasPrefix(e.File, file) {
		t.Fatalf("want the rule %q and the file %q, got %v", rule, file, e)
	}
	if e.What == "" || e.Meaning == "" || e.Do == "" {
		t.Fatalf("the refusal does not say what, what it means and what to do: %+v", e)
	}
	return e
}

// plan is a demo's plan with keys of its own.
func plan(t *testing.T) *estate.Plan {
	t.Helper()
	var s [3]*estate.Signer
	for i, id := range []string{"ada", "bea", "cora"} {
		s[i] = signerOf(t, id, byte(i+1))
	}
	demo := demoOf(s[0], s[1], s[2], time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC))
	demo.Estate = "demo"
	for i := range demo.ServiceKeys {
		k := &demo.ServiceKeys[i]
		_, alg, public, err := statement.ParseNoteKey(k.Key)
		if err != nil {
			t.Fatal(err)
		}
		k.Key = estate.NoteKey("reeve/demo/"+k.Process, alg, public)
	}
	return demo.Plan()
}

// Every corruption of a valid estate is refused under its rule, with file and line.
func TestRules(t *testing.T) {
	const charter, custody, operations, policy = "charter.yaml", "units/research/custody.yaml", "operations.yaml", "units/research/policy.yaml"
	peer := "sha256:" + strings.Repeat("0", 64)
	person := func(p *estate.Plan, id string) *statement.Person {
		for i := range p.Charter.People {
			if p.Charter.People[i].ID == id {
				return &p.Charter.People[i]
			}
		}
		panic(id)
	}
	roles := func(p *estate.Plan, policy, lifecycle []string) {
		p.Charter.Roles.Units["research"] = statement.UnitRoles{Policy: policy, Lifecycle: lifecycle}
	}
	cred := func(p *estate.Plan) *statement.Credential { return &p.Custody["research"].Credentials[0] }
	for _, c := range []struct {
		name, rule, file string
		edit             func(*estate.Plan)
	}{
		{"estate id", "id", charter, func(p *estate.Plan) { p.Charter.Estate = "Demo" }},
		{"unit id in upper case", "id", charter, func(p *estate.Plan) { p.Charter.Units[0].ID = "Research" }},
		{"workload id in other letters", "id", charter, func(p *estate.Plan) { p.Charter.Workloads[0].ID = "rеsearch-agent" }},
		{"workload id with a dot", "id", charter, func(p *estate.Plan) { p.Charter.Workloads[0].ID = ".." }},
		{"workload id too long", "id", charter, func(p *estate.Plan) { p.Charter.Workloads[0].ID = strings.Repeat("a", 64) }},
		{"workload id with a dash first", "id", charter, func(p *estate.Plan) { p.Charter.Workloads[0].ID = "-a" }},
		{"same workload twice", "id", charter, func(p *estate.Plan) { p.Charter.Workloads[1].ID = "research-agent" }},
		{"same tenant twice", "id", charter, func(p *estate.Plan) { p.Charter.Tenants = append(p.Charter.Tenants, "acme") }},
		{"same person twice", "id", charter, func(p *estate.Plan) { p.Charter.People[1].ID = "ada" }},
		{"same key id twice", "id", charter, func(p *estate.Plan) { person(p, "bea").Keys[0].ID = "ada-1" }},
		{"unit without tenant", "reference", charter, func(p *estate.Plan) { p.Charter.Units[0].Tenant = "other" }},
		{"workload without unit", "reference", charter, func(p *estate.Plan) { p.Charter.Workloads[0].Unit = "other" }},
		{"workload without issuer", "value", charter, func(p *estate.Plan) { p.Charter.Workloads[0].Identities = nil }},
		{"no attestation", "value", charter, func(p *estate.Plan) { person(p, "ada").AttestedUntil = time.Time{} }},
		{"attested by himself", "reference", charter, func(p *estate.Plan) { person(p, "ada").AttestedBy = "ada" }},
		{"attested by a stranger", "reference", charter, func(p *estate.Plan) { person(p, "ada").AttestedBy = "dan" }},
		{"attested by one of the same role", "separation", charter, func(p *estate.Plan) {
			p.Charter.Roles.Operations = []string{"bea", "dan"}
			k, err := estate.NewSigner("dan")
			if err != nil {
				panic(err)
			}
			p.Charter.People = append(p.Charter.People, statement.Person{ID: "dan", AttestedUntil: person(p, "ada").AttestedUntil, AttestedBy: "bea", Keys: []statement.Key{k.Key()}})
		}},
		{"his own deputy", "reference", charter, func(p *estate.Plan) { person(p, "ada").Deputies = []string{"ada"} }},
		{"a stranger as deputy", "reference", charter, func(p *estate.Plan) { person(p, "ada").Deputies = []string{"dan"} }},
		{"no key", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys = nil }},
		{"key of another type", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].Type = "webauthn" }},
		{"key of unknown type", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].Type = "rsa" }},
		{"key in another spelling", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].Public += "\n" }},
		{"key too short", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].Public = "AAAA" }},
		{"one key for two people", "separation", charter, func(p *estate.Plan) { person(p, "bea").Keys[0].Public = person(p, "ada").Keys[0].Public }},
		{"one key under two ids", "separation", charter, func(p *estate.Plan) {
			k := person(p, "ada").Keys[0]
			k.ID = "ada-2"
			person(p, "cora").Keys = append(person(p, "cora").Keys, k)
		}},
		{"one key in two encodings", "separation", charter, func(p *estate.Plan) {
			raw, err := base64.StdEncoding.DecodeString(person(p, "ada").Keys[0].Public)
			if err != nil {
				panic(err)
			}
			blob := base64.StdEncoding.EncodeToString(wire([]byte("ssh-ed25519"), raw))
			person(p, "cora").Keys = append(person(p, "cora").Keys, statement.Key{ID: "cora-2", Type: "ssh", Public: "ssh-ed25519 " + blob})
		}},
		{"a service's key as a person's", "separation", charter, func(p *estate.Plan) {
			_, _, raw, err := statement.ParseNoteKey(p.Charter.ServiceKeys[0].Key)
			if err != nil {
				panic(err)
			}
			blob := base64.StdEncoding.EncodeToString(wire([]byte("sk-ssh-ed25519@openssh.com"), raw, []byte("ssh:")))
			person(p, "cora").Keys = append(person(p, "cora").Keys, statement.Key{ID: "cora-2", Type: "ssh", Public: "sk-ssh-ed25519@openssh.com " + blob})
		}},
		{"verification of a key that cannot", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].RequireUserVerification = true }},
		{"a synced key that is no passkey", "key", charter, func(p *estate.Plan) { person(p, "ada").Keys[0].Synced = "accepted" }},
		{"root of strangers", "reference", charter, func(p *estate.Plan) { p.Charter.Roles.Root = []string{"ada", "dan"} }},
		{"root of one", "approvers", charter, func(p *estate.Plan) { p.Charter.Roles.Root = []string{"ada"} }},
		{"root of one twice", "value", charter, func(p *estate.Plan) { p.Charter.Roles.Root = []string{"ada", "ada"} }},
		{"root quorum of one", "value", charter, func(p *estate.Plan) { p.Charter.Threshold.Root = 1 }},
		{"negative threshold", "value", charter, func(p *estate.Plan) { p.Charter.Threshold.Policy = -1 }},
		{"threshold above holders", "approvers", charter, func(p *estate.Plan) { p.Charter.Threshold.Policy = 2 }},
		{"no operations owner", "approvers", charter, func(p *estate.Plan) { p.Charter.Roles.Operations = nil }},
		{"roles for no unit", "reference", charter, func(p *estate.Plan) { p.Charter.Roles.Units["other"] = p.Charter.Roles.Units["research"] }},
		{"unit without roles", "approvers", charter, func(p *estate.Plan) { delete(p.Charter.Roles.Units, "research") }},
		{"policy and lifecycle in one hand", "separation", charter, func(p *estate.Plan) { roles(p, []string{"ada"}, []string{"ada"}) }},
		{"policy and operations in one hand", "separation", charter, func(p *estate.Plan) { roles(p, []string{"ada", "bea"}, []string{"cora"}) }},
		{"lifecycle and operations in one hand", "separation", charter, func(p *estate.Plan) { roles(p, []string{"ada"}, []string{"cora", "bea"}) }},
		{"two roles through a deputy", "separation", charter, func(p *estate.Plan) { person(p, "ada").Deputies = []string{"cora"} }},
		{"service key that is none", "key", charter, func(p *estate.Plan) { p.Charter.ServiceKeys[0].Key = "reeve/demo/g1+00000000+AAAA" }},
		{"service key with a wrong hash", "key", charter, func(p *estate.Plan) {
			k := &p.Charter.ServiceKeys[0].Key
			*k = strings.Replace(*k, "g1+", "g1+f", 1)
		}},
		{"log key of another origin", "key", charter, func(p *estate.Plan) {
			p.Charter.ServiceKeys[0].Key = p.Charter.ServiceKeys[1].Key
			p.Charter.ServiceKeys = append(p.Charter.ServiceKeys[:1], p.Charter.ServiceKeys[2:]...)
		}},
		{"one service key twice", "separation", charter, func(p *estate.Plan) {
			p.Charter.ServiceKeys = append(p.Charter.ServiceKeys, p.Charter.ServiceKeys[0])
		}},
		{"witness with a plain key", "key", charter, func(p *estate.Plan) { p.Charter.ServiceKeys[3].Use = "witness" }},
		{"a process witnesses itself", "separation", charter, func(p *estate.Plan) { p.Charter.ServiceKeys[4].Process = "c1" }},
		{"key that ends before it begins", "value", charter, func(p *estate.Plan) { p.Charter.ServiceKeys[0].NotAfter = p.Charter.ServiceKeys[0].NotBefore }},
		{"key of no use", "value", charter, func(p *estate.Plan) { p.Charter.ServiceKeys[0].Use = "other" }},
		{"more witnesses needed than there are", "value", charter, func(p *estate.Plan) { p.Charter.Witnesses.Need = 2 }},
		{"revocation bound too short", "value", charter, func(p *estate.Plan) { p.Charter.Revocation.High = statement.Duration(time.Second) }},
		{"revocation bound too long", "value", charter, func(p *estate.Plan) { p.Charter.Revocation.Normal = statement.Duration(2 * time.Minute) }},
		{"isolation of another word", "value", charter, func(p *estate.Plan) { p.Charter.RequireIsolation = "vm" }},
		{"confinement of another word", "value", charter, func(p *estate.Plan) { p.Charter.RequireConfinement = []string{"apparmor"} }},

		{"policy of another unit", "lock", policy, func(p *estate.Plan) { p.Policies["research"].Unit = "support" }},
		{"Cedar file that is not there", "missing", policy, func(p *estate.Plan) { p.Policies["research"].Cedar = []string{"use.cedar", "more.cedar"} }},
		{"Cedar file that is not named", "reference", policy, func(p *estate.Plan) { p.Policies["research"].Cedar = nil }},
		{"Cedar file named twice", "value", policy, func(p *estate.Plan) { p.Policies["research"].Cedar = []string{"use.cedar", "use.cedar"} }},
		{"ceiling for another unit's workload", "reference", policy, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Workload = "support-agent" }},
		{"ceiling for another unit's credential", "reference", policy, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Credential = "support-openai" }},
		{"negative ceiling", "value", policy, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Concurrent = -1 }},
		{"ceiling with another word", "value", policy, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].OnExcess = "warn" }},
		{"limit for nobody", "reference", policy, func(p *estate.Plan) { p.Policies["research"].Limits[0].Workload = "" }},
		{"negative limit", "value", policy, func(p *estate.Plan) { p.Policies["research"].Limits[0].DenialsPerMinute = -1 }},

		{"custody of another unit", "lock", custody, func(p *estate.Plan) { p.Custody["research"].Unit = "support" }},
		{"a federated credential without a federation", "reference", custody, func(p *estate.Plan) { federate(p); p.Custody["research"].Federation = nil }},
		{"a federation whose issuer is no https URL", "value", custody, func(p *estate.Plan) { federate(p).Issuer = "http://id.example" }},
		{"an issuer with a slash at its end", "value", custody, func(p *estate.Plan) { federate(p).Issuer = "https://id.example/" }},
		{"a trust domain in upper case", "value", custody, func(p *estate.Plan) { federate(p).TrustDomain = "Acme" }},
		{"a trust domain with a path", "value", custody, func(p *estate.Plan) { federate(p).TrustDomain = "acme/unit" }},
		{"a federation key of an unknown custodian", "reference", custody, func(p *estate.Plan) { federate(p).Keys[0].Custodian = "c9" }},
		{"a federation key that lives too long", "value", custody, func(p *estate.Plan) { k := &federate(p).Keys[0]; k.NotAfter = k.NotBefore.Add(91 * 24 * time.Hour) }},
		{"a federation key that ends before it begins", "value", custody, func(p *estate.Plan) { k := &federate(p).Keys[0]; k.NotAfter = k.NotBefore }},
		{"a federation key in a place that is none", "value", custody, func(p *estate.Plan) { federate(p).Keys[0].Held = "tpm" }},
		{"a federation key twice", "key", custody, func(p *estate.Plan) { f := federate(p); f.Keys = append(f.Keys, f.Keys[0]) }},
		{"two federation keys in one", "key", custody, func(p *estate.Plan) { k := &federate(p).Keys[0]; k.JWK += "," + k.JWK }},
		{"a private federation key", "key", custody, func(p *estate.Plan) {
			k := &federate(p).Keys[0]
			k.JWK = strings.Replace(k.JWK, "{", `{"d":"AAAA",`, 1)
		}},
		{"a federation key without kid", "key", custody, func(p *estate.Plan) { k := &federate(p).Keys[0]; k.JWK = strings.Replace(k.JWK, "kid", "kib", 1) }},
		{"a key set with another hash", "hash", custody, func(p *estate.Plan) { federate(p).JWKSSHA256 = strings.Repeat("0", 64) }},
		{"a discovery document with another hash", "hash", custody, func(p *estate.Plan) { federate(p).DiscoverySHA256 = "" }},
		{"same credential twice", "id", custody, func(p *estate.Plan) { p.Custody["research"].Credentials[1].ID = "research-openai" }},
		{"credential of two units", "id", "", func(p *estate.Plan) {
			p.Custody["support"].Credentials[0].ID = "research-openai"
			p.Operations.Providers[0].Credentials["support"] = "research-openai"
		}},
		{"recipient that is none", "key", custody, func(p *estate.Plan) { p.Custody["research"].Custodians[0].Recipient = "age1abc" }},
		{"custodian with another log", "reference", custody, func(p *estate.Plan) { p.Custody["research"].Custodians[0].Log = p.Charter.ServiceKeys[0].Key }},
		{"no custodian", "reference", custody, func(p *estate.Plan) { p.Custody["research"].Custodians = nil }},
		{"owner without the role", "owner", custody, func(p *estate.Plan) { cred(p).Owner = "ada" }},
		{"no owner", "owner", custody, func(p *estate.Plan) { cred(p).Owner = "" }},
		{"no class", "value", custody, func(p *estate.Plan) { cred(p).Class = "" }},
		{"template of no name", "id", custody, func(p *estate.Plan) { cred(p).Template = "Open AI" }},
		{"unknown honey", "value", custody, func(p *estate.Plan) { cred(p).Honey = "yes" }},
		{"unknown dialect", "value", custody, func(p *estate.Plan) { cred(p).Dialect = "other" }},
		{"unknown source", "value", custody, func(p *estate.Plan) { cred(p).Source = "env" }},
		{"unknown custodian", "reference", custody, func(p *estate.Plan) { cred(p).Custodians = []string{"c2"} }},
		{"origin without TLS", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "http://127.0.0.1" }},
		{"origin with a path", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://127.0.0.1/" }},
		{"origin with a user", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://a@127.0.0.1" }},
		{"origin in upper case", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://API.example" }},
		{"origin with a bad port", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://a.example:" }},
		{"origin with port 0", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://a.example:0" }},
		{"origin with port 65536", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://a.example:65536" }},
		{"origin with a query", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://a.example?b" }},
		{"origin in other letters", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "https://аpi.example" }},
		{"CA that is none", "value", custody, func(p *estate.Plan) {
			cred(p).Destination.CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		}},
		{"no origin", "value", custody, func(p *estate.Plan) { cred(p).Destination.Origin = "" }},
		{"prefix with a pattern", "value", custody, func(p *estate.Plan) { cred(p).Destination.Prefix = "/a/*" }},
		{"prefix with a slash at the end", "value", custody, func(p *estate.Plan) { cred(p).Destination.Prefix = "/a/" }},
		{"no methods", "value", custody, func(p *estate.Plan) { cred(p).Destination.Methods = nil }},
		{"method in lower case", "value", custody, func(p *estate.Plan) { cred(p).Destination.Methods = []string{"post"} }},
		{"CONNECT", "value", custody, func(p *estate.Plan) { cred(p).Destination.Methods = []string{"CONNECT"} }},
		{"no paths", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = nil }},
		{"path with dots", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"/a/../b"} }},
		{"path with two slashes", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"/a//b"} }},
		{"path with an escape", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"/a%2fb"} }},
		{"path with ** in the middle", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"/a/**/b"} }},
		{"path with a star in a word", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"/a*"} }},
		{"path without a slash", "value", custody, func(p *estate.Plan) { cred(p).Destination.Paths = []string{"a"} }},
		{"network that is none", "value", custody, func(p *estate.Plan) { cred(p).Destination.Networks = []string{"127.0.0.1"} }},
		{"network with host bits", "value", custody, func(p *estate.Plan) { cred(p).Destination.Networks = []string{"10.1.2.3/8"} }},
		{"proxy that is none", "value", custody, func(p *estate.Plan) { cred(p).Destination.Proxy = "socks5://a:1" }},
		{"inject as another word", "value", custody, func(p *estate.Plan) { cred(p).Inject.As = "cookie" }},
		{"inject as nothing", "value", custody, func(p *estate.Plan) { cred(p).Inject.As = "" }},
		{"inject a header without name", "value", custody, func(p *estate.Plan) { cred(p).Inject = statement.Inject{As: "header"} }},
		{"inject a header that breaks lines", "value", custody, func(p *estate.Plan) { cred(p).Inject = statement.Inject{As: "header", Name: "a\r\nb"} }},

		{"same gateway twice", "id", operations, func(p *estate.Plan) {
			p.Operations.Gateways = append(p.Operations.Gateways, p.Operations.Gateways[0])
		}},
		{"gateway URL with a path", "value", operations, func(p *estate.Plan) { p.Operations.Gateways[0].URL = "http://127.0.0.1/v1" }},
		{"gateway of no unit", "value", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Units = nil }},
		{"gateway of an unknown unit", "reference", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Units = []string{"research", "other"} }},
		{"gateway to an unknown custodian", "reference", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Custodians = []string{"c2"} }},
		{"gateway to a custodian twice", "reference", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Custodians = []string{"c1", "c1"} }},
		{"gateway with a peer that is no key", "key", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Peer = "sha256:00" }},
		{"custodian with a peer that is no key", "key", custody, func(p *estate.Plan) { p.Custody["research"].Custodians[0].Peer = strings.Repeat("0", 64) }},
		{"custodian with one unit's peer key only", "key", operations, func(p *estate.Plan) { p.Custody["research"].Custodians[0].Peer = peer }},
		{"custodian with the peer key of a gateway", "separation", operations, func(p *estate.Plan) {
			p.Operations.Gateways[0].Peer = peer
			for _, u := range []string{"research", "support"} {
				p.Custody[u].Custodians[0].Peer = peer
			}
		}},
		{"gateway with one owner for two roles", "owner", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Owners.Lifecycle = "ada" }},
		{"gateway without an owner", "owner", operations, func(p *estate.Plan) { p.Operations.Gateways[0].Owners.Operations = "" }},
		{"roles crossed over two units of one gateway", "separation", operations, func(p *estate.Plan) {
			roles(p, []string{"cora"}, []string{"ada"})
			person(p, "cora").AttestedBy = "bea"
			for i := range p.Custody["research"].Credentials {
				p.Custody["research"].Credentials[i].Owner = "ada"
			}
		}},
		{"provider of another dialect", "value", operations, func(p *estate.Plan) { p.Operations.Providers[0].Dialect = "other" }},
		{"two defaults", "value", operations, func(p *estate.Plan) { p.Operations.Providers[1].Dialect = "openai" }},
		{"provider with an unknown credential", "reference", operations, func(p *estate.Plan) { p.Operations.Providers[0].Credentials["research"] = "other" }},
		{"provider with another unit's credential", "reference", operations, func(p *estate.Plan) { p.Operations.Providers[0].Credentials["research"] = "support-openai" }},
		{"provider with a credential of another dialect", "reference", operations, func(p *estate.Plan) { p.Operations.Providers[0].Credentials["research"] = "research-anthropic" }},
		{"alias of an unknown provider", "reference", operations, func(p *estate.Plan) { p.Operations.Aliases["a"] = "other/model" }},
		{"alias of no model", "reference", operations, func(p *estate.Plan) { p.Operations.Aliases["a"] = "openai/" }},
		{"alias that hides a model", "value", operations, func(p *estate.Plan) { p.Operations.Aliases["openai/demo-large"] = "openai/demo-small" }},
		{"negative gateway limit", "value", operations, func(p *estate.Plan) { p.Operations.Limits.BodyBytes = -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := plan(t)
			dir := estate.Dir(t.TempDir())
			if err := plan.Write(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := dir.Check(); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.edit(plan)
			if err := plan.Write(dir); err != nil {
				t.Fatal(err)
			}
			_, err := dir.Check()
			e := refused(t, err, c.rule, c.file)
			if c.file != "" && (e.Line < 1 || e.Column < 1) {
				t.Errorf("no line: %v", e)
			}
		})
	}
}

func TestUnitWithoutFiles(t *testing.T) {
	dir := estate.Dir(t.TempDir())
	if err := plan(t).Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(string(dir), "units", "support")); err != nil {
		t.Fatal(err)
	}
	_, err := dir.Check()
	refused(t, err, "missing", "")
}

func TestRefusalReads(t *testing.T) {
	_, err := estatetest.Try(t, estatetest.Edit(func(p *estate.Plan) { p.Charter.Workloads[1].Unit = "other" }))
	want := `charter/1/charter.yaml:%d:11: the workload "support-agent" is in the unit "other", which the charter does not have (rule reference). The statement contradicts itself or another statement. Correct the file at that place and have it signed again.`
	var e *statement.Error
	if !errors.As(err, &e) || e.Error() != fmt.Sprintf(want, e.Line) {
		t.Fatalf("got  %v", err)
	}
}

// federate gives research a federation and has its first credential come from it.
func federate(p *estate.Plan) *statement.Federation {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	jwk, _, err := federation.Public(key.Public(), "ES256")
	if err != nil {
		panic(err)
	}
	now := time.Now()
	f := federation.Add(statement.Federation{Issuer: "https://id.example/research", TrustDomain: "acme.example"}, federation.Entry("c1", jwk, now), now)
	cu := p.Custody["research"]
	cu.Federation = &f
	cu.Credentials[0].Source, cu.Credentials[0].From.URL = "federation", "https://id.example/token"
	return &f
}

// TestFederation: a unit's federation is accepted, and a key that is added to it reaches each credential that federates: its owner signs.
func TestFederation(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) { federate(p) }))
	before, after := e.Set, *e.Set
	cu := *before.Custody["research"]
	f := federation.Add(*cu.Federation, cu.Federation.Keys[0], time.Now())
	cu.Federation = &f
	after.Custody = maps.Clone(before.Custody)
	after.Custody["research"] = &cu
	got := map[string][]statement.Owner{}
	for _, c := range statement.Compare(before, &after) {
		got[c.Kind+" "+c.ID] = c.Needs
	}
	want := map[string][]statement.Owner{"federation research": {}, "credential research-openai": {{Person: "cora", Role: "lifecycle", Unit: "research"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, want := f.Subject("research", "research-openai", "agent"), "spiffe://acme.example/unit/research/credential/research-openai/workload/agent"; got != want {
		t.Error(got)
	}
}
