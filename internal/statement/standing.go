package statement

import (
	"slices"
	"time"
)

// Published reports whether the record comes from where published ones are kept, and not from somebody who passes it on.
func (r *Record) Published() bool {
	return slices.Contains([]string{"feed", "folder", "kept"}, r.Channel)
}

// Revocation verifies a revocation record as it reached a process: one that was published by Standing, every other by OpenRevocation.
func (s *Set) Revocation(from *Record, now time.Time) (*Revocation, error) {
	if from.Published() {
		return s.Standing(from.Envelope, now)
	}
	return s.OpenRevocation(from.Envelope, now)
}

// Standing verifies a revocation record that was published. What it closed stays closed until an owner of then opens it: its signer may have
// handed the target on or have left. So what OpenRevocation refuses is judged as of the time when the record was made, and any owner role
// for the target does. Such a record only closes; it ends nothing at its source.
func (s *Set) Standing(env *Envelope, now time.Time) (*Revocation, error) {
	r, no := s.OpenRevocation(env, now)
	if no == nil {
		return r, nil
	}
	r = new(Revocation)
	if env.read(r.kind(), r) != nil || r.Open || r.Time.After(now) {
		return nil, no
	}
	by, err := s.open(env, r, r.Time)
	if err != nil || by[r.Signer] == nil || r.Number < 1 {
		return nil, no
	}
	mine, where, ok := s.owns(r.Signer, r.Target, r.Time)
	if !ok || !closes(r.Target, mine, s.Charter.twoOver(by, where, r.Time)) && (r.Target.Kind == "everything" || !s.Charter.answers(r.Signer, where, r.Time)) {
		return nil, no
	}
	r.End = false
	return r, nil
}

// answers reports whether the person holds an owner role at t that counts for a target.
func (c *Charter) answers(person string, at where, t time.Time) bool {
	for _, u := range c.Units {
		if (at.estate || slices.Contains(at.units, u.ID)) && (c.holds(person, role{"policy", u.ID}, t) || c.holds(person, role{"lifecycle", u.ID}, t)) {
			return true
		}
	}
	return at.estate && c.holds(person, role{name: "operations"}, t) || (at.estate || at.charter) && c.holds(person, role{name: "root"}, t)
}

// Has reports whether the set has what a revocation names.
func (s *Set) Has(target Target) bool { _, _, ok := s.owns("", target, time.Time{}); return ok }
