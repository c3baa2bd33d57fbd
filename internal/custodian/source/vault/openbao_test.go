package vault_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/reevehq/reeve/internal/authority/store/postgrestest"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custodian/source/vault"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// server is a real OpenBao with a PostgreSQL behind it.
type server struct {
	url, root, ca string
	client        *http.Client
	database      string // connection string of its superuser
	log           string // the audit log
}

// startBao starts a server with its storage in memory, and unseals it; it ends with the test.
func startBao(t *testing.T) *server {
	dir := t.TempDir()
	s := &server{log: filepath.Join(dir, "audit.log")}
	s.certify(t, dir)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.ca))
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}}
	t.Cleanup(s.client.CloseIdleConnections)
	for try := 1; !s.start(t, dir); try++ {
		if try == 5 {
			t.Fatal("five ports in a row were taken by others meanwhile")
		}
	}
	var made struct {
		Keys  []string
		Token string `json:"root_token"`
	}
	must(t, json.Unmarshal(s.admin(t, "sys/init", `{"secret_shares":1,"secret_threshold":1}`), &made))
	s.root = made.Token
	s.admin(t, "sys/unseal", `{"key":`+quote(made.Keys[0])+`}`)
	if !eventually(func() bool { status, _ := s.do(t, "GET", "sys/health", "", ""); return status == 200 }) {
		t.Fatal("the server does not become active")
	}
	s.setUp(t)
	return s
}

// start starts the server on a port that was free just now, and reports whether it listens there.
func (s *server) start(t *testing.T, dir string) bool {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		return l.Addr().String()
	}
	at := free()
	s.url = "https://" + at
	config := filepath.Join(dir, "bao.hcl")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
storage "inmem" {}
listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_cert_file   = %q
  tls_key_file    = %q
}
api_addr = %q
unsafe_allow_api_audit_creation = true
`, at, free(), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), s.url), 0o600))
	cmd := exec.Command("bao", "server", "-config", config, "-log-level", "error")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	stop := func() {
		cmd.Process.Kill()
		<-ended
	}
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			if strings.Contains(said.String(), "address already in use") {
				return false
			}
			t.Fatalf("the server ended: %s", said.String())
		default:
		}
		if resp, err := s.client.Get(s.url + "/v1/sys/seal-status"); err == nil {
			resp.Body.Close()
			t.Cleanup(stop)
			return true
		}
	}
	stop()
	t.Fatalf("the server does not answer: %s", said.String())
	return false
}

// certify makes the listener's certificate: for the address, and for the name by which the conformance suite calls its double.
func (s *server) certify(t *testing.T, dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "openbao of the tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	s.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(s.ca), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

const policy = `
path "database/creds/readonly" { capabilities = ["read"] }
path "secret/data/openai" { capabilities = ["read"] }
path "secret/destroy/openai" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/audit" { capabilities = ["read", "sudo"] }`

