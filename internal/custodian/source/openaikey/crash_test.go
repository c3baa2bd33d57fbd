package openaikey_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/ledger"
)

// A custodian is killed at every step of making a key. The next start finds what was made and its own file of versions does not name, deletes it,
// and makes another. A version that the file names is ended later, as lifecycle.TestKilledBetweenEntryAndFile has it.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		at     string
		orphan bool
	}{
		{"before the call", false},
		{"before the answer", true},
		{"before the entry", false},
		{"nowhere", false},
	} {
		t.Run(c.at, func(t *testing.T) {
			d := &double{}
			ctx, kill := context.WithCancel(context.Background())
			defer kill()
			dead := make(chan struct{})
			if c.at == "before the answer" {
				d.after = func(call string) {
					if strings.HasPrefix(call, "POST") {
						kill()
						<-dead // the answer leaves when this handler has returned
					}
				}
			}
			server := httptest.NewTLSServer(d)
			defer server.Close()
			dir := t.TempDir()
			out, err := child(ctx, server, dir, c.at).CombinedOutput()
			close(dead)
			if killed := err != nil; killed != (c.at != "nowhere") || bytes.Contains(out, []byte("FAIL")) {
				t.Fatalf("%v: %s", err, out)
			}
			d.mu.Lock()
			d.after = nil
			orphans, calls := len(d.alive), len(d.calls)
			d.mu.Unlock()
			known := c.at == "before the entry" || c.at == "nowhere" // its bytes were in memory alone; it is remembered, and ended
			if want := c.orphan || known; (orphans == 1) != want {
				t.Fatalf("%d keys after the first start", orphans)
			}
			if out, err := child(context.Background(), server, dir, "nowhere").CombinedOutput(); err != nil {
				t.Fatalf("the next start: %v: %s", err, out)
			}
			list := "GET " + accounts
			want := []string{list, "POST " + accounts}
			if c.orphan {
				want = slices.Insert(want, 1, "DELETE "+accounts+"/svc_acct_1")
			}
			if got := d.calls[calls:]; !slices.Equal(got, want) {
				t.Errorf("the next start called %q, want %q", got, want)
			}
			keys := 1
			if known {
				keys = 2
			}
			if n := len(d.living()); n != keys {
				t.Errorf("%d keys live at the end, want %d", n, keys)
			}
		})
	}
}

func child(ctx context.Context, server *httptest.Server, dir, at string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), "REEVE_CRASH_AT="+at, "REEVE_CRASH_URL="+server.URL, "REEVE_CRASH_CA="+certificate(server), "REEVE_CRASH_DIR="+dir)
	return cmd
}

// TestCrashChild is the custodian that TestCrash kills.
func TestCrashChild(t *testing.T) {
	at := os.Getenv("REEVE_CRASH_AT")
	if at == "" {
		t.Skip("started by TestCrash")
	}
	die := func(here string) {
		if at == here {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	durable := sourcetest.Durable(t)
	cfg := newConfig(os.Getenv("REEVE_CRASH_URL"), os.Getenv("REEVE_CRASH_CA"))
	cfg.Record.From.PerWorkload = false
	dir, err := state.Open(os.Getenv("REEVE_CRASH_DIR") + "/research")
	if err != nil {
		t.Fatal(err)
	}
	k, err := lifecycle.New(lifecycle.Config{
		Record: cfg.Record, Tenant: cfg.Tenant, Unit: cfg.Unit, Source: open(t, cfg), Dir: dir, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Root: func() *sealed.Held { return nil }, Fingerprint: func(b []byte) string { return "fp" },
		Open: func(s *source.Secret) (*pin.Parts, error) {
			patterns, err := guard.New(s.Value)
			return &pin.Parts{Patterns: patterns}, err
		},
		May: func() error { return nil }, Entry: func(t entry.Type) *entry.Entry { return &entry.Entry{Type: t} }, Note: func(*entry.Entry) {},
		Append: func(e *entry.Entry) (ledger.Durable, error) {
			switch {
			case e.Type == entry.Mint && e.Reason == "fetch":
				die("before the call")
			case e.Type == entry.Outcome && e.Reason == "fetched":
				die("before the entry")
			}
			return durable, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	h, err := k.Hold(context.Background(), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.Leave()
}
