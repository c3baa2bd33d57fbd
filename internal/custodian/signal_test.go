package custodian

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// TestSignalCloses: an identity provider's event closes with its entry; the same event in another spelling does not close again what
// two owners opened; what the authority makes up without the provider's key closes nothing.
func TestSignalCloses(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public()}}})
	must(t, err)
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Signals = []statement.Signal{{ID: "idp", Issuer: "https://idp.example", Audience: "reeve", JWKS: string(set), Algorithms: []string{"EdDSA"},
			Events: []string{"session-revoked"}, Subjects: []statement.SignalSubject{{Subject: "bot", Kind: "workload", ID: "research-agent"}}}}
	}))
	token := func(key ed25519.PrivateKey, claims map[string]any) statement.SignalRecord {
		t.Helper()
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType("secevent+jwt"))
		must(t, err)
		for name, v := range map[string]any{"iss": "https://idp.example", "aud": "reeve", "jti": "j1", "iat": w.Clock().Unix(), "sub_id": map[string]string{"format": "opaque", "id": "bot"},
			"events": map[string]any{"https://schemas.openid.net/secevent/caep/event-type/session-revoked": map[string]any{}}} {
			if _, has := claims[name]; !has {
				claims[name] = v
			}
		}
		b, err := json.Marshal(claims)
		must(t, err)
		jws, err := s.Sign(b)
		must(t, err)
		text, err := jws.CompactSerialize()
		must(t, err)
		return statement.SignalRecord{Estate: "demo", Signal: "idp", Token: text}
	}
	_, made, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	if err := w.record("signal", token(made, map[string]any{})); err == nil || w.code() != "" {
		t.Errorf("an event that the provider did not sign: %v", err)
	}
	iat := w.Clock().Unix()
	must(t, w.record("signal", token(key, map[string]any{"iat": iat})))
	if got := w.code(); got != "frozen" {
		t.Fatalf("after the event: %q", got)
	}
	eventually(t, "its entry", func() bool { return len(w.ledger.of(entry.Revoke)) == 1 })
	if e := w.ledger.of(entry.Revoke)[0]; e.Workload != "research-agent" || e.Actor[0] != "signal:idp" || e.Proof != "test" {
		t.Errorf("%+v", e)
	}
	w.now.Add(int64(2 * time.Second))
	must(t, w.record("revocation", w.revocation("ada", 1, "workload", "research-agent", true), w.estate.Ada, w.estate.Cora))
	if got := w.code(); got != "" {
		t.Fatalf("opened by two owners: %q", got)
	}
	must(t, w.record("signal", token(key, map[string]any{"iat": iat, "txn": "another spelling"})))
	if got := w.code(); got != "" {
		t.Errorf("the same event again: %q", got)
	}
	must(t, w.record("signal", token(key, map[string]any{"jti": "j2"})))
	if got := w.code(); got != "frozen" {
		t.Errorf("another event: %q", got)
	}
}
