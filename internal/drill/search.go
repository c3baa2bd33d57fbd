package drill

import (
	"context"
	"fmt"

	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/host"
)

// identity is the file with the key that opens the sealed secrets.
const identity = "identity.age"

// places are those of S1, in the order of the report.
func places() []string { return []string{"memory", "environment", "files", "descriptors", "sockets"} }

// target is what an attacker in the gateway's place goes through. self is the gateway's pid as the attacker sees it.
func (f *field) target(self int) *loot.Target {
	t := &loot.Target{
		PIDs: []int{self, f.pids[host.Custodian], f.pids[host.Authority], f.pids[host.Auditor]},
		// The gateway's own folders are named too: what is above them may be closed to it.
		Dirs:    []string{f.dir.Path, f.dir.Join(host.Gateway), f.dir.Join("tiles", host.Gateway), f.dir.Sockets, "/var/crash", "/var/lib/systemd/coredump"},
		Doors:   []string{f.dir.Join(host.Custodian, identity)},
		Needles: f.needles,
	}
	if f.dir.State != f.dir.Path {
		t.Dirs = append(t.Dirs, f.dir.State)
	}
	t.Sockets = loot.SocketsBelow(f.dir.Sockets)
	return t
}

// s1 is code execution as the gateway: inside its process, and beside it as its user.
func (f *field) s1(ctx context.Context, r *Report, d *doubled) error {
	f.say("S1: an attacker in the gateway's process, and one beside it, look for the keys.")
	for _, a := range []struct {
		name, socket string
		self         int
		double       string
		doubleSelf   int
	}{
		{"in the gateway", f.inside(), 0, d.inside, 0},
		{"beside the gateway", f.beside(), f.pids[host.Gateway], f.beside(), d.pid},
	} {
		got, err := order(ctx, a.socket, Order{Search: f.target(a.self)})
		if err != nil {
			return err
		}
		twin, err := order(ctx, a.double, Order{Search: &loot.Target{PIDs: []int{a.doubleSelf}, Dirs: []string{d.dir}, Needles: f.needles}})
		if err != nil {
			return err
		}
		for _, place := range places() {
			r.add(f.judge(r, a.name, place, got.Survey, twin.Survey))
		}
		if got.Survey.Read["memory"] == 0 && a.self == 0 {
			return fmt.Errorf("the attacker %s could not read its own memory: nothing can be said of it", a.name)
		}
	}
	return nil
}

// judge makes one line of S1. At a level where the gateway's user is the custodian's, a bare process of that user can open the
// custodian's files: that is not defended, and said so.
func (f *field) judge(r *Report, who, place string, got, twin *loot.Survey) Line {
	s := Line{
		ID: "S1", Place: place + ", " + who, Reeve: got.Count(place), Double: twin.Count(place),
		Detail: fmt.Sprintf("%d read, %d refused", got.Read[place], got.Denied[place]),
	}
	for _, h := range got.Hits {
		if h.Place == place {
			s.Detail += fmt.Sprintf("; %s of %s at %s", h.Form, h.Secret, h.Where)
			break
		}
	}
	if s.Reeve > 0 && sameUser(r.Level) && who == "beside the gateway" {
		s.NotHeld, s.Reeve = true, 0
		r.NotHeld = append(r.NotHeld, fmt.Sprintf("at level %s a bare process of the gateway's user reaches the custodian's %s: use separate users (start as root) or another host", r.Level, place))
	}
	return s
}

// sameUser reports whether gateway and custodian have one user at an isolation level.
func sameUser(level string) bool { return level == "one-uid" || level == "none" }
