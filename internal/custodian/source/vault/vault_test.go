package vault_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custodian/source/vault"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// record returns a custody record for path, with parameters in turn: name, value.
func record(origin, path string, parameters ...string) statement.Credential {
	c := statement.Credential{
		ID: "a-credential", Source: "vault", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.example.com", Methods: []string{"POST"}, Paths: []string{"/v1/chat/completions"}},
		From:        statement.From{URL: origin + "/v1/" + path, Parameters: map[string]string{"audit": "unchecked"}},
	}
	for i := 0; i < len(parameters); i += 2 {
		c.From.Parameters[parameters[i]] = parameters[i+1]
	}
	return c
}

func approle(origin string) statement.Credential {
	c := record(origin, "database/creds/readonly", "engine", "lease", "field", "password", "public", "username", "login", "approle", "role", roleID)
	c.From.PerWorkload = true
	return c
}

// tokens returns a folder with the double's JWT, put there as Kubernetes does: through a link to what it replaces.
func tokens(t *testing.T) string {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "..1"), 0o700), os.WriteFile(filepath.Join(dir, "..1", "token"), []byte(newDouble().jwt+"\n"), 0o600),
		os.Symlink("..1", filepath.Join(dir, "..data")), os.Symlink("..data/token", filepath.Join(dir, "token"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func with(d *double) sourcetest.Double {
	return sourcetest.Double{Handler: d, Secrets: d.secrets}
}

func TestConformanceLease(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{
		New: vault.New, Record: approle, Root: secretID, Life: 20 * time.Minute,
		Double: func(string) sourcetest.Double {
			d := newDouble()
			all := with(d)
			all.Alive = d.alive
			return all
		},
		Malformed: []string{
			`{"lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"password":"x"},"metadata":{"version":1}}}`,
			`{"lease_id":"database/creds/readonly/L1","lease_duration":3600,"data":{"password":{"a":"b"}}}`,
			` {"lease_id":"database/creds/readonly/L1","lease_duration":3600,"data":{}}`,
		},
	})
}

func TestConformanceVersion(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{
		New: func(c source.Config) (source.Source, error) {
			c.Sign = func(_ context.Context, token source.Token) (secret.Value, error) {
				if token.Credential != "a-credential" || token.Workload != "" || token.Audience != "vault" || token.Algorithm != "ES256" || token.ID == "" || token.Expires.Sub(token.Issued) != 2*time.Minute {
					return secret.Value{}, fmt.Errorf("%w: it is to sign %+v", source.ErrIdentity, token)
				}
				return secret.New([]byte(newDouble().jwt)), nil
			}
			return vault.New(c)
		},
		Static: true,
		Record: func(origin string) statement.Credential {
			return record(origin, "secret/data/openai", "engine", "kv2", "field", "key", "login", "jwt", "role", "reeve", "audience", "vault")
		},
		Double: func(string) sourcetest.Double { return with(newDouble()) },
		Malformed: []string{
			`{"data":{"data":{"key":"x"},"metadata":{"created_time":"2026-11-23T12:09:58Z","version":1,"deletion_time":"2020-01-01T00:00:00Z"}}}`,
			`{"data":{"data":{"key":"x"},"metadata":{"created_time":"2026-11-23T12:09:58Z","version":1,"destroyed":true}}}`,
		},
	})
}

// memory is a source.State.
type memory struct {
	b    []byte
	full bool
}

func (m *memory) Load() (secret.Value, error) { return secret.New(bytes.Clone(m.b)), nil }

func (m *memory) Save(v secret.Value) error {
	if m.full {
		return errors.New("no space left on device")
	}
	m.b = bytes.Clone(v.Reveal())
	return nil
}

// site is a custodian's view of a vault.
type site struct {
	cfg     source.Config
	durable ledger.Durable
	now     time.Time
}