// setUp does what an operator does: an audit device, engines, a policy, a role. The database asks everyone but its superuser for a password.
func (s *server) setUp(t *testing.T) {
	pg := postgrestest.Start(t)
	s.database = pg.Database(t, "app")
	admin, err := pgx.Connect(context.Background(), s.database)
	must(t, err)
	defer admin.Close(context.Background())
	var rules string
	must(t, admin.QueryRow(context.Background(), "SHOW hba_file").Scan(&rules))
	for _, sql := range []string{
		"COPY (SELECT unnest(ARRAY['local all reeve trust', 'local all all scram-sha-256'])) TO '" + rules + "'",
		"SELECT pg_reload_conf()",
		"CREATE TABLE things AS SELECT 1 AS thing",
	} {
		_, err := admin.Exec(context.Background(), sql)
		must(t, err)
	}
	s.admin(t, "sys/audit/file", `{"type":"file","options":{"file_path":`+quote(s.log)+`}}`)
	s.admin(t, "sys/mounts/secret", `{"type":"kv","options":{"version":"2"}}`)
	s.admin(t, "sys/mounts/database", `{"type":"database"}`)
	s.admin(t, "database/config/app", `{"plugin_name":"postgresql-database-plugin","allowed_roles":"readonly","connection_url":`+quote(s.database)+`}`)
	s.admin(t, "database/roles/readonly", `{"db_name":"app","default_ttl":"1h","max_ttl":"4h","creation_statements":[`+
		quote(`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON things TO "{{name}}"`)+`]}`)
	s.admin(t, "sys/policies/acl/reeve", `{"policy":`+quote(policy)+`}`)
	s.admin(t, "sys/auth/approle", `{"type":"approle"}`)
	s.admin(t, "auth/approle/role/reeve", `{"token_policies":["reeve"],"token_ttl":"20m","token_max_ttl":"1h"}`)
	s.admin(t, "auth/approle/role/reeve/role-id", `{"role_id":"`+roleID+`"}`)
	s.admin(t, "auth/approle/role/reeve/custom-secret-id", `{"secret_id":"`+secretID+`"}`)
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) { // the engine upgrades itself first, and says so with status 400
		if status, _ := s.do(t, "POST", "secret/data/openai", s.root, `{"data":{"key":"key-of-the-first-version","other":7}}`); status == 200 {
			return
		} else if time.Since(start) > time.Minute {
			t.Fatalf("kv: status %d", status)
		}
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do makes one call as anybody.
func (s *server) do(t *testing.T, method, path, token, body string, header ...string) (int, []byte) {
	t.Helper()
	return call(t, s.client, s.url, method, path, token, body, header...)
}

func call(t *testing.T, c *http.Client, origin, method, path, token, body string, header ...string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, origin+"/v1/"+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("X-Vault-Request", "true")
	r.Header["User-Agent"] = nil
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, b
}

// admin posts as the operator, and returns the answer.
func (s *server) admin(t *testing.T, path, body string, header ...string) []byte {
	t.Helper()
	status, b := s.do(t, "POST", path, s.root, body, header...)
	if status/100 != 2 {
		t.Fatalf("%s: status %d: %s", path, status, b)
	}
	return b
}

// alive logs in at the database with a secret.
func (s *server) alive(got *source.Secret) bool {
	cfg, err := pgx.ParseConfig(s.database)
	if err != nil {
		return false
	}
	cfg.User, cfg.Password = got.Public, string(got.Value.Reveal())
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		return false
	}
	defer c.Close(context.Background())
	var thing int
	return c.QueryRow(context.Background(), "SELECT thing FROM things").Scan(&thing) == nil
}

// audited counts the requests in the audit log, by operation and path.
func (s *server) audited(t *testing.T) map[string]int {
	t.Helper()
	b, err := os.ReadFile(s.log)
	must(t, err)
	n := map[string]int{}
	for _, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		var entry struct {
			Type    string
			Request struct{ Operation, Path string }
		}
		must(t, json.Unmarshal(line, &entry))
		if entry.Type == "request" {
			n[entry.Request.Operation+" "+entry.Request.Path]++
		}
	}
	return n
}

