// Package drill runs `reeve drill` as it is shipped, as the user of the test and, when that is root, as an ordinary user too.
package drill

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/need"
)

// report is what `reeve drill --json` prints, as its format says.
type report struct {
	Level      string `json:"level"`
	ReeveHits  int    `json:"reeve_hits"`
	DoubleHits int    `json:"double_hits"`
	Calls      int    `json:"calls"`
	Replayed   int    `json:"replayed"`
	Scenarios  []struct {
		ID, Place, Detail string
		Reeve, Double     int
		NotHeld           bool `json:"not_held"`
	} `json:"scenarios"`
	Results []struct {
		Scenario, State, Detail string
	} `json:"results"`
	NotHeld []string `json:"not_held"`
}

func TestRealDrill(t *testing.T) {
	need.Real(t, "linux")
	bin := t.TempDir()
	for d := bin; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := binaries.Build(bin, "", binaries.All()...); err != nil {
		t.Fatal(err)
	}
	t.Run("as "+map[bool]string{true: "root", false: "an ordinary user"}[os.Geteuid() == 0], func(t *testing.T) {
		r := drill(t, bin, nil, "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10")
		if os.Geteuid() == 0 && (r.Level != "separate-uid" || len(r.NotHeld) > 0) {
			t.Errorf("level %s, not held %v: as root every process has a user of its own", r.Level, r.NotHeld)
		}
	})
	t.Run("as nobody", func(t *testing.T) {
		need.Part(t, "root")
		const nobody = 65534
		r := drill(t, bin, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "S1", "S2", "S3", "S6", "S7", "S9", "S10") // S8 waits for the bounds; once is enough
		if r.Level != "one-uid" || len(r.NotHeld) == 0 {
			t.Errorf("level %s, not held %v: what one user cannot defend is said", r.Level, r.NotHeld)
		}
	})
}

func drill(t *testing.T, bin string, attr *syscall.SysProcAttr, scenarios ...string) report {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "reeve"), "drill", "--json", "--scenario", strings.Join(scenarios, ","))
	cmd.Dir, cmd.SysProcAttr = "/", attr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	err := cmd.Run()
	t.Logf("%s%s", progress.Bytes(), out.Bytes())
	if err != nil {
		t.Fatalf("the drill: %v", err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.ReeveHits != 0 || r.DoubleHits == 0 || r.Calls < 1000 || r.Replayed == 0 {
		t.Errorf("hits %d, the double's %d, calls %d, replayed %d", r.ReeveHits, r.DoubleHits, r.Calls, r.Replayed)
	}
	ids, places := map[string]int{}, map[string]int{}
	for _, s := range r.Scenarios {
		ids[s.ID]++
		places[s.Place]++
		if s.ID == "S2" && strings.Contains(s.Detail, "WENT THROUGH") {
			t.Errorf("%s: %s", s.Place, s.Detail)
		}
	}
	for i, id := range scenarios { // in the catalogue's order
		if ids[id] == 0 {
			t.Errorf("%s was not played", id)
		}
		if len(r.Results) <= i || r.Results[i].Scenario != id || r.Results[i].State != "held" {
			t.Errorf("%s did not hold: %+v", id, r.Results)
		}
	}
	if len(scenarios) < 10 {
		return r
	}
	for _, place := range []string{"signed requests, replayed", "signed requests, altered", "signed requests, re-routed", "exchange of what a gateway saw",
		"a token endpoint that redirects", "a token endpoint that names another host", "a token endpoint that answers without end", "a token endpoint whose name leads inside"} {
		if places[place] == 0 {
			t.Errorf("%s: not played", place)
		}
	}
	return r
}
