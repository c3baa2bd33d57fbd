package statement

import (
	"strings"
	"time"
)

const (
	maxKeyLife   = 30 * 24 * time.Hour // longest life of a W0 key
	maxExtension = time.Hour
)

// ParseEnvelope reads a DSSE envelope: canonical JSON, at most 64 KiB.
func ParseEnvelope(data []byte) (*Envelope, error) {
	if len(data) > 64<<10 {
		return nil, refuse("size", "a record has more than 64 KiB")
	}
	env := new(Envelope)
	if err := decode("", data, env); err != nil {
		return nil, err
	}
	return env, nil
}

// RecordType is the DSSE payload type of a kind of record, such as "workload-key".
func RecordType(kind string) string { return "application/vnd.reeve." + kind + "+json" }

// open checks the type, decodes the payload into v, and returns the people who signed and are here at now.
func (s *Set) open(env *Envelope, kind string, v any, now time.Time) (map[string]*Person, error) {
	if env.PayloadType != RecordType(kind) {
		return nil, refuse("json", "the record is a %q, not a %s", env.PayloadType, kind)
	}
	if err := decode("", env.Payload, v); err != nil {
		return nil, err
	}
	by := s.Charter.signers(env.PayloadType, env.Payload, env.Signatures)
	for id, p := range by {
		if !p.Left.IsZero() && !now.Before(p.Left) {
			delete(by, id)
		}
	}
	if len(by) == 0 {
		return nil, refuse("signature", "no person of the charter signed the record")
	}
	return by, nil
}

// ofEstate checks the estate and that the record is not from the future.
func (s *Set) ofEstate(estate string, made, now time.Time) error {
	if estate != s.Charter.Estate {
		return refuse("value", "the record is of the estate %q", estate)
	}
	if made.IsZero() || made.After(now.Add(clockSkew)) {
		return refuse("value", "the record was made at %s", made.Format(time.RFC3339))
	}
	return nil
}

// anyHolds reports whether one of the people holds the role at t.
func (c *Charter) anyHolds(people map[string]*Person, r role, t time.Time) bool {
	for id := range people {
		if c.holds(id, r, t) {
			return true
		}
	}
	return false
}

// OpenWorkloadKey verifies a workload key record against the set in force. The signer held the policy role of the
// workload's unit when the key's life began, and has not left.
func (s *Set) OpenWorkloadKey(env *Envelope, now time.Time) (*WorkloadKey, error) {
	k := new(WorkloadKey)
	by, err := s.open(env, "workload-key", k, now)
	if err != nil {
		return nil, err
	}
	if err := s.ofEstate(k.Estate, k.NotBefore, now); err != nil {
		return nil, err
	}
	w, u, ok := s.Workload(k.Workload)
	if !ok {
		return nil, refuse("reference", "the charter has no workload %q", k.Workload)
	}
	if life := k.NotAfter.Sub(k.NotBefore); life <= 0 || life > maxKeyLife || !validHash(k.SHA256) || len(k.Prefix) > 16 {
		return nil, refuse("value", "the key of %s lives %s (at most 30 days) or has no proper hash", k.Workload, life)
	}
	vouched := false
	for _, i := range w.Issuers {
		vouched = vouched || i == "reeve"
	}
	if !vouched {
		return nil, refuse("right", "the charter does not let reeve vouch for %s", k.Workload)
	}
	if !s.Charter.anyHolds(by, role{"policy", u.ID}, k.NotBefore) {
		return nil, refuse("right", "no policy owner of %s signed the key of %s", u.ID, k.Workload)
	}
	return k, nil
}

// OpenRevocation verifies a revocation record: the signer owns what it closes. Two people who hold two different roles of
// the item may close anything; they are needed to close everything, and to reopen.
func (s *Set) OpenRevocation(env *Envelope, now time.Time) (*Revocation, error) {
	r := new(Revocation)
	by, err := s.open(env, "revocation", r, now)
	if err != nil {
		return nil, err
	}
	if err := s.ofEstate(r.Estate, r.Time, now); err != nil {
		return nil, err
	}
	if by[r.Signer] == nil || r.Number < 1 {
		return nil, refuse("signature", "revocation %d says it is of %q, who did not sign it", r.Number, r.Signer)
	}
	owns, unit, err := s.owns(r.Signer, r.Target, now)
	if err != nil {
		return nil, err
	}
	two := s.Charter.two(by, unit, now)
	if r.Target.Kind == "everything" || r.Open {
		owns = two && (owns || r.Target.Kind == "everything")
	}
	if !owns && !(two && !r.Open) {
		e := refuse("right", "%s may not decide alone about the %s %s", r.Signer, r.Target.Kind, r.Target.ID)
		e.Person = r.Signer
		return nil, e
	}
	return r, nil
}

