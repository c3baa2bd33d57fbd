package register_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// vendor is a vendor's gateway as it is declared.
func vendor(id string, valid time.Time, declared ...register.Flag) register.Said {
	return register.Said{ID: id, Kind: register.Vendor, Name: "Acme AI", Units: []string{"research"}, Declared: declared, Valid: valid,
		Owners: register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora", Contract: "bea"}}
}

// book is a journal that grows in a test's estate.
type book struct {
	*estatetest.Estate
	h     *history.History
	files [][]byte
}

func newBook(t *testing.T, opts ...estatetest.Option) *book {
	e := estatetest.New(t, opts...)
	return &book{Estate: e, h: history.New(e.Set)}
}

func (b *book) add(t *testing.T, at time.Time, said register.Said, by ...*estate.Signer) string {
	t.Helper()
	if by == nil {
		by = []*estate.Signer{b.Bea}
	}
	record, file, err := register.Append(b.Dir, b.h, said, at, by...)
	if err != nil {
		t.Fatal(err)
	}
	b.files = append(b.files, file)
	return record
}

func (b *book) open(t *testing.T, now time.Time) *register.Register {
	t.Helper()
	j, err := register.Open(b.Dir.Store(), b.h, now)
	if err != nil {
		t.Fatal(err)
	}
	return register.New(b.h, j)
}

// What was said later holds, for the time from which it was said; asked as of an instant, the answer is what was known then.
func TestAsOf(t *testing.T) {
	b := newBook(t)
	at := func(minutes int) time.Time { return b.Now.Add(time.Duration(minutes) * time.Minute) }
	b.add(t, at(10), vendor("acme", at(10), register.Transport))                                                                  // declared at 10, from 10
	b.add(t, at(20), vendor("acme", at(5), register.Transport, register.Forward))                                                 // said at 20 of the time from 5
	b.add(t, at(30), vendor("acme", at(40), register.Transport, register.Cache))                                                  // said at 30 of the time from 40
	gone := vendor("acme", at(60), register.Transport, register.Cache)                                                            // retired from 60 on, said at 50
	gone.Until = gone.Valid                                                                                                       //
	b.add(t, at(50), gone)                                                                                                        //
	b.add(t, at(55), register.Said{ID: "g1", Kind: register.Gateway, Observed: []register.Flag{register.Forward}, Valid: at(55)}) // observed of our own
	r := b.open(t, at(100))
	for _, c := range []struct {
		valid, recorded int // minutes; 0 for no recorded
		want            string
	}{
		{4, 0, ""}, {7, 0, "[transport forward]"}, {7, 15, ""}, {12, 15, "[transport]"}, {12, 20, "[transport forward]"}, {35, 0, "[transport forward]"},
		{45, 0, "[transport cache]"}, {45, 29, "[transport forward]"}, {59, 0, "[transport cache]"}, {60, 0, ""}, {60, 49, "[transport cache]"}, {90, 0, ""},
	} {
		recorded := time.Time{}
		if c.recorded > 0 {
			recorded = at(c.recorded)
		}
		list, err := r.At(at(c.valid), recorded)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, x := range list {
			if x.ID == "acme" {
				got = fmt.Sprint(x.Declared)
				if d := cmp.Diff(register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora", Contract: "bea"}, x.Owners); d != "" {
					t.Error(d)
				}
			}
		}
		if got != c.want {
			t.Errorf("at %d as recorded by %d: %q, want %q", c.valid, c.recorded, got, c.want)
		}
	}
	list, err := r.At(at(56), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	g := find(t, list, "g1")
	if d := cmp.Diff([]register.Flag{register.Forward}, g.Undeclared()); d != "" || !g.ControlPlane(at(56)) || g.Owners.Operations != "bea" {
		t.Errorf("%s; %+v", d, g)
	}
	if list, err = r.At(at(54), time.Time{}); err != nil || find(t, list, "g1").ControlPlane(at(54)) {
		t.Errorf("before it was observed: %v", err)
	}
}

// When the ledger has a record, it was known from then on, whatever its signer says; a record that only the ledger has is missed.
func TestAnchored(t *testing.T) {
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(t, estatetest.With(dan))
	b.add(t, b.Now.Add(time.Minute), vendor("acme", b.Now, register.Transport))
	j, err := register.Open(b.Dir.Store(), b.h, b.Now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	later := register.Entered{Evidence: "e2", Document: register.Sum(b.files[0]), By: []string{"cora"}, Time: b.Now.Add(40 * time.Minute)}
	first := later
	first.Evidence, first.Time = "e1", b.Now.Add(30*time.Minute)
	j.Anchor([]register.Entered{later, first})
	r := register.New(b.h, j)
	if err := r.Lacks(); err != nil {
		t.Error(err)
	}
	for minutes, want := range map[int]bool{29: false, 30: true} {
		list, err := r.At(b.Now.Add(time.Hour), b.Now.Add(time.Duration(minutes)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, c := range list {
			got = got || c.ID == "acme" && c.Anchored
		}
		if got != want {
			t.Errorf("as recorded by minute %d: %v", minutes, got)
		}
	}
	j.Anchor([]register.Entered{{Evidence: "e3", Document: strings.Repeat("ab", 32), By: []string{"dan"}, Span: b.h.Newest(), Time: b.Now.Add(time.Hour)}})
	if err := r.Lacks(); err != nil {
		t.Errorf("somebody without a role says that a record is missing: %v", err)
	}
	j.Anchor([]register.Entered{{Evidence: "e4", By: []string{"bea"}, Span: b.h.Newest(), Time: b.Now.Add(time.Hour)}})
	if err := r.Lacks(); !errors.Is(err, register.ErrMissing) || !strings.Contains(err.Error(), "e4, which bea signed") {
		t.Errorf("a record that only the ledger has: %v", err)
	}
	if list, err := r.At(b.Now.Add(time.Hour), time.Time{}); err != nil || len(list) != 5 {
		t.Errorf("answers stop: %v, %d components", err, len(list))
	}
}

// A journal that was changed is refused, and says how.
func TestTampered(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	eve, err := estate.NewSigner("bea") // in bea's name, with a key of her own
	if err != nil {
		t.Fatal(err)
	}
	seal := func(v any, by *estate.Signer) []byte {
		env, err := estate.Seal(register.RecordKind, v, by)
		if err != nil {
			t.Fatal(err)
		}
		file, err := statement.Canonical(env)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	file := func(n int) string { return fmt.Sprintf("%08d.json", n) }
	for _, c := range []struct {
		name string
		do   func(t *testing.T, b *book, dir string)
		want error
	}{
		{"nothing", func(*testing.T, *book, string) {}, nil},
		{"a file that is being written", func(t *testing.T, b *book, dir string) { put(t, filepath.Join(dir, ".new-1"), []byte("{")) }, nil},
		{"one byte of a record", func(t *testing.T, b *book, dir string) {
			put(t, filepath.Join(dir, file(2)), bytes.Replace(b.files[1], []byte(`"payload":"ey`), []byte(`"payload":"eY`), 1))
		}, register.ErrRecord},
		{"the first taken away", func(t *testing.T, b *book, dir string) { os.Remove(filepath.Join(dir, file(1))) }, register.ErrChain},
		{"one taken away", func(t *testing.T, b *book, dir string) { os.Remove(filepath.Join(dir, file(2))) }, register.ErrChain},
		{"one taken away and the next renamed", func(t *testing.T, b *book, dir string) {
			os.Rename(filepath.Join(dir, file(3)), filepath.Join(dir, file(2)))
		}, register.ErrChain},
		{"two exchanged", func(t *testing.T, b *book, dir string) {
			put(t, filepath.Join(dir, file(2)), b.files[2])
			put(t, filepath.Join(dir, file(3)), b.files[1])
		}, register.ErrChain},
		{"one doubled", func(t *testing.T, b *book, dir string) { put(t, filepath.Join(dir, file(4)), b.files[2]) }, register.ErrChain},
		{"another first record, signed as well", func(t *testing.T, b *book, dir string) {
			put(t, filepath.Join(dir, file(1)), seal(register.Record{Estate: "demo", Number: 1, Recorded: b.Now, Said: vendor("other", b.Now)}, b.Bea))
		}, register.ErrChain},
		{"its own signature taken away", func(t *testing.T, b *book, dir string) {
			env, err := statement.ParseEnvelope(b.files[2])
			if err != nil {
				t.Fatal(err)
			}
			env.Signatures = []statement.Signature{}
			bare, err := statement.Canonical(env)
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, file(3)), bare)
		}, register.ErrSigner},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, estatetest.At(now))
			for i := range 3 {
				b.add(t, now.Add(time.Minute), vendor(fmt.Sprint("acme-", i), now))
			}
			c.do(t, b, filepath.Join(b.Dir.Signed(), register.Folder))
			_, err := register.Open(b.Dir.Store(), b.h, now.Add(time.Hour))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}

	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(t, estatetest.At(now), estatetest.With(dan))
	said := func(change func(*register.Said)) any {
		s := vendor("acme", now, register.Transport)
		change(&s)
		return register.Record{Estate: "demo", Number: 1, Recorded: now, Said: s}
	}
	verdict := register.Verdict{URL: "https://ai.example", Begun: now, Ended: now, Found: []register.Finding{}, Cannot: []string{}}
	for _, c := range []struct {
		name string
		file []byte
		want error
	}{
		{"by an operations owner", seal(said(func(*register.Said) {}), b.Bea), nil},
		{"by a root holder", seal(said(func(*register.Said) {}), b.Ada), nil},
		{"by somebody without such a role", seal(said(func(*register.Said) {}), dan), register.ErrSigner},
		{"by somebody else's key", seal(said(func(*register.Said) {}), eve), register.ErrSigner},
		{"of another estate", seal(register.Record{Estate: "other", Number: 1, Recorded: now, Said: vendor("acme", now)}, b.Bea), register.ErrRecord},
		{"from the future", seal(register.Record{Estate: "demo", Number: 1, Recorded: now.Add(2 * time.Hour), Said: vendor("acme", now)}, b.Bea), register.ErrRecord},
		{"before the estate", seal(register.Record{Estate: "demo", Number: 1, Recorded: now.Add(-time.Hour), Said: vendor("acme", now)}, b.Bea), register.ErrSigner},
		{"with a number of its own", seal(register.Record{Estate: "demo", Number: 7, Recorded: now, Said: vendor("acme", now)}, b.Bea), register.ErrChain},
		{"of no kind", seal(said(func(s *register.Said) { s.Kind = "cloud" }), b.Bea), register.ErrRecord},
		{"with a name in capitals", seal(said(func(s *register.Said) { s.ID = "Acme" }), b.Bea), register.ErrRecord},
		{"with an unknown flag", seal(said(func(s *register.Said) { s.Declared = []register.Flag{"read"} }), b.Bea), register.ErrRecord},
		{"with flags out of order", seal(said(func(s *register.Said) { s.Declared = []register.Flag{register.Mint, register.Transport} }), b.Bea), register.ErrRecord},
		{"with an owner whom nobody knows", seal(said(func(s *register.Said) { s.Owners.Policy = "eve" }), b.Bea), register.ErrRecord},
		{"of a unit that nobody knows", seal(said(func(s *register.Said) { s.Units = []string{"sales"} }), b.Bea), register.ErrRecord},
		{"that ends first", seal(said(func(s *register.Said) { s.Until = s.Valid.Add(-time.Second) }), b.Bea), register.ErrRecord},
		{"with the end of a verdict alone", seal(said(func(s *register.Said) { s.Probed = now.Add(time.Hour) }), b.Bea), register.ErrRecord},
		{"with a verdict", seal(said(func(s *register.Said) { s.Probed, s.Verdict = now.Add(time.Hour), &verdict }), b.Bea), nil},
		{"with a verdict for ever", seal(said(func(s *register.Said) { s.Probed, s.Verdict = now.Add(367*24*time.Hour), &verdict }), b.Bea), register.ErrRecord},
		{"with a verdict of other flags", seal(said(func(s *register.Said) {
			s.Probed, s.Verdict, s.Discovered = now.Add(time.Hour), &verdict, []register.Flag{register.Mint}
		}), b.Bea), register.ErrRecord},
		{"with the name of a component of the estate", seal(said(func(s *register.Said) { s.ID = "g1" }), b.Bea), register.ErrRecord},
		{"of our own gateway, declared", seal(said(func(s *register.Said) { s.ID, s.Kind, s.Owners.Contract = "g1", register.Gateway, "" }), b.Bea), register.ErrRecord},
		{"of a gateway that the statements do not have", seal(said(func(s *register.Said) { *s = register.Said{ID: "g9", Kind: register.Gateway, Valid: now} }), b.Bea), register.ErrRecord},
		{"with a contract owner of a team's gateway", seal(said(func(s *register.Said) { s.Kind = register.Foreign }), b.Bea), register.ErrRecord},
		{"with another member", seal(map[string]any{"estate": "demo", "number": 1, "prev": "", "recorded": now, "component": vendor("acme", now), "more": 1}, b.Bea), register.ErrRecord},
	} {
		j, err := register.Parse(c.file)
		if err == nil {
			err = j.Verify(b.h, now.Add(time.Hour))
		}
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, _, err := register.Append(b.Dir, b.h, vendor("acme", now), now, eve); !errors.Is(err, register.ErrSigner) {
		t.Errorf("appended by another: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.Dir.Signed(), register.Folder)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused left something: %v", err)
	}
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever bytes a journal has, reading it neither fails otherwise than typed nor takes what does not read back.
func FuzzParse(f *testing.F) {
	key := signerOf(f, "bea", 2)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	env, err := estate.Seal(register.RecordKind, register.Record{Estate: "demo", Number: 1, Recorded: now, Said: vendor("acme", now, register.Transport)}, key)
	if err != nil {
		f.Fatal(err)
	}
	first, err := statement.Canonical(env)
	if err != nil {
		f.Fatal(err)
	}
	id := env.ID()
	env, err = estate.Seal(register.RecordKind, register.Record{Estate: "demo", Number: 2, Prev: fmt.Sprintf("%x", id), Recorded: now, Said: vendor("acme", now)}, key)
	if err != nil {
		f.Fatal(err)
	}
	second, err := statement.Canonical(env)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first, second)
	f.Add([]byte("{}"), []byte(""))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		j, err := register.Parse(a, b)
		if err != nil {
			if !errors.Is(err, register.ErrRecord) && !errors.Is(err, register.ErrChain) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if j.Len() != 2 || register.Sum(a) == register.Sum(b) {
			t.Fatalf("%d records", j.Len())
		}
	})
}
