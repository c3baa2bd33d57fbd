package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/plain"
	"github.com/reevehq/reeve/internal/statement"
)

func create(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Create(path, t.TempDir(), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.Run.State != "" {
			os.RemoveAll(d.Run.State)
		}
		os.RemoveAll(d.Sockets)
	})
	return d
}

func TestCreateAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo")
	if _, err := Open(path, t.TempDir()); !errors.Is(err, ErrNone) {
		t.Fatalf("before: %v", err)
	}
	create(t, path)
	if _, err := Open(path, t.TempDir()); !errors.Is(err, ErrNone) {
		t.Fatalf("half-way: %v", err)
	}
	d := create(t, path) // a second try clears the first
	if err := d.Finish(statement.Pin{Estate: "demo"}); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, t.TempDir())
	if err != nil || !reflect.DeepEqual(again.Run, d.Run) || again.State != d.State {
		t.Fatalf("open: %+v, %v; want %+v", again, err, d)
	}
	if _, err := Create(path, t.TempDir(), true, 0); err == nil {
		t.Error("a finished directory was made again")
	}
	for _, name := range []string{"gateway", "estate", "people"} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedRunFileIsNamed(t *testing.T) {
	d := create(t, filepath.Join(t.TempDir(), "demo"))
	if err := d.Finish(statement.Pin{Estate: "demo"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.runFile(), []byte("demo: true\nprots: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.Path, t.TempDir()); err == nil || !strings.Contains(err.Error(), "run.yaml") || !strings.Contains(err.Error(), "[2:1]") {
		t.Errorf("open: %v", err)
	}
}

func TestOtherContentIsNotTouched(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, t.TempDir(), true, 0); err == nil {
		t.Error("an estate was made in a folder of other things")
	}
}

func TestTakenPortNamesItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	err = Ports{Gateway: port}.Free()
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Port != port || taken.Name != "gateway" {
		t.Fatalf("free: %v", err)
	}
	need.Part(t, "linux")
	if !strings.Contains(err.Error(), fmt.Sprintf("pid %d (", os.Getpid())) {
		t.Errorf("%v does not name pid %d", err, os.Getpid())
	}
}

func TestChoosePortsPassesTakenBlocks(t *testing.T) {
	first, err := ChoosePorts(0)
	if err != nil {
		t.Fatal(err)
	}
	base := first.Gateway
	l, err := net.Listen("tcp", Local(base+1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := ChoosePorts(base)
	if err != nil {
		t.Fatal(err)
	}
	if p.Gateway == base || (p.Gateway-base)%10 != 0 || p.Upstream != p.Gateway+9 {
		t.Errorf("chose %+v after %d was taken", p, base+1)
	}
}

func TestSocketPathsAreShort(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/"+strings.Repeat("x", 90))
	if s := socketsFolder("/" + strings.Repeat("y", 300)); len(s)+len("/custodian/admin.sock") >= 107 {
		t.Errorf("%s is too long", s)
	}
}

func TestSomebodyElsesSocketFolderIsRefused(t *testing.T) {
	d := create(t, filepath.Join(t.TempDir(), "demo"))
	target := t.TempDir()
	if err := os.Symlink(target, d.Sockets); err != nil {
		t.Fatal(err)
	}
	if err := d.Prepare(nil); err == nil || !strings.Contains(err.Error(), "belongs to somebody else") {
		t.Errorf("a link in its place: %v", err)
	}
}

func TestForeignDirectoryIsRefusedWithTheRemedy(t *testing.T) {
	need.Part(t, "root", "linux")
	path := t.TempDir()
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, t.TempDir())
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "chown -R root "+path) {
		t.Errorf("open: %v", err)
	}
}