// newSite makes one for a server at origin.
func newSite(t *testing.T, origin, ca, root string, c statement.Credential, state source.State) *site {
	s := &site{durable: sourcetest.Durable(t), now: time.Now()}
	c.From.Networks, c.From.CA = []string{"127.0.0.1/32"}, ca
	s.cfg = source.Config{
		Custodian: "c1", Estate: "test", Tenant: "tenant-a", Unit: "research", Record: c, State: state,
		Root:  func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(root)), nil },
		Clock: func() time.Time { return s.now },
	}
	return s
}

func (s *site) open(t *testing.T) source.Source {
	t.Helper()
	v, err := vault.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func (s *site) fetch(t *testing.T, v source.Source) *source.Secret {
	t.Helper()
	got, err := v.Fetch(context.Background(), s.durable, source.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// beside returns a site beside a double.
func beside(t *testing.T, h http.Handler, root string, make func(origin string) statement.Credential) *site {
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return newSite(t, server.URL, certificate(server), root, make(server.URL), &memory{})
}

func certificate(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// set changes a double that may be serving.
func (d *double) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// tail returns the last calls that a double served.
func (d *double) tail(from int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls[from:])
}

func (d *double) expect(t *testing.T, from int, want ...string) int {
	t.Helper()
	got := d.tail(from)
	if !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	return from + len(got)
}

const (
	logIn    = "POST /v1/auth/approle/login"
	renew    = "POST /v1/auth/token/renew-self"
	logOut   = "POST /v1/auth/token/revoke-self"
	readUser = "GET /v1/database/creds/readonly"
	lookUp   = "POST /v1/sys/wrapping/lookup"
	unwrap   = "POST /v1/sys/wrapping/unwrap"
)

// A login is renewed at half of its life, as long as that helps, then another is made; a secret ends with its login.
func TestLoginLife(t *testing.T) {
	d := newDouble()
	s := beside(t, d, secretID, approle)
	v := s.open(t)
	n := 0
	s.fetch(t, v)
	n = d.expect(t, n, logIn, readUser)
	s.now = s.now.Add(9 * time.Minute)
	s.fetch(t, v)
	n = d.expect(t, n, readUser)
	for _, minutes := range []time.Duration{2, 11, 11} {
		s.now = s.now.Add(minutes * time.Minute)
		got := s.fetch(t, v)
		n = d.expect(t, n, renew, readUser)
		if want := s.now.Add(20 * time.Minute); !got.Expires.Equal(want) {
			t.Errorf("expires %v, want the login's end %v", got.Expires, want)
		}
	}
	s.now = s.now.Add(11 * time.Minute) // that was the last renewal; 9 of 20 minutes are left
	last := s.fetch(t, v)
	n = d.expect(t, n, readUser)
	if want := s.now.Add(9 * time.Minute); !last.Expires.Equal(want) {
		t.Errorf("expires %v, want the login's end %v", last.Expires, want)
	}
	s.now = s.now.Add(5 * time.Minute)
	next := s.fetch(t, v)
	n = d.expect(t, n, logIn, readUser)
	if _, err := v.(source.Renewer).Renew(context.Background(), s.durable, last); !errors.Is(err, source.ErrRefused) {
		t.Errorf("a lease of the earlier login was renewed: %v", err)
	}
	if _, err := v.(source.Renewer).Renew(context.Background(), s.durable, next); err != nil {
		t.Error(err)
	}
	n += 2
	v.Close()
	d.expect(t, n, logOut, logOut)
	if d.alive(next) {
		t.Error("closed, and a lease lives")
	}
}

// Somebody revokes the login: the read that is refused for it is made once more under another, and only that.
func TestLoginRevoked(t *testing.T) {
	d := newDouble()
	s := beside(t, d, secretID, approle)
	v := s.open(t)
	s.fetch(t, v)
	d.set(func() { clear(d.logins) })
	s.fetch(t, v)
	n := d.expect(t, 0, logIn, readUser, readUser, logIn, readUser)
	s.cfg.Record.From.URL += "-not-allowed"
	v = s.open(t)
	if _, err := v.Fetch(context.Background(), s.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "policy") {
		t.Error(err)
	}
	d.expect(t, n, logIn, readUser+"-not-allowed")
}

func TestRenew(t *testing.T) {
	d := newDouble()
	d.leaseTTL, d.loginTTL = 600, 3600
	s := beside(t, d, secretID, approle)
	s.cfg.Record.From.Lifetime = statement.Duration(15 * time.Minute)
	v := s.open(t)
	got := s.fetch(t, v)
	if want := s.now.Add(10 * time.Minute); !got.Expires.Equal(want) {
		t.Errorf("expires %v, want %v", got.Expires, want)
	}
	s.now = s.now.Add(5 * time.Minute)
	next, err := v.(source.Renewer).Renew(context.Background(), s.durable, got)
	if want := s.now.Add(15 * time.Minute); err != nil || !next.Expires.Equal(want) || next.Lease != got.Lease {
		t.Errorf("%+v, %v, want until %v", next, err, want)
	}
	d.set(func() { d.fixed = true })
	if _, err := v.(source.Renewer).Renew(context.Background(), s.durable, s.fetch(t, v)); !errors.Is(err, source.ErrRefused) {
		t.Errorf("renewed what cannot be: %v", err)
	}
}

// An engine that fails leaves the secret alive: nobody may believe it revoked.
func TestRevokeStuck(t *testing.T) {
	d := newDouble()
	s := beside(t, d, secretID, approle)
	v := s.open(t)
	got := s.fetch(t, v)
	d.set(func() { d.stuck = true })
	if err := v.Revoke(context.Background(), s.durable, got); !errors.Is(err, source.ErrDown) || !d.alive(got) {
		t.Errorf("%v, alive %v", err, d.alive(got))
	}
	d.set(func() { d.stuck = false })
	if err := v.Revoke(context.Background(), s.durable, got); err != nil || d.alive(got) {
		t.Errorf("%v, alive %v", err, d.alive(got))
	}
}

func TestVersions(t *testing.T) {
	d := newDouble()
	d.namespace = "team-a/prod"
	s := beside(t, d, "", func(origin string) statement.Credential {
		return record(origin, "secret/data/openai", "engine", "kv2", "field", "key", "login", "kubernetes", "auth_path", "cluster-1", "role", "reeve",
			"namespace", d.namespace, "destroy", "revoked")
	})
	s.cfg.Tokens = tokens(t)
	v := s.open(t)
	first := s.fetch(t, v)
	if first.Lease != "1@2026-11-23T12:09:58.31833825Z" || !first.Value.Equal([]byte("key-of-the-double-1")) || !first.Expires.IsZero() {
		t.Errorf("%+v", first)
	}
	d.set(func() { d.version = 2 })
	if second := s.fetch(t, v); !strings.HasPrefix(second.Lease, "2@") {
		t.Errorf("%+v", second)
	}
	err := v.Revoke(context.Background(), s.durable, first)
	d.set(func() {
		if !errors.Is(err, source.ErrCannotRevoke) || !slices.Equal(d.gone, []int{1}) {
			t.Errorf("%v, destroyed %v", err, d.gone)
		}
	})
	v.Close()
	link := filepath.Join(s.cfg.Tokens, "out")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	calls := len(d.tail(0))
	for _, name := range []string{"out", "gone", "..", "..data"} { // out of the folder, nothing, a folder
		s.cfg.Record.From.Parameters["token"] = name
		if _, err := s.open(t).Fetch(context.Background(), s.durable, source.Ask{}); !errors.Is(err, source.ErrNoRoot) {
			t.Errorf("its token is %s: %v", name, err)
		}
	}
	s.cfg.Tokens, s.cfg.Record.From.Parameters["token"] = "", "token"
	if _, err := s.open(t).Fetch(context.Background(), s.durable, source.Ask{}); !errors.Is(err, source.ErrNoRoot) || len(d.tail(calls)) > 0 {
		t.Errorf("without a folder for tokens: %v, and %d calls", err, len(d.tail(calls)))
	}
}

func TestAudit(t *testing.T) {
	d := newDouble()
	s := beside(t, d, secretID, func(origin string) statement.Credential {
		c := approle(origin)
		delete(c.From.Parameters, "audit")
		return c
	})
	s.fetch(t, s.open(t))
	n := d.expect(t, 0, logIn, "GET /v1/sys/audit", readUser)
	d.set(func() { d.unaudited = true })
	if _, err := s.open(t).Fetch(context.Background(), s.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "no audit device") {
		t.Error(err)
	}
	d.expect(t, n, logIn, "GET /v1/sys/audit", logOut)
}

func wrapped(origin string) statement.Credential {
	c := approle(origin)
	c.From.Home, c.From.Parameters["wrapped"] = "c1", "auth/approle/role/reeve/secret-id"
	return c
}

// The wrapping is opened once, and what was in it outlives the process.
func TestWrapping(t *testing.T) {
	d := newDouble()
	s := beside(t, d, wrapping, wrapped)
	v := s.open(t)
	s.fetch(t, v)
	n := d.expect(t, 0, lookUp, unwrap, logIn, readUser)
	v.Close()
	s.fetch(t, s.open(t))
	d.expect(t, n, logOut, logIn, readUser)
}

func TestWrappingRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(d *double, s *site)
		want  error
		says  string
		calls []string
	}{
		{"opened by somebody else", func(d *double, _ *site) { d.opened = true }, source.ErrRefused, "somebody else holds", []string{lookUp}},
		{"made by another path", func(d *double, _ *site) { d.made = "sys/wrapping/wrap" }, source.ErrRefused, "another one in its place", []string{lookUp}},
		{"not the home", func(_ *double, s *site) { s.cfg.Custodian = "c2" }, source.ErrHome, "", nil},
		{"the disk is full", func(_ *double, s *site) { s.cfg.State.(*memory).full = true }, nil, "no space", []string{lookUp}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDouble()
			s := beside(t, d, wrapping, wrapped)
			c.edit(d, s)
			_, err := s.open(t).Fetch(context.Background(), s.durable, source.Ask{})
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
			d.expect(t, 0, c.calls...)
		})
	}
}

