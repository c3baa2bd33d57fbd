package faults

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

// upstreamKeys are what the upstream accepts, and its folder.
func (s *site) upstreamKeys() (path string, keys []upstream.Key) {
	s.Helper()
	path = s.dir.Join(host.Upstream)
	b, err := os.ReadFile(filepath.Join(path, "keys.json"))
	if err == nil {
		err = json.Unmarshal(b, &keys)
	}
	if err != nil {
		s.Fatal(err)
	}
	return path, keys
}

// accept has the upstream accept these keys. A running one looks at its file when it is shown a key that it does not know.
func (s *site) accept(path string, keys []upstream.Key) {
	s.Helper()
	file := filepath.Join(path, "keys.json")
	before, err := os.Stat(file)
	if err == nil {
		err = upstream.WriteKeys(path, keys)
	}
	if err == nil {
		owner := before.Sys().(*syscall.Stat_t)
		err = os.Chown(file, int(owner.Uid), int(owner.Gid))
	}
	if err != nil {
		s.Fatal(err)
	}
}

// TestRealProvenDead: a credential whose key its owner has deleted at the provider is revoked and, after two probes a minute apart by the real
// custodian, proven dead; every step is in the ledger, and nothing was used after the first.
func TestRealProvenDead(t *testing.T) {
	need.Real(t)
	s := makeSite(t, demo.RandomKey, func(p *estate.Plan) {
		p.Custody["research"].Credentials[0].Probe = statement.Probe{Method: http.MethodGet, Path: "/v1/models", Status: http.StatusUnauthorized, Holds: "invalid_api_key"}
	})
	s.mustUp()
	s.mustUse("before the end")
	path, keys := s.upstreamKeys()
	left := slices.DeleteFunc(slices.Clone(keys), func(k upstream.Key) bool { return k.Account == "research-openai" })
	if len(left) == len(keys) {
		t.Fatalf("%+v", keys)
	}
	s.accept(path, left)
	s.kill(host.Upstream) // it reads its keys at the start
	s.restart(host.Upstream)
	begun := time.Now()
	out, status := s.reeve("credential", "revoke", "research-openai", "--reason", "leaked", "--as", "cora", "--prove", "3m")
	if status != 0 || !strings.Contains(out, "refused twice by") || time.Since(begun) < time.Minute {
		t.Fatalf("exit status %d after %s:\n%s", status, time.Since(begun), out)
	}
	t.Logf("proven dead after %s:\n%s", time.Since(begun).Round(time.Second), out)
	s.settled()
	var story []string
	var closed int64
	for _, log := range s.gather(nil).logs {
		for _, e := range log {
			switch {
			case e.Credential != "research-openai":
			case e.Type == entry.Revoke:
				closed = e.TimeNS
			case e.Type == entry.Intent && closed != 0:
				t.Errorf("a use after the revocation: %+v", e)
			case e.Type == entry.Version || e.Type == entry.Probe:
				story = append(story, strings.Trim(string(e.Type)+":"+e.Reason, ":"))
			}
		}
	}
	if got, want := strings.Join(story, " "), "version:revoked version:cannot_revoke probe probe version:probed_twice version:proven"; got != want {
		t.Errorf("the ledger says %s, want %s", got, want)
	}
}
