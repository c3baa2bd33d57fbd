package blast_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/verify"
)

// shared is an answer in which lab, research and support all have something; support uses what lab lends it.
func shared(w *world) {
	w.use(2, 5*minute, "research-agent", "g1", "research-openai", "bearer")
	w.use(3, 6*minute, "support-agent", "g1", "support-openai", "pop")
	w.use(4, 7*minute, "lab-agent", "g1", "lab-openai", "pop")
	w.use(5, 8*minute, "support-agent", "g1", "lab-openai", "bearer")
	w.put(logC1, 9*minute, entry.Entry{Type: entry.Deny, Tenant: "acme", Unit: "support", Workload: "support-agent", Gateway: "g1", Credential: "research-openai", Decision: "deny", Reason: "cross_unit"})
}

// An annex has what concerns its unit, and no id or count of another.
func TestAnnex(t *testing.T) {
	w := newWorld(t, newEstate(t))
	shared(w)
	b := w.books()
	for _, subject := range []blast.Subject{component("g1"), component("c1"), component("c2"), {Kind: blast.Tenant, ID: "acme"}, {Kind: blast.Unit, ID: "lab"}, {Kind: blast.Workload, ID: "support-agent"}} {
		a, err := blast.Radius(t.Context(), b, subject, start(), start().Add(window), blast.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range []string{"research", "support", "lab"} {
			x, err := blast.AnnexOf(t.Context(), b, a, unit)
			if errors.Is(err, blast.ErrUnknown) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			var html bytes.Buffer
			if err := blast.WriteAnnex(&html, x); err != nil {
				t.Fatal(err)
			}
			if page := html.String(); !strings.Contains(page, "For "+unit+" alone") || strings.Contains(page, "Not for single business units") {
				t.Errorf("%s, annex of %s: it does not say for whom it is", subject, unit)
			}
			for _, id := range foreign(w, unit) {
				word := regexp.MustCompile(`(^|[^A-Za-z0-9-])` + regexp.QuoteMeta(id) + `($|[^A-Za-z0-9-])`)
				if word.Match(text) || word.Match(html.Bytes()) {
					t.Errorf("the annex of %s to %v names %s", unit, subject, id)
				}
			}
		}
	}
}

// foreign are the ids of other units: what a lent credential is called is known on both sides.
func foreign(w *world, unit string) (ids []string) {
	for _, u := range w.e.Set.Charter.Units {
		if u.ID == unit {
			continue
		}
		ids = append(ids, u.ID)
		for _, c := range w.e.Set.Custody[u.ID].Credentials {
			if !w.e.Set.Lent(c.ID, unit) {
				ids = append(ids, c.ID)
			}
		}
	}
	for _, x := range w.e.Set.Charter.Workloads {
		if x.Unit != unit {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// What another unit did with a lent credential is said to its owner without a count, and whose it is not to the user.
func TestAnnexOfLent(t *testing.T) {
	w := newWorld(t, newEstate(t))
	shared(w)
	b := w.books()
	a := w.ask(component("g1"), blast.Options{})
	owner, err := blast.AnnexOf(t.Context(), b, a, "lab")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(owner.Answer.Rows, func(r blast.Row) bool { return r.Unit == blast.Another })
	if i < 0 {
		t.Fatal("the owner hears nothing of the other unit's use")
	}
	if r := owner.Answer.Rows[i]; r.Class != blast.UsedAsserted || r.Uses != 0 || r.Refs == nil || len(r.Refs)+len(r.Workloads)+len(r.Fingerprints) != 0 || r.Accountable.Lifecycle != "cora" || !r.First.IsZero() {
		t.Errorf("%+v", r)
	}
	user, err := blast.AnnexOf(t.Context(), b, a, "support")
	if err != nil {
		t.Fatal(err)
	}
	i = slices.IndexFunc(user.Answer.Rows, func(r blast.Row) bool { return r.Credential == "lab-openai" })
	if r := user.Answer.Rows[i]; r.Owning != blast.Another || r.Uses != 5 || r.Accountable.Lifecycle != "" || len(r.Accountable.Policy) != 1 {
		t.Errorf("%+v", r)
	}
	for _, x := range []*blast.Annex{owner, user} {
		n := 0
		for _, c := range x.Answer.Counts {
			n += c
		}
		if n != len(x.Answer.Rows) || slices.ContainsFunc(x.Answer.Logs, func(l blast.Log) bool { return l.Size != 0 }) {
			t.Errorf("%+v", x.Answer.Counts)
		}
	}
}

// The proofs of an annex hold for whoever has the trust file, and are of the unit's entries alone.
func TestAnnexProofs(t *testing.T) {
	w := newWorld(t, newEstate(t))
	dir := t.TempDir()
	key, err := ledger.GenerateKey("reeve/demo/c1")
	if err != nil {
		t.Fatal(err)
	}
	trust := &verify.Trust{Estate: "demo", Logs: []verify.Log{{Process: "c1", Origin: key.Origin(), Key: key.Verifier()}}}
	l, err := ledger.Open(t.Context(), ledger.Config{Key: key, Dir: t.TempDir(), Tiles: filepath.Join(dir, "c1"), SegmentSize: 1 << 20, Interval: time.Hour,
		Clock: func() time.Time { return start().Add(minute) }})
	if err != nil {
		t.Fatal(err)
	}
	seq := int64(0)
	put := func(e *entry.Entry) {
		if err := l.Enqueue(e, false); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	for i, unit := range []string{"research", "support", "research", "support", "research"} {
		intent := seq
		put(&entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: unit, Workload: unit + "-agent", Gateway: "g1", Credential: unit + "-openai", Level: "W0", Proof: "bearer", Decision: "allow"})
		if i != 3 { // that one is without an outcome
			put(&entry.Entry{Type: entry.Outcome, Tenant: "acme", Unit: unit, HasIntent: true, IntentSeq: intent, Status: 200})
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b := w.books()
	if b.Logs, err = logs.Read(dir, trust); err != nil {
		t.Fatal(err)
	}
	b.Trust = trust
	m := index.NewMemory(index.Log{ID: b.Logs[0].ID, Process: "c1", Origin: key.Origin()})
	err = b.Logs[0].Raw(0, func(_ int64, raw []byte) error {
		e, err := entry.Parse(raw)
		if err != nil {
			return err
		}
		return m.Add(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Index = m
	a, err := blast.Radius(t.Context(), b, component("g1"), start(), start().Add(window), blast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := blast.AnnexOf(t.Context(), b, a, "research")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range x.Proofs {
		r, err := trust.Bundle(p.Bundle.Encode())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s %v", r.Seq, r.Entry.Unit, r.Outcome != ""))
		if strings.Contains(string(p.Bundle.Encode()), "support") {
			t.Errorf("the proof of entry %d is of another unit", r.Seq)
		}
	}
	if d := cmp.Diff([]string{"0 research true", "7 research true"}, got); d != "" {
		t.Error(d)
	}
	// Entries of another unit never get into a unit's annex, whatever the answer says.
	i := slices.IndexFunc(a.Rows, func(r blast.Row) bool { return r.Unit == "research" && r.Uses > 0 })
	a.Rows[i].Refs[0].Seq = 2
	if _, err := blast.AnnexOf(t.Context(), b, a, "research"); err == nil {
		t.Error("another unit's entry was given away")
	}
}
