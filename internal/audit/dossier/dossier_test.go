package dossier_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/dossier"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/statement"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func booksOf(now time.Time, x index.Reader, sets ...*statement.Set) *books.Books {
	return &books.Books{Index: x, History: history.New(sets...), Now: now}
}

// TestVouchers: a document counts by the roles that its signers held when a ledger got the record, not by those of today; what no ledger has counts by
// those of the time that its signers say, and by no authority's entry in another's log.
func TestVouchers(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	dan, err := estate.NewSigner("dan")
	must(t, err)
	eve, err := estate.NewSigner("eve")
	must(t, err)
	e := estatetest.New(t, estatetest.At(now.Add(-2*time.Hour)), estatetest.With(dan, eve), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Roles.Operations = append(p.Charter.Roles.Operations, "eve")
		for i := range p.Charter.People {
			if q := &p.Charter.People[i]; q.ID == "dan" || q.ID == "eve" {
				q.AttestedBy = "ada"
			}
		}
	}))
	first := e.Set
	e.Now = now.Add(-time.Hour)
	e.Republish(t, func(p *estate.Plan) { p.Charter.Roles.Operations = []string{"bea", "dan"} }, "charter")
	x := index.NewMemory(index.Log{ID: "a1", Process: "a1", Origin: "reeve/demo/a1"}, index.Log{ID: "c1", Process: "c1", Origin: "reeve/demo/c1"})
	seq, dir := map[string]int64{}, t.TempDir()
	var want []string
	before, after := now.Add(-90*time.Minute), now.Add(-30*time.Minute)
	for _, c := range []struct {
		name   string
		log    string // that has the record
		at     time.Time
		by     []*estate.Signer
		counts bool
	}{
		{"by one who has lost the role since", "a1", before, []*estate.Signer{eve}, true},
		{"by one who has got it since", "a1", before, []*estate.Signer{dan}, false},
		{"by one who had lost it", "a1", after, []*estate.Signer{eve}, false},
		{"by one who had got it", "a1", after, []*estate.Signer{dan}, true},
		{"by a root holder", "a1", after, []*estate.Signer{e.Cora}, true},
		{"by somebody without a role", "", before, []*estate.Signer{dan}, false},
		{"in no ledger", "", before, []*estate.Signer{eve}, true},
		{"in a custodian's ledger, later", "c1", before, []*estate.Signer{dan}, false},
		{"from the future", "", now.Add(time.Hour), []*estate.Signer{e.Bea}, false},
	} {
		b, err := (&control.Evidence{Drills: []control.Drill{{Scenario: c.name, Time: before, Passed: true}}}).Write(dir, strings.ReplaceAll(c.name, " ", "-"))
		must(t, err)
		env, err := evidence.Seal(first, "drill", c.name, b, c.at, c.by...)
		must(t, err)
		id := env.ID()
		record := hex.EncodeToString(id[:])
		must(t, e.Dir.WriteRecord(record, env))
		if c.log != "" {
			at, lock := c.at.Add(time.Second), first
			if c.log == "c1" || c.at.Equal(after) {
				at, lock = after, e.Set
			}
			must(t, x.Add(&entry.Entry{V: 1, Type: entry.Attest, Log: c.log, Seq: seq[c.log], TimeNS: at.UnixNano() + seq[c.log], Reason: "drill", Record: record, Estate: hex.EncodeToString(lock.LockHash[:])}))
			seq[c.log]++
		}
		if c.counts {
			want = append(want, c.name)
		}
	}
	got, refused, err := dossier.Read(t.Context(), dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, booksOf(now, x, first, e.Set))
	must(t, err)
	var counts []string
	for _, d := range got.Drills {
		counts = append(counts, d.Scenario)
	}
	slices.Sort(counts)
	slices.Sort(want)
	if d := cmp.Diff(want, counts); d != "" || len(refused) != 5 || !strings.Contains(strings.Join(refused, "\n"), "dan signed for it, and it takes an operations owner") {
		t.Errorf("%s; refused %q", d, refused)
	}
}

// TestTwo: how an incident went takes two people of two roles, on one machine or on two, and a journal.
func TestTwo(t *testing.T) {
	e, dir := estatetest.New(t), t.TempDir()
	now := time.Now().UTC().Truncate(time.Second)
	x, seq := index.NewMemory(index.Log{ID: "a1", Process: "a1", Origin: "reeve/demo/a1"}), int64(0)
	course := control.Incident{ID: "inc-1", Opened: now, AsOf: now, Contained: now, Dead: 1}
	document, err := (&control.Evidence{Incidents: []control.Incident{course}}).Write(dir, "incident-inc-1-2")
	must(t, err)
	for _, c := range []struct {
		by     *estate.Signer
		counts int
	}{{e.Bea, 0}, {e.Bea, 0}, {e.Ada, 1}} {
		a, err := evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, "document", fmt.Sprint("incident-inc-1-2 ", seq), document, c.by)
		must(t, err)
		must(t, x.Add(&entry.Entry{V: 1, Type: entry.Attest, Log: "a1", Seq: seq, TimeNS: now.UnixNano() + seq, Reason: "document", Record: a.Record, Estate: e.Set.Locked().SHA256}))
		seq++
		got, refused, err := dossier.Read(t.Context(), dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, booksOf(now.Add(time.Second), x, e.Set))
		must(t, err)
		if len(got.Incidents) != c.counts || len(refused) != 1-c.counts {
			t.Errorf("after %s: %+v, refused %q", c.by.Person, got.Incidents, refused)
		}
	}
}

