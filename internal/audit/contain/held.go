package contain

import (
	"encoding/hex"
	"time"

	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/statement"
)

// Held is a time in which all of a scope was closed, and that is over: it was opened again.
type Held struct {
	From      time.Time   `json:"from"`      // when the last custodian denied the last of it
	Until     time.Time   `json:"until"`     // when the first of it was opened
	Target    string      `json:"target"`    // that was opened
	Custodian string      `json:"custodian"` // where
	By        []string    `json:"by"`        // who signed the opening
	Entry     control.Ref `json:"entry"`     // of the opening
}

// Past is a record that closed a step once, and does not any more.
type Past struct {
	Record string    `json:"record"` // hex
	Signed time.Time `json:"signed"`
	By     []string  `json:"by"`
}

// held finds the times that are over. What a captured custodian says that it kept closed is none, and a key that was issued once the containment had
// begun is no part of what was contained.
func (p *Plan) held(b *Basis, denied *closings.Closings) []Held {
	list := []Held{}
	if p.Scope.Kind == OfCustodian {
		return list
	}
	places := func(of func(*Step) bool) (all []closings.Place) {
		for i := range p.Steps {
			if s := &p.Steps[i]; of(s) {
				for _, id := range custodians(b.Set, s) {
					all = append(all, closings.Place{Process: id, Target: s.Target})
				}
			}
		}
		return all
	}
	begun := denied.First(places(func(s *Step) bool { return s.issued.IsZero() }))
	for _, t := range denied.Together(places(func(s *Step) bool { return !s.issued.After(begun) })) {
		list = append(list, Held{From: t.From, Until: t.Opened.At, Target: t.Place.Target.String(), Custodian: t.Place.Process, By: b.signers(&t.Opened), Entry: t.Opened.Entry})
	}
	return list
}

// signers are who opened something: all who signed the record, where the store has it.
func (b *Basis) signers(c *closings.Change) []string {
	for _, env := range b.Records {
		if id := env.ID(); hex.EncodeToString(id[:]) == c.Record {
			return signers(b.Set, env)
		}
	}
	return []string{c.By}
}

func signers(set *statement.Set, env *statement.Envelope) (people []string) {
	for _, a := range set.Charter.Approvals(env.PayloadType, env.Payload, env.Signatures) {
		people = append(people, a.Person)
	}
	return people
}
