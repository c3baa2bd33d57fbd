package custodian

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source/oauth"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// rotating is a token endpoint that takes each refresh token once (RFC 6749, section 6).
type rotating struct {
	mu     sync.Mutex
	n      int
	next   map[string]bool // refresh tokens that are good
	alive  map[string]bool
	twice  int
	single int // access tokens that were revoked before their refresh token
}

func (r *rotating) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.URL.Path == "/revoke" {
		if len(r.next) > 0 && q.FormValue("token_type_hint") == "access_token" {
			r.single++
		}
		delete(r.next, q.FormValue("token"))
		delete(r.alive, q.FormValue("token"))
		return
	}
	if token := q.FormValue("refresh_token"); !r.next[token] {
		r.twice++
		w.WriteHeader(400)
		io.WriteString(w, `{"error":"invalid_grant"}`)
		return
	} else {
		delete(r.next, token)
	}
	r.n++
	token, next := fmt.Sprintf("demo-upstream-key-access-%04d", r.n), fmt.Sprintf("demo-upstream-key-refresh-%04d", r.n)
	r.alive[token], r.next[next] = true, true
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":7200,"refresh_token":%q}`, token, next)
}

func (r *rotating) good() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.next)
}

func (r *rotating) takes(token string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive[token]
}

// TestRefreshToken: a credential that lives on a refresh token is used over rotations and a restart, moves to another home, and ends. Each refresh token is
// spent once, and none lies on the disk in the clear.
func TestRefreshToken(t *testing.T) {
	const first = "demo-upstream-key-refresh-first"
	endpoint := &rotating{next: map[string]bool{first: true}, alive: map[string]bool{}}
	server := httptest.NewTLSServer(endpoint)
	defer server.Close()
	other, err := age.GenerateX25519Identity()
	must(t, err)
	w := newWorldWith(t, func(p *Parts) { p.Source = oauth.New }, estatetest.Service("log", "c2"), estatetest.Edit(func(p *estate.Plan) {
		u := p.Custody["research"]
		c := &u.Credentials[0]
		c.Source, c.From = "oauth", statement.From{URL: server.URL + "/token", Home: "c1", Networks: []string{"127.0.0.1/32"},
			CA:         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
			Parameters: map[string]string{"grant": "refresh_token", "client_id": "demo", "authentication": "none", "revocation": "/revoke"}}
		for _, k := range p.Charter.ServiceKeys {
			if k.Process == "c2" {
				u.Custodians = append(u.Custodians, statement.Custodian{ID: "c2", Recipient: other.Recipient().String(), Log: k.Key})
			}
		}
	}))
	w.wire.answer = func(_ context.Context, r *egress.Request) (*egress.Response, error) {
		endpoint.mu.Lock()
		defer endpoint.mu.Unlock()
		if !endpoint.alive[strings.TrimPrefix(string(r.Secrets[0].Value), "Bearer ")] {
			return reply(401, `{}`), nil
		}
		return reply(200, `{"ok":true}`), nil
	}
	use := func() {
		t.Helper()
		if a := w.do(w.chat()); a.refusal != nil || a.status != 200 {
			t.Fatalf("%+v, status %d", a.refusal, a.status)
		}
	}
	refused := func(code, words string) {
		t.Helper()
		if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != code || !strings.Contains(a.refusal.Message, words) {
			t.Errorf("%+v, want %s: %s", a.refusal, code, words)
		}
	}
	w.handover("research-openai", 1, fmt.Sprintf(`{"refresh_token":%q,"home":"c1"}`, first))
	for range 3 {
		use()
		w.Keep() // lets go of what is not needed any more
		w.now.Add(int64(20 * time.Minute))
	}
	w.view.Load().credentials["research-openai"].keeper.Close()
	w.Custodian = New(w.parts) // a start: what was kept is all there is
	must(t, w.Adopt(w.estate.Set))
	keys, err := estate.ReadRecords(w.estate.Dir.Store(), "workload-key")
	must(t, err)
	for _, env := range keys {
		must(t, w.Take(&statement.Record{Kind: "workload-key", Envelope: env}))
	}
	w.Rekey()
	use()

	// Moving home: what names another home changes nothing, the statement does.
	w.handover("research-openai", 2, `{"refresh_token":"demo-upstream-key-refresh-second","home":"c2"}`)
	w.now.Add(int64(20 * time.Minute))
	use()
	home := func(id string) {
		w.estate.Republish(t, func(p *estate.Plan) { p.Custody["research"].Credentials[0].From.Home = id }, "custody-research")
		must(t, w.Adopt(w.estate.Set))
	}
	home("c2")
	refused("source_refused", "c2")
	home("c1")
	use()
	if endpoint.n != 6 || endpoint.twice != 0 || endpoint.good() != 1 {
		t.Errorf("%d exchanges, %d with a spent token, %d refresh tokens are good", endpoint.n, endpoint.twice, endpoint.good())
	}
	if endpoint.single != 0 {
		t.Errorf("%d access tokens were revoked because newer ones were there", endpoint.single)
	}

	// Its owner ends it.
	r := w.revocation("cora", 1, "credential", "research-openai", false)
	r.End = true
	must(t, w.record("revocation", r, w.estate.Cora))
	eventually(t, "refresh token and access token are revoked at their provider", func() bool { w.Keep(); return endpoint.good() == 0 && !endpoint.takes("demo-upstream-key-access-0006") })
	must(t, filepath.WalkDir(string(w.dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "demo-upstream-key") {
			t.Errorf("%s holds a token", path)
		}
		return err
	}))
}
