package faults

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/up"
	"github.com/reevehq/reeve/verify"
)

// site is a demo estate with all its processes, started as `reeve up` starts them.
type site struct {
	testing.TB
	path   string // of the estate's directory
	dir    *host.Dir
	trust  *verify.Trust
	key    string // of research-agent
	admin  *operator.Client
	client *http.Client // for the gateway

	gateway string // the gateway's address when it is not 127.0.0.1

	spawner *up.Spawner

	mu     sync.Mutex            // guards what follows
	change func(up.Spec) up.Spec // how a process is started from now on, when not as up does; may be nil
	specs  map[string]up.Spec    // how up starts each process
	pids   map[string]int
	out    strings.Builder // what `reeve up` printed

	stop  chan struct{}
	ended chan error // of up; nil while it does not run
}

// newSite makes an estate whose upstream's keys were handed over. Nothing runs yet.
func newSite(t testing.TB) *site {
	t.Helper()
	return makeSite(t, demo.RandomKey)
}

// makeSite makes an estate, with tokens that are exchanged when mint is nil.
func makeSite(t testing.TB, mint func(string) secret.Value, edits ...func(*estate.Plan)) *site {
	t.Helper()
	path, err := os.MkdirTemp("", "reeve-faults-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o711); err != nil { // the processes' users pass through
		t.Fatal(err)
	}
	s := &site{TB: t, path: filepath.Join(path, "demo"), spawner: up.NewSpawner(), specs: map[string]up.Spec{}, pids: map[string]int{}}
	t.Cleanup(func() {
		s.down()
		if t.Failed() {
			s.tell()
		}
		if s.dir != nil && s.dir.Run.State != "" {
			os.RemoveAll(s.dir.Run.State)
		}
		os.RemoveAll(path)
	})
	d, err := host.Create(s.path, bin, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Create(d, time.Now(), mint, edits...); err != nil {
		t.Fatal(err)
	}
	s.dir = d
	b, err := os.ReadFile(d.Trust())
	if err != nil {
		t.Fatal(err)
	}
	if s.trust, err = verify.ParseTrust(b); err != nil {
		t.Fatal(err)
	}
	s.key = s.env(d.Env(), "REEVE_KEY")
	s.admin = operator.New(d.Socket(host.Custodian, "admin"))
	s.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// start is newSite and up, which must work.
func start(t testing.TB) *site {
	t.Helper()
	s := newSite(t)
	s.mustUp()
	return s
}

// env is a value of a file that a demo's user sources.
func (s *site) env(path, name string) string {
	s.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "export "+name+"="); ok {
			return v
		}
	}
	s.Fatalf("%s has no %s", path, name)
	return ""
}

// supportKey is the key of the other workload.
func (s *site) supportKey() string { return s.env(demo.EnvFile(s.dir, "support-agent"), "REEVE_KEY") }

// up does what `reeve up` does until all is ready, and returns what it would have said if it could not.
func (s *site) up() error {
	s.Helper()
	ready, stop, ended := make(chan map[string]int, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- up.Run(context.Background(), up.Options{Dir: s.path, Bin: bin, Out: locked{s}, Now: time.Now,
			Command: func(spec up.Spec) up.Spec {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.specs[spec.Name] = spec
				if s.change != nil {
					spec = s.change(spec)
				}
				return spec
			},
			Then: func(_ context.Context, _ *host.Dir, pids map[string]int) error {
				ready <- pids
				<-stop
				return nil
			}})
	}()
	select {
	case pids := <-ready:
		s.mu.Lock()
		s.pids = maps.Clone(pids)
		s.mu.Unlock()
		s.stop, s.ended = stop, ended
		return nil
	case err := <-ended:
		if err == nil {
			err = errors.New("up ended without an error")
		}
		return err
	}
}

func (s *site) mustUp() {
	s.Helper()
	if err := s.up(); err != nil {
		s.Fatalf("reeve up: %v", err)
	}
}

// down ends everything, as Ctrl-C at `reeve up` does.
func (s *site) down() {
	if s.ended == nil {
		return
	}
	for name, pid := range s.clonePids() {
		if pid < 0 { // started by spawn, so that up does not know it
			s.term(name)
		}
	}
	close(s.stop)
	if err := <-s.ended; err != nil {
		s.Errorf("stopping: %v", err)
	}
	s.ended = nil
}

// program makes a process run another program from its next start on.
func (s *site) program(name, path string) {
	s.changed(func(spec up.Spec) up.Spec {
		if spec.Name == name {
			spec.Path = path
		}
		return spec
	})
}

// changed sets how processes are started from now on; nil is as up does.
func (s *site) changed(by func(up.Spec) up.Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = by
}

func (s *site) clonePids() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pids)
}

// pid is a process's id. Processes that spawn started are kept with the sign changed.
func (s *site) pid(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.pids[name], -s.pids[name])
}

