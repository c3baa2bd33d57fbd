package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// Status is what runs in a directory.
type Status struct {
	Dir       string    `json:"dir"`
	Demo      bool      `json:"demo"`
	Running   bool      `json:"running"`
	PID       int       `json:"pid,omitempty"` // of reeve up
	Processes []Process `json:"processes"`
	Isolation Isolation `json:"isolation"`
	Warnings  []string  `json:"warnings,omitempty"` // what ends within thirty days, and whom that concerns

	BreakGlass []admin.Glass `json:"break_glass,omitempty"` // every one that was in force at the custodian
}

// Process is one process's state.
type Process struct {
	Name   string `json:"name"`
	PID    int    `json:"pid,omitempty"`
	User   string `json:"user,omitempty"`
	Listen string `json:"listen"`
	Health
	Log string `json:"log"`
}

// Look asks every process of the directory.
func Look(ctx context.Context, d *host.Dir) Status {
	r, on := running(d.Lock())
	s := Status{Dir: d.Path, Demo: d.Run.Demo, Running: on, PID: r.PID}
	listen := map[string]string{
		host.Upstream: "https://" + host.Local(d.Run.Ports.Upstream), host.Auditor: "http://" + host.Local(d.Run.Ports.Auditor),
		host.Authority: "http://" + host.Local(d.Run.Ports.Authority), host.Custodian: d.Hop(),
		host.Gateway: "http://" + host.Local(d.Run.Ports.Gateway),
	}
	order := host.Start(d.Run.Demo)
	for i := range order {
		name := order[len(order)-1-i]
		p := Process{Name: name, Listen: listen[name], Log: host.Shown(d.Path + "/" + name + "/log"), PID: r.Children[name]}
		p.Health = Health{Error: "not running"}
		if on {
			p.Health = Probe(ctx, d, name)
			p.User = userOf(name)
		}
		s.Processes = append(s.Processes, p)
	}
	if on {
		s.ask(ctx, d)
	}
	if set, err := statement.Load(estate.Dir(d.Join("estate")).Store(), d.Pin(), nil, time.Now()); err == nil {
		s.Warnings = estate.Warnings(set, time.Now()) // what is wrong with a set that does not load is the processes' to say
	}
	return s
}

// userOf names the user that a process runs as.
func userOf(process string) string {
	uid := host.UID(process)
	if uid >= 0 {
		return strconv.Itoa(uid)
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// ErrDown means that nothing runs in the directory.
var ErrDown = errors.New("reeve is not running here")

// PrintStatus prints the processes as a table, and returns ErrDown when there are none, or an error that names what is not ready.
func PrintStatus(ctx context.Context, w io.Writer, d *host.Dir) error {
	s := Look(ctx, d)
	if !s.Running {
		return fmt.Errorf("%w: %s; start it with: reeve up --dir %s", ErrDown, host.Shown(d.Path), host.Shown(d.Path))
	}
	return s.print(w)
}

// Check returns ErrDown, or an error that names what is not ready.
func (s *Status) Check() error {
	if !s.Running {
		return ErrDown
	}
	for _, p := range s.Processes {
		if !p.Ready {
			return fmt.Errorf("the %s is not ready: %s; its log: %s", p.Name, p.Waits(), p.Log)
		}
	}
	return nil
}

// print prints the table, and returns what Check does.
func (s *Status) print(w io.Writer) error {
	t := table.New(w)
	fmt.Fprintln(t, "  PROCESS\tPID\tUSER\tSTATE\tLISTENS ON")
	for _, p := range s.Processes {
		state := "ready"
		if !p.Ready {
			state = "waits"
		}
		terminal.Printf(t, "  %s\t%d\t%s\t%s\t%s\n", p.Name, p.PID, p.User, state, p.Listen)
	}
	t.Flush()
	terminal.Printf(w, "\n  Isolation %s: %s.\n", s.Isolation.Level, s.Isolation.Holds)
	for _, n := range s.Isolation.NotHeld {
		terminal.Printf(w, "  NOT HELD  %s.\n", n)
	}
	for _, warning := range s.Warnings {
		terminal.Printf(w, "  warning: %s\n", warning)
	}
	for _, g := range s.BreakGlass {
		if g.Running {
			terminal.Printf(w, "  A break-glass is running until %s for %s (%s): %s.\n", g.Until.Format(time.TimeOnly), g.Credential, strings.Join(g.Signers, ", "), g.Reason)
		}
		if g.Rotate {
			terminal.Printf(w, "  The secret of %s was recovered by a break-glass: rotate it, or it is closed a day after.\n", g.Credential)
		}
		if g.Reviewers == nil {
			terminal.Printf(w, "  The break-glass %.16s waits for its review: reeve break-glass review.\n", g.Record)
		}
	}
	return s.Check()
}

// Down stops a running `reeve up` and waits for it.
func Down(ctx context.Context, d *host.Dir) error {
	r, on := running(d.Lock())
	if !on {
		return fmt.Errorf("%w: %s", ErrDown, host.Shown(d.Path))
	}
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping pid %d: %w", r.PID, err)
	}
	for {
		if _, on := running(d.Lock()); !on {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pid %d has not stopped: %w", r.PID, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
