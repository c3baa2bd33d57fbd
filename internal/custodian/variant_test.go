package custodian

import (
	"encoding/hex"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// again takes a record that somebody added a signature to: it has another file and says the same.
func (w *world) again(kind string, v any, by ...*estate.Signer) error {
	w.t.Helper()
	env, err := estate.Seal(kind, v, by...)
	must(w.t, err)
	env.Signatures = append(env.Signatures, statement.Signature{KeyID: "zzz", Sig: make([]byte, 64)})
	sum := env.ID()
	return w.Take(&statement.Record{Kind: kind, Envelope: env, SHA256: hex.EncodeToString(sum[:]), Channel: "test"})
}

// TestOpeningActsOnce: an opening whose signer's clock is ahead does not undo a closing that came after it, however it is spelled.
func TestOpeningActsOnce(t *testing.T) {
	w := newWorld(t)
	must(t, w.record("revocation", w.revocation("cora", 1, "credential", "research-openai", false), w.estate.Cora))
	opening := w.revocation("cora", 2, "credential", "research-openai", true)
	opening.Time = opening.Time.Add(3 * time.Minute)
	must(t, w.record("revocation", opening, w.estate.Cora, w.estate.Ada))
	target := statement.Target{Kind: "credential", ID: "research-openai"}
	if w.Gate.State().At(target) != nil {
		t.Fatal("not opened")
	}
	if _, err := w.Close(closing.Closed{Target: target, Reason: "test", By: "admin", Time: w.Clock().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	must(t, w.record("revocation", opening, w.estate.Cora, w.estate.Ada))
	must(t, w.again("revocation", opening, w.estate.Cora, w.estate.Ada))
	if w.Gate.State().At(target) == nil {
		t.Error("an opening that has acted opened once more")
	}
}

// TestRecoveryActsOnce: a recovery gives the version that was held when it came, and never one that was handed over since.
func TestRecoveryActsOnce(t *testing.T) {
	dora, err := age.GenerateX25519Identity()
	must(t, err)
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			if p.Charter.People[i].ID != "cora" {
				p.Charter.People[i].Recipient = dora.Recipient().String()
			}
		}
	}))
	recovery := w.breakGlass(func(b *statement.BreakGlass) { b.Recipient = "bea" })
	must(t, w.record("break-glass", recovery, w.estate.Cora, w.estate.Ada))
	w.handover("research-openai", 2, "demo-upstream-key-of-research-0004")
	must(t, w.record("break-glass", recovery, w.estate.Cora, w.estate.Ada))
	must(t, w.again("break-glass", recovery, w.estate.Cora, w.estate.Ada))
	if all := w.Glass.List(); len(all) != 1 || all[0].Recovered.Version != 1 {
		t.Errorf("%d recoveries", len(all))
	}
}

// TestClosingStands: a custodian that starts anew closes what a published record closed, though its signer has handed the credential on; from
// somebody who passes the record on it takes no such word.
func TestClosingStands(t *testing.T) {
	carl, err := estate.NewSigner("carl")
	must(t, err)
	w := newWorld(t, estatetest.With(carl), estatetest.Edit(func(p *estate.Plan) {
		u := p.Charter.Roles.Units["research"]
		u.Lifecycle = append(u.Lifecycle, "carl")
		p.Charter.Roles.Units["research"] = u
	}))
	target := statement.Target{Kind: "credential", ID: "research-openai"}
	env, err := estate.Seal("revocation", w.revocation("cora", 1, "credential", target.ID, false), w.estate.Cora)
	must(t, err)
	w.estate.Republish(t, func(p *estate.Plan) {
		for i := range p.Custody["research"].Credentials {
			p.Custody["research"].Credentials[i].Owner = "carl"
		}
	}, "custody-research")
	must(t, w.Adopt(w.estate.Set))
	if err := w.Take(&statement.Record{Kind: "revocation", Envelope: env, Channel: "gateway"}); err == nil || w.Gate.State().At(target) != nil {
		t.Errorf("passed on: %v", err)
	}
	must(t, w.Take(&statement.Record{Kind: "revocation", Envelope: env, Channel: "feed"}))
	if w.Gate.State().At(target) == nil {
		t.Error("it is not closed")
	}
}
