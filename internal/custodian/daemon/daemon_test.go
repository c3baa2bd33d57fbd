package daemon

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/admin"
	asks "github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/testlog"
	"github.com/reevehq/reeve/internal/witness"
)

// shipped is the custodian as it is shipped: without cgo, which the confinement does not allow for. It is built once.
var shipped struct {
	dir  string
	once sync.Once
	path string
	out  []byte
	err  error
}

func TestMain(m *testing.M) {
	var err error
	if shipped.dir, err = os.MkdirTemp("", "reeve-custodian-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(shipped.dir)
	os.Exit(code)
}

func binary(t *testing.T) string {
	t.Helper()
	b := &shipped
	b.once.Do(func() {
		b.path = filepath.Join(b.dir, "reeve-custodian")
		build := exec.Command("go", "build", "-o", b.path, "github.com/reevehq/reeve/cmd/reeve-custodian")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		b.out, b.err = build.CombinedOutput()
	})
	if b.err != nil {
		t.Fatalf("building the custodian: %v\n%s", b.err, b.out)
	}
	return b.path
}

const demoKey = "demo-upstream-key-of-research-0001"

// site is a host with a custodian's process, a witness and an upstream.
type site struct {
	t        *testing.T
	estate   *estatetest.Estate
	binary   string
	dir      string
	upstream atomic.Int64 // requests that came with the right key
	witness  atomic.Bool  // answers
	cmd      *exec.Cmd
	log      *testlog.Log
}

func newSite(t *testing.T, binary string, opts ...estatetest.Option) *site {
	s := &site{t: t, binary: binary, dir: t.TempDir(), log: &testlog.Log{}}
	s.witness.Store(true)
	up := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+demoKey {
			http.Error(w, "wrong key", http.StatusUnauthorized)
			return
		}
		s.upstream.Add(1)
		if r.URL.Query().Get("wait") != "" {
			fmt.Fprint(w, "begin")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, `{"ok":true}`)
	}))
	t.Cleanup(up.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}))
	s.estate = estatetest.New(t, append(opts, estatetest.Upstream(up.URL, ca))...)
	signer, err := cosigner.NewSigner(s.estate.Signer("witness", "w1"), time.Now)
	must(t, err)
	aud := httptest.NewServer(cosigner.Handler(func(_ context.Context, r *cosigner.Request) ([]byte, error) {
		if !s.witness.Load() {
			return nil, witness.ErrNotYet
		}
		text, _, _ := strings.Cut(string(r.Note), "\n\n")
		return signer.Cosign(text + "\n")
	}))
	t.Cleanup(aud.Close)

	state := filepath.Join(s.dir, "state")
	must(t, os.Mkdir(state, 0o700))
	must(t, os.WriteFile(filepath.Join(state, "identity.age"), []byte(s.estate.Identity.String()+"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(state, "log.key"), []byte(s.estate.Signer("log", "c1")+"\n"), 0o600))
	sockets, err := os.MkdirTemp("", "reeve") // short: a socket's path has room for 107 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	cfg := Config{
		ID: "c1", Ops: "unix:" + sockets + "/ops", StateDir: state, TilesDir: filepath.Join(s.dir, "tiles"),
		EstateTrust: Trust{Estate: s.estate.Pin.Estate, CharterSHA256: s.estate.Pin.CharterSHA256}, Authority: []string{s.estate.Dir.Signed()},
		Hop: Hop{Socket: sockets + "/hop", Gateways: []Gateway{{ID: "g1", UID: os.Getuid()}}}, Admin: sockets + "/admin",
		LogKey: filepath.Join(state, "log.key"), Witnesses: []Witness{{URL: aud.URL}},
	}
	cfg.Identity.File = filepath.Join(state, "identity.age")
	text, err := yaml.Marshal(cfg)
	must(t, err)
	must(t, os.WriteFile(s.config(), text, 0o600))
	s.put("research-openai", 1, demoKey)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Log(s.log.String())
		}
		if strings.Contains(s.log.String(), demoKey) || strings.Contains(s.log.String(), "rv_") {
			t.Error("the log holds a secret")
		}
	})
	return s
}

