// Package judges_test has documents that are written here looked at by validators that are not ours.
package judges_test

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/go-oscal/src/pkg/validation"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/oscal"
	"github.com/reevehq/reeve/internal/need"
)

//go:embed requirements.txt
var requirements []byte

// judge runs judge.py, whose packages are installed once for this user, apart from everything else. It returns what it said.
func judge(t *testing.T, words ...string) (string, error) {
	t.Helper()
	need.Real(t, "python3")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(requirements)
	packages := filepath.Join(cache, "reeve", "judges-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(packages, "done")); err != nil {
		os.RemoveAll(packages)
		install := exec.Command("python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--target", packages, "-r", "requirements.txt")
		if out, err := install.CombinedOutput(); err != nil {
			t.Skipf("needs the validators of requirements.txt, which could not be installed: %v\n%s", err, out)
		}
		if err := os.WriteFile(filepath.Join(packages, "done"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("python3", append([]string{"judge.py"}, words...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+packages, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// assessed is one result of each state for every control.
func assessed(t *testing.T) oscal.Input {
	t.Helper()
	c, err := control.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	in := oscal.Input{Estate: "example", Catalogue: c}
	for i, title := range []string{"before", "after"} {
		a := oscal.Assessment{Title: title, From: noon, To: noon.Add(time.Duration(i+1) * time.Hour)}
		for n, x := range c.Controls {
			r := control.Result{Control: x.ID, State: []control.State{control.Pass, control.Fail, control.Unknown, control.Exempt}[(n+i)%4], Summary: "what was found", AsOf: a.To}
			switch r.State {
			case control.Exempt:
				r.Until, r.Approver = a.To.Add(time.Hour), "ada"
			case control.Fail:
				r.Findings = []control.Finding{{What: "something is wrong:\nmend it", Subject: "credential:research-openai", Unit: "research", Owner: "bob", Refs: []control.Ref{{Log: "0123456789abcdef", Seq: 7}}}}
			}
			a.Results = append(a.Results, r)
		}
		in.Results = append(in.Results, a)
	}
	return in
}

// TestRealOSCAL: compliance-trestle imports every file, validates them together and resolves the profile; go-oscal takes each by the published schema.
func TestRealOSCAL(t *testing.T) {
	dir := t.TempDir()
	if err := oscal.Write(dir, assessed(t)); err != nil {
		t.Fatal(err)
	}
	if out, err := judge(t, "oscal", dir); err != nil {
		t.Fatalf("compliance-trestle: %v\n%s", err, out)
	}
	// What has no version neither takes.
	for _, broken := range []bool{false, true} {
		for _, name := range oscal.Files {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if broken {
				b = []byte(strings.Replace(string(b), `"oscal-version"`, `"oscal-versions"`, 1))
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var doc map[string]any
			if err := json.Unmarshal(b, &doc); err != nil {
				t.Fatal(err)
			}
			v, err := validation.NewValidatorDesiredVersion(doc, oscal.Version)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Validate(); (err != nil) != broken {
				t.Errorf("go-oscal: %s: %v", name, err)
			}
		}
	}
	if out, err := judge(t, "oscal", dir); err == nil {
		t.Fatalf("compliance-trestle takes files without a version:\n%s", out)
	}
}

// golden has a judge look at a file that the unit tests hold the writer to, and at copies that each have one fault: what is right there, and what
// stands in its place.
func golden(t *testing.T, kind, path string, faults [][2]string) {
	t.Helper()
	if out, err := judge(t, kind, path); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), filepath.Base(path))
	for _, f := range faults {
		text := strings.Replace(string(b), f[0], f[1], 1)
		if text == string(b) {
			t.Fatalf("%s has no %s", path, f[0])
		}
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := judge(t, kind, broken)
		if err == nil {
			t.Errorf("it is taken with %s too:\n%s", f[1], out)
		}
		t.Logf("%s: %s", f[1], out)
	}
}

// TestRealCycloneDX: cyclonedx-python-lib takes the bill of materials as strict CycloneDX 1.7.
func TestRealCycloneDX(t *testing.T) {
	golden(t, "cyclonedx", "../../internal/audit/bom/testdata/credentials.cdx.json", [][2]string{{`"state": "active"`, `"state": "alive"`}})
}

// TestRealOCSF: every event satisfies its class in the schema of the version that it names, and has the fingerprint that a program of another make
// computes.
func TestRealOCSF(t *testing.T) {
	golden(t, "ocsf", "../../internal/audit/ocsf/testdata/events.jsonl", [][2]string{
		{`"src_endpoint":`, `"src_endpoints":`},
		{`"chain_uid":"0123456789abcdef"`, `"chain_uid":7`},                               // of another type
		{`"chain_uid":"0123456789abcdef"`, `"chain_uids":"0123456789abcdef"`},             // unknown
		{`"prev_event":{"uid":"0123456789abcdef.0"}`, `"prev_event":{"type_uid":300401}`}, // without what is required
		{`"delegation":{"uid":`, `"delegation":{"issuer":`},
		{`"serialization_id":2`, `"serialization_id":9`},
		{`"profiles":["record_integrity"]`, `"profiles":[]`}, // the attestation is of no profile
		{`"count":40`, `"count":41`},                         // the fingerprint is of another event
	})
}