// owns reports whether the person alone may close the target now, and the unit that the target belongs to, if one.
func (s *Set) owns(person string, t Target, now time.Time) (owns bool, unit string, err error) {
	c := &s.Charter
	unknown := refuse("reference", "the set has no %s %q", t.Kind, t.ID)
	switch t.Kind {
	case "credential":
		_, u, ok := s.Credential(t.ID)
		if !ok {
			return false, "", unknown
		}
		owner, live := s.Owner(t.ID, now)
		return live && owner.ID == person, u.ID, nil
	case "workload":
		_, u, ok := s.Workload(t.ID)
		if !ok {
			return false, "", unknown
		}
		return c.holds(person, role{"policy", u.ID}, now), u.ID, nil
	case "unit":
		if s.index.units[t.ID] == nil {
			return false, "", unknown
		}
		return c.holds(person, role{"policy", t.ID}, now), t.ID, nil
	case "gateway":
		if _, ok := s.Gateway(t.ID); !ok {
			return false, "", unknown
		}
		return c.holds(person, role{"operations", ""}, now), "", nil
	case "key": // of which workload is not known here: any policy owner may close it
		if !validHash(t.ID) {
			return false, "", unknown
		}
		for _, u := range c.Units {
			owns = owns || c.holds(person, role{"policy", u.ID}, now)
		}
		return owns, "", nil
	case "everything":
		if t.ID != "" {
			return false, "", unknown
		}
		return false, "", nil
	}
	return false, "", refuse("value", "%q is nothing that can be closed", t.Kind)
}

// OpenHandover verifies a handover to the named custodian: signed by who was the credential's accountable owner when it
// was made, and has not left.
func (s *Set) OpenHandover(env *Envelope, custodian string, now time.Time) (*Handover, error) {
	h := new(Handover)
	by, err := s.open(env, "handover", h, now)
	if err != nil {
		return nil, err
	}
	if err := s.ofEstate(h.Estate, h.Created, now); err != nil {
		return nil, err
	}
	if h.Custodian != custodian || !s.Serves(custodian, h.Credential) {
		return nil, refuse("reference", "the handover is of %s to %s, which is not this custodian or does not serve it", h.Credential, h.Custodian)
	}
	if h.Version < 1 || !validHash(h.SHA256) {
		return nil, refuse("value", "the handover has version %d or no proper hash", h.Version)
	}
	owner, live := s.Owner(h.Credential, h.Created)
	if !live || by[owner.ID] == nil {
		return nil, refuse("right", "the lifecycle owner of %s did not sign the handover", h.Credential)
	}
	return h, nil
}

// OpenExtension verifies an extension for the named custodian that is still running at now.
func (s *Set) OpenExtension(env *Envelope, custodian string, now time.Time) (*Extension, error) {
	x := new(Extension)
	by, err := s.open(env, "extension", x, now)
	if err != nil {
		return nil, err
	}
	if err := s.ofEstate(x.Estate, x.Created, now); err != nil {
		return nil, err
	}
	if x.Custodian != custodian || x.What != "witness" && x.What != "feed" || strings.TrimSpace(x.Reason) == "" {
		return nil, refuse("value", "the extension is of %q for %s, or gives no reason", x.What, x.Custodian)
	}
	if !now.Before(x.Until) || x.Until.Sub(x.Created) > maxExtension {
		return nil, refuse("expired", "the extension from %s ended at %s, or is longer than an hour", x.Created.Format(time.RFC3339), x.Until.Format(time.RFC3339))
	}
	if !s.Charter.two(by, "", x.Created) {
		return nil, refuse("right", "the extension is not signed by two people with two different owner roles")
	}
	return x, nil
}

// OpenRetirement verifies a retirement.
func (s *Set) OpenRetirement(env *Envelope, now time.Time) (*Retirement, error) {
	r := new(Retirement)
	by, err := s.open(env, "retirement", r, now)
	if err != nil {
		return nil, err
	}
	if err := s.ofEstate(r.Estate, r.Created, now); err != nil {
		return nil, err
	}
	if r.Log == "" || r.Size < 0 || len(r.Root) != 44 || strings.TrimSpace(r.Reason) == "" {
		return nil, refuse("value", "the retirement names no log, size, root or reason")
	}
	if !s.Charter.two(by, "", r.Created) {
		return nil, refuse("right", "the retirement is not signed by two people with two different owner roles")
	}
	return r, nil
}

// ParseSignatures reads a signatures.json.
func ParseSignatures(data []byte) ([]Signature, error) {
	var sigs []Signature
	err := decode("signatures.json", data, &sigs)
	return sigs, err
}
