package statement

import (
	"slices"
	"strings"
	"time"
)

// maxGlass is how long a break-glass lasts at most.
const maxGlass = time.Hour

// What a break-glass may waive: the news of revocations, the policy's permit, the witness's cosignatures.
const (
	WaiveFeed    = "feed"
	WaivePolicy  = "policy"
	WaiveWitness = "witness"
)

// BreakGlass lets one credential be used for an hour at most without what Waive names, or has its secret recovered. It changes neither
// charter nor destination nor injection, opens nothing that is closed, and a policy's forbid stands. Signed by a lifecycle owner of the
// credential's unit, or his acting deputy, and a person of another role of it.
type BreakGlass struct {
	Estate     string    `json:"estate"`
	Credential string    `json:"credential"`
	Workload   string    `json:"workload"`  // whom it is for; empty for whoever the policy permits
	Waive      []string  `json:"waive"`     // feed, policy and witness, sorted; empty for a recovery
	Recipient  string    `json:"recipient"` // a person to whose recipient the secret is encrypted; empty for a use
	Reason     string    `json:"reason"`
	Created    time.Time `json:"created"`
	Until      time.Time `json:"until"`
}

// Review says what a break-glass was found to have been. Signed by an owner who did not sign the break-glass.
type Review struct {
	Estate     string    `json:"estate"`
	BreakGlass string    `json:"break_glass"` // hex, of the record's Envelope.ID
	Finding    string    `json:"finding"`
	Created    time.Time `json:"created"`
}

func (*BreakGlass) kind() string { return "break-glass" }
func (*Review) kind() string     { return "break-glass-review" }

func (b *BreakGlass) made() (string, time.Time) { return b.Estate, b.Created }
func (r *Review) made() (string, time.Time)     { return r.Estate, r.Created }

// Recovers reports whether the secret is recovered, and nothing waived.
func (b *BreakGlass) Recovers() bool { return b.Recipient != "" }

// OpenBreakGlass verifies a break-glass and returns who signed it, sorted. That it has begun and is not over is for the caller to see.
func (s *Set) OpenBreakGlass(env *Envelope, now time.Time) (*BreakGlass, []string, error) {
	b := new(BreakGlass)
	by, err := s.open(env, b, now)
	if err != nil {
		return nil, nil, err
	}
	_, unit, known := s.Credential(b.Credential)
	_, _, caller := s.Workload(b.Workload)
	life := b.Until.Sub(b.Created)
	waivable := []string{WaiveFeed, WaivePolicy, WaiveWitness}
	switch {
	case !known || b.Workload != "" && !caller:
		return nil, nil, refuse("reference", "the set has no credential %q or no workload %q", b.Credential, b.Workload)
	case life <= 0 || life > maxGlass:
		return nil, nil, refuse("expired", "the break-glass lasts %s: at most an hour", life)
	case strings.TrimSpace(b.Reason) == "":
		return nil, nil, refuse("value", "the break-glass gives no reason")
	case !slices.IsSorted(b.Waive) || len(slices.Compact(slices.Clone(b.Waive))) != len(b.Waive) ||
		slices.ContainsFunc(b.Waive, func(w string) bool { return !slices.Contains(waivable, w) }):
		return nil, nil, refuse("value", "a break-glass waives some of %s, each once, not %q", strings.Join(waivable, ", "), b.Waive)
	case (len(b.Waive) > 0) == b.Recovers():
		return nil, nil, refuse("value", "a break-glass either waives something or names a person for whom the secret is recovered")
	case b.Workload == "" && slices.Contains(b.Waive, WaivePolicy):
		return nil, nil, refuse("value", "a break-glass that waives the policy names the workload that it is for")
	case !s.Charter.anyHolds(by, role{"lifecycle", unit.ID}, b.Created) || !s.Charter.two(by, []string{unit.ID}, b.Created):
		return nil, nil, refuse("right", "the break-glass is not signed by a lifecycle owner of %s and a person of another role of it", unit.ID)
	}
	if b.Recovers() {
		if err := s.checkRecipient(b, by); err != nil {
			return nil, nil, err
		}
	}
	return b, by.ids(), nil
}

// checkRecipient checks that a recovered secret goes to somebody who neither decides about its use nor signed for its recovery.
func (s *Set) checkRecipient(b *BreakGlass, by signers) error {
	p := s.Charter.person(b.Recipient)
	switch {
	case p == nil || !p.Live(b.Created) || p.Recipient == "":
		return refuse("reference", "%q is no live person of the charter with a recipient to encrypt to", b.Recipient)
	case by[p.ID] != nil:
		return refuse("separation", "%s would recover a secret that he signed for", p.ID)
	case slices.Contains(s.Charter.roles(p.ID, nil, b.Created), "policy"):
		return refuse("separation", "%s holds a policy role: he would hold the secret and decide about its use", p.ID)
	}
	return nil
}

// OpenReview verifies that a review is signed by somebody who holds an owner role, and returns who did, sorted. That one of them did
// not sign the break-glass is for who has that to see.
func (s *Set) OpenReview(env *Envelope, now time.Time) (*Review, []string, error) {
	r := new(Review)
	by, err := s.open(env, r, now)
	switch {
	case err != nil:
		return nil, nil, err
	case !validHash(r.BreakGlass) || strings.TrimSpace(r.Finding) == "":
		return nil, nil, refuse("value", "the review names no break-glass, or has no finding")
	}
	for id := range by {
		if len(s.Charter.roles(id, nil, r.Created)) == 0 {
			delete(by, id)
		}
	}
	if len(by) == 0 {
		return nil, nil, refuse("right", "nobody who holds an owner role signed the review")
	}
	return r, by.ids(), nil
}

// Owners are the live people who hold one of the three owner roles for a credential's unit at t: whoever has to know.
func (s *Set) Owners(credential string, t time.Time) (people []*Person) {
	_, unit, ok := s.Credential(credential)
	if !ok {
		return nil
	}
	for i := range s.Charter.People {
		if p := &s.Charter.People[i]; p.Live(t) && len(s.Charter.roles(p.ID, []string{unit.ID}, t)) > 0 {
			people = append(people, p)
		}
	}
	return people
}

// Person returns a person of the charter, or false.
func (s *Set) Person(id string) (*Person, bool) {
	p := s.Charter.person(id)
	return p, p != nil
}

// ids are the signers, sorted.
func (by signers) ids() (ids []string) {
	for id := range by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
