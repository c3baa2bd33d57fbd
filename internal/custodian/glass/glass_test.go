package glass

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/statement"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func open(t *testing.T, dir string) (*Cabinet, state.Dir) {
	t.Helper()
	d, err := state.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

func of(record string) *Case {
	return &Case{Record: record, Signers: []string{"ada", "cora"}, BreakGlass: statement.BreakGlass{
		Credential: "research-openai", Workload: "research-agent", Waive: []string{"feed", "policy"}, Created: now, Until: now.Add(time.Hour)}}
}

// What is waived is waived for one credential, for one workload where it names one, until its end, and no longer than that.
func TestWaives(t *testing.T) {
	c, _ := open(t, t.TempDir())
	ended, any := of("ended"), of("any")
	ended.Ended, ended.Credential = true, "support-openai"
	any.Workload, any.Waive, any.Credential = "", []string{"witness"}, "support-anthropic"
	for _, k := range []*Case{of("one"), ended, any} {
		if err := c.Begin(k); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		what, workload, credential string
		at                         time.Time
		want                       string
	}{
		{"policy", "research-agent", "research-openai", now, "one"},
		{"feed", "research-agent", "research-openai", now.Add(time.Hour - 1), "one"},
		{"feed", "research-agent", "research-openai", now.Add(time.Hour), ""},
		{"witness", "research-agent", "research-openai", now, ""},
		{"policy", "support-agent", "research-openai", now, ""},
		{"policy", "research-agent", "research-anthropic", now, ""},
		{"policy", "research-agent", "support-openai", now, ""},
		{"witness", "whoever", "support-anthropic", now, "any"},
	} {
		got := ""
		if k := c.Waives(x.what, x.workload, x.credential, x.at); k != nil {
			got = k.Record
		}
		if got != x.want {
			t.Errorf("%+v: %q", x, got)
		}
	}
}

// A review is signed by somebody who did not sign the break-glass, and changes nothing until it is put.
func TestReviewed(t *testing.T) {
	dir := t.TempDir()
	c, _ := open(t, dir)
	if err := c.Begin(of("one")); err != nil {
		t.Fatal(err)
	}
	review := &statement.Review{BreakGlass: "one", Finding: "all well", Created: now}
	if _, err := c.Reviewed(&statement.Review{BreakGlass: "other"}, "r", []string{"bea"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a review of nothing: %v", err)
	}
	for _, by := range [][]string{nil, {"ada"}, {"ada", "cora"}} {
		if _, err := c.Reviewed(review, "r", by); !errors.Is(err, ErrReviewer) {
			t.Errorf("reviewed by %v: %v", by, err)
		}
	}
	k, err := c.Reviewed(review, "r", []string{"ada", "bea"})
	if err != nil || c.Find("one").Review != nil {
		t.Fatalf("%v, and the case in force has %v", err, c.Find("one").Review)
	}
	if err := c.Put(k); err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, dir)
	if diff := cmp.Diff(&Review{Record: "r", Signers: []string{"ada", "bea"}, Finding: "all well", Time: now}, again.Find("one").Review); diff != "" {
		t.Error(diff)
	}
}

// A case that cannot be kept does not begin; one that was in force is put in its place all the same; and a damaged file is no empty one.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	c, d := open(t, dir)
	if err := c.Begin(of("one")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.Path(fileName)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.Path(fileName)+"/x", 0o700); err != nil { // nothing can take its place
		t.Fatal(err)
	}
	if err := c.Begin(of("two")); err == nil || c.Find("two") != nil {
		t.Errorf("begun without a disk: %v", err)
	}
	ended := of("one")
	ended.Ended = true
	if err := c.Put(ended); err == nil || !c.Find("one").Ended || c.Waives("feed", "research-agent", "research-openai", now) != nil {
		t.Errorf("an end that waits for a disk: %v", err)
	}
	if err := os.RemoveAll(d.Path(fileName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(fileName), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d); err == nil {
		t.Error("a damaged file was opened")
	}
}
