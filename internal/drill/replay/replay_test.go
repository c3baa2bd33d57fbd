package replay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

func TestRealReplays(t *testing.T) {
	need.Real(t, "linux")
	t.Run("litellm-supply-chain", func(t *testing.T) { start(t, true, supplyChain) })
	t.Run("cve-2026-42208", func(t *testing.T) { start(t, false, stolenDatabase) })
}

// supplyChain: a release of a dependency turns. For a while its code runs in the gateway's process, reads all of it, and makes calls of its choosing
// with the keys of workloads that it finds there.
func supplyChain(s *site) {
	for range 3 { // as every day, before
		if status, _ := s.call(s.keys["research-agent"], "research-openai"); status != http.StatusOK {
			s.Fatalf("an honest call: %d", status)
		}
	}
	s.signed()
	from := now()
	s.signed() // a program that signs its own requests goes on in the window: nobody else can have made its calls

	mine := append(loot.Needles("research-agent", []byte(s.keys["research-agent"])), s.needles...)
	got := s.tell(drill.Order{Search: &loot.Target{PIDs: []int{0, s.pids[host.Custodian]}, Dirs: []string{s.dir.Path, s.dir.State, s.dir.Join(host.Gateway)}, Needles: mine}})
	found := map[string]int{}
	for _, h := range got.Survey.Hits {
		found[h.Secret]++
	}
	if found["research-agent"] == 0 || len(found) != 1 {
		s.Fatalf("found in the gateway: %v; a caller's key is there, and no other", found)
	}

	var receipts []string
	for _, c := range []struct{ workload, credential string }{
		{"research-agent", "research-openai"}, {"research-agent", "research-anthropic"}, {"support-agent", "support-openai"}, {"research-agent", "research-openai"},
		{"support-agent", "support-openai"}, {"research-agent", "research-openai"},
	} {
		a := s.forge(s.keys[c.workload], c.credential)
		if a.Refused != "" || len(a.Found) != 0 {
			s.Fatalf("a call within grants: %+v", a)
		}
		receipts = append(receipts, a.Receipt)
	}
	beyond := 0
	for _, c := range []struct{ workload, credential string }{{"research-agent", "support-openai"}, {"support-agent", "research-anthropic"}} {
		if a := s.forge(s.keys[c.workload], c.credential); a.Refused == "" {
			s.Fatalf("a call beyond grants: %+v", a)
		}
		beyond++
	}
	s.signed()
	to := now()

	s.reeve(0, "incident", "open", "--id", "litellm", "--subject", "gateway:g1", "--from", from, "--to", to, "--why", "a release of a dependency of the gateway is malicious",
		"--commander", "bea", "--as", "bea", "--with", "ada")
	all := func(r *incident.Report) bool { return r.Misuse.Uses == int64(len(receipts)) && r.Misuse.Proven == 2 }
	s.report("litellm", 3, all) // and nothing is contained yet
	c := s.contain("gateway", "g1", "--as", "bea", "--with", "ada", "--reason", "malicious dependency")
	if a := s.forge(s.keys["research-agent"], "research-openai"); a.Refused == "" {
		s.Errorf("after the containment: %+v", a)
	}
	if status, _ := s.call(s.keys["research-agent"], "research-openai"); status == http.StatusOK {
		s.Error("the gateway still serves")
	}
	page := filepath.Join(s.TempDir(), "report.html")
	r := s.report("litellm", 0, func(r *incident.Report) bool { return all(r) && r.Contained }, "--html", page, "--as", "bea", "--with", "ada")

	if r.Read != 0 || r.Counts[blast.Read] != 0 {
		s.Errorf("READ = %d", r.Read)
	}
	m := r.Misuse
	if diff := cmp.Diff([]any{entryOf(s.T, receipts[0]), entryOf(s.T, receipts[len(receipts)-1])}, []any{m.FirstEntry, m.LastEntry}); diff != "" {
		s.Errorf("the window of misuse: %s", diff)
	}
	if m.First.Before(r.From) || !m.Last.Before(r.To) || m.Denied != int64(beyond) || m.Reasons["cross_unit"] != m.Denied {
		s.Errorf("%+v in %s to %s", m, r.From, r.To)
	}
	if diff := cmp.Diff([][]string{{"research-anthropic", "research-openai", "support-openai"}, {"research", "support"}, {"research-agent", "support-agent"}, {"cora"}},
		[][]string{m.Credentials, m.Units, m.Workloads, m.Owners}); diff != "" {
		s.Error(diff)
	}
	used := map[string]blast.Class{}
	for _, row := range r.Blast[0].Rows {
		used[row.Credential+" "+row.Unit] = row.Class
		if row.Class == blast.UsedAsserted && (row.Accountable.Lifecycle != "cora" || !cmp.Equal(row.Accountable.Operations, []string{"bea"}) || !cmp.Equal(row.Accountable.Policy, []string{"ada"})) {
			s.Errorf("who answers for %s: %+v", row.Credential, row.Accountable)
		}
	}
	for row, want := range map[string]blast.Class{"research-openai research": blast.UsedAsserted, "research-anthropic research": blast.UsedAsserted, "support-openai support": blast.UsedAsserted, "support-anthropic support": blast.Reachable} {
		if used[row] != want {
			s.Errorf("%s is %s, want %s", row, used[row], want)
		}
	}
	s.about(r, s.opened("litellm"), c)
	s.holds("litellm", page, "READ = 0")
}

