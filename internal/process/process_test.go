package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/confine"
)

type config struct {
	ID  string `yaml:"id"`
	Ops string `yaml:"ops"`

	Level string `yaml:"level,omitempty"`
}

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationIsStrict(t *testing.T) {
	app := App[config]{Name: "reeve-test", Default: config{ID: "d"}, Check: func(c *config) error {
		if c.ID == "bad" {
			return errors.New("id is bad")
		}
		return nil
	}}
	for _, c := range []struct{ text, want string }{
		{"id: x\nopz: y\n", "[2:1]"},
		{"id: x\nid: y\n", "[2:1]"},
		{"id: bad\n", "id is bad"},
	} {
		if _, err := app.load(write(t, c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want an error with %q", c.text, err, c.want)
		}
	}
	got, err := app.load(write(t, "ops: unix:/x\n"))
	if err != nil || got.ID != "d" || got.Ops != "unix:/x" {
		t.Errorf("load = %+v, %v", got, err)
	}
}

func TestWhatWaitsForTheNextStart(t *testing.T) {
	app := App[config]{Name: "reeve-test", Live: []string{"level"}}
	for _, c := range []struct {
		fresh config
		want  string
	}{
		{config{ID: "a", Ops: "o"}, ""},
		{config{ID: "a", Ops: "o", Level: "debug"}, ""},
		{config{ID: "b", Ops: "p"}, "id ops"},
	} {
		later, err := app.later(&config{ID: "a", Ops: "o"}, &c.fresh)
		if err != nil || strings.Join(later, " ") != c.want {
			t.Errorf("%+v: %v, %v", c.fresh, later, err)
		}
	}
}

func TestPrintConfigAndVersion(t *testing.T) {
	app := App[config]{Name: "reeve-test", Default: config{ID: "d"}}
	var out bytes.Buffer
	if err := app.run([]string{"--config", write(t, "ops: unix:/x\n"), "--print-config"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if want := "id: d\nops: unix:/x\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	out.Reset()
	if err := app.run([]string{"--version"}, &out, io.Discard); err != nil || !strings.HasPrefix(out.String(), "reeve-test ") {
		t.Errorf("--version: %v, %q", err, out.String())
	}
	if err := app.run(nil, &out, io.Discard); !errors.Is(err, errUsage) {
		t.Errorf("no arguments: %v, want usage", err)
	}
}

func TestDebugSettingsThatLogSecretsAreRefused(t *testing.T) {
	for _, s := range []string{"http2debug=1", "http2debug=2", "gctrace=0,http2debug=1"} {
		if refuseDebug(s) == nil {
			t.Errorf("GODEBUG=%s was accepted", s)
		}
	}
	if err := refuseDebug("gctrace=1"); err != nil {
		t.Error(err)
	}
}

func TestServe(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "reeve")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "ops.sock")
	file := write(t, "")
	app := App[config]{
		Name: "reeve-test",
		Ops:  func(c *config) string { return c.Ops },
		Check: func(c *config) error {
			if c.ID == "bad" {
				return errors.New("id is bad")
			}
			return nil
		},
		LogLevel: func(c *config) string { return c.Level },
		Live:     []string{"level", "id"},
		Run: func(ctx context.Context, rt *Runtime, c *config, reload <-chan *config) error {
			rt.Ready.Set("ledger", "waiting for the disk")
			client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return net.Dial("unix", socket)
			}}}
			get := func(path string) (int, string) {
				resp, err := client.Get("http://ops" + path)
				if err != nil {
					t.Error(err)
					return 0, ""
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(b)
			}
			if status, body := get("/readyz"); status != 503 || !strings.Contains(body, "waiting for the disk") {
				t.Errorf("/readyz before: %d %s", status, body)
			}
			rt.Ready.Set("ledger", "")
			if status, _ := get("/readyz"); status != 200 {
				t.Errorf("/readyz after: %d", status)
			}
			if status, _ := get("/healthz"); status != 200 {
				t.Errorf("/healthz: %d", status)
			}
			rt.Metrics.Counter("reeve_x_total", "Xs.").Inc()
			if _, body := get("/metrics"); !strings.Contains(body, "reeve_x_total 1") {
				t.Errorf("/metrics: %s", body)
			}
			refused := 0
			for _, r := range []struct {
				text, note string
				level      slog.Level
			}{
				{"id: new\nlevel: debug\n", "", slog.LevelDebug},
				{"id: new\nlevel: loud\n", "log_level is", slog.LevelDebug},
				{"id: bad\n", "id is bad", slog.LevelDebug},
				{"id: [\n", "is refused", slog.LevelDebug},
				{"id: newer\n", "", slog.LevelInfo},
			} {
				if err := os.WriteFile(file+".new", []byte(r.text), 0o600); err != nil {
					t.Error(err)
				}
				os.Rename(file+".new", file)
				syscall.Kill(os.Getpid(), syscall.SIGHUP)
				if r.note == "" {
					select {
					case fresh := <-reload:
						rt.Reloaded(nil)
						if !strings.Contains(r.text, "id: "+fresh.ID+"\n") {
							t.Errorf("%q came as %+v", r.text, fresh)
						}
					case <-time.After(20 * time.Second):
						t.Error("SIGHUP did not reload")
					}
				}
				if r.note != "" {
					refused++
				}
				body := ""
				for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
					_, count := get("/metrics") // the next signal must not overtake this one
					if !strings.Contains(count, fmt.Sprintf("reeve_process_reloads_refused_total %d\n", refused)) && time.Now().Before(end) {
						continue
					}
					if _, body = get("/readyz"); strings.Contains(body, `"configuration"`) == (r.note != "") && strings.Contains(body, r.note) || time.Now().After(end) {
						break
					}
				}
				if !strings.Contains(body, r.note) || r.note == "" && strings.Contains(body, "configuration") {
					t.Errorf("after %q: %s", r.text, body)
				}
				if !rt.Log.Enabled(ctx, r.level) || rt.Log.Enabled(ctx, r.level-1) {
					t.Errorf("after %q the log is not at %s", r.text, r.level)
				}
			}
			if _, body := get("/metrics"); !strings.Contains(body, "reeve_process_reloads_refused_total 3") {
				t.Errorf("/metrics: %s", body)
			}
			syscall.Kill(os.Getpid(), syscall.SIGTERM)
			<-ctx.Done()
			return ctx.Err()
		},
	}
	cfg := config{Ops: "unix:" + socket}
	if err := app.serve(&cfg, options{config: file}, confine.Report{}, io.Discard); err != nil {
		t.Errorf("serve = %v, want a clean end", err)
	}
}