// A custodian that ends between opening the wrapping and storing what was in it does not blame somebody else.
func TestWrappingCrash(t *testing.T) {
	d := newDouble()
	s := beside(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, "/unwrap") {
			panic(http.ErrAbortHandler) // the answer is lost
		}
	}), wrapping, wrapped)
	for _, says := range []string{"broke off", "either this custodian did"} {
		if _, err := s.open(t).Fetch(context.Background(), s.durable, source.Ask{}); err == nil || says != "broke off" && !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	d.expect(t, 0, lookUp, unwrap, lookUp)
}

func TestNewRefuses(t *testing.T) {
	for name, edit := range map[string]func(c *statement.Credential){
		"no path":              func(c *statement.Credential) { c.From.URL = "https://vault.example.com/v1/" },
		"no v1":                func(c *statement.Credential) { c.From.URL = "https://vault.example.com/database/creds/readonly" },
		"a query":              func(c *statement.Credential) { c.From.URL += "?ttl=1h" },
		"kv2 without data":     func(c *statement.Credential) { c.From.Parameters["engine"] = "kv2"; c.From.PerWorkload = false },
		"destroying a lease":   func(c *statement.Credential) { c.From.Parameters["destroy"] = "revoked" },
		"jwt for nobody":       func(c *statement.Credential) { c.From.Parameters["login"] = "jwt" },
		"approle with a token": func(c *statement.Credential) { c.From.Parameters["token"] = "token" },
		"a token elsewhere": func(c *statement.Credential) {
			c.From.Parameters["login"], c.From.Parameters["token"] = "jwt", "../state/log.key"
		},
		"wrapped without home": func(c *statement.Credential) { c.From.Parameters["wrapped"] = "auth/approle/role/r/secret-id" },
		"one for each workload": func(c *statement.Credential) {
			c.From.URL, c.From.Parameters["engine"] = "https://vault.example.com/v1/secret/data/openai", "kv2"
		},
	} {
		c := approle("https://vault.example.com")
		edit(&c)
		if _, err := vault.New(source.Config{Record: c, Clock: time.Now}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