// holds checks the page, and that the incident's own record holds.
func (s *site) holds(id, page string, says ...string) {
	s.Helper()
	text, err := os.ReadFile(page)
	must(s.T, err)
	for _, want := range append(says, "Cora (cora)", "signed", "Time to contain") {
		if !strings.Contains(string(text), want) {
			s.Errorf("the page does not say %q", want)
		}
	}
	s.reeve(0, "incident", "close", id, "--outcome", "contained; keys issued anew", "--as", "bea", "--with", "ada")
	s.reeve(0, "incident", "show", id)
}

// stolenDatabase: somebody reads the authority's database and everything else that authority and gateway keep, and tries what he finds: as
// a key, as a token, and with the token key that signs for workloads.
func stolenDatabase(s *site) {
	for w, c := range map[string]string{"research-agent": "research-openai", "support-agent": "support-anthropic"} {
		if status, _ := s.call(s.keys[w], c); status != http.StatusOK {
			s.Fatalf("an honest call: %d", status)
		}
	}
	from := now()
	loots, err := store.Copy(s.dir.Join(host.Authority, "authority.db"))
	must(s.T, err)
	for _, folder := range []string{s.dir.Join(host.Authority), s.dir.Join(host.Gateway)} {
		must(s.T, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			loots = append(append(loots, '\n'), b...)
			return err
		}))
	}
	callers := append(loot.Needles("research-agent", []byte(s.keys["research-agent"])), loot.Needles("support-agent", []byte(s.keys["support-agent"]))...)
	if found := loot.Find(append(callers, s.needles...), loots); len(found) != 0 {
		s.Fatalf("in what was stolen: %v", found)
	}

	// Whatever looks like a secret, as a key and to exchange.
	refused := 0
	tried := map[string]bool{}
	for _, b := range regexp.MustCompile(`rv_[A-Za-z0-9_-]{8}|[0-9a-f]{64}|eyJ[A-Za-z0-9_.-]{20,}|PRIVATE\+KEY[^\s"]+`).FindAll(loots, -1) {
		if tried[string(b)] || len(tried) == 12 {
			continue
		}
		tried[string(b)] = true
		if status, _ := s.call(string(b), "research-openai"); status != http.StatusUnauthorized {
			s.Errorf("a call with what was stolen: %d", status)
		}
		resp, err := http.PostForm("http://"+host.Local(s.dir.Run.Ports.Authority)+"/v1/token", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {string(b)}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}})
		must(s.T, err)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			s.Error("what was stolen was exchanged for a token")
		}
		refused++
	}
	if refused < 3 {
		s.Fatalf("only %d things to try", refused)
	}

	// The authority's token key, and the hash of a key that it has: a token for whom only the authority vouches. That is a captured authority's power.
	token := s.forged("support-agent")
	var receipts []string
	for _, c := range []string{"support-openai", "support-anthropic", "support-openai"} {
		status, receipt := s.call(token, c)
		if status != http.StatusOK {
			s.Fatalf("a forged token for whom only the authority vouches: %d", status)
		}
		receipts = append(receipts, receipt)
	}
	if status, _ := s.call(s.forged("research-agent"), "research-openai"); status == http.StatusOK {
		s.Error("a forged token for whom the authority alone may not vouch")
	}
	// Refusals of callers whom nobody knows are one entry a second, so the window stays open.
	s.reeve(0, "incident", "open", "--id", "cve-2026-42208", "--subject", "authority:a1", "--subject", "gateway:g1", "--from", from,
		"--why", "theft of the authority's and the gateway's database and files", "--contains", "gateway:g1", "--as", "bea", "--with", "ada")
	c := s.contain("gateway", "g1", "--as", "bea", "--with", "ada", "--reason", "stolen database")
	if status, _ := s.call(token, "support-openai"); status == http.StatusOK {
		s.Error("the forged token still works")
	}
	page := filepath.Join(s.TempDir(), "report.html")
	r := s.report("cve-2026-42208", 0, func(r *incident.Report) bool {
		return r.Contained && r.Misuse.Uses >= int64(len(receipts)) && r.Misuse.Denied > 0
	}, "--html", page, "--as", "bea", "--with", "ada")
	if r.Read != 0 {
		s.Errorf("READ = %d", r.Read)
	}
	m := r.Misuse
	if diff := cmp.Diff([]any{entryOf(s.T, receipts[0]), entryOf(s.T, receipts[len(receipts)-1])}, []any{m.FirstEntry, m.LastEntry}); diff != "" {
		s.Errorf("the window of misuse: %s", diff)
	}
	if m.Uses != int64(len(receipts)) || m.Denied == 0 || m.FirstDenied.Before(r.From) {
		s.Errorf("%+v", m)
	}
	if diff := cmp.Diff([][]string{{"support-anthropic", "support-openai"}, {"support"}, {"support-agent"}, {"cora"}}, [][]string{m.Credentials, m.Units, m.Workloads, m.Owners}); diff != "" {
		s.Error(diff)
	}
	s.about(r, s.opened("cve-2026-42208"), c)
	s.holds("cve-2026-42208", page, "READ = 0", "theft of the authority")
}