// A log that somebody looks at in a terminal holds text alone, and says the same to who reads its JSON.
func TestLogIsText(t *testing.T) {
	const name = "agent\x1b[2J\u009b31m\u202egnp\x7f"
	app := App[config]{Name: "reeve-test", Run: func(_ context.Context, rt *Runtime, _ *config, _ <-chan *config) error {
		rt.Log.Warn("refused", "name", name)
		rt.Journal.Begin("request").Text("name", name).End()
		return nil
	}}
	var log bytes.Buffer
	if err := app.serve(&config{}, options{config: write(t, "")}, confine.Report{}, &log); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(log.String(), func(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }); i >= 0 {
		t.Errorf("the log has %q", log.String()[i:])
	}
	said := 0
	for line := range strings.Lines(log.String()) {
		var member struct{ Name string }
		if err := json.Unmarshal([]byte(line), &member); err != nil {
			t.Errorf("%s: %v", line, err)
		} else if member.Name == name {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d of 2 lines say the name:\n%s", said, log.String())
	}
}

// An age that grows is no news: a process that waits for hours writes its reason once.
func TestReadinessIsNewsOnce(t *testing.T) {
	r := newReadiness()
	for _, step := range []struct {
		reason string
		news   bool
	}{{"", true}, {"too old (40s): unreachable", true}, {"too old (41s): unreachable", false}, {"too old (41s): refused", true}, {"", true}, {"", false}} {
		if got := r.Set("feed", step.reason); got != step.news {
			t.Errorf("Set(%q) is news: %v, want %v", step.reason, got, step.news)
		}
		if _, all := r.State(); all["feed"] != step.reason {
			t.Errorf("the reason is %q, want %q", all["feed"], step.reason)
		}
	}
}
