// Package up runs an estate's processes on one machine as child processes: the demo, or a real estate on one host.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

const (
	ready = 60 * time.Second // for all processes to become ready
	grace = 35 * time.Second // for one process to drain and end
)

// Options say what to run and where to tell about it.
type Options struct {
	Dir  string
	Bin  string // folder of the binaries
	Port int    // first port of a new directory; 0 for any free ones
	Out  io.Writer
	Now  func() time.Time
	// Sealed has a new demo's keys of the upstream handed over, instead of tokens exchanged.
	Sealed bool
	// Command, if set, may change how a process is started.
	Command func(Spec) Spec
	// Then, if set, runs once all is ready, with the processes' pids by name; when it returns, everything is stopped.
	Then func(ctx context.Context, d *host.Dir, pids map[string]int) error
}

// Run makes a demo in a new directory, or takes the estate that is there, runs its processes until ctx ends, and stops them in
// order. A process that ends by itself is an error, and stops the others. On a directory that runs already it prints the status.
func Run(ctx context.Context, o Options) error {
	d, lock, err := open(o)
	if errors.Is(err, ErrRunning) {
		terminal.Printf(o.Out, "It runs already: this starts nothing and stops nothing.\n")
		return Report(ctx, o.Out, d)
	}
	if err != nil {
		return err
	}
	defer lock.release()
	syscall.Umask(0o027) // groups of the processes' users read what is published
	if err := d.Prepare(binaries()); err != nil {
		return err
	}
	if err := d.Run.Ports.Free(); err != nil {
		return err
	}
	s := &supervisor{Options: o, dir: d, spawner: NewSpawner(), lock: lock}
	defer s.stop()
	if err := s.start(); err != nil {
		return err
	}
	if err := s.waitReady(ctx); err != nil {
		return quiet(ctx, err)
	}
	if o.Then != nil {
		return o.Then(ctx, d, s.pids())
	}
	if err := Report(ctx, o.Out, d); err != nil {
		select {
		case c := <-s.ended(): // which says more than that it is not ready
			return c.Death()
		case <-time.After(time.Second):
			return err
		}
	}
	return quiet(ctx, s.wait(ctx))
}

// quiet makes an error that came with the end of ctx none: stopping is what was asked for.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// open locks the directory and opens it, renewing a demo, or makes one.
func open(o Options) (*host.Dir, *Lock, error) {
	d, err := host.Open(o.Dir, o.Bin)
	if err != nil && !errors.Is(err, host.ErrNone) {
		return nil, nil, err
	}
	fresh := err != nil
	if fresh {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("making the directory: %w", err)
		}
	}
	lock, err := takeLock(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return d, nil, err
	}
	if fresh {
		d, err = create(o)
	} else {
		err = refresh(d, o.Now())
	}
	if err != nil {
		lock.release()
		return nil, nil, err
	}
	return d, lock, nil
}

// refresh renews a demo, and brings what was written from the estate up to date: the keys that receipts are checked with and,
// when the directory was moved, the configurations. A real estate's configurations are its operator's: they are not touched.
func refresh(d *host.Dir, now time.Time) error {
	if d.Run.Demo {
		if _, err := demo.Renew(d, now); err != nil {
			return err
		}
	}
	set, err := statement.Load(estate.Dir(d.Join("estate")).Store(), d.Pin(), nil, now)
	if err != nil {
		return nil // the processes say what is wrong, and go on with the set that they have
	}
	switch {
	case !d.Displaced():
		return d.WriteTrust(&set.Charter)
	case !d.Run.Demo:
		return fmt.Errorf("%s was %s when its configurations were written, and they still say so: move it back, or put the new path into %s/*/*.yaml and run.yaml", d.Path, d.Run.Path, d.Path)
	}
	if err := d.WriteConfigs(host.Estate{Pin: d.Pin(), Charter: &set.Charter, IDs: demo.Processes}); err != nil {
		return err
	}
	return d.Finish(d.Pin())
}

func create(o Options) (*host.Dir, error) {
	terminal.Printf(o.Out, "Making a demo estate in %s.\n", host.Shown(o.Dir))
	d, err := host.Create(o.Dir, o.Bin, true, o.Port)
	if err != nil {
		return nil, err
	}
	if o.Sealed {
		return d, demo.Create(d, o.Now(), demo.RandomKey)
	}
	return d, demo.Create(d, o.Now(), nil)
}

