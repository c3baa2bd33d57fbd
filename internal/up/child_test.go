package up

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain plays a child process when it is started as one: "child stubborn", "child env", and so on.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "child" {
		os.Exit(m.Run())
	}
	switch os.Args[2] {
	case "fails":
		for i := range 20 {
			fmt.Println("line", i)
		}
		os.Exit(3)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		fmt.Println("group", syscall.Getpgrp() == os.Getpid())
	case "reads": // what comes by a descriptor
		var n int
		fmt.Sscan(os.Args[3], &n)
		b, err := io.ReadAll(os.NewFile(uintptr(n), "descriptor"))
		fmt.Printf("%s %v\n", b, err)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		select {}
	case "parent": // starts a child in its turn and stays
		c, err := NewSpawner().Start(Spec{Name: "child", Path: os.Args[0], Args: []string{"child", "waits"}, UID: -1, Log: os.Args[3]})
		fmt.Println(c.PID, err)
		select {}
	case "waits":
		select {}
	}
	os.Exit(0)
}

func start(t *testing.T, how string) *Child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewSpawner().Start(Spec{Name: "child", Path: self, Args: []string{"child", how}, UID: -1, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// await fails the test unless ok becomes true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestChildHasACleanEnvironmentAndItsOwnGroup(t *testing.T) {
	t.Setenv("REEVE_TEST_SECRET", "demo-secret-in-the-environment")
	c := start(t, "env")
	<-c.Done()
	b, err := os.ReadFile(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	if want := "PATH=/usr/local/bin:/usr/bin:/bin\ngroup true\n"; string(b) != want {
		t.Errorf("child saw %q, want %q", b, want)
	}
	if info, err := os.Stat(c.Log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log: %v, %v", info, err)
	}
}

// A descriptor that this process was started with is for one child: it has the number that the child's configuration names.
func TestDescriptorIsForOneChild(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(path, []byte("demo-passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inherited, err := syscall.Dup(int(f.Fd())) // one that an exec keeps
	if err != nil {
		t.Fatal(err)
	}
	s := NewSpawner()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, descriptor int) (string, error) {
		c, err := s.Start(Spec{Name: name, Path: self, Args: []string{"child", "reads", strconv.Itoa(inherited)}, UID: -1, Log: filepath.Join(dir, name), Descriptor: descriptor})
		if err != nil {
			return "", err
		}
		<-c.Done()
		b, err := os.ReadFile(c.Log)
		return string(b), err
	}
	if got, err := read("other", 0); err != nil || strings.Contains(got, "demo-passphrase") {
		t.Errorf("a child that it is not for read %q, %v", got, err)
	}
	if got, err := read("its", inherited); err != nil || got != "demo-passphrase <nil>\n" {
		t.Errorf("the child that it is for read %q, %v", got, err)
	}
	syscall.Close(254)
	for _, n := range []int{254, 2, 256} { // not open, not one to hand over
		if _, err := read("none", n); err == nil {
			t.Errorf("descriptor %d was handed over", n)
		}
	}
}

func TestDeathTellsTheLastLines(t *testing.T) {
	c := start(t, "fails")
	<-c.Done()
	got := c.Death().Error()
	for _, want := range []string{"the child (pid ", "exit status 3", "  line 12\n", "  line 19\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if strings.Contains(got, "line 11") {
		t.Error("more than the last lines")
	}
}

func TestStubbornChildIsEnded(t *testing.T) {
	c := start(t, "stubborn")
	await(t, "the child is deaf", func() bool { b, _ := os.ReadFile(c.Log); return len(b) > 0 })
	c.Stop(50 * time.Millisecond)
	if !strings.Contains(c.Death().Error(), "signal: killed") {
		t.Error(c.Death())
	}
}

// TestChildEndsWithItsParent kills the parent with a signal that it cannot catch.
func TestChildEndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the parent's end")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self, "child", "parent", filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var word string
	if _, err := fmt.Fscanln(out, &pid, &word); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // threads of the parent come and go
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child is gone too early: %v", err)
	}
	parent.Process.Kill()
	io.Copy(io.Discard, out)
	parent.Wait()
	await(t, "the child ended", func() bool { return gone(pid) })
}

// gone reports whether a process has ended; one that nobody has waited for counts.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if _, on := running(path); on {
		t.Error("running without a lock")
	}
	l, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.write(Running{PID: 1, Children: map[string]int{"gateway": 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(path); err != ErrRunning {
		t.Errorf("second: %v", err)
	}
	if r, on := running(path); !on || r.PID != 1 || r.Children["gateway"] != 2 {
		t.Errorf("running: %+v %v", r, on)
	}
	l.release()
	if _, on := running(path); on {
		t.Error("running after release")
	}
}

// Root starts processes of other users, whose folders have their logs. What one of them put in its log's place leads root nowhere.
func TestLogLeadsNowhere(t *testing.T) {
	dir := t.TempDir()
	log, theirs := filepath.Join(dir, "log"), filepath.Join(dir, "identity")
	if err := os.WriteFile(theirs, []byte("a key of another process\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(theirs, log); err != nil {
		t.Fatal(err)
	}
	if f, err := openLog(log); err == nil {
		f.Close()
		t.Error("a child would write into another process's file")
	}
	if got := string(tail(log, 8)); strings.Contains(got, "a key of another") {
		t.Errorf("its death would show %q", got)
	}
}
