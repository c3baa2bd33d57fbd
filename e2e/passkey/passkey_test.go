// Package passkey has three people sign with passkeys as they would: the real reeve serves its page, a real browser shows it, and an
// authenticator in software (the browser's virtual one) signs.
package passkey

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/need"
)

// site is where the people work.
type site struct {
	t        *testing.T
	bin, dir string
}

// reeve runs a command in the site's folder and returns what it printed, with its error. For each page that it asks for, visit is called.
func (s *site) reeve(visit func(url string), args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.bin, "reeve"), args...)
	cmd.Dir = s.dir
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	var said strings.Builder
	lines := bufio.NewScanner(io.TeeReader(stderr, &said))
	for lines.Scan() {
		if url, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "http://"); ok {
			visit("http://" + url)
		}
	}
	if err := cmd.Wait(); err != nil {
		return out.String() + said.String(), err
	}
	return out.String(), nil
}

// must runs a command that holds; p signs on its pages.
func (s *site) must(p *person, args ...string) string {
	s.t.Helper()
	out, err := s.reeve(func(url string) {
		p.open(url)
		if said := p.press(); !strings.HasPrefix(said, "Done") {
			s.t.Errorf("reeve %v: %s", args, said)
		}
	}, args...)
	if err != nil {
		s.t.Fatalf("reeve %v: %v: %s", args, err, out)
	}
	return out
}

func wants(t *testing.T, text string, list ...string) {
	t.Helper()
	for _, w := range list {
		if !strings.Contains(text, w) {
			t.Errorf("lacks %q:\n%s", w, text)
		}
	}
}

func TestRealPasskeys(t *testing.T) {
	need.Real(t, "chromium")
	s := &site{t: t, bin: t.TempDir(), dir: t.TempDir()}
	must(t, binaries.Build(s.bin, "", binaries.All()...))
	b := chromium(t)
	ada, bea, cora := b.person("ada", false), b.person("bea", false), b.person("cora", false)

	// Each makes a passkey, and the estate is founded on them.
	for _, p := range []*person{ada, bea, cora} {
		entry := s.must(p, "key", "add", p.name, "--passkey")
		wants(t, entry, "- id: "+p.name+"-1\n", "type: webauthn\n", "credential: ")
		must(t, os.WriteFile(filepath.Join(s.dir, p.name+".yaml"), []byte(entry), 0o600))
	}
	s.must(nil, "init", "--dir", "acme", "--port", "0", "--estate", "acme", "--unit", "research", "--policy", "ada=ada.yaml", "--operations", "bea=bea.yaml", "--lifecycle", "cora=cora.yaml", "--provider", "openai")
	s.must(bea, "sign", "charter", "policy-research", "--as", "bea", "--passkey", "--dir", "acme")
	s.must(ada, "sign", "operations", "custody-research", "--as", "ada", "--passkey", "--dir", "acme")
	s.must(bea, "sign", "lock", "--as", "bea", "--passkey", "--dir", "acme")
	for _, p := range []*person{ada, bea, cora} {
		s.must(p, "approve", "all", "--as", p.name, "--passkey", "--dir", "acme")
	}
	wants(t, s.must(nil, "publish", "--dir", "acme"), "Version 1 of the lock is published")
	wants(t, s.must(nil, "estate", "log", "charter", "--dir", "acme"), "ada-1 (passkey verified, AAL2)", "bea-1 (passkey verified, AAL2)", "cora-1 (passkey verified, AAL2)")

	// They change a policy. Who approves sees what changes, and signs only when his authenticator has recognised him.
	policy := filepath.Join(s.dir, "acme", "estate", "units", "research", "use.cedar")
	was, err := os.ReadFile(policy)
	must(t, err)
	must(t, os.WriteFile(policy, append(was, "// Nothing after hours.\nforbid (principal, action, resource) when { context.max_tokens > 7 };\n"...), 0o644))
	s.must(bea, "sign", "changed", "--as", "bea", "--passkey", "--dir", "acme")
	s.must(bea, "sign", "lock", "--as", "bea", "--passkey", "--dir", "acme")
	out, err := s.reeve(func(url string) {
		wants(t, ada.open(url), "Version 2 of policy-research", "You sign this as ada", "drafted by\tbea", "+ // Nothing after hours.", "+ forbid (principal, action, resource) when { context.max_tokens > 7 };", "policy.yaml (unchanged)", "closes: research-agent may use research-openai")
		ada.verified(false)
		if said := ada.press(); !strings.HasPrefix(said, "Not signed") {
			t.Errorf("without verification: %s", said)
		}
		ada.verified(true)
		if said := ada.press(); !strings.HasPrefix(said, "Done") {
			t.Errorf("with verification: %s", said)
		}
	}, "approve", "policy-research", "--as", "ada", "--passkey", "--dir", "acme")
	if err != nil {
		t.Fatalf("approve: %v: %s", err, out)
	}
	s.must(cora, "approve", "lock", "--as", "cora", "--passkey", "--dir", "acme")
	wants(t, s.must(nil, "publish", "--dir", "acme"), "Version 2 of the lock is published")
	wants(t, s.must(nil, "estate", "log", "policy-research", "--json", "--dir", "acme"), `"authenticator": "passkey"`, `"user_verified": true`, `"aal": 2`)

	// Cora's authenticator does not know ada's passkey: the page asks for that one only.
	_, err = s.reeve(func(url string) {
		cora.open(url)
		if said := cora.press(); !strings.HasPrefix(said, "Not signed") {
			t.Errorf("cora signs as ada: %s", said)
		}
		ada.open(url)
		if said := ada.press(); !strings.HasPrefix(said, "Done") {
			t.Errorf("ada: %s", said)
		}
	}, "sign", "lock", "--as", "ada", "--passkey", "--dir", "acme")
	must(t, err)

	// A passkey that is synced is refused, unless that is accepted in so many words.
	out, err = s.reeve(func(url string) {
		synced, device := b.person("dan", true), b.person("dan", false)
		synced.open(url)
		wants(t, synced.press(), "Not signed", "this passkey is synced")
		device.open(url)
		wants(t, device.press(), "Done")
	}, "key", "add", "dan", "--passkey", "--dir", "acme")
	must(t, err)
	if strings.Contains(out, "synced") {
		t.Errorf("the device's passkey: %s", out)
	}
	wants(t, s.must(b.person("dan", true), "key", "add", "dan", "--passkey", "--synced", "--dir", "acme"), "synced: accepted")

	// A page elsewhere on this machine gets no signature of ada that could be used: it may not know the address, or answer in its name.
	_, err = s.reeve(func(url string) {
		bea.open(url)
		if got := bea.eval(`fetch("` + url[:strings.LastIndex(strings.TrimSuffix(url, "/"), "/")] + `/guess/answer", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"}).then(r => r.status)`); got != "404" {
			t.Errorf("another token: %s", got)
		}
		if got := bea.eval(`new Promise(done => { const f = document.createElement("iframe"); f.src = location.href; f.onload = f.onerror = () => { let seen = "framed"; try { seen = f.contentDocument && f.contentDocument.querySelector("button") ? "framed" : "empty" } catch (e) { seen = "empty" } done(seen) }; document.body.append(f) })`); got != "empty" {
			t.Errorf("the page is shown within a page: %s", got)
		}
		if said := bea.press(); !strings.HasPrefix(said, "Done") {
			t.Errorf("bea: %s", said)
		}
	}, "approve", "lock", "--as", "bea", "--passkey", "--dir", "acme")
	must(t, err)
}
