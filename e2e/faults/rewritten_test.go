package faults

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/witness"
	"github.com/reevehq/reeve/verify"
)

// watched is a ledger that an auditor's process follows.
type watched struct {
	testing.TB
	dir   string
	key   ledger.Key
	url   string
	keys  note.Verifiers
	trust verify.Trust
}

// watch starts an auditor for a log with a key that the test has, as an attacker has who took over its process.
func watch(t testing.TB) *watched {
	t.Helper()
	w := &watched{TB: t, dir: t.TempDir()}
	var err error
	if w.key, err = ledger.GenerateKey("reeve/test/c1"); err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := cosigner.GenerateKey(rand.Reader, "reeve/test/witness/w1")
	if err != nil {
		t.Fatal(err)
	}
	if w.keys, err = witness.Verifiers([]string{vkey}); err != nil {
		t.Fatal(err)
	}
	w.trust = verify.Trust{Estate: "test", Logs: []verify.Log{{Process: "c1", Origin: w.key.Origin(), Key: w.key.Verifier()}},
		Witnesses: []verify.Witness{{Name: "reeve/test/witness/w1", Key: vkey}}}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	w.url = "http://" + free.Addr().String()
	trust, _ := json.Marshal(w.trust)
	config := fmt.Sprintf("id: w1\nlisten: %s\nstate_dir: %s\ntrust: %s\nwitness_key: %s\nlogs:\n- process: c1\n  tiles: %s\n",
		free.Addr(), w.at("auditor"), w.at("trust.json"), w.at("witness.key"), w.at("published/tiles"))
	err = errors.Join(os.MkdirAll(w.at("published/tiles"), 0o700), os.WriteFile(w.at("trust.json"), trust, 0o600), os.WriteFile(w.at("witness.key"), []byte(skey+"\n"), 0o600),
		os.WriteFile(w.at("auditor.yaml"), []byte(config), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "reeve-auditor"), "--config", w.at("auditor.yaml"))
	said := new(strings.Builder)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("the auditor said:\n%s", said)
		}
	})
	until(t, "the auditor answers", func() bool { _, err := w.status(); return err == nil })
	return w
}

func (w *watched) at(name string) string { return filepath.Join(w.dir, name) }

// auditorStatus is what the test reads of GET /v1/status.
type auditorStatus struct {
	Logs []struct {
		Size     int64 `json:"size"`
		Cosigned int64 `json:"cosigned"`
	} `json:"logs"`
	Alarms []struct {
		Kind   string `json:"kind"`
		Stands bool   `json:"stands"`
	} `json:"alarms"`
	Index struct {
		Entries int64  `json:"entries"`
		Lag     int64  `json:"lag"`
		Error   string `json:"error"`
	} `json:"index"`
}

func (w *watched) status() (s auditorStatus, err error) {
	resp, err := http.Get(w.url + "/v1/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// write adds entries to the log whose state lies in a folder, and returns when they are published there. Without the witness, which would refuse,
// the genuine key alone signs.
func (w *watched) write(folder, reason string, n int, cosigned bool) {
	w.Helper()
	cfg := ledger.Config{Key: w.key, Dir: w.at(folder + "/ledger"), Tiles: w.at(folder + "/tiles"), SegmentSize: 1 << 20, Interval: 50 * time.Millisecond}
	if cosigned {
		cfg.Witnesses, cfg.Need = []ledger.Witness{&witness.Client{URL: w.url, Keys: func() note.Verifiers { return w.keys }}}, 1
	}
	l, err := ledger.Open(w.Context(), cfg)
	if err != nil {
		w.Fatal(err)
	}
	for range n {
		if err := l.Enqueue(&entry.Entry{Type: entry.Publish, Reason: reason}, false); err != nil {
			w.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		w.Fatal(err)
	}
}

// A log that is rewritten with its genuine key, truncated, or restored from a snapshot is found by the running auditor, and offline by who has
// kept an earlier checkpoint.
func TestRewrittenWithGenuineKey(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(w *watched) // makes what is put in the place of the published log, in the folder other
		kinds []string
	}{
		"rewritten":                {func(w *watched) { w.write("other", "rewritten", 700, false) }, []string{"fork"}},
		"truncated":                {func(w *watched) { w.write("other", "rewritten", 300, false) }, []string{"fork"}},
		"restored from a snapshot": {func(w *watched) { copied(w, w.at("snapshot"), w.at("other")) }, []string{"rollback"}},
		"restored from one, and goes on": {func(w *watched) {
			copied(w, w.at("snapshot"), w.at("other"))
			w.write("other", "second history", 500, false)
		}, []string{"fork"}},
		"bundle cut off": {func(w *watched) {
			copied(w, w.at("published"), w.at("other"))
			w.write("other", "goes on", 300, false)
			if err := os.Truncate(w.at("other/tiles/tile/entries/002"), 500); err != nil {
				w.Fatal(err)
			}
		}, []string{"truncated"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t)
			w.write("published", "genuine", 400, true)
			copied(t, w.at("published"), w.at("snapshot"))
			w.write("published", "genuine", 200, true)
			kept, err := os.ReadFile(w.at("published/tiles/checkpoint"))
			if err == nil {
				err = os.WriteFile(w.at("kept"), kept, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			until(t, "everything is verified and indexed", func() bool {
				s, err := w.status()
				return err == nil && len(s.Logs) == 1 && s.Logs[0].Cosigned == 600 && s.Index.Entries == 600 && s.Index.Error == "" && len(s.Alarms) == 0
			})
			if out, err := exec.Command(filepath.Join(bin, "reeve"), "verify", "--ledger", w.at("published/tiles"), "--trust", w.at("trust.json"), "--since", w.at("kept")).CombinedOutput(); err != nil {
				t.Fatalf("before: %v\n%s", err, out)
			}
			c.fault(w)
			if err := os.RemoveAll(w.at("published/tiles")); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := os.Rename(w.at("other/tiles"), w.at("published/tiles")); err != nil {
				t.Fatal(err)
			}
			found := func() bool {
				s, err := w.status()
				for _, a := range s.Alarms {
					for _, kind := range c.kinds {
						if err == nil && a.Stands && a.Kind == kind {
							return true
						}
					}
				}
				return false
			}
			until(t, "the auditor finds it", found)
			t.Logf("found by the auditor after %s; the aim is 2s", time.Since(begun).Round(time.Millisecond))
			if s, err := w.status(); err != nil || s.Logs[0].Size != 600 || s.Logs[0].Cosigned != 600 {
				t.Errorf("the auditor's copy: %+v, %v", s, err)
			}
			out, err := exec.Command(filepath.Join(bin, "reeve"), "verify", "--ledger", w.at("published/tiles"), "--trust", w.at("trust.json"), "--since", w.at("kept"), "--need", "included").CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("offline: %v\n%s", err, out)
			}
			out, err = exec.Command(filepath.Join(bin, "reeve"), "audit", "verify", "--logs", w.at("auditor/logs"), "--trust", w.at("trust.json"), "--silence", "0").CombinedOutput()
			if err != nil {
				t.Errorf("the auditor's copy: %v\n%s", err, out)
			}
		})
	}
}
