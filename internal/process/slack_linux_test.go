package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestSlacken runs this test in a process of its own: every thread of it that began after slacken has the new slack, and the
// process is still known by its name.
func TestSlacken(t *testing.T) {
	if os.Getenv("SLACKEN") == "1" {
		slacken()
		tasks, _ := filepath.Glob("/proc/self/task/*")
		for _, task := range tasks {
			b, err := os.ReadFile("/proc/" + filepath.Base(task) + "/timerslack_ns")
			if err != nil && filepath.Base(task) != fmt.Sprint(os.Getpid()) {
				continue // other threads' can be read by few
			}
			fmt.Printf("slack %s\n", strings.TrimSpace(string(b)))
		}
		name, _ := os.ReadFile("/proc/self/comm")
		fmt.Printf("name %s", name)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSlacken$", "-test.v")
	cmd.Env = append(os.Environ(), "SLACKEN=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	own, kernel := fmt.Sprintf("slack %d\n", ownSlack/time.Nanosecond), fmt.Sprintf("slack %d\n", kernelSlack/time.Nanosecond)
	if !strings.Contains(string(out), own) || strings.Contains(string(out), kernel) {
		t.Errorf("want %sin every thread:\n%s", own, out)
	}
	if name := filepath.Base(os.Args[0]); !strings.Contains(string(out), "name "+name[:min(len(name), 15)]) {
		t.Errorf("the process lost its name %s:\n%s", name, out)
	}
}

// What a thread with the slack starts has it from the beginning.
func TestSlackenThread(t *testing.T) {
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		first, again := SlackenThread(), SlackenThread()
		out, err := exec.Command("cat", "/proc/self/timerslack_ns").CombinedOutput()
		done <- fmt.Sprint(first, again, string(out), err)
	}()
	if got, want := <-done, fmt.Sprint(true, false, fmt.Sprintln(ownSlack.Nanoseconds()), nil); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
