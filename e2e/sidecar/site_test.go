// Package sidecar tries `reeve exec` and `reeve sidecar` with the real processes, the SDKs that people use, a proxy that stands for
// a gateway that was taken over, and a SPIFFE Workload API of its own.
package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/up"
)

// asChild, in the environment, makes this program the one that `reeve exec` runs.
const asChild = "REEVE_E2E_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// site is a demo estate with its processes. Its charter also names the SPIFFE trust domain acme.example for research-agent, and
// the model demo-large wants level 2.
type site struct {
	*testing.T
	dir    *host.Dir
	bin    string
	root   string
	issuer *estatetest.Issuer // of acme.example
}

const (
	spiffeID   = "spiffe://acme.example/ns/prod/agent"
	large      = `{"model":"openai/demo-large","messages":[{"role":"user","content":"one two"}]}`
	wantsProof = `
@id("large-wants-proof")
forbid (principal, action, resource) when { context.level < 2 && context.model == "demo-large" };
`
)

func start(t *testing.T) *site {
	t.Helper()
	root, err := os.MkdirTemp("", "reeve-sc-") // short: sockets lie below
	must(t, err)
	s := &site{T: t, root: root, bin: filepath.Join(root, "bin"), issuer: estatetest.NewIssuer(t)}
	must(t, errors.Join(os.Chmod(root, 0o755), os.Mkdir(s.bin, 0o755)))
	must(t, binaries.Build(s.bin, "", binaries.All()...))
	s.dir, err = host.Create(filepath.Join(root, "demo"), s.bin, true, 0)
	must(t, err)
	must(t, demo.Create(s.dir, time.Now(), demo.RandomKey))
	s.change()
	ready, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var out bytes.Buffer // read after up ended
	go func() {
		ended <- up.Run(context.Background(), up.Options{Dir: s.dir.Path, Bin: s.bin, Out: &out, Now: time.Now,
			Then: func(context.Context, *host.Dir, map[string]int) error {
				close(ready)
				<-stop
				return nil
			}})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("up: %v\n%s", err, &out)
	}
	t.Cleanup(func() {
		close(stop)
		if err := <-ended; err != nil {
			t.Errorf("up: %v\n%s", err, &out)
		}
		os.RemoveAll(s.dir.Run.State)
		os.RemoveAll(root)
	})
	return s
}

