package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself: confinement is for good, so each case is tried in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("CONFINE_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

type tried struct {
	Report Report
	Tries  map[string]string // what was tried to its error, "" for success
}

func child() {
	port := func(name string) uint16 {
		var p uint16
		fmt.Sscan(os.Getenv(name), &p)
		return p
	}
	report, err := Harden()
	if err == nil {
		report, err = Restrict(Profile{
			ReadOnly:  []string{os.Getenv("CONFINE_RO")},
			ReadWrite: []string{os.Getenv("CONFINE_RW")},
			Connect:   []uint16{port("CONFINE_PORT")},
			Bind:      []uint16{0},
			Require:   []string{"landlock", "seccomp"},
		}, report)
	}
	out := tried{Report: report, Tries: map[string]string{}}
	try := func(name string, f func() error) {
		out.Tries[name] = ""
		if err := f(); err != nil {
			out.Tries[name] = err.Error()
		}
	}
	try("restrict", func() error { return err })
	try("read allowed file", func() error { _, err := os.ReadFile(filepath.Join(os.Getenv("CONFINE_RO"), "f")); return err })
	try("write allowed folder", func() error { return os.WriteFile(filepath.Join(os.Getenv("CONFINE_RW"), "f"), nil, 0o600) })
	try("write read-only folder", func() error { return os.WriteFile(filepath.Join(os.Getenv("CONFINE_RO"), "g"), nil, 0o600) })
	try("read another file", func() error { _, err := os.ReadFile(filepath.Join(os.Getenv("CONFINE_OUT"), "f")); return err })
	try("connect allowed port", dial(os.Getenv("CONFINE_PORT")))
	try("connect another port", dial(os.Getenv("CONFINE_OTHER")))
	try("listen", func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err })
	try("fork", func() error { return exec.Command("/bin/true").Run() })
	try("ptrace", func() error { return unix.PtraceAttach(os.Getppid()) })
	try("read memory", func() error {
		_, err := unix.ProcessVMReadv(os.Getppid(), nil, nil, 0)
		return err
	})
	try("udp", func() error { _, err := net.Dial("udp", "127.0.0.1:9"); return err })
	try("multipath tcp", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); return err })
	try("signal parent", func() error { return syscall.Kill(os.Getppid(), 0) })
	json.NewEncoder(os.Stdout).Encode(out)
}

func dial(port string) func() error {
	return func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err
	}
}

func listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestRestrict(t *testing.T) {
	ro, rw, outside := t.TempDir(), t.TempDir(), t.TempDir()
	for _, d := range []string{ro, outside} {
		if err := os.WriteFile(filepath.Join(d, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONFINE_CHILD=1", "CONFINE_RO="+ro, "CONFINE_RW="+rw, "CONFINE_OUT="+outside,
		"CONFINE_PORT="+listen(t), "CONFINE_OTHER="+listen(t))
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	var got tried
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got.Tries["restrict"], ErrRequired.Error()) {
		t.Skipf("this kernel lacks it: %s", got.Tries["restrict"])
	}
	if !got.Report.Confined() {
		t.Errorf("not every layer holds: %+v", got.Report)
	}
	for _, name := range []string{"restrict", "read allowed file", "write allowed folder", "connect allowed port", "listen"} {
		if got.Tries[name] != "" {
			t.Errorf("%s: refused: %s", name, got.Tries[name])
		}
	}
	for _, name := range []string{"write read-only folder", "read another file", "connect another port", "fork", "ptrace", "read memory", "udp", "multipath tcp", "signal parent"} {
		if got.Tries[name] == "" {
			t.Errorf("%s: went through", name)
		}
	}
}

func TestRequiredFeatureMissing(t *testing.T) {
	r := Report{Seccomp: true, Missing: "no landlock here"}
	if err := r.Check([]string{"landlock", "seccomp"}); !errors.Is(err, ErrRequired) {
		t.Errorf("Check = %v, want ErrRequired", err)
	}
	if err := r.Check([]string{"seccomp"}); err != nil {
		t.Errorf("Check = %v", err)
	}
}
