package statement_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

var update = flag.Bool("update", false, "write docs/formats/vectors anew")

// vectors are docs/formats/vectors/statement.json.
type vectors struct {
	About  string            `json:"about"`
	Now    time.Time         `json:"now"`
	Pin    map[string]string `json:"pin"`
	Lock   string            `json:"lock_hash"` // hex SHA-256 of the lock's manifest
	PAE    string            `json:"pae"`       // of the charter's manifest
	Store  map[string]string `json:"store"`     // path to content
	Refuse []change          `json:"refuse"`
}

// change is one corruption of the store.
type change struct {
	Name string `json:"name"`
	Rule string `json:"rule"`
	File string `json:"file"`
	Old  string `json:"old,omitempty"` // text that is replaced; the file is removed without it
	New  string `json:"new,omitempty"`
	Now  string `json:"now,omitempty"` // instead of the vectors' time
}

// recordVector is one element of docs/formats/vectors/record.json.
type recordVector struct {
	Name     string    `json:"name"`
	Envelope string    `json:"envelope"`
	Now      time.Time `json:"now"`
	Rule     string    `json:"rule,omitempty"` // that refuses it; accepted without
}

// signerOf makes a person's key from a seed of equal bytes, by way of a key file.
func signerOf(t *testing.T, person string, fill byte) *estate.Signer {
	t.Helper()
	seed := bytes.Repeat([]byte{fill}, ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	b, err := json.Marshal(map[string]any{"person": person, "id": person + "-1", "type": "ed25519", "public": base64.StdEncoding.EncodeToString(public), "seed": seed})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), person)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := estate.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// demoOf is a demo-shaped estate with services' keys of fixed seeds.
func demoOf(ada, bea, cora *estate.Signer, now time.Time) estate.Demo {
	demo := estate.Demo{Estate: "vectors", Policy: ada, Operations: bea, Lifecycle: cora, Recipient: "age1" + strings.Repeat("q", 58),
		GatewayURL: "http://127.0.0.1:7800", Origin: "https://127.0.0.1:7809", Networks: []string{"127.0.0.1/32"}, Until: now.AddDate(0, 3, 0)}
	for i, k := range []struct {
		use, process, name string
		alg                byte
	}{{"log", "g1", "reeve/vectors/g1", 1}, {"log", "c1", "reeve/vectors/c1", 1}, {"log", "a1", "reeve/vectors/a1", 1}, {"feed", "a1", "reeve/vectors/feed/a1", 1}, {"witness", "w1", "reeve/vectors/witness/w1", 4}} {
		public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(10 + i)}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
		demo.ServiceKeys = append(demo.ServiceKeys, statement.ServiceKey{Use: k.use, Process: k.process, Key: estate.NoteKey(k.name, k.alg, public), NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(1, 0, 0)})
	}
	return demo
}

