package openaikey_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/openaikey"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	adminKey = "an-admin-key-of-the-double"
	project  = "proj_abc"
	accounts = "/v1/organization/projects/" + project + "/service_accounts"
)

// double is OpenAI's admin API as its reference documents it (developers.openai.com/api/reference/resources/organization, projects, service
// accounts: create, list, retrieve, delete). What that does not describe it refuses.
type double struct {
	endless bool // keys do not expire
	size    int  // of a page; 0 for what is asked
	after   func(call string)

	mu    sync.Mutex
	n     int
	alive []*made
	keys  []string
	calls []string
}

type made struct{ id, name, key string }

func (d *double) secrets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.keys)
}

func (d *double) lives(s *source.Secret) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.alive, func(m *made) bool { return m.id == s.Lease && s.Value.Equal([]byte(m.key)) })
}

func (d *double) living() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.alive {
		names = append(names, m.name)
	}
	return names
}

func (d *double) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	call := r.Method + " " + r.URL.Path
	d.calls = append(d.calls, call)
	w.Header().Set("Content-Type", "application/json")
	if why := d.form(r, body); why != "" {
		refuse(w, 400, why)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+adminKey {
		refuse(w, 401, "Incorrect API key provided")
		return
	}
	id := strings.TrimPrefix(r.URL.Path, accounts+"/")
	at := slices.IndexFunc(d.alive, func(m *made) bool { return m.id == id })
	switch {
	case call == "POST "+accounts:
		d.create(w, body)
	case call == "GET "+accounts:
		d.list(w, r)
	case at < 0:
		refuse(w, 404, "No such service account")
	case call == "GET "+accounts+"/"+id:
		fmt.Fprintln(w, d.alive[at])
	case call == "DELETE "+accounts+"/"+id:
		d.alive = slices.Delete(d.alive, at, at+1)
		fmt.Fprintf(w, "{\n    \"object\": \"organization.project.service_account.deleted\",\n    \"id\": %q,\n    \"deleted\": true\n}\n", id)
	default:
		refuse(w, 404, "Invalid URL")
	}
	if d.after != nil {
		d.after(call)
	}
}

func (d *double) form(r *http.Request, body []byte) string {
	for name := range r.Header {
		if !slices.Contains([]string{"Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type"}, name) {
			return "unexpected header " + name
		}
	}
	if r.Method == "POST" && r.Header.Get("Content-Type") != "application/json" || r.Method != "POST" && len(body) > 0 || r.Method != "GET" && r.URL.RawQuery != "" {
		return "unexpected body or query"
	}
	return ""
}

