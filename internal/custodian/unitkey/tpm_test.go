package unitkey

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

// tpm starts a TPM in software, and returns its socket. It ends with the test.
func tpm(t *testing.T) string {
	dir := t.TempDir()
	socket := filepath.Join(dir, "tpm")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+filepath.Join(dir, "control"),
		"--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear")
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket
		} else if time.Since(start) > 30*time.Second {
			t.Fatal("no TPM: ", err)
		}
	}
}

// TestRealTPM: keys that a TPM made sign for class high; what is on disk is of use in no other TPM.
func TestRealTPM(t *testing.T) {
	need.Real(t, "swtpm")
	folder := filepath.Join(t.TempDir(), "keys")
	first := tpm(t)
	helper, err := federation.NewHelper(folder, first)
	must(t, err)
	socket := filepath.Join(t.TempDir(), "s")
	end := serve(t, helper, socket)

	s := newSite(t, &Helper{Socket: socket})
	var keys []statement.FederationKey
	for _, algorithm := range []string{"ES256", "RS256"} {
		jwk, err := helper.NewKey("research", algorithm)
		must(t, err)
		keys = append(keys, statement.FederationKey{Custodian: "c1", JWK: jwk, NotBefore: now, NotAfter: now.Add(time.Hour)})
	}
	s.pin(keys...)
	for _, algorithm := range []string{"ES256", "RS256"} {
		high := s.ask(algorithm)
		high.Sealed = true
		for range 5 { // an integer may begin with a zero
			if _, err := s.kid(high); err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
		}
	}
	if _, err := helper.NewKey("research", "EdDSA"); err == nil {
		t.Error("a key of another kind")
	}

	other, err := federation.NewHelper(folder, tpm(t))
	must(t, err)
	end()
	serve(t, other, socket)
	high := s.ask("ES256")
	high.Sealed = true
	if _, err := s.kid(high); err == nil || !strings.Contains(err.Error(), "another one made") {
		t.Errorf("another TPM signs with the key: %v", err)
	}
}

// serve has a helper answer until the returned function is called, or the test ends.
func serve(t *testing.T, h *federation.Helper, socket string) (end func()) {
	l, err := net.Listen("unix", socket)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Serve(ctx, l) }()
	end = func() { stop(); <-done }
	t.Cleanup(end)
	return end
}
