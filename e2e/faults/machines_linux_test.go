package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/up"
)

// network is a network namespace with one address of its own, joined to this one's by a pair of interfaces.
type network struct{ name, here, there string }

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := os.Getpid() % 16000
	w := &network{name: fmt.Sprintf("reeve%d", n), here: fmt.Sprintf("198.18.%d.%d", n/64, n%64*4+1), there: fmt.Sprintf("198.18.%d.%d", n/64, n%64*4+2)} // RFC 2544
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", w.name).Run() })
	for _, command := range []string{
		"ip netns add " + w.name,
		"ip link add " + w.name + "a type veth peer name " + w.name + "b netns " + w.name,
		"ip address add " + w.here + "/30 dev " + w.name + "a", "ip link set " + w.name + "a up",
		"ip -n " + w.name + " address add " + w.there + "/30 dev " + w.name + "b", "ip -n " + w.name + " link set " + w.name + "b up", "ip -n " + w.name + " link set lo up",
	} {
		if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	return w
}

// inside runs a process in the network, with its own user. A mark that is not empty stands in for the kernel's: what runs there
// is taken for another machine then.
func (w *network) inside(spec up.Spec, mark string) up.Spec {
	script := `exec setpriv --reuid ` + fmt.Sprint(spec.UID) + ` --regid ` + fmt.Sprint(spec.UID) + ` --clear-groups "$@"`
	if mark != "" {
		script = "mount --bind " + mark + " /proc/sys/kernel/random/boot_id && " + script
	}
	spec.Args = append([]string{"netns", "exec", w.name, "/bin/sh", "-c", script, "sh", spec.Path}, spec.Args...)
	spec.Path, spec.UID = "ip", -1
	return spec
}

// edit changes a process's configuration file.
func (s *site) edit(process string, replace ...string) {
	s.Helper()
	path := s.dir.Config(process)
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(b), replace[i]) {
			s.Fatalf("the %s's configuration has no %q:\n%s", process, replace[i], b)
		}
	}
	if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(b))), 0o600); err != nil {
		s.Fatal(err)
	}
}

// TestTwoMachines: gateway and custodian know each other by the keys that the owners signed, over a network. The level is host
// where the gateway is on another machine, and none where it only seems so: in a container, or by an address of this machine.
func TestTwoMachines(t *testing.T) {
	need.Part(t, "root", "linux", "ip", "setpriv")
	w := newNetwork(t)
	s := newSite(t)
	const port = "7803"
	s.edit(host.Custodian, "hop:\n", "hop:\n  listen: "+w.here+":"+port+"\n  key: "+s.dir.Join(host.Custodian, "hop.key")+"\n")
	s.edit(host.Gateway, "socket: "+s.dir.Hop(), "address: "+w.here+":"+port, "hop:\n", "hop:\n  key: "+s.dir.Join(host.Gateway, "hop.key")+"\n",
		"http://127.0.0.1:", "http://"+w.here+":", "listen: 127.0.0.1:", "listen: "+w.there+":")
	for _, process := range []string{host.Authority, host.Auditor} {
		s.edit(process, "listen: 127.0.0.1:", "listen: 0.0.0.0:")
	}
	mark := filepath.Join(filepath.Dir(s.path), "mark")
	err := os.WriteFile(mark, []byte("00000000-0000-4000-8000-000000000000\n"), 0o444)
	if err := errors.Join(err, os.Chmod(mark, 0o444)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	gateway := func(change func(up.Spec) up.Spec) {
		s.changed(func(spec up.Spec) up.Spec {
			if spec.Name == host.Gateway {
				return change(spec)
			}
			return spec
		})
	}

	gateway(func(spec up.Spec) up.Spec { return w.inside(spec, mark) })
	s.gateway = w.there
	s.mustUp()
	s.mustUse("another machine")
	if level := s.status().Isolation["g1"]; level != "host" {
		t.Errorf("on another machine the level is %q", level)
	}
	contains(t, "reeve status", s.mustRun("status"), "Isolation host")
	contains(t, "reeve doctor", s.mustRun("doctor"), "host")

	again := func(text string) {
		s.term(host.Gateway)
		s.restart(host.Gateway)
		s.mustUse(text)
	}
	gateway(func(spec up.Spec) up.Spec { return w.inside(spec, "") })
	again("a container")
	if level := s.status().Isolation["g1"]; level != "none" {
		t.Errorf("in a network of its own on the same kernel the level is %q", level)
	}
	contains(t, "reeve status", s.mustRun("status"), "Isolation none", "NOT HELD")

	s.edit(host.Gateway, w.there, "127.0.0.1")
	gateway(func(spec up.Spec) up.Spec { return spec })
	s.gateway = ""
	again("this machine")
	if level := s.status().Isolation["g1"]; level != "none" {
		t.Errorf("over TCP on the same machine the level is %q", level)
	}
}
