package incident

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/need"
)

// The page has the eleven parts, holds everything it shows, and lets no text of the ledgers out of its place.
func TestPage(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	evil := `<script>alert(1)</script>`
	r := &Report{Incident: "inc-1", Estate: "demo", Why: evil, From: at, To: at.Add(3 * time.Hour), Made: at.Add(4 * time.Hour), Opened: at.Add(time.Hour), Read: 1,
		Commander: Person{"bea", "Bea"}, Counts: map[blast.Class]int{blast.Read: 1}, Matrix: []UnitCounts{{"research", "acme", map[blast.Class]int{blast.Read: 1}}},
		Misuse:   Misuse{Uses: 2, First: at.Add(time.Minute), Last: at.Add(2 * time.Hour), FirstEntry: control.Ref{Log: "aa", Seq: 1}, LastEntry: control.Ref{Log: "aa", Seq: 9}, Credentials: []string{evil}},
		Timeline: []Moment{{Time: at, Process: "c1", What: evil}}, Units: []Unit{{Unit: evil, Rows: []blast.Row{{Credential: "x", Class: blast.Read, Why: evil}}}},
		Controls: []Control{{ID: "RV-01", Before: control.Pass, After: control.Fail, Why: evil}}, Unproven: []string{evil}, Answer: []string{evil}}
	var out bytes.Buffer
	if err := (&Page{Report: r, Hash: strings.Repeat("ab", 32)}).WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, id := range []string{"header", "answer", "accountability", "timeline", "credentials", "units", "unproven", "containment", "controls", "completeness", "signatures"} {
		if strings.Count(page, `<h2 id="`+id+`"`) != 1 {
			t.Errorf("no part %s", id)
		}
	}
	for _, bad := range []string{"<script", "ZgotmplZ", " src=", "url(", "@import", "<link"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(page, "draft, not signed") || !strings.Contains(page, "aa:9") || !strings.Contains(page, `@page`) {
		t.Error("no draft, no entry, or not for print")
	}
}

// A browser opens the page without a word of complaint, shows every heading, asks nobody for anything, and prints it as pages of A4.
func TestRealPage(t *testing.T) {
	need.Real(t, "chromium")
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	r := &Report{Incident: "inc-1", Estate: "demo", Why: "a malicious release", From: at, To: at.Add(3 * time.Hour), Made: at.Add(4 * time.Hour), Opened: at.Add(time.Hour), Commander: Person{"bea", "Bea"}}
	var out bytes.Buffer
	if err := (&Page{Report: r, Hash: strings.Repeat("ab", 32)}).WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	chromium := func(args ...string) (string, string) {
		cmd := exec.CommandContext(t.Context(), "chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
			"--disable-dev-shm-usage", "--enable-logging=stderr", "--user-data-dir=" + filepath.Join(dir, "profile")}, append(args, "file://"+file)...)...)
		var page, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &page, &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log.Bytes())
		}
		return page.String(), log.String()
	}
	page, log := chromium("--dump-dom")
	if strings.Contains(log, "CONSOLE") {
		t.Errorf("the browser complains: %s", log)
	}
	for _, want := range []string{"Header", "The answer", "Accountability", "Timeline", "Credentials", "Business units", "Out of band and unproven", "Containment", "Controls before and after", "Completeness", "Signatures"} {
		if !strings.Contains(page, "</span>"+want+"</h2>") {
			t.Errorf("no heading %q", want)
		}
	}
	chromium("--no-pdf-header-footer", "--print-to-pdf="+filepath.Join(dir, "report.pdf"))
	pdf, err := os.ReadFile(filepath.Join(dir, "report.pdf"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(pdf, []byte("/Type /Page\n")); n < 5 || !bytes.Contains(pdf, []byte("/MediaBox [0 0 594.95996 841.91998]")) && !bytes.Contains(pdf, []byte("/MediaBox [0 0 595 842]")) {
		t.Errorf("%d pages: %q", n, regexp.MustCompile(`/MediaBox \[[^\]]*\]`).Find(pdf))
	}
}

// Labels of what happened at nearly the same time stand beside one another, wherever that is on the bar.
func TestTimebarLabels(t *testing.T) {
	from := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	for _, at := range []time.Duration{0, time.Hour, 3 * time.Hour} {
		p := &Page{Report: &Report{From: from, To: from.Add(3 * time.Hour), Opened: from.Add(at)}}
		p.Misuse.First, p.Misuse.Last = from, from.Add(at-time.Second)
		p.Containment.Contained = from.Add(at + time.Second)
		marks := p.timebar().Marks
		for i, m := range marks {
			if m.Text < 45 || m.Text > 955 {
				t.Errorf("%s: %q stands at %.0f, outside", at, m.Label, m.Text)
			}
			for _, n := range marks[:i] {
				if m.Row == n.Row && m.Text-n.Text < 90 {
					t.Errorf("%s: %q at %.0f is on top of %q at %.0f", at, m.Label, m.Text, n.Label, n.Text)
				}
			}
		}
	}
}
