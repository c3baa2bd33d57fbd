package oauth

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// crash is a process that is killed while it fetches.
type crash struct {
	Record statement.Credential
	Root   string
	State  string // path
	Save   int    // it kills itself at this Save; 0 for none: it is killed from outside
	Stored bool   // after it
}

// TestMain runs the process that is to be killed, when this test started it.
func TestMain(m *testing.M) {
	text := os.Getenv("OAUTH_TEST_CRASH")
	if text == "" {
		os.Exit(m.Run())
	}
	var c crash
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	os.Unsetenv("OAUTH_TEST_CRASH")
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Crash", F: c.run}}, nil, nil)
}

func (c *crash) run(t *testing.T) {
	state := &file{path: c.State, seen: func(n int, stored bool) {
		if n == c.Save && stored == c.Stored {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	s, err := New(source.Config{Custodian: "c1", Record: c.Record, State: state, Clock: time.Now,
		Root: func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(c.Root)), nil }})
	if err != nil {
		t.Fatal(err)
	}
	s.Fetch(context.Background(), sourcetest.Durable(t), source.Ask{})
	t.Fatal("it was to be killed")
}

// TestKilledAtEachStep: at no step is a refresh token spent twice, and at no step but one can it be lost. In that one the endpoint had
// answered and nothing was on disk: an endpoint that answers again heals it, and with another the owner is told.
func TestKilledAtEachStep(t *testing.T) {
	for _, step := range []struct {
		name    string
		save    int
		stored  bool
		arrived bool // killed when the request is there, and before it counts
		leaving bool // killed when it counts, and before the answer leaves
		given   int  // access tokens until then
		lost    bool
	}{
		{name: "before the mark", save: 1},
		{name: "marked, not sent", save: 1, stored: true},
		{name: "sent, not taken", arrived: true},
		{name: "taken, not answered", leaving: true, given: 1, lost: true},
		{name: "answered, not stored", save: 2, given: 1, lost: true},
		{name: "stored, not used", save: 2, stored: true, given: 1},
	} {
		for _, again := range []bool{false, true} {
			name := step.name
			if again {
				name += ", at an endpoint that answers again"
			}
			t.Run(name, func(t *testing.T) {
				s := newSite(t, nil)
				s.again = again
				c := s.custodian("c1")
				cfg := s.config("c1", nil)
				text, err := json.Marshal(crash{Record: cfg.Record, Root: s.root, State: c.state.path, Save: step.save, Stored: step.stored})
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "OAUTH_TEST_CRASH="+string(text))
				started, dead := make(chan struct{}), make(chan struct{})
				kill := func() { <-started; cmd.Process.Kill(); <-dead }
				if step.arrived {
					s.on(func() bool { kill(); return false }, nil)
				}
				if step.leaving {
					s.on(nil, func(b []byte) []byte { kill(); return b })
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				close(started)
				cmd.Wait()
				close(dead)
				if w, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || w.Signal() != syscall.SIGKILL {
					t.Fatalf("it ended by itself: %v", cmd.ProcessState)
				}
				s.on(nil, nil)
				s.whole(t, step.given)
				s.late.Store(600)
				c.start("c1")
				if step.lost && !again {
					c.refused(source.ErrRefused, "cut off", "authorize the client anew", "credential put")
					c.refused(source.ErrRefused, "cut off")
					return
				}
				c.fetch()
				c.fetch()
				given := step.given + 2
				if step.lost {
					given-- // the first answer came again
				}
				s.whole(t, given)
			})
		}
	}
}
