package statement

import (
	"errors"
	"slices"
	"strings"
	"time"
)

const (
	maxRecord    = 64 << 10            // bytes of an envelope
	maxKeyLife   = 30 * 24 * time.Hour // longest life of a W0 key
	maxExtension = time.Hour
)

// ParseEnvelope reads a DSSE envelope: canonical JSON, at most 64 KiB.
func ParseEnvelope(data []byte) (*Envelope, error) {
	if len(data) > maxRecord {
		return nil, refuse("size", "a record has more than %d bytes", maxRecord)
	}
	env := new(Envelope)
	if err := decode("", data, env); err != nil {
		return nil, err
	}
	return env, nil
}

// ParseSignatures reads a signatures.json.
func ParseSignatures(data []byte) (sigs []Signature, err error) {
	err = decode("signatures.json", data, &sigs)
	return sigs, err
}

// RecordType is the DSSE payload type of a kind of record: workload-key, revocation, handover, extension, retirement, recovery,
// break-glass, break-glass-review or evidence.
func RecordType(kind string) string { return "application/vnd.reeve." + kind + "+json" }

// record is what the types of record have in common.
type record interface {
	kind() string
	made() (estate string, at time.Time)
}

func (*WorkloadKey) kind() string { return "workload-key" }
func (*Revocation) kind() string  { return "revocation" }
func (*Handover) kind() string    { return "handover" }
func (*Extension) kind() string   { return "extension" }
func (*Retirement) kind() string  { return "retirement" }

func (k *WorkloadKey) made() (string, time.Time) { return k.Estate, k.NotBefore }
func (r *Revocation) made() (string, time.Time)  { return r.Estate, r.Time }
func (h *Handover) made() (string, time.Time)    { return h.Estate, h.Created }
func (x *Extension) made() (string, time.Time)   { return x.Estate, x.Created }
func (r *Retirement) made() (string, time.Time)  { return r.Estate, r.Created }

// signers is who signed a record, by person id.
type signers map[string]*Person

// read decodes the payload of a record of a kind into v.
func (env *Envelope) read(kind string, v any) error {
	if env.PayloadType != RecordType(kind) {
		return refuse("json", "the record is a %q, not a %s", env.PayloadType, kind)
	}
	return decode("", env.Payload, v)
}

// open decodes the payload into r, and returns the people who signed it and are still here at now. Their roles are
// judged at the time at which the record was made.
func (s *Set) open(env *Envelope, r record, now time.Time) (signers, error) {
	if err := env.read(r.kind(), r); err != nil {
		return nil, err
	}
	if estate, at := r.made(); estate != s.Charter.Estate || at.IsZero() || at.After(now.Add(clockSkew)) {
		return nil, refuse("value", "the record was made for the estate %q at %s", estate, at.Format(time.RFC3339))
	}
	if !ascending(env.Signatures) {
		return nil, refuse("signature", "the signatures of a %s stand in the order of their key ids, each key once, at most %d", r.kind(), maxSignatures)
	}
	by := s.Charter.signers(env.PayloadType, env.Payload, env.Signatures)
	for id, p := range by {
		if !p.here(now) {
			delete(by, id)
		}
	}
	if len(by) == 0 {
		return nil, refuse("signature", "nobody who is here signed the %s", r.kind())
	}
	return by, nil
}

// ascending reports whether the key ids rise strictly: then no signature can be doubled, and the order says nothing.
func ascending(sigs []Signature) bool {
	for i := 1; i < len(sigs); i++ {
		if sigs[i].KeyID <= sigs[i-1].KeyID {
			return false
		}
	}
	return len(sigs) <= maxSignatures
}

// Admit refuses a record with a signature more than the charter explains: each of several is by a key of the charter and holds. It is
// for records that come from whoever sends them. What was published before is not judged by it again: a key that left the charter
// since does not undo what others signed too.
func (s *Set) Admit(env *Envelope) error {
	if len(env.Signatures) < 2 { // the only one holds, or the record is refused anyway
		return nil
	}
	if got := s.Charter.Approvals(env.PayloadType, env.Payload, env.Signatures); !ascending(env.Signatures) || len(got) != len(env.Signatures) {
		return refuse("signature", "%d of the %d signatures on the record hold: take away those that are doubled, out of order or by keys that the charter does not have",
			len(got), len(env.Signatures))
	}
	return nil
}

