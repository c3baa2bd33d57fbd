package faults

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/host"
)

// put replaces a file as an administrator's tools do, by renaming a new one over it, with the owner and mode of the old.
func (s *site) put(path, text string) {
	s.Helper()
	info, err := os.Stat(path)
	if err != nil {
		s.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if err := os.WriteFile(path+".new", []byte(text), info.Mode().Perm()); err != nil {
		s.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path+".new", int(st.Uid), int(st.Gid)); err != nil {
			s.Fatal(err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.Fatal(err)
	}
}

// TestReload: each process reads its configuration again on SIGHUP, confined as it is and though the file is another one by then. A
// bad one is refused, with the reason, and everything goes on as before.
func TestReload(t *testing.T) {
	s := start(t)
	for _, process := range []string{host.Gateway, host.Custodian, host.Authority, host.Auditor} {
		path := s.dir.Config(process)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		reload := func(text, want string) {
			t.Helper()
			before, err := os.ReadFile(s.dir.Log(process))
			if err != nil {
				t.Fatal(err)
			}
			s.put(path, text)
			if err := syscall.Kill(s.pid(process), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			s.await("the "+process+" says "+want, 20*time.Second, func() bool {
				log, err := os.ReadFile(s.dir.Log(process))
				return err == nil && strings.Contains(string(log[len(before):]), want)
			})
		}
		reload(string(b)+"log_level: warn\nno_such_member: 1\n", "the configuration is refused")
		reload(string(b)+"log_level: loud\n", "log_level is")
		reload(strings.Replace(string(b), "id: ", "id: other", 1), "take effect at the next start")
		if process == host.Auditor {
			trust, err := os.ReadFile(s.dir.Join(host.Auditor, "trust.json"))
			if err != nil {
				t.Fatal(err)
			}
			s.put(s.dir.Join(host.Auditor, "trust.json"), "{")
			reload(string(b), "the one before stays")
			s.put(s.dir.Join(host.Auditor, "trust.json"), string(trust))
		}
		reload(string(b), `"reloaded"`)
		if h := s.health(process); !h.Ready {
			t.Errorf("the %s is not ready: %s", process, h.Waits())
		}
	}
	s.mustUse("after all reloads")
}