func TestRealOpenBao(t *testing.T) {
	need.Real(t, "postgres", "bao")
	s := startBao(t)
	audited := func(c statement.Credential) statement.Credential {
		delete(c.From.Parameters, "audit")
		return c
	}
	site := func(t *testing.T, root string, c statement.Credential) *site {
		return newSite(t, s.url, s.ca, root, c, &memory{})
	}
	ctx := context.Background()

	t.Run("a lease is used, renewed, revoked", func(t *testing.T) {
		here := site(t, secretID, audited(approle(s.url)))
		here.cfg.Record.From.Lifetime = statement.Duration(2 * time.Hour)
		v := here.open(t)
		before := s.audited(t)
		old, next := here.fetch(t, v), here.fetch(t, v)
		if !s.alive(old) || !s.alive(next) || old.Lease == next.Lease || old.Public == next.Public {
			t.Fatalf("%+v and %+v do not both open the database", old, next)
		}
		if left := time.Until(old.Expires); left > 20*time.Minute || left < 19*time.Minute {
			t.Errorf("lives %v, its login 20m", left)
		}
		again, err := v.(source.Renewer).Renew(ctx, here.durable, old)
		if err != nil || again.Expires.Before(old.Expires) {
			t.Errorf("renewed until %v, was %v: %v", again.Expires, old.Expires, err)
		}
		for range 2 { // the second time it is gone
			must(t, v.Revoke(ctx, here.durable, old))
			if s.alive(old) || !s.alive(next) {
				t.Errorf("after the revocation: alive %v, the other %v", s.alive(old), s.alive(next))
			}
		}
		if _, err := v.(source.Renewer).Renew(ctx, here.durable, old); !errors.Is(err, source.ErrRefused) {
			t.Errorf("renewed what was revoked: %v", err)
		}
		v.Close()
		if !eventually(func() bool { return !s.alive(next) }) {
			t.Error("the source is closed, and what it leased lives on")
		}
		after := s.audited(t)
		for call, want := range map[string]int{
			"update auth/approle/login": 1, "read sys/audit": 1, "read database/creds/readonly": 2, "update sys/leases/renew": 2, "update sys/leases/revoke": 2, "update auth/token/revoke-self": 1,
		} {
			if got := after[call] - before[call]; got != want {
				t.Errorf("the audit log has %d times %s, want %d", got, call, want)
			}
		}
	})

	t.Run("an engine that fails revokes nothing", func(t *testing.T) {
		here := site(t, secretID, audited(approle(s.url)))
		v := here.open(t)
		got := here.fetch(t, v)
		admin, err := pgx.Connect(ctx, s.database)
		must(t, err)
		defer admin.Close(ctx)
		_, err = admin.Exec(ctx, `CREATE TABLE kept (a int); ALTER TABLE kept OWNER TO "`+got.Public+`"`) // a role that owns something cannot be dropped
		must(t, err)
		if err := v.Revoke(ctx, here.durable, got); !errors.Is(err, source.ErrDown) {
			t.Errorf("the engine could not revoke, and Revoke says %v", err)
		}
		_, err = admin.Exec(ctx, `DROP TABLE kept`)
		must(t, err)
		if err := v.Revoke(ctx, here.durable, got); err != nil || s.alive(got) {
			t.Errorf("%v, alive %v", err, s.alive(got))
		}
	})

	t.Run("a wrapping opens once", func(t *testing.T) {
		wrap := func() string {
			var a struct {
				Wrap struct{ Token string } `json:"wrap_info"`
			}
			must(t, json.Unmarshal(s.admin(t, "auth/approle/role/reeve/secret-id", "{}", "X-Vault-Wrap-TTL", "300"), &a))
			return a.Wrap.Token
		}
		token := wrap()
		here := site(t, token, audited(wrapped(s.url)))
		v := here.open(t)
		here.fetch(t, v)
		v.Close()
		here.fetch(t, here.open(t)) // from what was stored
		here.cfg.State = &memory{}  // as another custodian
		if _, err := here.open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "opened before") {
			t.Errorf("a second use of the wrapping: %v", err)
		}
		stolen := wrap()
		if status, b := s.do(t, "POST", "sys/wrapping/unwrap", stolen, "{}"); status != 200 {
			t.Fatalf("status %d: %s", status, b)
		}
		if _, err := site(t, stolen, audited(wrapped(s.url))).open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "somebody else holds") {
			t.Errorf("a wrapping that somebody else opened: %v", err)
		}
		var other struct {
			Wrap struct{ Token string } `json:"wrap_info"`
		}
		must(t, json.Unmarshal(s.admin(t, "sys/wrapping/wrap", `{"secret_id":"`+secretID+`"}`, "X-Vault-Wrap-TTL", "300"), &other))
		if _, err := site(t, other.Wrap.Token, audited(wrapped(s.url))).open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "nothing was opened") {
			t.Errorf("a wrapping of somebody's own: %v", err)
		}
	})

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	tokens := t.TempDir()
	signed := func(t *testing.T, claims map[string]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		must(t, err)
		claims["iat"], claims["nbf"], claims["exp"] = time.Now().Unix()-5, time.Now().Unix()-5, time.Now().Unix()+600
		b, err := json.Marshal(claims)
		must(t, err)
		o, err := signer.Sign(b)
		must(t, err)
		token, err := o.CompactSerialize()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(tokens, "token"), []byte(token+"\n"), 0o600))
		return token
	}

	t.Run("a version, by a JWT", func(t *testing.T) {
		s.admin(t, "sys/auth/jwt", `{"type":"jwt"}`)
		s.admin(t, "auth/jwt/config", `{"jwt_validation_pubkeys":[`+quote(public)+`],"bound_issuer":"https://issuer.example.com"}`)
		s.admin(t, "auth/jwt/role/reeve", `{"role_type":"jwt","user_claim":"sub","bound_audiences":["vault"],"bound_subject":"spiffe://example.com/unit/research/credential/a-credential","token_policies":["reeve"],"token_ttl":"10m"}`)
		here := site(t, "", audited(record(s.url, "secret/data/openai", "engine", "kv2", "field", "key", "login", "jwt", "role", "reeve", "audience", "vault", "destroy", "revoked")))
		subject := "spiffe://example.com/unit/research/credential/a-credential"
		here.cfg.Sign = func(_ context.Context, token source.Token) (secret.Value, error) { // as the unit's key does
			return secret.New([]byte(signed(t, map[string]any{"iss": "https://issuer.example.com", "aud": token.Audience, "sub": subject, "jti": token.ID}))), nil
		}
		v := here.open(t)
		first := here.fetch(t, v)
		s.admin(t, "secret/data/openai", `{"data":{"key":"key-of-the-second-version","other":7}}`)
		second := here.fetch(t, v)
		if !first.Value.Equal([]byte("key-of-the-first-version")) || !second.Value.Equal([]byte("key-of-the-second-version")) || first.Lease[:2] != "1@" || second.Lease[:2] != "2@" {
			t.Errorf("%+v, then %+v", first, second)
		}
		if err := v.Revoke(ctx, here.durable, first); !errors.Is(err, source.ErrCannotRevoke) {
			t.Error(err)
		}
		if status, b := s.do(t, "GET", "secret/data/openai?version=1", s.root, ""); status != 404 || !bytes.Contains(b, []byte(`"destroyed":true`)) {
			t.Errorf("version 1 after its revocation: status %d: %s", status, b)
		}
		subject = "spiffe://example.com/unit/research/credential/another"
		if _, err := here.open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) {
			t.Errorf("another subject: %v", err)
		}
	})

	t.Run("a version, by a service account", func(t *testing.T) {
		var token string
		cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":%v,"audiences":["https://kubernetes.default.svc"],"user":{"username":"system:serviceaccount:reeve:custodian","uid":"a-uid","groups":["system:serviceaccounts"]}}}`,
				r.URL.Path == "/apis/authentication.k8s.io/v1/tokenreviews" && bytes.Contains(b, []byte(quote(token))))
		}))
		defer cluster.Close()
		token = signed(t, map[string]any{"iss": "https://kubernetes.default.svc", "aud": []string{"https://kubernetes.default.svc"}, "sub": "system:serviceaccount:reeve:custodian", "kubernetes.io": map[string]any{
			"namespace": "reeve", "serviceaccount": map[string]any{"name": "custodian", "uid": "a-uid"},
		}})
		s.admin(t, "sys/auth/cluster-1", `{"type":"kubernetes"}`)
		s.admin(t, "auth/cluster-1/config", `{"kubernetes_host":`+quote(cluster.URL)+`,"kubernetes_ca_cert":`+quote(certificate(cluster))+`,"token_reviewer_jwt":`+quote(token)+`,"disable_local_ca_jwt":true}`)
		s.admin(t, "auth/cluster-1/role/reeve", `{"bound_service_account_names":["custodian"],"bound_service_account_namespaces":["reeve"],"audience":"https://kubernetes.default.svc","token_policies":["reeve"]}`)
		here := site(t, "", audited(record(s.url, "secret/data/openai", "engine", "kv2", "field", "key", "login", "kubernetes", "auth_path", "cluster-1", "role", "reeve")))
		here.cfg.Tokens = tokens
		if got := here.fetch(t, here.open(t)); got.Value.Empty() {
			t.Error("no secret")
		}
	})

	t.Run("within a namespace", func(t *testing.T) {
		for _, at := range []string{"team-a", "team-a/prod"} {
			parent, name := path.Split(at)
			s.admin(t, "sys/namespaces/"+name, "{}", "X-Vault-Namespace", strings.TrimSuffix(parent, "/"))
		}
		in := []string{"X-Vault-Namespace", "team-a/prod"}
		s.admin(t, "sys/mounts/secret", `{"type":"kv","options":{"version":"2"}}`, in...)
		s.admin(t, "sys/policies/acl/reeve", `{"policy":`+quote(policy)+`}`, in...)
		s.admin(t, "sys/auth/approle", `{"type":"approle"}`, in...)
		s.admin(t, "auth/approle/role/reeve", `{"token_policies":["reeve"],"token_ttl":"20m","token_max_ttl":"1h"}`, in...)
		s.admin(t, "auth/approle/role/reeve/role-id", `{"role_id":"`+roleID+`"}`, in...)
		s.admin(t, "auth/approle/role/reeve/custom-secret-id", `{"secret_id":"`+secretID+`"}`, in...)
		if !eventually(func() bool {
			status, _ := s.do(t, "POST", "secret/data/openai", s.root, `{"data":{"key":"key-of-the-namespace"}}`, in...)
			return status == 200
		}) {
			t.Fatal("kv in the namespace does not take a secret")
		}
		here := site(t, secretID, record(s.url, "secret/data/openai", "engine", "kv2", "field", "key", "login", "approle", "role", roleID, "namespace", "team-a/prod"))
		if got := here.fetch(t, here.open(t)); !got.Value.Equal([]byte("key-of-the-namespace")) {
			t.Errorf("%+v", got)
		}
		here.cfg.Record.From.Parameters["namespace"] = "team-a"
		if _, err := here.open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) {
			t.Errorf("another namespace: %v", err)
		}
	})

	t.Run("the double answers alike", func(t *testing.T) { s.compare(t) })

	t.Run("conformance", func(t *testing.T) {
		u, err := url.Parse(s.url)
		must(t, err)
		sourcetest.Run(t, sourcetest.Harness{
			New: vault.New, Record: approle, Root: secretID, Life: 20 * time.Minute,
			Double: func(string) sourcetest.Double {
				proxy := &httputil.ReverseProxy{Transport: s.client.Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, ModifyResponse: func(r *http.Response) error {
					r.Header.Del("Content-Length") // the suite changes bodies
					return nil
				}}
				return sourcetest.Double{Handler: proxy, Alive: s.alive}
			},
		})
	})

	t.Run("no audit device", func(t *testing.T) {
		if status, b := s.do(t, "DELETE", "sys/audit/file", s.root, ""); status != 204 {
			t.Fatalf("status %d: %s", status, b)
		}
		here := site(t, secretID, audited(approle(s.url)))
		if _, err := here.open(t).Fetch(ctx, here.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "no audit device") {
			t.Errorf("without an audit device: %v", err)
		}
	})
}