// OpenWorkloadKey verifies a workload key record against the set in force. Its signer held the policy role of the
// workload's unit when the key's life began, and holds it now: one whose attestation ran out dates no key back.
func (s *Set) OpenWorkloadKey(env *Envelope, now time.Time) (*WorkloadKey, error) {
	k := new(WorkloadKey)
	by, err := s.open(env, k, now)
	if err != nil {
		return nil, err
	}
	w, u, ok := s.Workload(k.Workload)
	life := k.NotAfter.Sub(k.NotBefore)
	switch {
	case !ok:
		return nil, refuse("reference", "the charter has no workload %q", k.Workload)
	case life <= 0 || life > maxKeyLife || !validHash(k.SHA256) || len(k.Prefix) > 16:
		return nil, refuse("value", "the key of %s lives %s (at most 30 days) or has no proper hash", k.Workload, life)
	case !validNetworks(k.Networks):
		return nil, refuse("value", "the key of %s is bound to %q, which are not networks such as 10.0.0.0/8", k.Workload, k.Networks)
	case !w.VouchedBy(IssuerReeve):
		return nil, refuse("right", "the charter does not let reeve vouch for %s", k.Workload)
	case !s.Charter.anyHolds(by, role{"policy", u.ID}, k.NotBefore), !s.Charter.anyHolds(by, role{"policy", u.ID}, now):
		return nil, refuse("right", "no policy owner of %s signed the key of %s", u.ID, k.Workload)
	}
	return k, nil
}

// OpenRevocation verifies a revocation record. Who owns the target closes it alone, everything excepted. Two people who hold two
// different owner roles for it close it too; to reopen, its owner must be one who signed. What belongs to one tenant is closed and
// opened by roles in that tenant alone; what is the whole estate's needs one of the two to be operations or root. Keys and tokens are
// never reopened: whoever needs one gets a new one. An authority closes tokens.
func (s *Set) OpenRevocation(env *Envelope, now time.Time) (*Revocation, error) {
	r := new(Revocation)
	by, err := s.open(env, r, now)
	if e := new(Error); errors.As(err, &e) && e.Rule == "signature" && s.closesToken(env, r, now) { // no person signed
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if by[r.Signer] == nil || r.Number < 1 {
		return nil, refuse("signature", "revocation %d is in the name of %q, who did not sign it", r.Number, r.Signer)
	}
	mine, where, ok := s.owns(r.Signer, r.Target, now)
	if !ok {
		return nil, refuse("reference", "the set has no %s", r.Target)
	}
	if r.Open && (r.Target.Kind == "key" || r.Target.Kind == "token") {
		return nil, refuse("value", "%s cannot be reopened: issue a new %s", r.Target, r.Target.Kind)
	}
	if r.End && (r.Open || r.Target.Kind != "credential" || !mine) {
		return nil, refuse("right", "only the accountable owner of a credential ends it at its source, with a record that closes it")
	}
	two := s.Charter.twoOver(by, where, now)
	if r.Open && !(two && mine) || !r.Open && !closes(r.Target, mine, two) {
		e := refuse("right", "%s may not decide alone about %s", r.Signer, r.Target)
		e.Person = r.Signer
		return nil, e
	}
	return r, nil
}

// closes reports whether who signed may close the target: its owner alone, or two who hold two different roles for it.
func closes(target Target, mine, two bool) bool { return two || mine && target.Kind != "everything" }

// MayClose reports whether these people together may close the target at t, the first of them in whose name the record is. With end, its
// secrets are to be ended at their source too.
func (s *Set) MayClose(target Target, end bool, t time.Time, people ...string) bool {
	by := signers{}
	for _, id := range people {
		p := s.Charter.person(id)
		if p == nil || !p.here(t) {
			return false
		}
		by[id] = p
	}
	if len(people) == 0 {
		return false
	}
	mine, where, ok := s.owns(people[0], target, t)
	return ok && (!end || mine && target.Kind == "credential") && closes(target, mine, s.Charter.twoOver(by, where, t))
}

// Two are the people who signed the envelope and were here at t, sorted. Two of them held two different owner roles then, or it is refused.
func (s *Set) Two(env *Envelope, t time.Time) ([]string, error) {
	by := s.Charter.signers(env.PayloadType, env.Payload, env.Signatures)
	for id, p := range by {
		if !p.here(t) {
			delete(by, id)
		}
	}
	if !s.Charter.Two(by.ids(), t) {
		return nil, refuse("right", "it is signed by %d people of the charter: it takes two, who hold two different owner roles", len(by))
	}
	return by.ids(), nil
}

// closesToken reports whether the record is an authority's own and closes a token, as whoever has the token may ask it to
// (RFC 7009): its signer is the authority, whose token key signed. It opens nothing.
func (s *Set) closesToken(env *Envelope, r *Revocation, now time.Time) bool {
	if r.Target.Kind != "token" || r.Open || r.Number < 1 || !validName(r.Target.ID) || len(env.Signatures) != 1 {
		return false
	}
	return slices.ContainsFunc(s.ServiceKeys("token", now), func(k ServiceKey) bool {
		return k.Process == r.Signer && VerifyService(k, env.PayloadType, env.Payload, env.Signatures[0].Sig)
	})
}

// where says whose roles count for a target: those in units, or those of the whole estate.
type where struct {
	units   []string
	charter bool // the target stands in the charter: a quorum of root holders are two as well
	estate  bool // the target is every tenant's
}

// owns reports whether the person is an owner of the target at t, whose roles count for it besides, and whether the set has the
// target. "Everything" is every owner's. Of a W0 key, a token and an agent that is no workload only the name is known here: every
// policy owner closes them. Tenants and people are the charter's: they are the root holders', and each is his own.
func (s *Set) owns(person string, target Target, t time.Time) (mine bool, at where, ok bool) {
	c, estate := &s.Charter, where{estate: true}
	in := func(unit string) where { return where{units: []string{unit}} }
	switch id := target.ID; target.Kind {
	case "credential":
		_, u, ok := s.Credential(id)
		if !ok {
			return false, at, false
		}
		owner, live := s.Owner(id, t)
		return live && owner.ID == person, in(u.ID), true
	case "workload":
		_, u, ok := s.Workload(id)
		if !ok {
			return false, at, false
		}
		return c.holds(person, role{"policy", u.ID}, t), in(u.ID), true
	case "agent":
		if _, u, ok := s.Workload(id); ok {
			return c.holds(person, role{"policy", u.ID}, t), in(u.ID), true
		}
		return slices.Contains(c.roles(person, nil, t), "policy"), estate, validName(id)
	case "unit":
		return c.holds(person, role{"policy", id}, t), in(id), s.index.units[id] != nil
	case "tenant":
		return c.holds(person, role{name: "root"}, t), where{units: c.tenant(id), charter: true}, slices.Contains(c.Tenants, id)
	case "person":
		return person == id || c.holds(person, role{name: "root"}, t), where{units: c.home(id), charter: true}, c.person(id) != nil
	case "gateway":
		_, ok := s.Gateway(id)
		return c.holds(person, role{name: "operations"}, t), estate, ok
	case "key":
		return slices.Contains(c.roles(person, nil, t), "policy"), estate, validHash(id)
	case "token":
		return slices.Contains(c.roles(person, nil, t), "policy"), estate, validName(id)
	case "everything":
		return len(c.roles(person, nil, t)) > 0, estate, id == ""
	}
	return false, at, false
}

// validName reports whether a name that others give, such as a token's jti, can be a target.
func validName(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r == 0x7f })
}