// TestRead: a document counts when a live person has signed for its very bytes, an exemption when its approver has. What was worked out or played in part
// is no drill, and a comparison that nobody signed for counts only where it found strays.
func TestRead(t *testing.T) {
	e, dir := estatetest.New(t), t.TempDir()
	now := time.Now().UTC()
	exemption := control.Exemption{Control: "RV-10", From: now.Add(-time.Hour), Until: now.Add(time.Hour), Approver: "ada", Reason: "no federation there"}
	for _, d := range []struct {
		name     string
		evidence control.Evidence
		signs    bool
	}{
		{"drill", control.Evidence{Drills: []control.Drill{{Scenario: "S1", Time: now, Passed: true}}}, true},
		{"forged", control.Evidence{Drills: []control.Drill{{Scenario: "S2", Time: now, Passed: true}}}, false},
		{"exemption", control.Evidence{Exemptions: []control.Exemption{exemption}}, true},
	} {
		b, err := d.evidence.Write(dir, d.name)
		must(t, err)
		if d.signs {
			_, err = evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, "drill", d.name, b, e.Ada)
			must(t, err)
		}
	}
	must(t, func() error {
		_, err := usage.Write(dir, &usage.Result{V: 1, Provider: "openai", State: usage.OutOfBand, Whole: true,
			Judged: []usage.Judged{{Credential: "research-openai", Kind: export.Use, Counted: 5, Ledger: 3}, {Credential: "support-openai", Kind: export.Use, Counted: 5, Ledger: 5}},
			Strays: []usage.Stray{{Credential: "research-openai", Kind: export.Use, Difference: 2, Confidence: usage.Certain}}})
		return err
	}())
	played := &drills.Document{Estate: "demo", Played: drills.Own, Began: now.Add(-time.Minute), Ended: now, Results: []drills.Result{
		{Scenario: "S9", State: drills.Held, Figures: map[string]int64{drills.Stopped: 2500}}, {Scenario: "S4", State: drills.Held, Dry: true}, {Scenario: "S5", State: drills.Held, Part: true}, {Scenario: "S2", State: drills.NotHeld, Found: 3}, {Scenario: "S3", State: drills.Undecided}}}
	must(t, played.Write(filepath.Join(dir, drills.Folder)))
	file, err := os.ReadFile(filepath.Join(dir, drills.Folder, played.File))
	must(t, err)
	_, err = evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Drill, played.File, file, e.Bea)
	must(t, err)
	played.Ended = now.Add(time.Minute) // nobody signs for this one
	must(t, played.Write(filepath.Join(dir, drills.Folder)))
	got, refused, err := dossier.Read(t.Context(), dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, booksOf(now.Add(2*time.Second), index.NewMemory(), e.Set))
	must(t, err)
	want := []control.Drill{{Scenario: "S1", Time: now, Passed: true}, {Scenario: "S9", Time: now, Passed: true, Seconds: 2.5}, {Scenario: "S2", Time: now, Found: 3}}
	for i := range got.Drills {
		if len(got.Drills[i].Record) != 64 {
			t.Errorf("no record vouches for %+v", got.Drills[i])
		}
		got.Drills[i].Record = ""
	}
	if d := cmp.Diff(want, got.Drills); d != "" {
		t.Error(d)
	}
	if len(got.Exemptions) != 1 || len(got.Reconciliations) != 1 || got.Reconciliations[0].Strays != 2 ||
		len(refused) != 2 || !strings.Contains(refused[0], "forged.json: nobody has signed for it") {
		t.Fatalf("%+v; refused %q", got, refused)
	}
	_, err = (&control.Evidence{Drills: []control.Drill{{Scenario: "S1", Time: now, Passed: true, Detail: "later"}}}).Write(dir, "drill")
	must(t, err)
	if got, _, err = dossier.Read(t.Context(), dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, booksOf(now.Add(2*time.Second), index.NewMemory(), e.Set)); err != nil || len(got.Drills) != 2 {
		t.Fatalf("a document that was changed after it was signed: %+v, %v", got, err)
	}
}

// TestBrokenJournal: a journal that was changed counts for nothing, and is named; it ends no command.
func TestBrokenJournal(t *testing.T) {
	e := estatetest.New(t)
	dir := filepath.Join(string(e.Dir), "incidents")
	must(t, os.MkdirAll(dir, 0o755))
	for name, text := range map[string]string{"empty": "", "other": "{}\n", "torn": "{"} {
		must(t, os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(text), 0o644))
	}
	got, refused, err := dossier.Read(t.Context(), dossier.Where{Dir: t.TempDir(), State: t.TempDir(), Estate: e.Dir}, booksOf(time.Now(), index.NewMemory(), e.Set))
	must(t, err)
	if len(got.Incidents) != 0 || len(refused) != 3 {
		t.Errorf("%+v; refused %q", got.Incidents, refused)
	}
}