func (s *site) config() string { return filepath.Join(s.dir, "custodian.yaml") }

// put hands a secret over through the estate's folder.
func (s *site) put(credential string, version int64, value string) {
	s.t.Helper()
	ciphertext, err := seal.Seal(s.estate.Identity.Recipient().String(), []byte(value))
	must(s.t, err)
	h := seal.Handover(s.estate.Pin.Estate, credential, version, "c1", ciphertext, time.Now().UTC().Truncate(time.Second))
	env, err := estate.Seal("handover", h, s.estate.Cora)
	must(s.t, err)
	file := filepath.Join(s.estate.Dir.Signed(), fmt.Sprintf("sealed/%s/%d-c1.age", credential, version))
	must(s.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(s.t, os.WriteFile(file, ciphertext, 0o644))
	must(s.t, s.estate.Dir.WriteRecord(fmt.Sprintf("%s-%d-c1", credential, version), env))
}

func (s *site) start(args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, append([]string{"--config", s.config()}, args...)...)
	s.cmd.Stderr = s.log
	must(s.t, s.cmd.Start())
}

// kill ends the process without a word, as a crash does.
func (s *site) kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

func (s *site) admin() *asks.Client {
	var cfg Config
	text, err := os.ReadFile(s.config())
	must(s.t, err)
	must(s.t, yaml.Unmarshal(text, &cfg))
	return asks.New(cfg.Admin)
}

// ready waits until the custodian answers and says that it is ready.
func (s *site) ready() *admin.Status {
	s.t.Helper()
	var status *admin.Status
	eventually(s.t, "ready", func() bool {
		var err error
		status, err = s.admin().Status(context.Background())
		return err == nil && status.Ready && len(status.Waits) >= 4
	})
	return status
}

func (s *site) client() *hop.Client {
	var cfg Config
	text, err := os.ReadFile(s.config())
	must(s.t, err)
	must(s.t, yaml.Unmarshal(text, &cfg))
	c := hop.NewClient(hop.ClientConfig{Dial: hop.Unix(cfg.Hop.Socket)})
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *site) chat(query string) *hop.Open {
	return &hop.Open{RequestID: "r1", Credential: "research-openai", Method: "POST", Path: "/v1/chat/completions" + query,
		Header: []hop.Field{{Name: "Content-Type", Value: "application/json"}}, Proof: s.estate.Proof("research-agent"), Body: []byte(`{"model":"fast"}`)}
}

func TestProcess(t *testing.T) {
	s := newSite(t, binary(t))
	s.start("--demo")
	status := s.ready()
	if status.Lock != 1 || status.Credentials[0].Owner != "cora" {
		t.Errorf("status %+v", status)
	}
	for _, c := range status.Credentials {
		if c.ID == "research-openai" && (c.Version != 1 || c.Fingerprint == "") {
			t.Errorf("credential %+v", c)
		}
	}
	resp, err := s.client().Do(context.Background(), s.chat(""))
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Status != 200 || string(body) != `{"ok":true}` {
		t.Fatalf("%d %q %v", resp.Status, body, err)
	}

	// A freeze cuts what streams, and is still there after a crash.
	resp, err = s.client().Do(context.Background(), s.chat("?wait=1"))
	must(t, err)
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "begin" {
		t.Fatalf("%q %v", first, err)
	}
	begun := time.Now()
	_, err = s.admin().Freeze(context.Background(), statement.Target{Kind: "credential", ID: "research-openai"}, "test")
	must(t, err)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a frozen stream ended cleanly")
	}
	if d := time.Since(begun); d > time.Second {
		t.Errorf("cut after %s", d)
	}
	s.kill()
	s.start("--demo")
	s.ready()
	if _, err := s.client().Do(context.Background(), s.chat("")); refusal(err) != "frozen" {
		t.Errorf("after a crash: %v", err)
	}

	// Two people open it again, by a record handed to the admin socket.
	env, err := estate.Seal("revocation", statement.Revocation{Estate: s.estate.Pin.Estate, Signer: "cora", Number: 1, Open: true,
		Target: statement.Target{Kind: "credential", ID: "research-openai"}, Reason: "mended", Time: time.Now().UTC()}, s.estate.Cora, s.estate.Ada)
	must(t, err)
	record, err := statement.Canonical(env)
	must(t, err)
	if _, err = s.admin().Accept(context.Background(), record); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client().Do(context.Background(), s.chat("")); err != nil {
		t.Errorf("after opening: %v", err)
	}

	// SIGTERM lets what streams finish, takes nothing new, and ends.
	resp, err = s.client().Do(context.Background(), s.chat("?wait=1"))
	must(t, err)
	_, err = io.ReadFull(resp.Body, first)
	must(t, err)
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "nothing new is taken", func() bool {
		_, err := s.client().Do(context.Background(), s.chat(""))
		return errors.Is(err, hop.ErrUnavailable)
	})
	resp.Body.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// TestOtherMachines: a gateway that comes over TLS is known by the key that the operations statement names, until a set names