// OpenHandover verifies a handover to the named custodian: signed by who was the credential's accountable owner when it
// was made, and has not left.
func (s *Set) OpenHandover(env *Envelope, custodian string, now time.Time) (*Handover, error) {
	h := new(Handover)
	by, err := s.open(env, h, now)
	if err != nil {
		return nil, err
	}
	owner, live := s.Owner(h.Credential, h.Created)
	switch {
	case h.Custodian != custodian || !s.Serves(custodian, h.Credential):
		return nil, refuse("reference", "the handover is of %s to %s: not this custodian, or one that does not serve it", h.Credential, h.Custodian)
	case h.Version < 1 || !validHash(h.SHA256):
		return nil, refuse("value", "the handover has version %d or no proper hash", h.Version)
	case !live || by[owner.ID] == nil:
		return nil, refuse("right", "the lifecycle owner of %s did not sign the handover", h.Credential)
	}
	return h, nil
}

// OpenExtension verifies an extension for the named custodian that is still running at now.
func (s *Set) OpenExtension(env *Envelope, custodian string, now time.Time) (*Extension, error) {
	x := new(Extension)
	by, err := s.open(env, x, now)
	if err != nil {
		return nil, err
	}
	switch {
	case x.Custodian != custodian || x.What != "witness" && x.What != "feed" || strings.TrimSpace(x.Reason) == "":
		return nil, refuse("value", "the extension is of %q for %s, or gives no reason", x.What, x.Custodian)
	case !now.Before(x.Until) || x.Until.Sub(x.Created) > maxExtension:
		return nil, refuse("expired", "the extension from %s ends at %s: it is over, or longer than an hour", x.Created.Format(time.RFC3339), x.Until.Format(time.RFC3339))
	case !s.Charter.twoOver(by, where{estate: true}, x.Created):
		return nil, refuse("right", "the extension is not signed by two people with two different owner roles, one of them of operations or root")
	}
	return x, nil
}

// OpenRetirement verifies a retirement.
func (s *Set) OpenRetirement(env *Envelope, now time.Time) (*Retirement, error) {
	r := new(Retirement)
	by, err := s.open(env, r, now)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Log == "" || r.Size < 0 || decode64(r.Root, 32) == nil || strings.TrimSpace(r.Reason) == "":
		return nil, refuse("value", "the retirement names no log, size, root or reason")
	case !s.Charter.two(by, nil, r.Created):
		return nil, refuse("right", "the retirement is not signed by two people with two different owner roles")
	}
	return r, nil
}
