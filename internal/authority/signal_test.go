package authority

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// signalRig is an authority whose charter names an identity provider.
func signalRig(t *testing.T) (*rig, ed25519.PrivateKey) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, estatetest.New(t, estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Signals = []statement.Signal{{ID: "idp", Issuer: "https://idp.example", Audience: "reeve", JWKS: string(set), Algorithms: []string{"EdDSA"},
			Events: []string{"session-revoked"}, SCIM: true, Subjects: []statement.SignalSubject{{Subject: "u-1", Kind: "person", ID: "ada"}, {Subject: "u-2", Kind: "workload", ID: "support-agent"},
				{Subject: "u-3", Kind: "workload", ID: "support-agent"}, {Subject: "u-3", Kind: "agent", ID: "planner"}}}}
	})), t.TempDir())
	r.scim = map[string]secret.Value{"idp": secret.New([]byte("a-token-of-the-scim-client"))}
	return r, key
}

// TestSignalsByPush: RFC 8935. What is accepted is published as the provider signed it, and custodians would close by it.
func TestSignalsByPush(t *testing.T) {
	r, key := signalRig(t)
	sign := func(key ed25519.PrivateKey, iss, event string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType("secevent+jwt").WithHeader("kid", "k1"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(map[string]any{"iss": iss, "aud": "reeve", "jti": "1", "iat": r.Now.Unix(), "sub_id": map[string]string{"format": "opaque", "id": "u-1"}, "events": map[string]any{event: map[string]any{}}})
		jws, err := s.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	const revoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	for _, c := range []struct {
		name, media, body string
		status            int
		code              string
		records           int // more than before
	}{
		{"a session revoked", "application/secevent+jwt", sign(key, "https://idp.example", revoked), 202, "", 1},
		{"the same again", "application/secevent+jwt", sign(key, "https://idp.example", revoked), 202, "", 0},
		{"a test of the stream", "application/secevent+jwt", sign(key, "https://idp.example", "https://schemas.openid.net/secevent/ssf/event-type/verification"), 202, "", 0},
		{"another key", "application/secevent+jwt", sign(other, "https://idp.example", revoked), 400, "authentication_failed", 0},
		{"another issuer", "application/secevent+jwt", sign(key, "https://evil.example", revoked), 400, "invalid_issuer", 0},
		{"no token", "application/secevent+jwt", "hello", 400, "invalid_request", 0},
		{"another media type", "application/json", "{}", 400, "invalid_request", 0},
	} {
		before := r.Status().Records
		resp, err := http.Post(r.url+"/v1/signals", c.media, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var fault struct {
			Err string `json:"err"`
		}
		if c.code != "" && json.Unmarshal(text, &fault) != nil || resp.StatusCode != c.status || fault.Err != c.code {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, text)
		}
		if got := r.Status().Records - before; got != c.records {
			t.Errorf("%s: %d records more, want %d", c.name, got, c.records)
		}
	}
	if !r.closed(statement.Target{Kind: "person", ID: "ada"}) {
		t.Error("the person is not closed")
	}
}

// TestSCIM: a provider's client deactivates and deletes whom the charter says; it opens nobody, and its word counts as the authority's.
func TestSCIM(t *testing.T) {
	r, _ := signalRig(t)
	const token = "a-token-of-the-scim-client"
	ask := func(method, path, token, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, r.url+"/scim/v2/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/scim+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	off := `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Replace","path":"active","value":"False"}]}`
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		has                             string
	}{
		{"no token", "GET", "Users/u-1", "", "", 401, ""},
		{"another token", "DELETE", "Users/u-1", "another-token-of-a-client", "", 401, ""},
		{"looks up", "GET", `Users?filter=userName%20eq%20%22u-1%22`, token, "", 200, `"totalResults":1`},
		{"looks up a stranger", "GET", `Users?filter=userName%20eq%20%22u-9%22`, token, "", 200, `"totalResults":0`},
		{"lists nobody", "GET", "Users", token, "", 200, `"totalResults":0`},
		{"reads", "GET", "Users/u-1", token, "", 200, `"active":true`},
		{"a stranger", "DELETE", "Users/u-9", token, "", 404, ""},
		{"malformed", "PATCH", "Users/u-1", token, `{"Operations":[{"op":"replace","path":"active","value":"perhaps"}]}`, 400, ""},
		{"something else changes", "PATCH", "Users/u-1", token, `{"Operations":[{"op":"replace","path":"displayName","value":"Ada"}]}`, 200, `"active":true`},
		{"deactivates", "PATCH", "Users/u-1", token, off, 200, `"active":false`},
		{"reads again", "GET", "Users/u-1", token, "", 200, `"active":false`},
		{"opens", "PATCH", "Users/u-1", token, `{"Operations":[{"op":"replace","value":{"active":true}}]}`, 403, "only closes"},
		{"puts", "PUT", "Users/u-1", token, `{"active":true}`, 403, ""},
		{"deactivates by its full name", "PATCH", "Users/u-2", token, `{"Operations":[{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:user:active","value":false}]}`, 200, `"active":false`},
		{"deletes", "DELETE", "Users/u-2", token, "", 204, ""},
		{"its features", "GET", "ServiceProviderConfig", token, "", 200, `"patch":{"supported":true}`},
	} {
		if status, text := ask(c.method, c.path, c.token, c.body); status != c.status || !strings.Contains(text, c.has) {
			t.Errorf("%s: %d %s", c.name, status, text)
		}
	}
	for _, target := range []statement.Target{{Kind: "person", ID: "ada"}, {Kind: "workload", ID: "support-agent"}} {
		if !r.closed(target) {
			t.Errorf("%s is not closed", target)
		}
	}
	before := r.Status().Records
	if status, text := ask("DELETE", "Users/u-2", token, ""); status != 204 || r.Status().Records != before {
		t.Errorf("deleted again: %d %s, %d records, %d before", status, text, r.Status().Records, before)
	}
	// Who is not the authority cannot say so.
	env, err := estate.Seal("scim", statement.SCIMRecord{Estate: "demo", Signal: "idp", Subject: "u-1", Act: "deleted", Time: r.Now}, r.Ada)
	if err != nil {
		t.Fatal(err)
	}
	file, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Take(&feed.Frame{Record: file}, "post"); err == nil {
		t.Error("a person's signature counted as the authority's")
	}
}

// TestSCIMClosesWhatIsOpen: of a subject that stands for several a part may be closed already; who deactivates or deletes him closes the rest.
func TestSCIMClosesWhatIsOpen(t *testing.T) {
	for _, act := range []string{"PUT", "DELETE"} {
		t.Run(act, func(t *testing.T) {
			r, _ := signalRig(t)
			for _, user := range []string{"u-2", "u-3"} { // who both stand for one workload
				req, err := http.NewRequest(act, r.url+"/scim/v2/Users/"+user, strings.NewReader(`{"active":false}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer a-token-of-the-scim-client")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode > 204 {
					t.Errorf("%s: %s", user, resp.Status)
				}
			}
			if !r.closed(statement.Target{Kind: "agent", ID: "planner"}) {
				t.Error("what was open of the user stays so")
			}
		})
	}
}