// TestEachProcessGetsItsOwn starts as root does, below a folder that nobody else can pass.
func TestEachProcessGetsItsOwn(t *testing.T) {
	need.Part(t, "root", "linux")
	hidden := filepath.Join(t.TempDir(), "hidden")
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(hidden, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "reeve"), []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Create(filepath.Join(hidden, "demo"), bin, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(d.Run.State)
	defer os.RemoveAll(d.Sockets)
	if !strings.HasPrefix(d.State, Moved+"/") {
		t.Fatalf("state in %s", d.State)
	}
	if _, err := d.MakeKeys("demo", IDs{"g1", "c1", "a1", "w1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := d.Prepare([]string{"reeve"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(d.Bin, "reeve")); err != nil || string(b) != "program" || !reachable(d.Bin) {
		t.Errorf("binary in %s: %q, %v", d.Bin, b, err)
	}
	for path, want := range map[string]int{
		d.Join(Custodian, "log.key"): 64102, d.Join(Gateway): 64101, d.Join("people"): 0, d.Join("tiles", Gateway): 64101,
		filepath.Dir(d.Hop()): 64102, filepath.Dir(d.Socket(Gateway, "ops")): 64101, filepath.Join(d.Path, Custodian): 64102,
	} {
		if got, err := ownerOf(path); err != nil || got != want {
			t.Errorf("%s belongs to %d, %v; want %d", path, got, err, want)
		}
	}
	for path, want := range map[string]os.FileMode{d.Join(Custodian): 0o700, d.Join("people"): 0o700, filepath.Dir(d.Hop()): 0o750, d.Join("tiles", Custodian): 0o750} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

// A process's folder is its user's, who may have put links there: what root writes there goes nowhere else.
func TestLinksLeadNowhere(t *testing.T) {
	d := create(t, filepath.Join(t.TempDir(), "demo"))
	ids := IDs{"g1", "c1", "a1", "w1"}
	if _, err := d.MakeKeys("demo", ids, time.Now()); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(t.TempDir(), "theirs")
	link := func(path string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(theirs, []byte("reeve/demo/g1+0+reeve/demo/g1+0"), 0o600), os.RemoveAll(path), os.Symlink(theirs, path)); err != nil {
			t.Fatal(err)
		}
	}
	untouched := func(what string) {
		t.Helper()
		if b, err := os.ReadFile(theirs); err != nil || string(b) != "reeve/demo/g1+0+reeve/demo/g1+0" {
			t.Errorf("%s: the other file is %q, %v", what, b, err)
		}
	}
	link(d.Join(Auditor, "trust.json"))
	if err := d.WriteTrust(&statement.Charter{Estate: "demo"}); err != nil {
		t.Error(err)
	}
	untouched("trust")
	if info, err := os.Lstat(d.Join(Auditor, "trust.json")); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o644 {
		t.Errorf("trust: %v, %v", info, err)
	}
	link(d.Config(Auditor))
	if err := d.WriteConfigs(Estate{Charter: &statement.Charter{Estate: "demo"}, IDs: ids}); err != nil {
		t.Error(err)
	}
	untouched("configuration")
	link(d.Join(Gateway, "log.key"))
	if _, err := d.AddKey(Gateway, "log", 1, time.Now()); !errors.Is(err, plain.ErrOther) {
		t.Errorf("key: %v", err)
	}
	untouched("key")
}

// The user of a folder may swap a folder in it for a link while it is given to him: what is behind the link stays whose it is.
func TestGivesNothingOutside(t *testing.T) {
	mine, theirs := t.TempDir(), t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(theirs, "file"), nil, 0o600), os.Symlink(theirs, filepath.Join(mine, "folder"))); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(mine)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := share{mine, os.Getuid(), os.Getgid(), 0o750 | setgid}
	if err := s.give(root, "folder/file", false); err == nil {
		t.Error("a file behind a link was given away")
	}
	if err := s.give(root, "folder", true); err == nil {
		t.Error("a folder behind a link was given away")
	}
	if info, err := os.Stat(theirs); err != nil || info.Mode().Perm() == 0o750 {
		t.Errorf("the folder behind the link: %v, %v", info.Mode(), err)
	}
	if err := s.apply(); err != nil { // a link that was there before is his
		t.Error(err)
	}
	if info, err := os.Stat(mine); err != nil || info.Mode() != 0o750|setgid|os.ModeDir {
		t.Errorf("his folder: %v, %v", info.Mode(), err)
	}
}
