package cosigner

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/witness"
)

// litewitness is a running filippo.io/torchwood/cmd/litewitness that knows one log.
type litewitness struct{ url, vkey string }

// startLitewitness runs one with a fresh key in an ssh-agent, and tells its database of the log: what witnessctl does.
func startLitewitness(t *testing.T, origin, logKey string) litewitness {
	t.Helper()
	dir, err := os.MkdirTemp("", "lw") // short, for the agent's socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "SSH_AUTH_SOCK="+filepath.Join(dir, "agent"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	begin := func(name string, args ...string) *bufio.Scanner {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return bufio.NewScanner(out)
	}
	begin("ssh-agent", "-D", "-a", filepath.Join(dir, "agent"))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("unix", filepath.Join(dir, "agent")); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no ssh-agent")
		}
	}
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key")
	run("ssh-add", "-q", "key")
	print := strings.Fields(run("ssh-keygen", "-l", "-f", "key.pub"))[1]
	l, err := net.Listen("tcp", "127.0.0.1:0") // litewitness does not say which port it was given
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	log := begin("litewitness", "-name", "litewitness.example/w", "-key", print, "-ssh-agent", filepath.Join(dir, "agent"), "-listen", addr)
	w := litewitness{url: "http://" + addr}
	for w.vkey == "" && log.Scan() {
		if m := regexp.MustCompile(`vkey="?([^ "]+)`).FindStringSubmatch(log.Text()); m != nil {
			w.vkey = m[1]
		}
	}
	go func() {
		for log.Scan() {
		}
	}()
	run("python3", "-c", `import sqlite3, sys
db = sqlite3.connect("litewitness.db", timeout=10)
db.execute("INSERT INTO log VALUES (?, 0, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')", (sys.argv[1],))
db.execute("INSERT INTO key VALUES (?, ?)", (sys.argv[1], sys.argv[2]))
db.commit()`, origin, logKey)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if resp, err := http.Get(w.url); err == nil {
			resp.Body.Close()
			return w
		}
		if time.Now().After(deadline) {
			t.Fatal("litewitness does not answer")
		}
	}
}

// A witness of another make cosigns reeve's ledger, and says what the specification says to all that is wrong.
func TestRealLitewitness(t *testing.T) {
	need.Real(t, "litewitness", "ssh-agent", "ssh-add", "ssh-keygen", "python3")
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	w := startLitewitness(t, key.Origin(), key.Verifier())
	client := &witness.Client{URL: w.url, Keys: keys(t, w.vkey), HTTP: &http.Client{Timeout: 10 * time.Second}}
	cfg := ledger.Config{Key: key, Dir: filepath.Join(t.TempDir(), "ledger"), Tiles: filepath.Join(t.TempDir(), "tiles"), Interval: 10 * time.Millisecond, Witnesses: []ledger.Witness{client}}
	size := int64(0)
	for range 2 { // opened again, the ledger asks from size 0 and is told the size
		l, err := ledger.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			if _, err := l.Append(&entry.Entry{Type: entry.Publish, Reason: "test"}, nil); err != nil {
				t.Fatal(err)
			}
			size++
		}
		for deadline := time.Now().Add(30 * time.Second); l.Status().Cosigned < size; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not cosigned: %+v", l.Status())
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(cfg.Tiles, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(raw, client.Keys())
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(timeOf(n.Sigs[0])); age < -time.Minute || age > time.Minute {
		t.Errorf("the cosignature says that it was made %s ago", age)
	}

	same, other := newTree(t, key.Origin(), "a", "b", "c"), newTree(t, "reeve/test/other", "a")
	if _, err := client.Cosign(t.Context(), 0, other.checkpoint(t, 1), nil); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("unknown log: %v", err)
	}
	if _, err := client.Cosign(t.Context(), 0, same.checkpoint(t, 3), nil); !errors.Is(err, witness.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	var conflict *ledger.ConflictError
	if _, err := client.Cosign(t.Context(), 0, raw, nil); !errors.As(err, &conflict) || conflict.Size != size {
		t.Errorf("old size 0: %v", err)
	}
}
