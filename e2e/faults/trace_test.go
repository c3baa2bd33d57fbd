package faults

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// strace attaches to a process with all its threads. The returned function detaches and returns the trace. inject, if not
// empty, is for --inject.
func (s *site) strace(pid int, calls, inject string) (end func() []byte) {
	s.Helper()
	out := filepath.Join(s.TempDir(), "trace")
	args := []string{"-f", "-q", "-y", "-s", "65536", "-e", "trace=" + calls, "-o", out, "-p", strconv.Itoa(pid)}
	if inject != "" {
		args = append(args, "-e", "inject="+inject)
	}
	cmd := exec.Command("strace", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended := false
	end = func() []byte {
		if !ended {
			ended = true
			cmd.Process.Signal(syscall.SIGINT) // detaches
			cmd.Wait()
		}
		b, err := os.ReadFile(out)
		if err != nil {
			s.Fatalf("strace: %v: %s", err, said.String())
		}
		return b
	}
	s.Cleanup(func() { end() })
	s.await("strace is attached", 20*time.Second, func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err == nil && !bytes.Contains(b, fmt.Appendf(nil, "TracerPid:\t%d\n", cmd.Process.Pid)) {
				return false
			}
		}
		return len(tasks) > 0
	})
	return end
}

// event is the beginning or the end of a system call, in the order in which the tracer saw them. A thread goes on from either
// only after the tracer has noted it: so what a thread did because a call had returned stands after that call's end.
type event struct {
	thread string
	call   string
	fd     string // number and, with -y, path: 7</path>
	args   string // what follows the descriptor
	ends   bool   // the call returned
	result string // when it returned
}

var (
	callBegins  = regexp.MustCompile(`^(\d+) +(\w+)\((-?\d+(?:<[^>]*>)?)?(.*)$`)
	callResult  = regexp.MustCompile(`.*\) += (.+)$`)
	callResumes = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
)

// events reads strace's output.
func events(trace []byte) (all []event, err error) {
	open := map[string]event{} // by thread
	lines := bufio.NewScanner(bytes.NewReader(trace))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := callResumes.FindStringSubmatch(line); m != nil {
			e, ok := open[m[1]]
			if !ok || e.call != m[2] {
				continue // it began before the tracer came
			}
			delete(open, m[1])
			e.ends, e.result = true, result(m[3])
			all = append(all, e)
			continue
		}
		m := callBegins.FindStringSubmatch(line)
		if m == nil {
			continue // signals, exits
		}
		e := event{thread: m[1], call: m[2], fd: m[3], args: m[4]}
		all = append(all, e)
		if strings.HasSuffix(line, "<unfinished ...>") {
			open[e.thread] = e
			continue
		}
		e.ends, e.result = true, result(m[4])
		all = append(all, e)
	}
	return all, lines.Err()
}

// result is what follows the call's last " = ".
func result(s string) string {
	if m := callResult.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}
