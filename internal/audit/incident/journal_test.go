package incident

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/statement"
)

const id = "inc-20261123-1"

func journals(t *testing.T) (*estatetest.Estate, Journals) {
	t.Helper()
	e := estatetest.New(t)
	return e, In(e.Dir, history.New(e.Set))
}

func opening(e *estatetest.Estate) Step {
	return Step{Incident: id, Kind: KindOpen, Subjects: []string{"gateway:g1"}, From: e.Now.Add(-time.Hour).UTC().Truncate(time.Second), Commander: "bea", Text: "malicious dependency"}
}

// three is a journal of three steps.
func three(t *testing.T) (*estatetest.Estate, Journals) {
	t.Helper()
	e, all := journals(t)
	for i, s := range []Step{opening(e), {Incident: id, Kind: KindNote, Text: "pulled"}, {Incident: id, Kind: KindClose, Text: "contained"}} {
		if _, err := all.Append(s, e.Now.Add(time.Duration(i+1)*time.Second), e.Bea, e.Ada); err != nil {
			t.Fatal(err)
		}
	}
	return e, all
}

func TestJournal(t *testing.T) {
	e, all := three(t)
	j, err := all.Read(id)
	if err != nil || j.Broken != "" || len(j.Steps) != 3 || j.Closed() == nil || !slices.Equal(j.Steps[1].Signers, []string{"ada", "bea"}) {
		t.Fatalf("%+v, %v", j, err)
	}
	if ids, err := all.List(); err != nil || !slices.Equal(ids, []string{id}) {
		t.Errorf("%v, %v", ids, err)
	}
	if next, _ := all.Next(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)); next != "inc-20261123-2" {
		t.Error(next)
	}
	if _, err := all.Append(Step{Incident: id, Kind: KindNote, Text: "after"}, e.Now.Add(time.Minute), e.Bea, e.Cora); err != nil {
		t.Error(err)
	}
	for name, s := range map[string]Step{
		"a second opening": opening(e), "a second close": {Incident: id, Kind: KindClose, Text: "again"}, "no text": {Incident: id, Kind: KindNote},
		"no hash": {Incident: id, Kind: KindReport}, "no kind": {Incident: id, Kind: "x", Text: "x"}, "no incident": {Incident: "inc-x", Kind: KindNote, Text: "x"},
	} {
		if _, err := all.Append(s, e.Now.Add(2*time.Minute), e.Bea, e.Ada); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := all.Append(Step{Incident: id, Kind: KindNote, Text: "earlier"}, e.Now, e.Bea, e.Ada); !errors.Is(err, ErrStep) {
		t.Errorf("a step dated before the last: %v", err)
	}
}

// One signature, or two of one role, put a step aside; the second person's completes it, and nothing was appended before.
func TestTwoMachines(t *testing.T) {
	e, all := journals(t)
	var waits *Pending
	if _, err := all.Append(opening(e), e.Now.Add(time.Second), e.Bea); !errors.As(err, &waits) || waits.Name != "incident/"+id+"-1" || !slices.Equal(waits.By, []string{"bea"}) {
		t.Fatal(err)
	}
	if _, err := all.Read(id); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was appended: %v", err)
	}
	show := func(s *Step) error { return nil }
	if _, err := all.Approve(waits.Name, show, e.Bea); !errors.As(err, &waits) {
		t.Errorf("the same one twice: %v", err)
	}
	shown := ""
	s, err := all.Approve(waits.Name, func(s *Step) error { shown = s.Text; return nil }, e.Cora)
	if err == nil { // its evidence is signed by both as well
		_, by, err := e.Set.OpenEvidence(s.Evidence, time.Now())
		if said, _ := statement.ReadEvidence(s.Evidence); err != nil || !slices.Equal(by, []string{"bea", "cora"}) || said.SHA256 != s.Sum() {
			t.Errorf("evidence by %q: %v", by, err)
		}
	}
	if err != nil || !slices.Equal(s.Signers, []string{"bea", "cora"}) || shown == "" || all.Waits(waits.Name) {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := all.Append(Step{Incident: id, Kind: KindNote, Text: "one"}, e.Now.Add(2*time.Second), e.Bea); !errors.As(err, &waits) {
		t.Fatal(err)
	}
	if _, err := all.Append(Step{Incident: id, Kind: KindNote, Text: "overtakes"}, e.Now.Add(3*time.Second), e.Ada, e.Bea); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Approve("incident/"+id+"-2", show, e.Ada); !errors.Is(err, ErrStep) {
		t.Errorf("a step that was overtaken: %v", err)
	}
}