// makeVectors makes the estate of the vectors, the same each time.
func makeVectors(t *testing.T) (*vectors, []recordVector) {
	now := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	ada, bea, cora := signerOf(t, "ada", 1), signerOf(t, "bea", 2), signerOf(t, "cora", 3)
	demo := demoOf(ada, bea, cora, now)
	dir := estate.Dir(filepath.Join(t.TempDir(), "estate"))
	pin, set, err := demo.Plan().Create(dir, []*estate.Signer{ada, bea, cora}, now, estate.Lives{Statements: 90 * 24 * time.Hour, Lock: 30 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{About: "A store that is accepted, and changes to it that are refused. Each change is made to the store as it stands here. Seeds: ada 32 bytes of 1, bea of 2, cora of 3; services from 10 on.",
		Now: now, Pin: map[string]string{"estate": pin.Estate, "charter_sha256": pin.CharterSHA256}, Store: map[string]string{}}
	for name, b := range estatetest.CopyStore(t, dir) {
		v.Store[name] = string(b)
	}
	v.Lock = hash([]byte(v.Store["lock/1/manifest.json"]))
	v.PAE = string(statement.PAE(statement.PayloadType, []byte(v.Store["charter/1/manifest.json"])))
	v.Refuse = []change{
		{Name: "a byte of a policy", Rule: "hash", File: "policy-research/1/use.cedar", Old: "permit", New: "forbid"},
		{Name: "a byte of the charter", Rule: "hash", File: "charter/1/charter.yaml", Old: "acme", New: "acne"},
		{Name: "a file is missing", Rule: "missing", File: "custody-support/1/custody.yaml"},
		{Name: "the signatures are missing", Rule: "missing", File: "operations/1/signatures.json"},
		{Name: "another key's id on a signature", Rule: "author", File: "custody-research/1/signatures.json", Old: "ada-1", New: "bea-1"},
		{Name: "a manifest with a space", Rule: "hash", File: "operations/1/manifest.json", Old: `{"author"`, New: `{ "author"`},
		{Name: "the lock's manifest with a space", Rule: "json", File: "lock/1/manifest.json", Old: `{"author"`, New: `{ "author"`},
		{Name: "the lock's manifest with a member twice", Rule: "json", File: "lock/1/manifest.json", Old: `{"author"`, New: `{"author":"cora","author"`},
		{Name: "the lock's manifest is longer valid", Rule: "author", File: "lock/1/manifest.json", Old: `"expires":"2026-12-23`, New: `"expires":"2027-01-23`},
		{Name: "the lock binds another version", Rule: "hash", File: "lock/1/estate.lock", Old: `"version":1`, New: `"version":2`},
		{Name: "the lock has expired", Rule: "expired", File: "lock/1/manifest.json", Old: "", Now: "2026-12-23T06:00:00Z"},
	}
	record := func(name, rule, kind string, r any, at time.Time, by ...*estate.Signer) recordVector {
		env, err := estate.Seal(kind, r, by...)
		if err != nil {
			t.Fatal(err)
		}
		return recordVector{Name: name, Envelope: string(canonical(t, env)), Now: at, Rule: rule}
	}
	key := statement.WorkloadKey{Estate: set.Charter.Estate, Workload: "research-agent", Prefix: "rv_aaaaaaaa", SHA256: strings.Repeat("ab", 32), NotBefore: now, NotAfter: now.AddDate(0, 0, 30)}
	long := key
	long.NotAfter = long.NotAfter.Add(time.Second)
	closing := statement.Revocation{Estate: "vectors", Signer: "cora", Number: 1, Target: statement.Target{Kind: "credential", ID: "research-openai"}, Reason: "seen in a \"public\" place", Time: now}
	opening := closing
	opening.Number, opening.Open, opening.Time = 2, true, now.Add(time.Minute)
	everything := statement.Revocation{Estate: "vectors", Signer: "bea", Number: 1, Target: statement.Target{Kind: "everything"}, Reason: "test", Time: now}
	handover := statement.Handover{Estate: "vectors", Credential: "support-openai", Version: 1, Custodian: "c1", SHA256: strings.Repeat("cd", 32), Created: now}
	extension := statement.Extension{Estate: "vectors", Custodian: "c1", What: "feed", Created: now, Until: now.Add(time.Hour), Reason: "test"}
	retirement := statement.Retirement{Estate: "vectors", Log: "d05e5c65354a15fa", Size: 42, Root: base64.StdEncoding.EncodeToString(make([]byte, 32)), Reason: "test", Created: now}
	evidence := statement.Evidence{Estate: "vectors", Kind: "drill", Subject: "S1", SHA256: strings.Repeat("ef", 32), Created: now}
	kindless := evidence
	kindless.Kind = ""
	return v, []recordVector{
		record("key by the policy owner", "", "workload-key", key, now, ada),
		record("key by the lifecycle owner", "right", "workload-key", key, now, cora),
		record("key for a second too long", "value", "workload-key", long, now, ada),
		record("key signed as another kind", "json", "revocation", key, now, ada),
		record("credential by its owner", "", "revocation", closing, now, cora),
		record("credential in its owner's name", "signature", "revocation", closing, now, ada),
		record("open by the owner alone", "right", "revocation", opening, now, cora),
		record("open by the owner and another role", "", "revocation", opening, now, cora, bea),
		record("everything by one", "right", "revocation", everything, now, bea),
		record("everything by two", "", "revocation", everything, now, bea, ada),
		record("from the future", "value", "revocation", everything, now.Add(-6*time.Minute), bea, ada),
		record("handover by the owner", "", "handover", handover, now, cora),
		record("handover by another", "right", "handover", handover, now, bea),
		record("extension by two", "", "extension", extension, now.Add(59*time.Minute), ada, bea),
		record("extension that is over", "expired", "extension", extension, now.Add(time.Hour), ada, bea),
		record("retirement by two", "", "retirement", retirement, now, bea, cora),
		record("retirement by one", "right", "retirement", retirement, now, bea),
		record("evidence", "", "evidence", evidence, now, cora),
		record("evidence of no kind", "value", "evidence", kindless, now, cora),
	}
}

// signatureVector is one element of docs/formats/vectors/signature.json.
type signatureVector struct {
	Name        string              `json:"name"`
	Key         map[string]string   `json:"key"` // as in a charter
	PayloadType string              `json:"payload_type"`
	Payload     string              `json:"payload"`
	Signature   statement.Signature `json:"signature"`
	Shows       *statement.Approval `json:"shows,omitempty"` // of a signature that holds
	Why         string              `json:"why,omitempty"`   // it does not, in English
}

func (v *signatureVector) key() *statement.Key {
	return &statement.Key{ID: v.Key["id"], Type: v.Key["type"], Public: v.Key["public"], Credential: v.Key["credential"], Synced: v.Key["synced"], RequireUserVerification: v.Key["require_user_verification"] == "true"}
}

// makeSignatures makes the vectors of signatures: of Ed25519 with a seed of 32 bytes of 1, of P-256 with a private key of 32 bytes of 2.
func makeSignatures(t *testing.T) (list []signatureVector) {
	const payload = `{"estate":"vectors"}`
	ed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	pae := statement.PAE(statement.PayloadType, []byte(payload))
	add := func(name string, k statement.Key, s statement.Signature) {
		s.KeyID, k.ID = "ada-1", "ada-1"
		v := signatureVector{Name: name, Key: map[string]string{"id": k.ID, "type": k.Type, "public": k.Public}, PayloadType: statement.PayloadType, Payload: payload, Signature: s}
		for member, value := range map[string]string{"credential": k.Credential, "synced": k.Synced} {
			if value != "" {
				v.Key[member] = value
			}
		}
		if k.RequireUserVerification {
			v.Key["require_user_verification"] = "true"
		}
		shows, err := k.Verify(v.PayloadType, []byte(payload), &s)
		if err != nil {
			v.Why = err.Error()
		} else {
			v.Shows = &shows
		}
		list = append(list, v)
	}
	add("ed25519", statement.Key{Type: "ed25519", Public: base64.StdEncoding.EncodeToString(ed.Public().(ed25519.PublicKey))}, statement.Signature{Sig: ed25519.Sign(ed, pae)})
	for _, c := range []struct {
		name, algorithm, application string
		private                      crypto.Signer
		verify                       bool
		blob                         sshBlob
	}{
		{"ssh Ed25519, SHA-512", "ssh-ed25519", "", ed, false, sshBlob{}},
		{"ssh P-256, SHA-256", "ecdsa-sha2-nistp256", "", p256, false, sshBlob{hash: "sha256"}},
		{"ssh security key of Ed25519, touched", skEd25519, "ssh:", ed, false, sshBlob{flags: 1, counter: 5}},
		{"ssh security key of P-256, verified", skECDSA, "ssh:reeve", p256, true, sshBlob{flags: 5, counter: 6}},
		{"ssh in another namespace", "ssh-ed25519", "", ed, false, sshBlob{namespace: "git"}},
		{"ssh with SHA-384", "ssh-ed25519", "", ed, false, sshBlob{hash: "sha384"}},
		{"ssh with a reserved field", "ssh-ed25519", "", ed, false, sshBlob{reserved: "x"}},
		{"ssh with something after it", "ssh-ed25519", "", ed, false, sshBlob{after: "x"}},
		{"ssh security key, not touched", skEd25519, "ssh:", ed, false, sshBlob{}},
		{"ssh security key, not verified where it is required", skEd25519, "ssh:", ed, true, sshBlob{flags: 1}},
		{"ssh security key for a relying party", skEd25519, "localhost", ed, false, sshBlob{flags: 1}},
	} {
		c.blob.key, c.blob.pae = sshPairOf(t, c.private, c.algorithm, c.application), pae
		add(c.name, *c.blob.key.key(c.verify), statement.Signature{Sig: c.blob.sign(t)})
	}
	for _, c := range []struct {
		name    string
		private crypto.Signer
		edit    func(*estatetest.Ceremony, *statement.Key)
	}{
		{"passkey of Ed25519", ed, func(*estatetest.Ceremony, *statement.Key) {}},
		{"passkey of P-256", p256, func(*estatetest.Ceremony, *statement.Key) {}},
		{"passkey, synced and accepted", p256, func(c *estatetest.Ceremony, k *statement.Key) { c.Flags, k.Synced = 0x1d, "accepted" }},
		{"passkey, synced", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.Flags = 0x1d }},
		{"passkey, not verified", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.Flags = 1 }},
		{"passkey for another relying party", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.RelyingParty = "reeve.example" }},
		{"passkey on a page of the web", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.Client["origin"] = "https://reeve.example" }},
		{"passkey on a page within another", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.Client["crossOrigin"] = true }},
		{"passkey over something else", p256, func(c *estatetest.Ceremony, _ *statement.Key) { c.Client["challenge"] = strings.Repeat("A", 43) }},
	} {
		p := estatetest.PasskeyOf(c.private, bytes.Repeat([]byte{3}, 16))
		k, ceremony := p.Key(t, "ada-1"), estatetest.NewCeremony(statement.Challenge(statement.PayloadType, []byte(payload)))
		c.edit(ceremony, &k)
		add(c.name, k, p.Sign(t, "ada-1", ceremony))
	}
	return list
}

