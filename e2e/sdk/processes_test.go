package sdk

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/up"
)

// demo is one demo estate with its real processes for all tests of the package, started when it is first needed.
var demo struct {
	once  sync.Once
	err   error
	stack *stack
	root  string        // everything of it on the disk
	state string        // further state outside of it
	stop  chan struct{} // closed to stop it
	ended chan error
	out   bytes.Buffer // what `reeve up` printed; read after it ended
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer func() {
		if demo.root == "" {
			return
		}
		if demo.stop != nil {
			close(demo.stop)
			<-demo.ended
		}
		os.RemoveAll(demo.root)
		if demo.state != "" {
			os.RemoveAll(demo.state)
		}
	}()
	return m.Run()
}

// processes is a stack of the real binaries, as `reeve up` starts them.
func processes(t *testing.T) *stack {
	t.Helper()
	demo.once.Do(func() { demo.stack, demo.err = startDemo() })
	if demo.err != nil {
		t.Fatal(demo.err)
	}
	return demo.stack
}

func startDemo() (*stack, error) {
	root, err := os.MkdirTemp("", "reeve-sdk-")
	if err != nil {
		return nil, err
	}
	demo.root = root
	bin, dir := filepath.Join(root, "bin"), filepath.Join(root, "demo")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	if err := binaries.Build(bin, "", binaries.All()...); err != nil {
		return nil, err
	}
	for _, path := range []string{root, bin} { // the processes' users pass through
		if err := os.Chmod(path, 0o755); err != nil {
			return nil, err
		}
	}
	ready := make(chan *host.Dir, 1)
	demo.stop, demo.ended = make(chan struct{}), make(chan error, 1)
	go func() {
		demo.ended <- up.Run(context.Background(), up.Options{Dir: dir, Bin: bin, Out: &demo.out, Now: time.Now,
			Then: func(_ context.Context, d *host.Dir, _ map[string]int) error {
				ready <- d
				<-demo.stop
				return nil
			}})
	}()
	select {
	case d := <-ready:
		demo.state = d.Run.State
		return connect(d)
	case err := <-demo.ended:
		demo.stop = nil
		return nil, fmt.Errorf("reeve up: %w\n%s", err, &demo.out)
	}
}

// connect finds out what a test needs of a running demo.
func connect(d *host.Dir) (*stack, error) {
	env, err := os.ReadFile(d.Env())
	if err != nil {
		return nil, err
	}
	s := &stack{maps: true}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case "REEVE_URL":
			s.url = value
		case "REEVE_KEY":
			s.key = value
		}
	}
	if s.url == "" || s.key == "" {
		return nil, errors.New("the demo's env names no URL or key")
	}
	ca, err := os.ReadFile(d.Join("upstream", "demo-ca", "ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	s.seen = func(since int64) ([]upstream.Request, int64) {
		var answer struct {
			Count    int64
			Requests []upstream.Request
		}
		b := get(direct, fmt.Sprintf("https://%s/_demo/seen?since=%d", host.Local(d.Run.Ports.Upstream), since))
		if json.Unmarshal(b, &answer) != nil {
			return nil, -1
		}
		return answer.Requests, answer.Count
	}
	ops := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", d.Socket(host.Gateway, "ops"))
	}}}
	s.live = func() int64 {
		for line := range strings.Lines(string(get(ops, "http://ops/metrics"))) {
			if v, ok := strings.CutPrefix(line, "reeve_gateway_in_flight "); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				if err == nil {
					return n
				}
			}
		}
		return -1
	}
	return s, nil
}

// get is an answer's body, or nothing.
func get(client *http.Client, url string) []byte {
	resp, err := client.Get(url)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body) // half an answer is not parsed by the callers
	return b
}