// another. Nobody else comes in, and whoever is on this machine is not on another.
func TestOtherMachines(t *testing.T) {
	dir := t.TempDir()
	custodian, gateway, other := hopKey(t, dir, "custodian"), hopKey(t, dir, "gateway"), hopKey(t, dir, "other")
	s := newSite(t, binary(t), estatetest.Edit(func(p *estate.Plan) {
		p.Operations.Gateways[0].Peer = gateway.Peer()
		for _, c := range p.Custody {
			c.Custodians[0].Peer = custodian.Peer()
		}
	}))
	s.rewrite(func(c *Config) {
		c.Hop.Socket, c.Hop.Gateways = "", nil
		c.Hop.Listen, c.Hop.Key = "127.0.0.1:0", filepath.Join(dir, "custodian")
	})
	s.start("--demo")
	s.ready()
	m := regexp.MustCompile(`"serving gateways".*"listen":"([^"]+)"`).FindStringSubmatch(s.log.String())
	if m == nil {
		t.Fatal("it does not say where it serves")
	}
	dial := func(config *tls.Config) *hop.Client {
		c := hop.NewClient(hop.ClientConfig{Dial: func(ctx context.Context) (net.Conn, error) {
			if config == nil {
				return new(net.Dialer).DialContext(ctx, "tcp", m[1])
			}
			return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", m[1])
		}})
		t.Cleanup(c.Close)
		return c
	}
	good := dial(hop.ClientTLS(gateway, custodian.Peer()))
	resp, err := good.Do(context.Background(), s.chat(""))
	must(t, err)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != `{"ok":true}` {
		t.Errorf("%q %v", body, err)
	}
	status, err := s.admin().Status(context.Background())
	must(t, err)
	if status.Isolation["g1"] != "none" {
		t.Errorf("a gateway on this machine has the level %q", status.Isolation["g1"])
	}
	changed := func(f func(*tls.Config)) *tls.Config {
		c := hop.ClientTLS(gateway, custodian.Peer())
		f(c)
		return c
	}
	for name, client := range map[string]*hop.Client{
		"an unknown key":    dial(hop.ClientTLS(other, custodian.Peer())),
		"another custodian": dial(hop.ClientTLS(gateway, other.Peer())),
		"no certificate": dial(changed(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		})),
		"TLS 1.2":      dial(changed(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })),
		"another ALPN": dial(changed(func(c *tls.Config) { c.NextProtos = []string{"h2"} })),
		"plain TCP":    dial(nil),
	} {
		if _, err := client.Do(context.Background(), s.chat("")); !errors.Is(err, hop.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The key is changed: what streams with the old one is cut, and nothing new is taken from it.
	resp, err = good.Do(context.Background(), s.chat("?wait=1"))
	must(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, 5))
	must(t, err)
	s.estate.Republish(t, func(p *estate.Plan) { p.Operations.Gateways[0].Peer = other.Peer() }, "operations")
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, hop.ErrBroken) {
		t.Errorf("the stream of a key that is not named any more ended with %v", err)
	}
	if _, err := good.Do(context.Background(), s.chat("")); refusal(err) != "peer_refused" {
		t.Errorf("a key that is not named any more: %v", err)
	}
	if _, err := dial(hop.ClientTLS(other, custodian.Peer())).Do(context.Background(), s.chat("")); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

