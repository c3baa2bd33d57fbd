package incident

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
)

// A report that is made after the gateway was opened again says from when until when it was contained and by whom it was opened; a secret that was ended
// meanwhile has its residual whether its credential was opened again or not.
func TestMadeAfterOpening(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := sample.Write(dir, sample.Options{Seed: 3, End: now, Credentials: 2400, Uses: 500})
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.Open(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	store := estate.Dir(d.Join("estate"))
	b, err := books.Open(books.At(d.Join(host.Auditor), d.Trust(), store.Store(), d.Pin()), now)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	open := func(*contain.Plan) {} // what else is open again
	in := Input{Books: b, Plan: func(ctx context.Context, s contain.Scope) (*contain.Plan, error) {
		basis := &contain.Basis{Set: b.History.Newest().Set, Index: b.Index, Now: b.Now}
		var err error
		if basis.Records, err = estate.ReadRecords(store.Store(), "revocation"); err != nil {
			return nil, err
		}
		if basis.Keys, err = store.Keys(basis.Set, basis.Now); err != nil {
			return nil, err
		}
		p, err := contain.New(ctx, basis, s, nil, "")
		if err == nil {
			open(p)
		}
		return p, err
	}}
	measure := func(contains ...contain.Scope) *maker {
		t.Helper()
		in.Journal = &Journal{ID: "inc-1", Steps: []Signed{{Step: Step{Kind: KindOpen, Subjects: []string{"gateway:" + a.Captured}, From: a.From, To: a.To, Contains: contains}}}}
		m := &maker{in: in, process: map[string]string{}, people: map[string]bool{}, Report: &Report{Made: b.Now, Opened: a.To, From: a.From, To: a.To, Misuse: Misuse{First: a.From}, Complete: true}}
		m.setting()
		if err := m.containment(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.answer()
		return m
	}
	gateway, credential := contain.Scope{Kind: contain.OfGateway, ID: a.Captured}, contain.Scope{Kind: contain.OfCredential, ID: a.Proven}

	m := measure(gateway)
	c := m.Containment
	said := strings.Join(m.Answer, "\n")
	if m.Contained || len(c.Held) != 1 || c.Contain < 0 || c.Contain > 60 || c.Exposure < 3*3600 || c.AfterUses != 0 {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"It was contained from " + a.To.UTC().Format("2006-01-02 15:04"), "until " + a.To.Add(48*time.Hour).UTC().Format("2006-01-02 15:04"), a.Operations + " opened the gateway " + a.Captured + " again"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in:\n%s", want, said)
		}
	}
	if strings.Contains(said, "NOT contained") {
		t.Error(said)
	}

	closed := measure(credential)
	if !closed.Contained || len(closed.Containment.Held) != 0 || closed.Residual.Seconds <= 0 || closed.Residual.NoEnd != 0 {
		t.Errorf("%+v, %+v", closed.Residual, closed.Containment)
	}
	open = func(p *contain.Plan) { // as with a record that opens the credential for its next secret
		for i := range p.Steps {
			if s := &p.Steps[i]; s.Record != "" {
				s.Was, s.Record = &contain.Past{Record: s.Record, Signed: s.Signed, By: s.By}, ""
			}
		}
	}
	if again := measure(credential); again.Residual != closed.Residual || again.Containment.RevokeMax != closed.Containment.RevokeMax || again.Containment.Begun.IsZero() {
		t.Errorf("opened again: %+v, not %+v", again.Residual, closed.Residual)
	}
	open = func(*contain.Plan) {}
	// Both: the credential was closed after the gateway, and still is.
	m = measure(gateway, credential)
	if c := m.Containment; m.Contained || len(c.Held) != 1 || !c.Held[0].From.Equal(closed.Containment.Contained) || c.Held[0].Target != "gateway "+a.Captured {
		t.Errorf("%+v", c.Held)
	}
}
