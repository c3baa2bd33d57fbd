// Package drill takes a gateway over and shows what that brought: it starts an estate of its own with the real processes, puts an
// attacker's code inside the gateway and another beside it as a bare process of its user, and another into the authority, and goes through the scenarios
// S1 to S10 of the control catalogue. The same is done to the double, a gateway of one process with the keys in it, so that a drill that
// could not find anything is told from one that found nothing.
package drill

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/gateway"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/internal/up"
)

// Options say how a drill runs.
type Options struct {
	Bin      string    // folder of the binaries
	Calls    int       // made through each gateway before the attack
	Progress io.Writer // a line a step
	Keep     bool      // leave the estate's directory behind, for a look
	Only     []string  // scenarios by id; none for all
}

// Run plays the drill on an estate that it makes and removes.
func Run(ctx context.Context, o Options) (*Report, error) {
	chosen, err := choose(o.Only)
	if err != nil {
		return nil, err
	}
	base, err := os.MkdirTemp("/tmp", "reeve-drill-")
	if err != nil {
		return nil, fmt.Errorf("making the drill's directory: %w", err)
	}
	if !o.Keep {
		defer os.RemoveAll(base)
	}
	if err := os.Chmod(base, 0o711); err != nil { // the processes' users pass through
		return nil, err
	}
	f := &field{Options: o, base: base, chosen: chosen, specs: map[string]up.Spec{}, keys: map[string]secret.Value{}}
	if err := f.make(filepath.Join(base, "estate")); err != nil {
		return nil, fmt.Errorf("making the drill's estate: %w", err)
	}
	defer f.endpoint.listener.Close()
	defer f.pager.close()
	if f.dir.State != f.dir.Path && !o.Keep {
		defer os.RemoveAll(f.dir.State)
	}
	report := &Report{Calls: o.Calls, Began: time.Now().UTC(), Version: process.Version, Played: drills.Own}
	err = up.Run(ctx, up.Options{
		Dir: f.dir.Path, Bin: o.Bin, Out: o.Progress, Now: time.Now, Command: f.capture,
		Then: func(ctx context.Context, d *host.Dir, pids map[string]int) error {
			f.dir, f.pids = d, pids
			defer func() {
				for _, c := range f.restarted {
					c.Stop(time.Minute)
				}
			}()
			return f.play(ctx, report)
		},
	})
	if err != nil {
		return nil, err
	}
	report.Ended = time.Now().UTC()
	return report, ctx.Err()
}

// field is where the drill takes place.
type field struct {
	Options
	base    string // the drill's directory
	dir     *host.Dir
	pids    map[string]int          // reeve's processes by name
	keys    map[string]secret.Value // the upstream's key of each credential: only the drill's own process has them all
	needles []loot.Needle
	escaped []loot.Needle      // that only answers are searched for
	issuer  ed25519.PrivateKey // of the issuer that vouches for research-agent, outside reeve
	clients []client           // one for each workload

	chosen    []scripted
	specs     map[string]up.Spec // of reeve's processes, as they were started
	revoked   int64              // number of ada's last revocation
	restarted []*up.Child        // in place of others
	deputy    *estate.Signer     // of whom everything is once cora has left
	pager     *pager             // where cora is told

	endpoint *endpoint // a source of secrets that is the attacker's
	planned  error     // why the estate could not be planned
}

// make creates the estate with keys that the drill knows.
func (f *field) make(dir string) error {
	d, err := host.Create(dir, f.Bin, true, 0)
	if err != nil {
		return err
	}
	f.dir = d
	if f.endpoint, err = newEndpoint(); err != nil {
		return err
	}
	if f.pager, err = newPager(); err != nil {
		return err
	}
	if f.deputy, err = estate.NewSigner("dora"); err != nil {
		return err
	}
	err = demo.Create(d, time.Now(), func(credential string) secret.Value {
		key := demo.RandomKey(credential)
		kept := secret.New(append([]byte(nil), key.Reveal()...))
		f.keys[credential] = kept
		if slices.Contains(chain()[1:], credential) || credential == trap {
			return key // as many needles would only lengthen the search
		}
		f.needles = append(f.needles, loot.Needles(credential, kept.Reveal())...)
		f.escaped = append(f.escaped, loot.Escaped(credential, kept.Reveal())...)
		return key
	}, f.vouch, f.federate, f.enlarge)
	if err = errors.Join(f.planned, err); err != nil {
		return err
	}
	ca, err := upstream.OpenCA(d.Join(host.Upstream, "demo-ca"))
	if err != nil {
		return err
	}
	return f.endpoint.serve(ca)
}

// capture starts the gateway's and the authority's code with the attacker in the same process, in place of their binaries.
func (f *field) capture(s up.Spec) up.Spec {
	if command := map[string]string{host.Gateway: "captured", host.Authority: "captured-authority"}[s.Name]; command != "" {
		s.Path = filepath.Join(filepath.Dir(s.Path), "reeve")
		s.Args = append([]string{"drill", command}, s.Args...)
	}
	f.specs[s.Name] = s
	return s
}

func (f *field) say(format string, args ...any) { terminal.Printf(f.Progress, format+"\n", args...) }

// The attackers' sockets, in folders that the gateway's user may write to.
func (f *field) inside() string { return f.dir.Join(host.Gateway, capturedSocket) }
func (f *field) beside() string { return f.dir.Join(host.Gateway, "bare.sock") }

const capturedSocket = "captured.sock"

// Captured is the gateway with an attacker in it: the real gateway's code, configuration and confinement.
func Captured() process.App[gateway.Config] {
	app := gateway.App()
	run := app.Run
	app.Run = func(ctx context.Context, rt *process.Runtime, cfg *gateway.Config, reload <-chan *gateway.Config) error {
		path := filepath.Join(cfg.StateDir, capturedSocket)
		l, err := net.Listen("unix", path)
		if err != nil {
			return fmt.Errorf("placing the attacker: %w", err)
		}
		maps, err := os.Open("/proc/self/maps")
		if err != nil {
			return fmt.Errorf("placing the attacker: %w", err)
		}
		go ServeAttacker(ctx, l, maps, nil) // ends with ctx
		return run(ctx, rt, cfg, reload)
	}
	return app
}

// Bare is the attacker as a process of its own, without confinement.
func Bare(ctx context.Context, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := ServeAttacker(ctx, l, nil, nil); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// level asks the custodian at which isolation level it sees the gateway.
func (f *field) level(ctx context.Context) (string, error) {
	s, err := f.admin().Status(ctx)
	if err != nil {
		return "", fmt.Errorf("asking the custodian for its isolation level: %w", err)
	}
	if level := s.Isolation["g1"]; level != "" {
		return level, nil
	}
	return "", errors.New("the custodian has not said at which isolation level it sees the gateway")
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