// kill is kill -9, and waits until the process is gone.
func (s *site) kill(name string) {
	s.Helper()
	s.signal(name, syscall.SIGKILL)
}

// term asks the process to end, and waits until it has.
func (s *site) term(name string) {
	s.Helper()
	s.signal(name, syscall.SIGTERM)
}

func (s *site) signal(name string, sig syscall.Signal) {
	s.Helper()
	pid := s.pid(name)
	if pid == 0 {
		return
	}
	if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
		s.Fatalf("signalling the %s: %v", name, err)
	}
	s.await(name+" is gone", 40*time.Second, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[name] = 0
}

// spawn starts one process again, as up started it, and does not wait for it.
func (s *site) spawn(name string) *up.Child {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	spec := s.specs[name]
	if s.change != nil {
		spec = s.change(spec)
	}
	c, err := s.spawner.Start(spec)
	if err != nil {
		s.Fatal(err)
	}
	s.pids[name] = -c.PID
	return c
}

// restart is spawn, and waits until the process is ready.
func (s *site) restart(name string) {
	s.Helper()
	c := s.spawn(name)
	s.await(name+" is ready", 30*time.Second, func() bool {
		select {
		case <-c.Done():
			s.Fatal(c.Death())
		default:
		}
		return s.health(name).Ready
	})
}

// health is what the process's /readyz says.
func (s *site) health(name string) up.Health { return up.Probe(context.Background(), s.dir, name) }

// status is what the custodian says at its admin socket.
func (s *site) status() *admin.Status {
	s.Helper()
	st, err := s.admin.Status(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	return st
}

// signer opens a demo person's key.
func (s *site) signer(person string) *estate.Signer {
	s.Helper()
	k, err := estate.Open(s.dir.Join("people", person+".key"), nil)
	if err != nil {
		s.Fatal(err)
	}
	return k
}

// seal signs a record as its file.
func (s *site) seal(kind string, v any, people ...string) []byte {
	s.Helper()
	var by []*estate.Signer
	for _, p := range people {
		by = append(by, s.signer(p))
	}
	env, err := estate.Seal(kind, v, by...)
	if err != nil {
		s.Fatal(err)
	}
	b, err := statement.Canonical(env)
	if err != nil {
		s.Fatal(err)
	}
	return b
}

// reeve runs the operator's command and returns its output and exit status.
func (s *site) reeve(args ...string) (string, int) {
	s.Helper()
	return s.reeveWith("", args...)
}

// reeveWith is reeve with standard input.
func (s *site) reeveWith(input string, args ...string) (string, int) {
	s.Helper()
	cmd := exec.Command(filepath.Join(bin, "reeve"), append(args, "--dir", s.path)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mustRun is reeve, which must exit with status 0.
func (s *site) mustRun(args ...string) string {
	s.Helper()
	out, status := s.reeve(args...)
	if status != 0 {
		s.Fatalf("reeve %s: exit status %d: %s", strings.Join(args, " "), status, out)
	}
	return out
}

// seen is the demo upstream's own record of the requests that reached it.
func (s *site) seen() []upstream.Request {
	s.Helper()
	b, err := os.ReadFile(s.dir.Join(host.Upstream, "seen.jsonl"))
	if err != nil {
		s.Fatal(err)
	}
	var all []upstream.Request
	for line := range strings.Lines(string(b)) {
		var r upstream.Request
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.Fatalf("the upstream's record: %v in %q", err, line)
		}
		all = append(all, r)
	}
	return all
}

// await waits until ok; it gives up after limit.
func (s *site) await(what string, limit time.Duration, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("after %s it is not so that %s", limit, what)
		}
	}
}

// settled waits until witnesses have cosigned all that the custodian wrote, heartbeats aside.
func (s *site) settled() {
	s.Helper()
	s.await("everything is cosigned", 20*time.Second, func() bool {
		st := s.status()
		return st.Ledger.Size > 0 && st.Ledger.Cosigned == st.Ledger.Size && st.InFlight == 0
	})
}

// tell prints what helps to understand a failure.
func (s *site) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Logf("reeve up: %s", s.out.String())
	for name := range s.specs {
		b, _ := os.ReadFile(s.dir.Log(name))
		s.Logf("the last of the %s's log:\n%s", name, b[max(0, len(b)-2500):])
	}
}

// locked is where up writes.
type locked struct{ *site }

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

// contains fails the test unless text has every part: what a person reads says what happened, what it means, what to do.
func contains(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q: %s", what, p, text)
		}
	}
}

// url is an address of the gateway.
func (s *site) url(path string) string {
	return fmt.Sprintf("http://%s:%d%s", cmp.Or(s.gateway, "127.0.0.1"), s.dir.Run.Ports.Gateway, path)
}