func (d *double) create(w http.ResponseWriter, body []byte) {
	var in struct {
		Name    string `json:"name"`
		Expires *int64 `json:"expires_in_seconds"`
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if dec.Decode(&in) != nil || in.Name == "" || in.Expires == nil || *in.Expires < 1 || *in.Expires > 31536000 {
		refuse(w, 400, "invalid_request_error")
		return
	}
	d.n++
	m := &made{id: fmt.Sprintf("svc_acct_%d", d.n), name: in.Name, key: fmt.Sprintf("a-key-of-the-double-%d", d.n)}
	d.alive, d.keys = append(d.alive, m), append(d.keys, m.key)
	expires := strconv.FormatInt(time.Now().Unix()+*in.Expires, 10)
	if d.endless {
		expires = "null"
	}
	fmt.Fprintf(w, `{
    "object": "organization.project.service_account",
    "id": %q,
    "name": %q,
    "role": "member",
    "created_at": 1711471533,
    "api_key": {
        "object": "organization.project.service_account.api_key",
        "value": %q,
        "name": "Secret Key",
        "created_at": 1711471533,
        "id": "key_%d",
        "expires_at": %s
    }
}
`, m.id, m.name, m.key, d.n, expires)
}

func (m *made) String() string {
	return fmt.Sprintf(`{"object":"organization.project.service_account","id":%q,"name":%q,"role":"member","created_at":1711471533}`, m.id, m.name)
}

func (d *double) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 100 || len(q) > 2 || len(q) == 2 && q.Get("after") == "" {
		refuse(w, 400, "invalid_request_error")
		return
	}
	if d.size > 0 {
		limit = d.size
	}
	from := 1 + slices.IndexFunc(d.alive, func(m *made) bool { return m.id == q.Get("after") })
	rest := d.alive[from:]
	show := rest[:min(limit, len(rest))]
	first, last, list := "null", "null", make([]string, len(show))
	for i, m := range show {
		list[i] = m.String()
		last = strconv.Quote(m.id)
		if i == 0 {
			first = last
		}
	}
	fmt.Fprintf(w, `{"object":"list","data":[%s],"first_id":%s,"last_id":%s,"has_more":%v}`+"\n", strings.Join(list, ","), first, last, len(rest) > limit)
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"invalid_request_error","param":null,"code":null}}`+"\n", text)
}

func record(origin string) statement.Credential {
	return statement.Credential{
		ID: "research-openai", Source: "openai-key", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.openai.com", Methods: []string{"POST"}, Paths: []string{"/v1/chat/completions"}},
		From:        statement.From{URL: origin + "/v1/organization/projects", PerWorkload: true, Parameters: map[string]string{"project": project}},
	}
}

func TestConformance(t *testing.T) {
	for _, endless := range []bool{false, true} {
		t.Run(fmt.Sprintf("endless %v", endless), func(t *testing.T) {
			h := sourcetest.Harness{
				New: openaikey.New, Record: record, Root: adminKey, Life: time.Hour,
				Double: func(string) sourcetest.Double {
					d := &double{endless: endless}
					return sourcetest.Double{Handler: d, Secrets: d.secrets, Alive: d.lives}
				},
				Malformed: []string{
					`{"object":"organization.project.service_account","id":"svc_acct_1","name":"another","api_key":{"object":"organization.project.service_account.api_key","value":"x"}}`,
					`{"object":"organization.project.service_account","id":"../..","name":"n","api_key":{"object":"organization.project.service_account.api_key","value":"x"}}`,
				},
			}
			if endless {
				h.Life = 0
			}
			sourcetest.Run(t, h)
		})
	}
}

func certificate(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// newConfig is a custodian's, for a double at origin.
func newConfig(origin, ca string) source.Config {
	c := record(origin)
	c.From.Networks, c.From.CA = []string{"127.0.0.1/32"}, ca
	return source.Config{
		Custodian: "c1", Estate: "test", Tenant: "tenant-a", Unit: "research", Record: c, Clock: time.Now,
		Root: func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(adminKey)), nil },
	}
}

func open(t *testing.T, cfg source.Config) source.Source {
	t.Helper()
	s, err := openaikey.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A key is kept until half of its life is over, unless its account is gone before.
func TestSchedule(t *testing.T) {
	d := &double{endless: true}
	server := httptest.NewTLSServer(d)
	defer server.Close()
	durable, ctx := sourcetest.Durable(t), context.Background()
	cfg := newConfig(server.URL, certificate(server))
	cfg.Record.From.Lifetime = statement.Duration(24 * time.Hour)
	now := time.Now()
	cfg.Clock = func() time.Time { return now }
	s := open(t, cfg)
	key, err := s.Fetch(ctx, durable, source.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(12 * time.Hour)
	if _, err := s.(source.Renewer).Renew(ctx, durable, key); err != nil {
		t.Errorf("after 12 of 24 hours: %v", err)
	}
	if err := s.Revoke(ctx, durable, key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.(source.Renewer).Renew(ctx, durable, key); !errors.Is(err, source.ErrRefused) {
		t.Errorf("its account is gone: %v", err)
	}
	if key, err = s.Fetch(ctx, durable, source.Ask{}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(12*time.Hour + time.Second)
	calls := d.count()
	if _, err := s.(source.Renewer).Renew(ctx, durable, key); !errors.Is(err, source.ErrRefused) || d.count() != calls {
		t.Errorf("after more than 12 of 24 hours: %v, and %d calls", err, d.count()-calls)
	}
}

// Sweep reads the whole list, and deletes only what this custodian made for this credential and tenant.
func TestSweepOnlyItsOwn(t *testing.T) {
	d := &double{size: 2}
	server := httptest.NewTLSServer(d)
	defer server.Close()
	durable, ctx := sourcetest.Durable(t), context.Background()
	d.alive = []*made{{id: "svc_acct_a", name: "reeve-by-hand"}, {id: "svc_acct_b", name: "ci"}}
	for _, edit := range []func(*source.Config){
		func(c *source.Config) { c.Custodian = "c2" },
		func(c *source.Config) { c.Tenant = "tenant-b" },
		func(c *source.Config) { c.Estate = "another" },
		func(c *source.Config) { c.Record.ID = "research-openai-2" },
	} {
		cfg := newConfig(server.URL, certificate(server))
		edit(&cfg)
		if _, err := open(t, cfg).Fetch(ctx, durable, source.Ask{}); err != nil {
			t.Fatal(err)
		}
	}
	want := d.living()
	s := open(t, newConfig(server.URL, certificate(server)))
	var lost []string
	for range 5 {
		got, err := s.Fetch(ctx, durable, source.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, got.Lease)
	}
	kept, err := s.Fetch(ctx, durable, source.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	swept, err := open(t, newConfig(server.URL, certificate(server))).(source.Sweeper).Sweep(ctx, durable, []string{kept.Lease})
	if err != nil || !slices.Equal(swept, lost) {
		t.Errorf("swept %q, %v, want %q", swept, err, lost)
	}
	if got := d.living(); len(got) != len(want)+1 || !slices.Equal(got[:len(want)], want) || !d.lives(kept) {
		t.Errorf("left are %q", got)
	}
}

func TestSweepRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"goes round": `{"object":"list","data":[],"first_id":null,"last_id":"svc_acct_1","has_more":true}`,
		"no last":    `{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":true}`,
		"no more":    `{"object":"list","data":[],"first_id":null,"last_id":null}`,
		"no data":    `{"object":"list","has_more":false}`,
		"another":    `{"object":"list","data":[{"object":"organization.project","id":"proj_1"}],"has_more":false}`,
		"a path":     `{"object":"list","data":[{"object":"organization.project.service_account","id":"../../users","name":"x"}],"has_more":false}`,
		"not a list": `{"object":"organization.project.service_account"}`,
		"an array":   `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
			defer server.Close()
			if _, err := open(t, newConfig(server.URL, certificate(server))).(source.Sweeper).Sweep(context.Background(), sourcetest.Durable(t), nil); !errors.Is(err, source.ErrMalformed) {
				t.Error(err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, edit := range map[string]func(c *statement.Credential){
		"no project": func(c *statement.Credential) { delete(c.From.Parameters, "project") },
		"a path":     func(c *statement.Credential) { c.From.Parameters["project"] = "proj_a/../proj_b" },
		"a query":    func(c *statement.Credential) { c.From.URL += "?a=b" },
		"a second":   func(c *statement.Credential) { c.From.Lifetime = statement.Duration(time.Second) },
		"two years":  func(c *statement.Credential) { c.From.Lifetime = statement.Duration(2 * 365 * 24 * time.Hour) },
	} {
		c := record("https://api.openai.com")
		edit(&c)
		if _, err := openaikey.New(source.Config{Record: c, Clock: time.Now}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