func eventually(f func() bool) bool {
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(20 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}

// compare makes the same calls to the double and to the real server: the same status, and answers of the same form.
func (s *server) compare(t *testing.T) {
	d := newDouble()
	beside := httptest.NewTLSServer(d)
	defer beside.Close()
	type side struct {
		client                 *http.Client
		origin                 string
		token, lease, wrapping string
	}
	var wrap struct {
		Wrap struct{ Token string } `json:"wrap_info"`
	}
	must(t, json.Unmarshal(s.admin(t, "auth/approle/role/reeve/secret-id", "{}", "X-Vault-Wrap-TTL", "300"), &wrap))
	sides := []*side{{client: s.client, origin: s.url, wrapping: wrap.Wrap.Token}, {client: beside.Client(), origin: beside.URL, wrapping: wrapping}}
	for _, c := range []struct{ method, path, token, body string }{
		{"POST", "auth/approle/login", "", `{"role_id":"` + roleID + `","secret_id":"wrong"}`},
		{"POST", "auth/approle/login", "", `{"role_id":"` + roleID + `","secret_id":"` + secretID + `"}`},
		{"GET", "sys/audit", "TOKEN", ""},
		{"GET", "secret/data/openai", "TOKEN", ""},
		{"GET", "secret/data/another", "TOKEN", ""},
		{"GET", "database/creds/readonly", "TOKEN", ""},
		{"POST", "sys/leases/renew", "TOKEN", `{"lease_id":"LEASE"}`},
		{"POST", "sys/leases/renew", "TOKEN", `{"lease_id":"LEASE","increment":1800}`},
		{"POST", "sys/leases/revoke", "TOKEN", `{"lease_id":"LEASE","sync":true}`},
		{"POST", "sys/leases/revoke", "TOKEN", `{"lease_id":"LEASE","sync":true}`},
		{"POST", "sys/leases/renew", "TOKEN", `{"lease_id":"LEASE"}`},
		{"POST", "auth/token/renew-self", "TOKEN", `{}`},
		{"POST", "sys/wrapping/lookup", "", `{"token":"WRAPPING"}`},
		{"POST", "sys/wrapping/unwrap", "WRAPPING", `{}`},
		{"POST", "sys/wrapping/unwrap", "WRAPPING", `{}`},
		{"POST", "sys/wrapping/lookup", "", `{"token":"WRAPPING"}`},
		{"POST", "auth/token/revoke-self", "TOKEN", `{}`},
		{"GET", "secret/data/openai", "TOKEN", ""},
	} {
		var got []any
		for _, at := range sides {
			fill := strings.NewReplacer("TOKEN", at.token, "LEASE", at.lease, "WRAPPING", at.wrapping)
			status, b := call(t, at.client, at.origin, c.method, c.path, fill.Replace(c.token), fill.Replace(c.body))
			var a struct {
				LeaseID string `json:"lease_id"`
				Auth    struct {
					ClientToken string `json:"client_token"`
				}
			}
			json.Unmarshal(b, &a)
			if a.Auth.ClientToken != "" {
				at.token = a.Auth.ClientToken
			}
			if a.LeaseID != "" {
				at.lease = a.LeaseID
			}
			var v any
			json.Unmarshal(b, &v)
			got = append(got, []any{status, shape("", v)})
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("%s %s: the server (-) and the double (+) differ:\n%s", c.method, c.path, diff)
		}
	}
}

// device is what an audit device's own members are called after.
var device = regexp.MustCompile(`^file/$`)

// shape replaces every value by its type. What depends on the mount, and stands at the top besides data, is left out.
func shape(at string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, x := range v {
			if at == "" && (device.MatchString(name) || name == "errors") {
				continue
			}
			out[name] = shape(at+"."+name, x)
		}
		return out
	case []any:
		return "list"
	}
	return fmt.Sprintf("%T", v)
}