// hopKey makes a key of the hop in a file.
func hopKey(t *testing.T, dir, name string) *hop.Key {
	t.Helper()
	_, text, err := hop.NewKey()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	k, err := hop.ReadKey(filepath.Join(dir, name))
	must(t, err)
	return k
}

// TestEarlyExtension: an extension that is there before the ledger is open waits for it, also at the next start.
func TestEarlyExtension(t *testing.T) {
	s := newSite(t, binary(t))
	now := time.Now().UTC().Truncate(time.Second)
	env, err := estate.Seal("extension", statement.Extension{Estate: s.estate.Pin.Estate, Custodian: "c1", What: "witness", Created: now,
		Until: now.Add(30 * time.Minute), Reason: "the auditor moves"}, s.estate.Bea, s.estate.Cora)
	must(t, err)
	must(t, s.estate.Dir.WriteRecord("witness-c1", env))
	for range 2 {
		s.start("--demo")
		s.ready()
		eventually(t, "the extension holds", func() bool {
			status, err := s.admin().Status(context.Background())
			return err == nil && status.Extensions["witness"] > 0
		})
		s.kill()
	}
	early := &host{book: &book{}, Custodian: &custodian.Custodian{Parts: custodian.Parts{Log: slog.New(slog.DiscardHandler)}}}
	if err := early.take(&statement.Record{Kind: "extension", Envelope: env}); err != nil || len(early.early.records) != 1 {
		t.Errorf("before the ledger is open: %v, %d kept", err, len(early.early.records))
	}
}

// TestRefusesToStart: a custodian that could not protect or account does not begin.
func TestRefusesToStart(t *testing.T) {
	binary := binary(t)
	for name, tt := range map[string]struct {
		spoil func(*site)
		says  string
	}{
		"state that others can read":       {func(s *site) { os.Chmod(filepath.Join(s.dir, "state"), 0o755) }, "readable or writable by others"},
		"an identity that others can read": {func(s *site) { os.Chmod(filepath.Join(s.dir, "state", "identity.age"), 0o644) }, "readable or writable by others"},
		"a log key that others can read":   {func(s *site) { os.Chmod(filepath.Join(s.dir, "state", "log.key"), 0o644) }, "log key"},
		"no witness":                       {func(s *site) { s.rewrite(func(c *Config) { c.Witnesses = nil }) }, "witnesses is empty"},
		"a log key that the charter does not name": {func(s *site) {
			os.WriteFile(filepath.Join(s.dir, "state", "log.key"), []byte(s.estate.Signer("log", "g1")), 0o600)
		}, "the charter does not name this custodian's log key"},
		"a damaged list of what is closed": {func(s *site) { os.WriteFile(filepath.Join(s.dir, "state", "closed.json"), []byte("{"), 0o600) }, "reading what is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, binary)
			tt.spoil(s)
			s.start("--demo")
			ended := make(chan error, 1)
			go func() { ended <- s.cmd.Wait() }()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(s.log.String(), tt.says) {
					t.Errorf("ended with %v and did not say %q", err, tt.says)
				}
			case <-time.After(20 * time.Second):
				t.Error("it started")
			}
		})
	}
	t.Run("a demo without --demo", func(t *testing.T) {
		s := newSite(t, binary)
		s.start()
		eventually(t, "it says why it waits", func() bool { return strings.Contains(s.log.String(), "--demo") })
		if status, err := s.admin().Status(context.Background()); err != nil || status.Ready || status.Lock != 0 {
			t.Errorf("%+v %v", status, err)
		}
	})
}

func (s *site) rewrite(f func(*Config)) {
	var cfg Config
	text, err := os.ReadFile(s.config())
	must(s.t, err)
	must(s.t, yaml.Unmarshal(text, &cfg))
	f(&cfg)
	text, err = yaml.Marshal(cfg)
	must(s.t, err)
	must(s.t, os.WriteFile(s.config(), text, 0o600))
}

func refusal(err error) string {
	if r, ok := err.(*hop.Refusal); ok {
		return r.Code
	}
	return fmt.Sprint(err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