// forged is a token for the workload, signed with the stolen token key over the stolen hash of its key.
func (s *site) forged(w string) string {
	s.Helper()
	text, err := os.ReadFile(s.dir.Join(host.Authority, "token.key"))
	must(s.T, err)
	parts := strings.SplitN(string(bytes.TrimSpace(text)), "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	must(s.T, err)
	key := ed25519.NewKeyFromSeed(raw[1:])
	kid, err := workload.AccessKeyID(key.Public().(ed25519.PublicKey))
	must(s.T, err)
	set, err := statement.Load(estate.Dir(s.dir.Join("estate")).Store(), s.dir.Pin(), nil, time.Now())
	must(s.T, err)
	keys, err := estate.Dir(s.dir.Join("estate")).Keys(set, time.Now())
	must(s.T, err)
	at := time.Now().Unix()
	a := workload.Access{Issuer: set.Charter.Authority.Issuer, Audience: workload.AccessAudience(demo.ID), Subject: w, ClientID: w, Expiry: at + 600, IssuedAt: at, ID: rand.Text()}
	for _, k := range keys {
		if k.Workload == w {
			a.Key = k.SHA256
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid).WithType(workload.AccessType))
	must(s.T, err)
	payload, err := json.Marshal(a)
	must(s.T, err)
	jws, err := signer.Sign(payload)
	must(s.T, err)
	out, err := jws.CompactSerialize()
	must(s.T, err)
	return out
}
