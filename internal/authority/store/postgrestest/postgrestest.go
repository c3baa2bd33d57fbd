// Package postgrestest starts a PostgreSQL server for a test: a data directory of its own, an unprivileged user, a Unix socket
// and nothing else.
package postgrestest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/need"
)

// nobody runs the server when the test runs as root, which PostgreSQL refuses to.
const nobody = 65534

// Server is a running server.
type Server struct {
	socket string
	bin    string
	attr   *syscall.SysProcAttr
	cmd    *exec.Cmd // nil while it is away
	log    bytes.Buffer
}

// Start starts a server that ends with the test. The test is skipped, or fails, where PostgreSQL is not installed.
func Start(t testing.TB) *Server {
	t.Helper()
	need.Part(t, "postgres")
	bin, err := need.Postgres()
	must(t, err)
	dir, err := os.MkdirTemp("/tmp", "reeve-pg-") // short: it holds the socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{socket: dir, bin: bin, attr: &syscall.SysProcAttr{}}
	if os.Geteuid() == 0 {
		must(t, os.Chown(dir, nobody, nobody))
		s.attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	data := filepath.Join(dir, "data")
	must(t, s.command("initdb", "-D", data, "-U", "reeve", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8").Run())
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("PostgreSQL said:\n%s", s.log.Bytes())
		}
	})
	s.Resume(t)
	return s
}

// Stop takes the server away: every connection breaks, and none is made until Resume.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGQUIT) // immediate shutdown; its children end with it
	s.cmd.Wait()
	s.cmd = nil
}

// Resume starts the server over its data, and waits until it answers.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.cmd = s.command("postgres", "-D", filepath.Join(s.socket, "data"), "-k", s.socket, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if s.command("psql", "-h", s.socket, "-U", "reeve", "-d", "postgres", "-c", "SELECT 1").Run() == nil {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatal("PostgreSQL did not start within a minute")
		}
	}
}

// Database makes an empty database and returns its connection string.
func (s *Server) Database(t testing.TB, name string) string {
	t.Helper()
	out, err := s.command("createdb", "-h", s.socket, "-U", "reeve", name).CombinedOutput()
	if err != nil {
		t.Fatalf("createdb %s: %v: %s", name, err, out)
	}
	return fmt.Sprintf("host=%s user=reeve dbname=%s sslmode=disable", s.socket, name)
}

// Dump returns everything that a database holds, as pg_dump writes it.
func (s *Server) Dump(t testing.TB, name string) []byte {
	t.Helper()
	out, err := s.command("pg_dump", "-h", s.socket, "-U", "reeve", name).Output()
	must(t, err)
	return out
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = "/", s.attr
	for _, v := range os.Environ() { // no PGHOST and the like of whoever runs the test
		if !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