func TestVectors(t *testing.T) {
	const dir = "../../docs/formats/vectors/"
	made, records := makeVectors(t)
	signatures := makeSignatures(t)
	if *update {
		for name, v := range map[string]any{"statement.json": made, "record.json": records, "signature.json": signatures} {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(v); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+name, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var v vectors
	var rs []recordVector
	var ss []signatureVector
	for name, to := range map[string]any{"statement.json": &v, "record.json": &rs, "signature.json": &ss} {
		b, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, to); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(*made, v) + cmp.Diff(records, rs) + cmp.Diff(signatures, ss); d != "" {
		t.Fatalf("what the code writes is not what the vectors say (go test -run Vectors -update, if that is meant):\n%s", d)
	}
	for _, s := range ss {
		got, err := s.key().Verify(s.PayloadType, []byte(s.Payload), &s.Signature)
		if (err == nil) != (s.Why == "") || err == nil && got != *s.Shows {
			t.Errorf("%s: %+v, %v", s.Name, got, err)
		}
	}
	pin := statement.Pin{Estate: v.Pin["estate"], CharterSHA256: v.Pin["charter_sha256"], AllowDemo: true}
	store := mem{}
	for name, text := range v.Store {
		store[name] = []byte(text)
	}
	set, err := statement.Load(store, pin, nil, v.Now)
	if err != nil {
		t.Fatal(err)
	}
	if hash(store["lock/1/manifest.json"]) != v.Lock || set.Lock.Version != 1 {
		t.Errorf("lock %x", set.LockHash)
	}
	for _, c := range v.Refuse {
		t.Run(c.Name, func(t *testing.T) {
			bad, now := mem{}, v.Now
			for name, b := range store {
				bad[name] = b
			}
			switch {
			case c.Now != "":
				if now, err = time.Parse(time.RFC3339, c.Now); err != nil {
					t.Fatal(err)
				}
			case c.Old == "":
				delete(bad, c.File)
			case !bytes.Contains(bad[c.File], []byte(c.Old)):
				t.Fatalf("%s does not contain %q", c.File, c.Old)
			default:
				bad[c.File] = bytes.Replace(bad[c.File], []byte(c.Old), []byte(c.New), 1)
			}
			_, err := statement.Load(bad, pin, nil, now)
			refused(t, err, c.Rule, "")
		})
	}
	for _, r := range rs {
		t.Run(r.Name, func(t *testing.T) {
			env, err := statement.ParseEnvelope([]byte(r.Envelope))
			if err != nil {
				t.Fatal(err)
			}
			if err = open(set, env, r.Now); r.Rule != "" {
				refused(t, err, r.Rule, "")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// The content of an estate is refused or accepted, whatever it is, without a panic.
func FuzzCheck(f *testing.F) {
	b, err := os.ReadFile("../../docs/formats/vectors/statement.json")
	if err != nil {
		f.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		f.Fatal(err)
	}
	get := func(name string) []byte { return []byte(v.Store[name]) }
	charter, operations := get("charter/1/charter.yaml"), get("operations/1/operations.yaml")
	policy, custody, cedar := get("policy-research/1/policy.yaml"), get("custody-research/1/custody.yaml"), get("policy-research/1/use.cedar")
	f.Add(charter, operations, policy, custody)
	f.Fuzz(func(t *testing.T, charter, operations, policy, custody []byte) {
		files := map[string]statement.Files{
			"charter": {Bytes: mem{"charter.yaml": charter}}, "operations": {Bytes: mem{"operations.yaml": operations}},
			"policy-support": {Bytes: mem{"policy.yaml": get("policy-support/1/policy.yaml"), "use.cedar": cedar}}, "custody-support": {Bytes: mem{"custody.yaml": get("custody-support/1/custody.yaml")}},
			"policy-research": {Bytes: mem{"policy.yaml": policy, "use.cedar": cedar}}, "custody-research": {Bytes: mem{"custody.yaml": custody}},
		}
		set, err := statement.Check(files)
		if (err == nil) != (set != nil) || err != nil && !errors.Is(err, statement.ErrRefused) {
			t.Fatal(set, err)
		}
		if err == nil {
			set.Route("g1", "c1", "research-openai", v.Now)
		}
	})
}
