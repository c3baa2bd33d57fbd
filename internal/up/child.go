package up

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/plain"
	"github.com/reevehq/reeve/internal/process"
)

// Spec is a process to start.
type Spec struct {
	Name string // gateway, custodian, authority, auditor or upstream
	Path string // of the binary
	Args []string
	UID  int    // user and group to run as; -1 for one's own
	Log  string // file that gets its output

	Descriptor int // of this process, which the child gets under the same number, and nobody else; 0 for none
}

// Child is a started process.
type Child struct {
	Spec
	PID int

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Spawner starts children. On Linux they are told to stop when it goes away. The kernel ties that to the thread that forked,
// not to the process, so one goroutine that keeps its thread starts them all.
type Spawner struct {
	requests chan request
}

type request struct {
	cmd  *exec.Cmd
	done chan<- error
}

// NewSpawner starts the spawner's goroutine, which lives as long as the process: its thread's end would stop the children. From then on no child gets a
// descriptor that this process was started with, but for the one that is for it: a passphrase may come by one.
func NewSpawner() *Spawner {
	keepDescriptors()
	s := &Spawner{requests: make(chan request)}
	go func() {
		runtime.LockOSThread()
		process.SlackenThread()
		for r := range s.requests {
			r.done <- r.cmd.Start()
		}
		select {} // never give the thread back
	}()
	return s
}

// Start starts the process in a process group of its own, with an environment that holds nothing of the caller's.
func (s *Spawner) Start(spec Spec) (*Child, error) {
	log, err := openLog(spec.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(spec.UID)
	if spec.Descriptor > 0 {
		if cmd.ExtraFiles, err = handed(spec.Descriptor); err != nil {
			return nil, fmt.Errorf("starting the %s: %w", spec.Name, err)
		}
		defer cmd.ExtraFiles[len(cmd.ExtraFiles)-1].Close()
	}
	done := make(chan error, 1)
	s.requests <- request{cmd, done}
	if err := <-done; err != nil {
		return nil, fmt.Errorf("starting the %s: %w", spec.Name, err)
	}
	c := &Child{Spec: spec, PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// keepDescriptors marks what this process was started with as not for children. What Go opens is marked already.
func keepDescriptors() {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // no such folder: Go's own descriptors are marked, and a shell opens none by itself
	}
	for _, d := range open {
		if n, err := strconv.Atoi(d.Name()); err == nil && n > 2 {
			syscall.CloseOnExec(n)
		}
	}
}

// handed are the files that give a child the descriptor n as its own n, and none between that and standard error.
func handed(n int) ([]*os.File, error) {
	if n <= 2 || n > 255 {
		return nil, fmt.Errorf("descriptor %d cannot be handed over; take one from 3 to 255", n)
	}
	f := os.NewFile(uintptr(n), "descriptor "+strconv.Itoa(n))
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("descriptor %d, which it is to get, is not open: %w; in a shell: %d< FILE", n, err, n)
	}
	files := make([]*os.File, n-2)
	files[n-3] = f
	return files, nil
}

// maxLog is the size from which a log is set aside at the next start, in bytes.
const maxLog = 16 << 20

func openLog(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("setting the log aside: %w", err)
		}
	}
	f, err := plain.Open(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

// Stop asks the process to end and, after grace, ends it and all that it started.
func (c *Child) Stop(grace time.Duration) {
	c.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
		c.Kill()
	}
}

// Kill ends the process group at once and waits for the process.
func (c *Child) Kill() {
	syscall.Kill(-c.PID, syscall.SIGKILL)
	<-c.done
}

// Death describes an ended process for a person: how it ended and the last lines of its log.
func (c *Child) Death() error {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	return fmt.Errorf("the %s (pid %d) ended by itself: %s\nThe others are stopped with it, and what they wrote stays; start them again as before\nIts last log lines, from %s:\n%s", c.Name, c.PID, how, c.Log, indent(tail(c.Log, 8)))
}

// tail returns the last n lines of a file or, when the runtime wrote why it stopped, n lines from there on; of its last 64 KiB.
func tail(path string, n int) []byte {
	f, err := plain.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	defer f.Close()
	const most = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, 2)
	}
	var buf bytes.Buffer
	buf.ReadFrom(f)
	lines := bytes.SplitAfter(bytes.TrimRight(buf.Bytes(), "\n"), []byte("\n"))
	for i, line := range slices.Backward(lines) {
		if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) || bytes.HasPrefix(line, []byte("SIG")) {
			return bytes.Join(lines[i:min(i+n, len(lines))], nil)
		}
	}
	return bytes.Join(lines[max(0, len(lines)-n):], nil)
}

func indent(b []byte) string {
	return "  " + string(bytes.ReplaceAll(bytes.TrimRight(b, "\n"), []byte("\n"), []byte("\n  "))) + "\n"
}