// change signs what the tests add to the demo.
func (s *site) change() {
	dir := estate.Dir(s.dir.Join("estate"))
	var charter statement.Charter
	path := filepath.Join(string(dir), "charter.yaml")
	b, err := os.ReadFile(path)
	must(s.T, err)
	must(s.T, yaml.UnmarshalWithOptions(b, &charter, yaml.Strict()))
	domain := s.issuer.Charter("acme", "spiffe://acme.example")
	domain.Algorithms = []string{"ES256"}
	charter.Issuers = append(charter.Issuers, domain)
	for i := range charter.Workloads {
		if w := &charter.Workloads[i]; w.ID == "research-agent" {
			w.Identities = append(w.Identities, statement.Identity{Issuer: "acme", Audience: "reeve:demo", Subject: spiffeID})
		}
	}
	b, err = yaml.MarshalWithOptions(charter, yaml.OmitZero(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	must(s.T, err)
	must(s.T, os.WriteFile(path, b, 0o644))
	cedar := filepath.Join(string(dir), "units", "research", "use.cedar")
	b, err = os.ReadFile(cedar)
	must(s.T, err)
	must(s.T, os.WriteFile(cedar, append(b, wantsProof...), 0o644))
	var signers []*estate.Signer
	for _, person := range []string{"ada", "bea", "cora"} {
		k, err := estate.Open(s.dir.Join("people", person+".key"), nil)
		must(s.T, err)
		signers = append(signers, k)
	}
	now := time.Now()
	must(s.T, dir.SignAll(&charter, []string{"charter", "policy-research", "lock"}, signers, now, estate.Lives{Statements: 90 * 24 * time.Hour, Lock: 30 * 24 * time.Hour}))
	_, err = dir.Publish(s.dir.Pin(), now)
	must(s.T, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reeve is the command, ready to run.
func (s *site) reeve(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "reeve"), args...)
	cmd.Env = append(os.Environ(), "REEVE_DIR="+s.dir.Path)
	return cmd
}

// entry is what the tests read of a ledger entry.
type entry struct {
	Sequence int64  `json:"seq"`
	Type     string `json:"type"`
	Workload string `json:"workload"`
	Level    string `json:"level"`
	Proof    string `json:"proof"`
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
}

// entry is the published entry that a receipt promises.
func (s *site) entry(receipt string) entry {
	s.Helper()
	parts := strings.Split(receipt, ".")
	if len(parts) < 3 {
		s.Fatalf("no receipt: %q", receipt)
	}
	var e entry
	s.await("the entry "+parts[2]+" is published", func() bool {
		out, err := s.reeve("ledger", "show", parts[2], "--count", "1").Output()
		return err == nil && json.Unmarshal(out, &e) == nil && strconv.FormatInt(e.Sequence, 10) == parts[2]
	})
	return e
}

// mustProve wants the entry of an intent at level W2.
func (s *site) mustProve(name, receipt string) {
	s.Helper()
	if e := s.entry(receipt); e.Type != "intent" || e.Level != "W2" || e.Proof != "pop" || e.Workload != "research-agent" {
		s.Errorf("%s: %+v", name, e)
	}
}

func (s *site) await(what string, ok func() bool) {
	s.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Fatalf("never: %s", what)
}

// config writes a sidecar's configuration: the demo's with other text in place of some of it.
func (s *site) config(replace ...string) string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir.Path, "sidecar.yaml"))
	must(s.T, err)
	text := strings.NewReplacer(replace...).Replace(string(b))
	if text == string(b) {
		s.Fatalf("%q is not in the demo's sidecar.yaml", replace)
	}
	f, err := os.CreateTemp(s.dir.Path, "sidecar-*.yaml")
	must(s.T, err)
	_, err = f.WriteString(text)
	must(s.T, errors.Join(err, f.Close()))
	return f.Name()
}

// sidecar is a running `reeve sidecar`.
type sidecar struct {
	*site
	cmd      *exec.Cmd
	url, key string
	log      bytes.Buffer // read after it ended
}

// sidecar starts one on a loopback port.
func (s *site) sidecar(config string) *sidecar {
	s.Helper()
	env := config + ".env"
	c := &sidecar{site: s, cmd: s.reeve("sidecar", "--config", config, "--env", env)}
	c.cmd.Stderr = &c.log
	must(s.T, c.cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	s.Cleanup(func() {
		c.cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			s.Errorf("the sidecar: %v\n%s", err, &c.log)
		}
		if _, err := os.Stat(env); !os.IsNotExist(err) {
			s.Errorf("its settings stay: %v", err)
		}
	})
	s.await("the sidecar's settings", func() bool {
		b, err := os.ReadFile(env)
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
			switch name {
			case "REEVE_URL":
				c.url = value
			case "REEVE_KEY":
				c.key = value
			}
		}
		return err == nil && c.key != ""
	})
	return c
}

// post makes a chat call.
func post(url, key, body string) (status int, receipt, refusal string, err error) {
	req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Reeve-Receipt"), resp.Header.Get("Reeve-Refusal"), nil
}

func (c *sidecar) post(body string) (status int, receipt, refusal string) {
	c.Helper()
	status, receipt, refusal, err := post(c.url, c.key, body)
	must(c.T, err)
	return status, receipt, refusal
}

// bearer is a key of research-agent's (W0), and the gateway's URL.
func (s *site) bearer() (url, key string) {
	b, err := os.ReadFile(s.dir.Env())
	must(s.T, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "export REEVE_KEY="); ok {
			key = v
		}
	}
	return "http://" + host.Local(s.dir.Run.Ports.Gateway), key
}

// on is the site for a subtest.
func (s *site) on(t *testing.T) *site {
	c := *s
	c.T = t
	return &c
}

func lines(out []byte) string { return fmt.Sprintf("%.2000s", out) }