// Whatever is changed in the file is found, and what follows it is not believed.
func TestTampering(t *testing.T) {
	_, all := three(t)
	whole, err := os.ReadFile(all.file(id))
	if err != nil {
		t.Fatal(err)
	}
	lines := func() [][]byte { return bytes.SplitAfter(bytes.Clone(whole), []byte("\n"))[:3] }
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	resign := func(line []byte, change func(*statement.Envelope)) []byte {
		env, err := statement.ParseEnvelope(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		change(env)
		b, err := statement.Canonical(env)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, '\n')
	}
	mallory, err := estate.NewSigner("bea")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file  []byte
		holds int
	}{
		"first taken away":   {join(lines()[1], lines()[2]), 0},
		"middle taken away":  {join(lines()[0], lines()[2]), 1},
		"order":              {join(lines()[0], lines()[2], lines()[1]), 1},
		"twice":              {join(lines()[0], lines()[1], lines()[1]), 2},
		"a torn line":        {whole[:len(whole)-5], 2},
		"an empty line":      {join(lines()[0], []byte("\n"), lines()[1]), 1},
		"empty":              {nil, 0},
		"one signature less": {join(lines()[0], resign(lines()[1], func(e *statement.Envelope) { e.Signatures = e.Signatures[:1] }), lines()[2]), 1},
		"another text": {join(lines()[0], resign(lines()[1], func(e *statement.Envelope) {
			e.Payload = bytes.Replace(e.Payload, []byte("pulled"), []byte("kept!!"), 1)
		})), 1},
		"a stranger's signature": {join(lines()[0], resign(lines()[1], func(e *statement.Envelope) {
			e.Signatures = e.Signatures[:1]
			sig, err := mallory.Hand.Sign(&estate.Message{PayloadType: e.PayloadType, Payload: e.Payload})
			if err != nil {
				t.Fatal(err)
			}
			sig.KeyID = "zz"
			e.Signatures = append(e.Signatures, sig)
		})), 1},
	} {
		if err := os.WriteFile(all.file(id), c.file, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := all.Read(id)
		if err != nil || j.Broken == "" || len(j.Steps) != c.holds {
			t.Errorf("%s: %+v, %v", name, j, err)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if err := os.WriteFile(all.file(id), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if i%7 != 0 { // every byte of the format, at a seventh of the cost
			continue
		}
		if j, err := all.Read(id); err != nil || j.Broken == "" {
			t.Fatalf("bit flipped in byte %d (%q): %+v, %v", i, whole[i], j, err)
		}
	}
}

// The ledger knows steps that were cut off at the end, and records that were taken from the store; a step in no ledger is said to be.
func TestAnchors(t *testing.T) {
	e, all := three(t)
	const log = "00000000000000a1"
	x := index.NewMemory(index.Log{ID: log, Process: "a1", Origin: "reeve/demo/a1"})
	seq := int64(0)
	j, err := all.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	enter := func(record string, at time.Time, by ...string) {
		t.Helper()
		if err := x.Add(&entry.Entry{V: 1, Type: entry.Attest, Log: log, Seq: seq, TimeNS: at.UnixNano(), Reason: evidence.Incident, Record: record, Actor: by}); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	for i := range j.Steps[:2] {
		a, err := evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Incident, j.Steps[i].Subject(), j.Steps[i].Env.Payload, e.Bea, e.Ada)
		if err != nil {
			t.Fatal(err)
		}
		enter(a.Record, j.Steps[i].Time, "ada", "bea")
		records = append(records, a.Record)
	}
	look := func() (map[string]*Anchor, []string, []string) {
		kept, err := evidence.Read(e.Dir.Store())
		if err != nil {
			t.Fatal(err)
		}
		j, err := all.Read(id)
		if err != nil {
			t.Fatal(err)
		}
		anchors, findings, remarks, err := j.Anchors(t.Context(), &books.Books{Index: x, History: all.History}, kept)
		if err != nil {
			t.Fatal(err)
		}
		return anchors, findings, remarks
	}
	if anchors, findings, remarks := look(); len(anchors) != 2 || len(findings) != 0 || len(remarks) != 1 || !strings.Contains(remarks[0], "step 3 is in no ledger") {
		t.Errorf("%v %v %v", anchors, findings, remarks)
	}
	// Of a step that does not exist one person alone can say nothing that is believed, also when he is an owner.
	alone, err := evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Incident, id+" 9", []byte("nothing"), e.Bea)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // in no ledger, then in one
		if _, findings, remarks := look(); len(findings) != 0 || len(remarks) != 2 || !strings.Contains(remarks[0], "bea alone signed for that") {
			t.Errorf("%q %q", findings, remarks)
		}
		if seq == 2 {
			enter(alone.Record, e.Now.Add(time.Minute), "bea")
		}
	}
	enter(strings.Repeat("ab", 32), e.Now.Add(time.Minute), "cora") // whose record the store never had
	if _, findings, remarks := look(); len(findings) != 0 || len(remarks) != 3 {
		t.Errorf("%q %q", findings, remarks)
	}
	// The last steps are cut off: the chain still holds, and the ledger tells.
	b, err := os.ReadFile(all.file(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all.file(id), b[:bytes.IndexByte(b, '\n')+1], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, findings, _ := look(); len(findings) != 1 || !strings.Contains(findings[0], id+" 2") {
		t.Errorf("%v", findings)
	}
	// And the record of it is taken out of the store as well.
	if err := os.Remove(e.Dir.Signed() + "/records/evidence/" + records[1] + ".json"); err != nil {
		t.Fatal(err)
	}
	if _, findings, _ := look(); len(findings) != 1 || !strings.Contains(findings[0], records[1]) {
		t.Errorf("%v", findings)
	}
	// A step that was cut off before any ledger had it lies in the signed store still.
	if _, err := evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Incident, j.Steps[2].Subject(), j.Steps[2].Env.Payload, e.Bea, e.Cora); err != nil {
		t.Fatal(err)
	}
	if _, findings, _ := look(); len(findings) != 2 || !strings.Contains(findings[1], id+" 3") {
		t.Errorf("%q", findings)
	}
	// And without its journal the incident is still known of.
	kept, err := evidence.Read(e.Dir.Store())
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := all.Lost(kept); err != nil || len(lost) != 0 {
		t.Errorf("lost: %q, %v", lost, err)
	}
	if _, err := evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Incident, "inc-invented 1", []byte("nothing"), e.Bea); err != nil {
		t.Fatal(err)
	}
	if kept, err = evidence.Read(e.Dir.Store()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(all.file(id)); err != nil {
		t.Fatal(err)
	}
	if lost, err := all.Lost(kept); err != nil || len(lost) != 1 || lost[0] != id {
		t.Errorf("lost: %q, %v", lost, err)
	}
	if _, err := hex.DecodeString(HashOf(nil)); err != nil {
		t.Error(err)
	}
}

func FuzzStep(f *testing.F) {
	f.Add([]byte(`{"payload":"e30=","payloadType":"application/vnd.reeve.incident+json","signatures":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, err := parse(line); err == nil && s.check() != nil {
			t.Error("parsed, and does not hold")
		}
	})
}
