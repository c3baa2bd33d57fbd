package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

func TestRecords(t *testing.T) {
	e := estatetest.New(t)
	r := NewRecords(nil)
	verify := func() error {
		_, err := r.Verify(e.Proof("research-agent"), nil, e.Now)
		return err
	}
	if err := verify(); !errors.Is(err, workload.ErrUnknown) {
		t.Errorf("before anything: %v", err)
	}
	r.Use(e.Set)
	envelopes, err := estate.ReadRecords(statement.Dir(e.Dir.Signed()), "workload-key")
	if err != nil || len(envelopes) != 2 {
		t.Fatal(len(envelopes), err)
	}
	for _, env := range envelopes {
		if err := r.Take(&statement.Record{Kind: "workload-key", Envelope: env}); err != nil {
			t.Fatal(err)
		}
	}
	who, err := r.Verify(e.Proof("research-agent"), nil, e.Now)
	if err != nil || who.Workload != "research-agent" || who.Unit != "research" || who.Tenant != "acme" {
		t.Fatalf("%+v %v", who, err)
	}
	if _, err := r.Verify(e.Proof("research-agent"), nil, e.Now.Add(48*time.Hour)); !errors.Is(err, workload.ErrExpired) {
		t.Errorf("two days later: %v", err)
	}

	hash := sha256.Sum256(e.Keys["research-agent"].Reveal())
	revoke := func(number int64, kind, id string, open bool, at time.Time, by ...*estate.Signer) {
		t.Helper()
		env, err := estate.Seal("revocation", &statement.Revocation{Estate: e.Set.Charter.Estate, Signer: by[0].Person, Number: number,
			Target: statement.Target{Kind: kind, ID: id}, Open: open, Reason: "test", Time: at}, by...)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Take(&statement.Record{Kind: "revocation", Envelope: env}); err != nil {
			t.Fatal(err)
		}
	}
	revoke(1, "key", hex.EncodeToString(hash[:]), false, e.Now, e.Ada)
	if err := verify(); !errors.Is(err, workload.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := r.Verify(e.Proof("support-agent"), nil, e.Now); err != nil {
		t.Errorf("another key: %v", err)
	}

	revoke(2, "unit", "research", false, e.Now, e.Ada)
	revoke(3, "unit", "research", true, e.Now.Add(time.Second), e.Ada, e.Cora)
	revoke(2, "unit", "research", false, e.Now, e.Ada) // an older one that comes late closes nothing
	if c := r.Gate.State().At(statement.Target{Kind: "unit", ID: "research"}); c != nil {
		t.Errorf("an older revocation came late: %v", c)
	}

	// A new set that does not let reeve vouch for the workload ends its keys.
	e.Republish(t, func(p *estate.Plan) {
		p.Charter.Workloads[1].Identities = []statement.Identity{{Issuer: statement.IssuerAuthority}}
	}, "charter")
	r.Use(e.Set)
	if _, err := r.Verify(e.Proof("support-agent"), nil, e.Now); !errors.Is(err, workload.ErrUnknown) {
		t.Errorf("after the charter changed: %v", err)
	}
}

// TestAllWhoAskAtOnceAreKnown: the first to ask makes the snapshot, and nobody is taken for a stranger meanwhile.
func TestAllWhoAskAtOnceAreKnown(t *testing.T) {
	e := estatetest.New(t)
	envelopes, err := estate.ReadRecords(statement.Dir(e.Dir.Signed()), "workload-key")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		r := NewRecords(nil)
		r.Use(e.Set)
		for _, env := range envelopes {
			if err := r.Take(&statement.Record{Kind: "workload-key", Envelope: env}); err != nil {
				t.Fatal(err)
			}
		}
		start, answers := make(chan struct{}), make(chan error, 16)
		for range cap(answers) {
			go func() {
				<-start
				_, err := r.Verify(e.Proof("research-agent"), nil, e.Now)
				answers <- err
			}()
		}
		close(start)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
	}
}
