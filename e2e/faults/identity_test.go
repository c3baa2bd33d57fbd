package faults

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/up"
)

// identity is the custodian's, as init or up made it.
func (s *site) identity() []byte {
	s.Helper()
	b, err := os.ReadFile(s.dir.Join(host.Custodian, "identity.age"))
	if err != nil {
		s.Fatal(err)
	}
	return b
}

// named has the custodian's configuration say where its identity is.
func (s *site) named(identity string) {
	s.Helper()
	path := s.dir.Config(host.Custodian)
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	old := "file: " + s.dir.Join(host.Custodian, "identity.age")
	if !strings.Contains(string(b), old) {
		s.Fatalf("no %q in %s", old, b)
	}
	s.put(path, strings.Replace(string(b), old, identity, 1))
}

// theirs writes a file of the custodian's user.
func (s *site) theirs(path string, content []byte) {
	s.Helper()
	if err := os.WriteFile(path, content, 0o400); err != nil {
		s.Fatal(err)
	}
	if uid := host.UID(host.Custodian); uid >= 0 {
		for _, p := range []string{path, filepath.Dir(path)} {
			if err := os.Chown(p, uid, uid); err != nil {
				s.Fatal(err)
			}
		}
	}
}

// TestIdentityElsewhere: the service manager keeps the custodian's identity in a folder of its own, for one service. The custodian starts with it and,
// confined as it is by then, reads it again on SIGHUP.
func TestIdentityElsewhere(t *testing.T) {
	for _, tt := range []struct{ name, key, value string }{
		{"credential", "credential", "custodian-identity"},
		{"file", "file", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			folder := filepath.Join(filepath.Dir(s.path), "credentials")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "custodian-identity")
			s.theirs(path, s.identity())
			if err := os.Remove(s.dir.Join(host.Custodian, "identity.age")); err != nil {
				t.Fatal(err)
			}
			if tt.value == "" {
				tt.value = path
			} else {
				s.changed(func(spec up.Spec) up.Spec {
					if spec.Name == host.Custodian {
						spec.Args = append([]string{"-c", `CREDENTIALS_DIRECTORY=` + folder + ` exec "$0" "$@"`, spec.Path}, spec.Args...)
						spec.Path = "/bin/sh"
					}
					return spec
				})
			}
			s.named(tt.key + ": " + tt.value)
			s.mustUp()
			s.mustUse("with an identity from elsewhere")
			s.hangUp(host.Custodian, `"reloaded"`)
			s.mustUse("after a reload")
		})
	}
}

// hangUp sends SIGHUP and waits for the process to say want, and to be ready.
func (s *site) hangUp(process, want string) {
	s.Helper()
	before, err := os.ReadFile(s.dir.Log(process))
	if err != nil {
		s.Fatal(err)
	}
	if err := syscall.Kill(s.pid(process), syscall.SIGHUP); err != nil {
		s.Fatal(err)
	}
	s.await("the "+process+" says "+want, 20*time.Second, func() bool {
		log, err := os.ReadFile(s.dir.Log(process))
		if err == nil && want == `"reloaded"` && bytes.Contains(log[len(before):], []byte("is refused, the one before stays")) {
			s.Fatalf("%s", log[len(before):])
		}
		return err == nil && strings.Contains(string(log[len(before):]), want)
	})
}

// TestPassphraseOnADescriptor: the identity is encrypted, and `reeve up` hands the custodian the descriptor that its passphrase comes by. No other
// process gets it.
func TestPassphraseOnADescriptor(t *testing.T) {
	s := newSite(t)
	const passphrase = "correct horse"
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	recipient.SetWorkFactor(10)
	var encrypted bytes.Buffer
	w, err := age.Encrypt(&encrypted, recipient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(s.identity()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.put(s.dir.Join(host.Custodian, "identity.age"), encrypted.String())
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	inherited, err := syscall.Dup(int(opened.Fd())) // open in what is started, as a shell's descriptors are
	if err != nil {
		t.Fatal(err)
	}
	s.named(fmt.Sprintf("file: %s\n  passphrase_fd: %d", s.dir.Join(host.Custodian, "identity.age"), inherited))
	s.mustUp()
	s.mustUse("with an identity behind a passphrase")
	s.hangUp(host.Custodian, `"reloaded"`)
	s.mustUse("after a reload")
	if os.Geteuid() != 0 {
		return // only root sees what undumpable processes hold
	}
	for process, pid := range s.clonePids() {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(links) == 0 {
			t.Fatalf("%s: %v, %v", process, links, err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == file {
				t.Errorf("the %s holds the passphrase's file, by %s", process, link)
			}
		}
	}
}