// binaries are the programs of the processes.
func binaries() []string {
	return []string{"reeve", "reeve-gateway", "reeve-custodian", "reeve-authority", "reeve-auditor"}
}

// supervisor runs the processes of one directory.
type supervisor struct {
	Options
	dir      *host.Dir
	spawner  *Spawner
	lock     *Lock
	children []*Child
}

// start starts every process; they wait for one another themselves.
func (s *supervisor) start() error {
	for _, name := range host.Start(s.dir.Run.Demo) {
		spec, err := s.spec(name)
		if err != nil {
			return err
		}
		if s.Command != nil {
			spec = s.Command(spec)
		}
		c, err := s.spawner.Start(spec)
		if err != nil {
			return err
		}
		s.children = append(s.children, c)
	}
	return s.lock.write(Running{PID: os.Getpid(), Children: s.pids()})
}

func (s *supervisor) pids() map[string]int {
	pids := map[string]int{}
	for _, c := range s.children {
		pids[c.Name] = c.PID
	}
	return pids
}

func (s *supervisor) spec(name string) (spec Spec, err error) {
	spec = Spec{Name: name, UID: host.UID(name), Log: s.dir.Log(name), Path: filepath.Join(s.dir.Bin, "reeve-"+name)}
	if name == host.Upstream {
		spec.Path = filepath.Join(s.dir.Bin, "reeve")
		spec.Args = []string{"demo", "upstream", "--listen", host.Local(s.dir.Run.Ports.Upstream), "--state", s.dir.Join(name)}
		return spec, nil
	}
	spec.Args = []string{"--config", s.dir.Config(name)}
	if s.dir.Run.Demo {
		spec.Args = append(spec.Args, "--demo")
	}
	if name == host.Custodian {
		spec.Descriptor, err = s.dir.PassphraseFD()
	}
	return spec, err
}

// waitReady returns when every process is ready, one has ended, or the time is over. It tells what is waited for.
func (s *supervisor) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ready, errLate)
	defer cancel()
	tell := time.Now().Add(time.Second)
	for up := 0; ; {
		for up < len(s.children) && Probe(ctx, s.dir, s.children[up].Name).Ready { // no more are asked: those that start need the processors
			up++
		}
		late := time.Now().After(tell)
		if late || up == len(s.children) {
			waits := s.waits(ctx)
			if len(waits) == 0 {
				return nil
			}
			if late {
				terminal.Printf(s.Out, "Waiting for:\n%s\n", terminal.Lines(strings.Join(waits, "\n")))
				tell = time.Now().Add(10 * time.Second)
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errLate) {
				waits := s.waits(context.WithoutCancel(ctx))
				return fmt.Errorf("not ready after %s:\n%s\nThe logs are in %s", ready, strings.Join(waits, "\n"), host.Shown(s.dir.Path)+"/*/log")
			}
			return ctx.Err()
		case c := <-s.died():
			return c.Death()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errLate = errors.New("late")

// waits are lines of what is not ready.
func (s *supervisor) waits(ctx context.Context) []string {
	var all []string
	for _, c := range s.children {
		if h := Probe(ctx, s.dir, c.Name); !h.Ready {
			all = append(all, fmt.Sprintf("  %-10s %s", c.Name, h.Waits()))
		}
	}
	return all
}

// died yields the first child that has ended.
func (s *supervisor) died() <-chan *Child {
	got := make(chan *Child, 1)
	for _, c := range s.children {
		select {
		case <-c.Done():
			got <- c
			return got
		default:
		}
	}
	return got
}

// wait returns nil when ctx ends, and an error when a child does.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.Out, "\nStopping.")
		return nil
	case c := <-s.ended():
		return c.Death()
	}
}

// ended gives each child once it has ended.
func (s *supervisor) ended() <-chan *Child {
	all := make(chan *Child, len(s.children))
	for _, c := range s.children {
		go func() {
			<-c.Done()
			all <- c
		}()
	}
	return all
}

// stop stops the children, last started first.
func (s *supervisor) stop() {
	for _, c := range slices.Backward(s.children) {
		c.Stop(grace)
	}
	os.RemoveAll(s.dir.Sockets)
}
