package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/authority/store/postgrestest"
	"github.com/reevehq/reeve/internal/database"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
)

// onLoopback passes connections of a port of this machine on to a socket. It returns the port.
func onLoopback(t testing.TB, socket string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer from.Close()
				to, err := net.Dial("unix", socket)
				if err != nil {
					t.Errorf("PostgreSQL: %v", err)
					return
				}
				all.Go(func() {
					io.Copy(to, from)
					to.Close()
				})
				io.Copy(from, to)
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// audit is what `reeve audit status` says.
type audit struct {
	Logs []struct {
		Entries, Lag int64
	}
	Index, Hash string
}

func (s *site) audit() (a audit) {
	s.Helper()
	if err := json.Unmarshal([]byte(s.mustRun("audit", "status", "--json")), &a); err != nil {
		s.Fatal(err)
	}
	return a
}

// TestRealIndexInPostgreSQL: an auditor that the kernel confines keeps its index in PostgreSQL, over TCP and over a socket, and the commands answer
// from it: how far it is, what its hash is, whether it is right, and that one which is wrong is made anew.
func TestRealIndexInPostgreSQL(t *testing.T) {
	need.Real(t, "linux", "postgres")
	server := postgrestest.Start(t)
	words := server.Database(t, "audit")
	folder := strings.TrimPrefix(strings.Fields(words)[0], "host=")
	if err := os.Chmod(folder, 0o755); err != nil { // the auditor's user passes through
		t.Fatal(err)
	}
	port := onLoopback(t, filepath.Join(folder, ".s.PGSQL.5432"))
	overTCP := fmt.Sprintf("postgres://reeve@127.0.0.1:%d/audit?sslmode=disable", port)

	s := newSite(t)
	s.edit(host.Auditor, "state_dir:", "index:\n  connection: "+overTCP+"\nstate_dir:")
	s.mustUp()
	used := func(n int) {
		t.Helper()
		for i := range n {
			s.mustUse(fmt.Sprint("call ", i))
		}
		s.settled()
		var size int64
		s.await("the index has everything", 30*time.Second, func() bool {
			size = 0
			for _, l := range s.audit().Logs {
				if l.Lag > 0 {
					return false
				}
				size += l.Entries
			}
			return size >= int64(2*n)
		})
	}
	confined := func() {
		t.Helper()
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid(host.Auditor)))
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "the kernel of the auditor", string(b), "NoNewPrivs:\t1", "Seccomp:\t2")
		log, err := os.ReadFile(s.dir.Log(host.Auditor))
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "the auditor's log", string(log), `"msg":"confined"`, `landlock`)
	}

	used(5)
	confined()
	a := s.audit()
	if a.Hash == "" || !strings.Contains(a.Index, "audit") {
		t.Errorf("%+v", a)
	}
	if _, err := os.Stat(s.dir.Join(host.Auditor, "index.db")); err == nil {
		t.Error("there is a file too")
	}
	contains(t, "audit rebuild, beside the auditor", s.mustRun("audit", "rebuild"), "The same as the index that was there")

	s.term(host.Auditor)
	db, err := database.Server{Connection: words}.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `DELETE FROM reeve_index_sum`); err != nil {
		t.Fatal(err)
	}
	if out, status := s.reeve("audit", "rebuild"); status != 1 || !strings.Contains(out, "DIFFERS from the index that was there") {
		t.Errorf("of an index that is wrong: %d, %s", status, out)
	}
	contains(t, "audit rebuild, after it was made anew", s.mustRun("audit", "rebuild"), "The same as the index that was there")

	s.edit(host.Auditor, overTCP, words)
	s.restart(host.Auditor)
	used(3)
	confined()
	if b := s.audit(); b.Hash == "" || b.Hash == a.Hash {
		t.Errorf("over the socket: %+v", b)
	}
	contains(t, "reeve uses", s.mustRun("uses", "research-openai", "--from", "1h"), "research-agent")
}
