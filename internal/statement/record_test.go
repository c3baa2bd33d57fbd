package statement_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// open opens an envelope as what its type says, for custodian c1.
func open(s *statement.Set, env *statement.Envelope, now time.Time) (err error) {
	switch estate.Kind(env) {
	case "workload-key":
		_, err = s.OpenWorkloadKey(env, now)
	case "revocation":
		_, err = s.OpenRevocation(env, now)
	case "handover":
		_, err = s.OpenHandover(env, "c1", now)
	case "extension":
		_, err = s.OpenExtension(env, "c1", now)
	case "retirement":
		_, err = s.OpenRetirement(env, now)
	case "evidence":
		_, _, err = s.OpenEvidence(env, now)
	default:
		err = errors.New("no kind")
	}
	return err
}

func TestRecords(t *testing.T) {
	dan, err := estate.NewSigner("dan") // a policy owner of support only
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	left, gone := now.Add(2*time.Hour), now.Add(3*time.Hour)
	e := estatetest.New(t, estatetest.At(now), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.People = append(p.Charter.People, statement.Person{ID: "dan", Name: "Dan", AttestedUntil: now.Add(48 * time.Hour), AttestedBy: "bea", Keys: []statement.Key{dan.Key()}})
		r := p.Charter.Roles.Units["support"]
		r.Policy = append([]string{"dan"}, r.Policy...)
		p.Charter.Roles.Units["support"] = r
		p.Charter.People[0].Left = left // ada
		p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "foreign", Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerAuthority}}})
	}))
	stranger, err := estate.NewSigner("ada")
	if err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("ab", 32)
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))

	key := func(f func(*statement.WorkloadKey)) statement.WorkloadKey {
		k := statement.WorkloadKey{Estate: "demo", Workload: "research-agent", Prefix: "rv_abcdefgh", SHA256: sum, NotBefore: now, NotAfter: now.Add(30 * 24 * time.Hour)}
		if f != nil {
			f(&k)
		}
		return k
	}
	closing := func(signer, kind, id string) statement.Revocation {
		return statement.Revocation{Estate: "demo", Signer: signer, Number: 1, Target: statement.Target{Kind: kind, ID: id}, Reason: "test", Time: now}
	}
	opening := func(signer, kind, id string) statement.Revocation {
		r := closing(signer, kind, id)
		r.Open = true
		return r
	}
	handover := func(f func(*statement.Handover)) statement.Handover {
		h := statement.Handover{Estate: "demo", Credential: "research-openai", Version: 1, Custodian: "c1", SHA256: sum, Created: now}
		if f != nil {
			f(&h)
		}
		return h
	}
	extension := func(f func(*statement.Extension)) statement.Extension {
		x := statement.Extension{Estate: "demo", Custodian: "c1", What: "witness", Created: now, Until: now.Add(time.Hour), Reason: "test"}
		if f != nil {
			f(&x)
		}
		return x
	}
	retirement := func(f func(*statement.Retirement)) statement.Retirement {
		r := statement.Retirement{Estate: "demo", Log: "0123456789abcdef", Size: 3, Root: root, Reason: "test", Created: now}
		if f != nil {
			f(&r)
		}
		return r
	}
	evidence := func(f func(*statement.Evidence)) statement.Evidence {
		x := statement.Evidence{Estate: "demo", Kind: "drill", Subject: "S1", SHA256: sum, Created: now}
		if f != nil {
			f(&x)
		}
		return x
	}
	by := func(s ...*estate.Signer) []*estate.Signer { return s }
	for _, c := range []struct {
		name, rule, kind string
		record           any
		by               []*estate.Signer
		at               time.Time // now when zero
	}{
		{"key", "", "workload-key", key(nil), by(e.Ada), time.Time{}},
		{"key by the operations owner", "right", "workload-key", key(nil), by(e.Bea), time.Time{}},
		{"key by another unit's policy owner", "right", "workload-key", key(nil), by(dan), time.Time{}},
		{"key by nobody", "signature", "workload-key", key(nil), nil, time.Time{}},
		{"key by a stranger with the owner's key id", "signature", "workload-key", key(nil), by(stranger), time.Time{}},
		{"key of an unknown workload", "reference", "workload-key", key(func(k *statement.WorkloadKey) { k.Workload = "other" }), by(e.Ada), time.Time{}},
		{"key of a workload that others vouch for", "right", "workload-key", key(func(k *statement.WorkloadKey) { k.Workload = "foreign" }), by(e.Ada), time.Time{}},
		{"key for too long", "value", "workload-key", key(func(k *statement.WorkloadKey) { k.NotAfter = k.NotAfter.Add(time.Second) }), by(e.Ada), time.Time{}},
		{"key that ends first", "value", "workload-key", key(func(k *statement.WorkloadKey) { k.NotAfter = k.NotBefore }), by(e.Ada), time.Time{}},
		{"key from the future", "value", "workload-key", key(func(k *statement.WorkloadKey) {
			k.NotBefore = now.Add(6 * time.Minute)
			k.NotAfter = now.Add(time.Hour)
		}), by(e.Ada), time.Time{}},
		{"key without hash", "value", "workload-key", key(func(k *statement.WorkloadKey) { k.SHA256 = "ab" }), by(e.Ada), time.Time{}},
		{"key with a hash in upper case", "value", "workload-key", key(func(k *statement.WorkloadKey) { k.SHA256 = strings.ToUpper(sum) }), by(e.Ada), time.Time{}},
		{"key of another estate", "value", "workload-key", key(func(k *statement.WorkloadKey) { k.Estate = "other" }), by(e.Ada), time.Time{}},
		{"key by an owner who has left since", "signature", "workload-key", key(nil), by(e.Ada), left},
		{"key by an owner, in time", "", "workload-key", key(nil), by(e.Ada), left.Add(-time.Nanosecond)},
		{"key by an owner who had left", "right", "workload-key", key(func(k *statement.WorkloadKey) { k.NotBefore = gone }), by(e.Bea, e.Ada), gone},

		{"credential by its owner", "", "revocation", closing("cora", "credential", "research-openai"), by(e.Cora), time.Time{}},
		{"credential by the policy owner", "right", "revocation", closing("ada", "credential", "research-openai"), by(e.Ada), time.Time{}},
		{"credential by two other owners", "", "revocation", closing("ada", "credential", "research-openai"), by(e.Ada, e.Bea), time.Time{}},
		{"credential by two with one role", "right", "revocation", closing("ada", "credential", "support-openai"), by(e.Ada, dan), time.Time{}},
		{"credential by owners of another unit's policy", "right", "revocation", closing("bea", "credential", "research-openai"), by(e.Bea, dan), time.Time{}},
		{"unknown credential", "reference", "revocation", closing("cora", "credential", "other"), by(e.Cora), time.Time{}},
		{"workload by its policy owner", "", "revocation", closing("ada", "workload", "research-agent"), by(e.Ada), time.Time{}},
		{"workload by another unit's policy owner", "right", "revocation", closing("dan", "workload", "research-agent"), by(dan), time.Time{}},
		{"workload by the lifecycle owner", "right", "revocation", closing("cora", "workload", "research-agent"), by(e.Cora), time.Time{}},
		{"unknown workload", "reference", "revocation", closing("ada", "workload", "other"), by(e.Ada), time.Time{}},
		{"key by a policy owner", "", "revocation", closing("dan", "key", sum), by(dan), time.Time{}},
		{"key by the operations owner", "right", "revocation", closing("bea", "key", sum), by(e.Bea), time.Time{}},
		{"key that is none", "reference", "revocation", closing("ada", "key", "ab"), by(e.Ada), time.Time{}},
		{"unit by its policy owner", "", "revocation", closing("ada", "unit", "research"), by(e.Ada), time.Time{}},
		{"unit by another's", "right", "revocation", closing("dan", "unit", "research"), by(dan), time.Time{}},
		{"unknown unit", "reference", "revocation", closing("ada", "unit", "other"), by(e.Ada), time.Time{}},
		{"gateway by the operations owner", "", "revocation", closing("bea", "gateway", "g1"), by(e.Bea), time.Time{}},
		{"gateway by the policy owner", "right", "revocation", closing("ada", "gateway", "g1"), by(e.Ada), time.Time{}},
		{"unknown gateway", "reference", "revocation", closing("bea", "gateway", "g2"), by(e.Bea), time.Time{}},
		{"everything by one", "right", "revocation", closing("bea", "everything", ""), by(e.Bea), time.Time{}},
		{"everything by two with one role", "right", "revocation", closing("ada", "everything", ""), by(e.Ada, dan), time.Time{}},
		{"everything by two", "", "revocation", closing("bea", "everything", ""), by(e.Bea, e.Cora), time.Time{}},
		{"everything, with a name", "reference", "revocation", closing("bea", "everything", "x"), by(e.Bea, e.Cora), time.Time{}},
		{"something else", "reference", "revocation", closing("ada", "model", "large"), by(e.Ada), time.Time{}},
		{"tenant by a root holder", "", "revocation", closing("ada", "tenant", "acme"), by(e.Ada), time.Time{}},
		{"tenant by a policy owner of one of its units", "right", "revocation", closing("dan", "tenant", "acme"), by(dan), time.Time{}},
		{"unknown tenant", "reference", "revocation", closing("ada", "tenant", "other"), by(e.Ada), time.Time{}},
		{"person by himself", "", "revocation", closing("dan", "person", "dan"), by(dan), time.Time{}},
		{"person by a root holder", "", "revocation", closing("bea", "person", "dan"), by(e.Bea), time.Time{}},
		{"person by another owner", "right", "revocation", closing("dan", "person", "ada"), by(dan), time.Time{}},
		{"person who holds root, by two owners", "right", "revocation", closing("dan", "person", "ada"), by(dan, e.Cora), time.Time{}},
		{"unknown person", "reference", "revocation", closing("ada", "person", "eve"), by(e.Ada), time.Time{}},
		{"agent that is a workload, by its policy owner", "", "revocation", closing("ada", "agent", "research-agent"), by(e.Ada), time.Time{}},
		{"agent that is a workload, by another unit's", "right", "revocation", closing("dan", "agent", "research-agent"), by(dan), time.Time{}},
		{"agent of elsewhere by a policy owner", "", "revocation", closing("dan", "agent", "planner@example"), by(dan), time.Time{}},
		{"agent by the operations owner", "right", "revocation", closing("bea", "agent", "planner@example"), by(e.Bea), time.Time{}},
		{"agent without a name", "reference", "revocation", closing("ada", "agent", ""), by(e.Ada), time.Time{}},
		{"token by a policy owner", "", "revocation", closing("dan", "token", "jti-1"), by(dan), time.Time{}},
		{"token by the lifecycle owner", "right", "revocation", closing("cora", "token", "jti-1"), by(e.Cora), time.Time{}},
		{"token with a space in its name", "reference", "revocation", closing("ada", "token", "jti 1"), by(e.Ada), time.Time{}},
		{"open a tenant by one", "right", "revocation", opening("ada", "tenant", "acme"), by(e.Ada), time.Time{}},
		{"open a person by a root holder and another role", "", "revocation", opening("bea", "person", "dan"), by(e.Bea, e.Cora), time.Time{}},
		{"open by the owner alone", "right", "revocation", opening("cora", "credential", "research-openai"), by(e.Cora), time.Time{}},
		{"open by the owner and another role", "", "revocation", opening("cora", "credential", "research-openai"), by(e.Cora, e.Bea), time.Time{}},
		{"open by two others", "right", "revocation", opening("ada", "credential", "research-openai"), by(e.Ada, e.Bea), time.Time{}},
		{"open by the owner and another unit's", "right", "revocation", opening("cora", "credential", "research-openai"), by(e.Cora, dan), time.Time{}},
		{"open everything by one", "right", "revocation", opening("cora", "everything", ""), by(e.Cora), time.Time{}},
		{"open everything by two", "", "revocation", opening("cora", "everything", ""), by(e.Cora, e.Ada), time.Time{}},
		{"in another's name", "signature", "revocation", closing("cora", "credential", "research-openai"), by(e.Ada), time.Time{}},
		{"without number", "signature", "revocation", func() any { r := closing("cora", "credential", "research-openai"); r.Number = 0; return r }(), by(e.Cora), time.Time{}},
		{"from the future", "value", "revocation", func() any {
			r := closing("cora", "credential", "research-openai")
			r.Time = now.Add(6 * time.Minute)
			return r
		}(), by(e.Cora), time.Time{}},
		{"without time", "value", "revocation", func() any { r := closing("cora", "credential", "research-openai"); r.Time = time.Time{}; return r }(), by(e.Cora), time.Time{}},
		{"by an owner who has left", "signature", "revocation", closing("ada", "workload", "research-agent"), by(e.Ada), left},

		{"handover", "", "handover", handover(nil), by(e.Cora), time.Time{}},
		{"handover by the policy owner", "right", "handover", handover(nil), by(e.Ada), time.Time{}},
		{"handover to another custodian", "reference", "handover", handover(func(h *statement.Handover) { h.Custodian = "c2" }), by(e.Cora), time.Time{}},
		{"handover of an unknown credential", "reference", "handover", handover(func(h *statement.Handover) { h.Credential = "other" }), by(e.Cora), time.Time{}},
		{"handover without version", "value", "handover", handover(func(h *statement.Handover) { h.Version = 0 }), by(e.Cora), time.Time{}},
		{"handover without hash", "value", "handover", handover(func(h *statement.Handover) { h.SHA256 = "" }), by(e.Cora), time.Time{}},
		{"handover of another estate", "value", "handover", handover(func(h *statement.Handover) { h.Estate = "other" }), by(e.Cora), time.Time{}},

		{"extension", "", "extension", extension(nil), by(e.Ada, e.Cora), time.Time{}},
		{"extension of the feed bound", "", "extension", extension(func(x *statement.Extension) { x.What = "feed" }), by(e.Ada, e.Cora), time.Time{}},
		{"extension by one", "right", "extension", extension(nil), by(e.Ada), time.Time{}},
		{"extension by two with one role", "right", "extension", extension(nil), by(e.Ada, dan), time.Time{}},
		{"extension for too long", "expired", "extension", extension(func(x *statement.Extension) { x.Until = x.Until.Add(time.Second) }), by(e.Ada, e.Cora), time.Time{}},
		{"extension that is over", "expired", "extension", extension(nil), by(e.Bea, e.Cora), now.Add(time.Hour)},
		{"extension of something else", "value", "extension", extension(func(x *statement.Extension) { x.What = "lock" }), by(e.Ada, e.Cora), time.Time{}},
		{"extension for another custodian", "value", "extension", extension(func(x *statement.Extension) { x.Custodian = "c2" }), by(e.Ada, e.Cora), time.Time{}},
		{"extension without reason", "value", "extension", extension(func(x *statement.Extension) { x.Reason = " " }), by(e.Ada, e.Cora), time.Time{}},

		{"evidence by anybody who is live", "", "evidence", evidence(nil), by(dan), time.Time{}},
		{"evidence by a stranger", "signature", "evidence", evidence(nil), by(stranger), time.Time{}},
		{"evidence by one whose attestation had run out", "right", "evidence", evidence(func(x *statement.Evidence) { x.Created = now.Add(60 * 24 * time.Hour) }), by(dan), now.Add(60 * 24 * time.Hour)},
		{"evidence of no kind", "value", "evidence", evidence(func(x *statement.Evidence) { x.Kind = "" }), by(dan), time.Time{}},
		{"evidence of a kind with a line", "value", "evidence", evidence(func(x *statement.Evidence) { x.Kind = "a\nb" }), by(dan), time.Time{}},
		{"evidence about nothing", "value", "evidence", evidence(func(x *statement.Evidence) { x.Subject = " " }), by(dan), time.Time{}},
		{"evidence without hash", "value", "evidence", evidence(func(x *statement.Evidence) { x.SHA256 = "ab" }), by(dan), time.Time{}},
		{"evidence from the future", "value", "evidence", evidence(func(x *statement.Evidence) { x.Created = now.Add(6 * time.Minute) }), by(dan), time.Time{}},
		{"evidence of another estate", "value", "evidence", evidence(func(x *statement.Evidence) { x.Estate = "other" }), by(dan), time.Time{}},

		{"retirement", "", "retirement", retirement(nil), by(e.Bea, e.Cora), time.Time{}},
		{"retirement by one", "right", "retirement", retirement(nil), by(e.Bea), time.Time{}},
		{"retirement without root", "value", "retirement", retirement(func(r *statement.Retirement) { r.Root = "" }), by(e.Bea, e.Cora), time.Time{}},
		{"retirement with a root of 33 bytes", "value", "retirement", retirement(func(r *statement.Retirement) { r.Root = base64.StdEncoding.EncodeToString(make([]byte, 33)) }), by(e.Bea, e.Cora), time.Time{}},
		{"retirement of a negative size", "value", "retirement", retirement(func(r *statement.Retirement) { r.Size = -1 }), by(e.Bea, e.Cora), time.Time{}},
	} {
		t.Run(c.kind+"/"+c.name, func(t *testing.T) {
			env, err := estate.Seal(c.kind, c.record, c.by...)
			if err != nil {
				t.Fatal(err)
			}
			at := c.at
			if at.IsZero() {
				at = now
			}
			err = open(e.Set, env, at)
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

// What is not exactly the record's canonical JSON, of exactly its kind, is refused though it is signed.
func TestRecordForm(t *testing.T) {
	e := estatetest.New(t)
	_, env, err := estate.NewKey("demo", "research-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	good := string(env.Payload)
	for _, c := range []struct{ name, kind, payload string }{
		{"another kind", "revocation", good},
		{"a member twice", "workload-key", strings.Replace(good, `{"estate":"demo"`, `{"estate":"x","estate":"demo"`, 1)},
		{"a member more", "workload-key", strings.Replace(good, `{"estate"`, `{"extra":1,"estate"`, 1)},
		{"a member less", "workload-key", strings.Replace(good, `"prefix":`, `"prefit":`, 1)},
		{"a member in upper case", "workload-key", strings.Replace(good, `"estate"`, `"Estate"`, 1)},
		{"another order", "workload-key", `{"workload":"research-agent",` + strings.Replace(good[1:], `,"workload":"research-agent"`, "", 1)},
		{"a space", "workload-key", strings.Replace(good, `":"`, `": "`, 1)},
		{"trailing data", "workload-key", good + "{}"},
		{"an escape that is not needed", "workload-key", strings.Replace(good, `demo`, `\u0064emo`, 1)},
		{"a time with an offset", "workload-key", strings.Replace(good, `Z"`, `+00:00"`, 1)},
		{"no JSON", "workload-key", "demo"},
		{"null", "workload-key", "null"},
		{"a list", "workload-key", "[" + good + "]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := &statement.Envelope{PayloadType: statement.RecordType(c.kind), Payload: []byte(c.payload)}
			bad.Signatures = []statement.Signature{estatetest.Signature(t, e.Ada, bad.PayloadType, bad.Payload)}
			_, err := e.Set.OpenWorkloadKey(bad, e.Now)
			refused(t, err, "json", "")
		})
	}
	raw, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := statement.ParseEnvelope(raw); err != nil || !bytes.Equal(again.Payload, env.Payload) {
		t.Fatalf("%v", err)
	}
	for name, b := range map[string][]byte{
		"space": append([]byte(" "), raw...), "tail": append(raw, '\n'), "empty": nil, "huge": bytes.Repeat([]byte(" "), 1<<17),
		"a member twice": bytes.Replace(raw, []byte(`{"payload"`), []byte(`{"payload":"","payload"`), 1),
	} {
		if _, err := statement.ParseEnvelope(b); !errors.Is(err, statement.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signature for one purpose does not serve another: the payload type is signed.
func TestNoCrossUse(t *testing.T) {
	e := estatetest.New(t)
	_, env, err := estate.NewKey("demo", "research-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures = []statement.Signature{estatetest.Signature(t, e.Ada, statement.PayloadType, env.Payload)}
	_, err = e.Set.OpenWorkloadKey(env, e.Now)
	refused(t, err, "signature", "")
}

func TestServiceSignature(t *testing.T) {
	e := estatetest.New(t)
	keys := e.Set.ServiceKeys("feed", e.Now)
	if len(keys) != 1 {
		t.Fatalf("%d feed keys", len(keys))
	}
	if n := len(e.Set.ServiceKeys("feed", e.Now.AddDate(2, 0, 0))); n != 0 {
		t.Errorf("%d feed keys after their end", n)
	}
	if n := len(e.Set.ServiceKeys("feed", e.Now.AddDate(-2, 0, 0))); n != 0 {
		t.Errorf("%d feed keys before their beginning", n)
	}
	sig := e.Sign("feed", "a1", "text/plain", []byte("beat"))
	if !statement.VerifyService(keys[0], "text/plain", []byte("beat"), sig) {
		t.Error("a good signature does not hold")
	}
	if statement.VerifyService(keys[0], "text/html", []byte("beat"), sig) || statement.VerifyService(keys[0], "text/plain", []byte("beaT"), sig) {
		t.Error("a signature over something else holds")
	}
	witness := e.Set.ServiceKeys("witness", e.Now)[0]
	if statement.VerifyService(witness, "text/plain", []byte("beat"), e.Sign("witness", "w1", "text/plain", []byte("beat"))) {
		t.Error("a witness key serves for more than cosignatures")
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"a","sig":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		env, err := statement.ParseEnvelope(b)
		if err != nil {
			return
		}
		if again, err := statement.Canonical(env); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is read as %q", b, again)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add("a\"\\\b\f\n\r\t\x01\x7f<&>é😀", int64(1)<<53-1)
	f.Add("\u2028", int64(0))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		type sample struct {
			Z string `json:"z"`
			A int64  `json:"a"`
		}
		b, err := statement.Canonical(sample{s, n})
		if bad := !utf8.ValidString(s) || strings.ContainsAny(s, "\u2028\u2029") || n <= -1<<53 || n >= 1<<53; bad && err == nil {
			t.Fatalf("%q, %d is written as %s", s, n, b)
		}
		if err != nil {
			return
		}
		var back sample
		if err := json.Unmarshal(b, &back); err != nil || back.Z != s || back.A != n {
			t.Fatalf("%s is read back as %+v: %v", b, back, err)
		}
		if !bytes.HasPrefix(b, []byte(`{"a":`)) {
			t.Fatalf("not sorted: %s", b)
		}
	})
}

// An authority closes tokens, by its token key and in its own name, and does nothing else.
func TestAuthorityClosesTokens(t *testing.T) {
	e := estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Service("token", "a2"))
	good := statement.Revocation{Estate: "demo", Signer: "a1", Number: 1, Target: statement.Target{Kind: "token", ID: "jti"}, Reason: "given up", Time: e.Now}
	open := func(r statement.Revocation, use, process string) error {
		payload, err := statement.Canonical(r)
		if err != nil {
			t.Fatal(err)
		}
		kind := statement.RecordType("revocation")
		env := &statement.Envelope{PayloadType: kind, Payload: payload, Signatures: []statement.Signature{{KeyID: "k", Sig: e.Sign(use, process, kind, payload)}}}
		_, err = e.Set.OpenRevocation(env, e.Now)
		return err
	}
	if err := open(good, "token", "a1"); err != nil {
		t.Fatal(err)
	}
	change := func(f func(*statement.Revocation)) statement.Revocation { r := good; f(&r); return r }
	for name, c := range map[string]struct {
		r            statement.Revocation
		use, process string
	}{
		"by the feed key":    {good, "feed", "a1"},
		"by another's key":   {good, "token", "a2"},
		"in a person's name": {change(func(r *statement.Revocation) { r.Signer = "ada" }), "token", "a1"},
		"of a workload":      {change(func(r *statement.Revocation) { r.Target = statement.Target{Kind: "workload", ID: "research-agent"} }), "token", "a1"},
		"of everything":      {change(func(r *statement.Revocation) { r.Target = statement.Target{Kind: "everything"} }), "token", "a1"},
		"opening":            {change(func(r *statement.Revocation) { r.Open = true }), "token", "a1"},
		"without a number":   {change(func(r *statement.Revocation) { r.Number = 0 }), "token", "a1"},
		"of another estate":  {change(func(r *statement.Revocation) { r.Estate = "other" }), "token", "a1"},
		"from the future":    {change(func(r *statement.Revocation) { r.Time = e.Now.Add(time.Hour) }), "token", "a1"},
		"of a token unnamed": {change(func(r *statement.Revocation) { r.Target.ID = "" }), "token", "a1"},
	} {
		if err := open(c.r, c.use, c.process); !errors.Is(err, statement.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Only the accountable owner ends a credential at its source, only a credential, and only with what closes it.
func TestRevocationThatEnds(t *testing.T) {
	e := estatetest.New(t)
	for _, c := range []struct {
		name string
		r    statement.Revocation
		by   []*estate.Signer
		ok   bool
	}{
		{"its owner", statement.Revocation{Signer: "cora", Target: statement.Target{Kind: "credential", ID: "research-openai"}}, []*estate.Signer{e.Cora}, true},
		{"two others", statement.Revocation{Signer: "ada", Target: statement.Target{Kind: "credential", ID: "research-openai"}}, []*estate.Signer{e.Ada, e.Bea}, false},
		{"opening", statement.Revocation{Signer: "cora", Open: true, Target: statement.Target{Kind: "credential", ID: "research-openai"}}, []*estate.Signer{e.Cora, e.Bea}, false},
		{"a workload", statement.Revocation{Signer: "ada", Target: statement.Target{Kind: "workload", ID: "research-agent"}}, []*estate.Signer{e.Ada}, false},
	} {
		for _, end := range []bool{true, false} {
			r := c.r
			r.Estate, r.Number, r.Reason, r.Time, r.End = e.Set.Charter.Estate, 1, "test", e.Now, end
			env, err := estate.Seal("revocation", r, c.by...)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Set.OpenRevocation(env, e.Now); (err == nil) != (c.ok || !end) || err == nil && got.End != end {
				t.Errorf("%s, end %v: %v", c.name, end, err)
			}
		}
	}
}
