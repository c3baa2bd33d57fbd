package statement

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/workload/jwks"
)

// Signal is an identity provider whose events close what the charter says, and nothing else: it opens nothing. Its security event
// tokens (RFC 8417) are verified by whoever acts on them, with the keys that stand here; what it says by SCIM the authority reports
// in its own name.
type Signal struct {
	ID         string   `yaml:"id"`
	Issuer     string   `yaml:"issuer"`     // exact iss
	Audience   string   `yaml:"audience"`   // exact: one of aud
	JWKS       string   `yaml:"jwks"`       // its keys (RFC 7517) as JSON text; empty for a provider of SCIM alone
	Algorithms []string `yaml:"algorithms"` // as of an issuer
	Events     []string `yaml:"events"`     // that close, by the last part of their URI
	SCIM       bool     `yaml:"scim"`       // its SCIM client may deactivate and delete
	// Subjects are whom it speaks of. About anybody else it closes nothing.
	Subjects []SignalSubject `yaml:"subjects"`
}

// SignalSubject is what one subject of a provider closes.
type SignalSubject struct {
	Subject string `yaml:"subject"` // its sub, opaque id or e-mail address there; a user's id or userName by SCIM
	Kind    string `yaml:"kind"`    // person, agent or workload
	ID      string `yaml:"id"`
}

// signalEvents are the events that may close: CAEP 1.0 and RISC 1.0, by the last part of their URI.
func signalEvents() []string {
	return []string{"session-revoked", "credential-change", "token-claims-change", "assurance-level-change", "device-compliance-change",
		"account-disabled", "account-purged", "credential-compromise", "sessions-revoked"}
}

const (
	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"

	maxToken = 8 << 10 // bytes of a security event token
)

// SignalRecord carries a security event token as it was signed. The record itself has no signature.
type SignalRecord struct {
	Estate string `json:"estate"`
	Signal string `json:"signal"` // id in the charter
	Token  string `json:"token"`  // compact JWS
}

// SCIMRecord is what a provider's SCIM client told the authority, signed with the authority's feed key: asserted by the authority.
type SCIMRecord struct {
	Estate  string    `json:"estate"`
	Signal  string    `json:"signal"`
	Subject string    `json:"subject"`
	Act     string    `json:"act"` // deactivated or deleted
	Time    time.Time `json:"time"`
}

// Closing is what a signal closes.
type Closing struct {
	Signal  string // id
	Targets []Target
	Reason  string
	Time    time.Time
	Once    string // names the event: it closes once, however often and in whatever spelling it comes
}

// signal returns the provider, or nil.
func (c *Charter) signal(id string) *Signal {
	if i := slices.IndexFunc(c.Signals, func(s Signal) bool { return s.ID == id }); i >= 0 {
		return &c.Signals[i]
	}
	return nil
}

// targets are what a subject closes.
func (s *Signal) targets(subject string) (all []Target) {
	for _, m := range s.Subjects {
		if subject != "" && m.Subject == subject {
			all = append(all, Target{Kind: m.Kind, ID: m.ID})
		}
	}
	return all
}

// OpenSignal verifies a record of kind signal or scim. A token that closes nothing, such as one that only tests a stream, has no targets.
func (s *Set) OpenSignal(env *Envelope, now time.Time) (*Closing, error) {
	if env.PayloadType == RecordType("scim") {
		return s.openSCIM(env, now)
	}
	var r SignalRecord
	if env.PayloadType != RecordType("signal") || len(env.Signatures) != 0 {
		return nil, refuse("json", "the record is a %q, not a signal, or has a signature of its own", env.PayloadType)
	}
	if err := decode("", env.Payload, &r); err != nil {
		return nil, err
	}
	from := s.Charter.signal(r.Signal)
	if from == nil || from.JWKS == "" || r.Estate != s.Charter.Estate {
		return nil, refuse("reference", "the charter has no signal issuer %q with keys", r.Signal)
	}
	return from.open(r.Token, now)
}

func (s *Set) openSCIM(env *Envelope, now time.Time) (*Closing, error) {
	var r SCIMRecord
	if err := decode("", env.Payload, &r); err != nil {
		return nil, err
	}
	from := s.Charter.signal(r.Signal)
	switch {
	case from == nil || !from.SCIM || r.Estate != s.Charter.Estate:
		return nil, refuse("reference", "the charter lets no SCIM client of %q close anything", r.Signal)
	case r.Act != "deactivated" && r.Act != "deleted" || r.Time.IsZero() || r.Time.After(now.Add(clockSkew)):
		return nil, refuse("value", "the record says %q of %s at %s", r.Act, r.Subject, r.Time.Format(time.RFC3339))
	case !slices.ContainsFunc(s.ServiceKeys("feed", r.Time), func(k ServiceKey) bool {
		return len(env.Signatures) == 1 && VerifyService(k, env.PayloadType, env.Payload, env.Signatures[0].Sig)
	}):
		return nil, refuse("signature", "no authority of the charter signed what %s said by SCIM", r.Signal)
	}
	targets := from.targets(r.Subject)
	if len(targets) == 0 {
		return nil, refuse("reference", "the charter has no subject %q of %s", r.Subject, r.Signal)
	}
	return &Closing{from.ID, targets, r.Act + " at " + from.ID + ", says the authority", r.Time, ""}, nil
}

// eventToken is a security event token's payload (RFC 8417, section 2.2), with the subject identifier of RFC 9493.
type eventToken struct {
	Issuer   string                     `json:"iss"`
	Audience audience                   `json:"aud"`
	ID       string                     `json:"jti"`
	IssuedAt int64                      `json:"iat"`
	Subject  *subjectID                 `json:"sub_id"`
	Events   map[string]json.RawMessage `json:"events"`
}

// subjectID is a subject identifier of the formats iss_sub, opaque, email and, for its user, complex.
type subjectID struct {
	Format  string     `json:"format"`
	Issuer  string     `json:"iss"`
	Subject string     `json:"sub"`
	ID      string     `json:"id"`
	Email   string     `json:"email"`
	User    *subjectID `json:"user"`
}

// name is what the charter calls the subject, or empty.
func (i *subjectID) name(issuer string) string {
	switch {
	case i == nil:
		return ""
	case i.Format == "iss_sub" && i.Issuer == issuer:
		return i.Subject
	case i.Format == "opaque":
		return i.ID
	case i.Format == "email":
		return i.Email
	case i.Format == "complex" && i.User != nil && i.User.Format != "complex":
		return i.User.name(issuer)
	}
	return ""
}

// audience is a string or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// open verifies a token and returns what it closes.
func (s *Signal) open(compact string, now time.Time) (*Closing, error) {
	bad := func(format string, args ...any) (*Closing, error) {
		return nil, refuse("signature", "the security event token of %s is refused: %s", s.ID, fmt.Sprintf(format, args...))
	}
	if len(compact) > maxToken {
		return bad("it has more than %d bytes", maxToken)
	}
	for part := range strings.SplitSeq(compact, ".") { // one spelling: a record of another would be another one
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return bad("it is not in base64url without padding, breaks and spare bits")
		}
	}
	var algorithms []jose.SignatureAlgorithm
	for _, a := range s.Algorithms {
		algorithms = append(algorithms, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil {
		return bad("%v", err)
	}
	keys, err := jwks.Parse([]byte(s.JWKS))
	if err != nil {
		return bad("%v", err)
	}
	head := jws.Signatures[0].Protected
	if typ, _ := head.ExtraHeaders[jose.HeaderType].(string); strings.TrimPrefix(strings.ToLower(typ), "application/") != "secevent+jwt" {
		return bad("its typ is not secevent+jwt")
	}
	var payload []byte
	for _, k := range keys.Find(head.KeyID, head.Algorithm) {
		if b, err := jws.Verify(k.Public); err == nil {
			payload = b
		}
	}
	var t eventToken
	if payload == nil || json.Unmarshal(payload, &t) != nil {
		return bad("no key of the charter signed it, or it is not JSON")
	}
	at := time.Unix(t.IssuedAt, 0).UTC()
	switch {
	case t.Issuer != s.Issuer || !slices.Contains(t.Audience, s.Audience):
		return bad("it is of %q for %q", t.Issuer, t.Audience)
	case t.ID == "" || len(t.ID) > 256 || t.IssuedAt <= 0 || at.After(now.Add(clockSkew)) || len(t.Events) == 0:
		return bad("jti, iat or events are missing, or it is from the future")
	}
	return s.closing(&t, at), nil
}

// closing is what the events of a token close.
func (s *Signal) closing(t *eventToken, at time.Time) *Closing {
	c := &Closing{Signal: s.ID, Time: at, Once: "set " + s.Issuer + " " + t.ID}
	for uri, raw := range t.Events {
		name, ok := strings.CutPrefix(uri, caep)
		if !ok {
			name, ok = strings.CutPrefix(uri, risc)
		}
		if !ok || !slices.Contains(s.Events, name) {
			continue
		}
		var e struct {
			Subject *subjectID `json:"subject"` // where drafts of CAEP have it
			Change  string     `json:"change_type"`
		}
		if json.Unmarshal(raw, &e) != nil || name == "credential-change" && e.Change == "create" { // who adds a credential has lost none
			continue
		}
		subject := t.Subject
		if subject == nil {
			subject = e.Subject
		}
		for _, target := range s.targets(subject.name(s.Issuer)) {
			if !slices.Contains(c.Targets, target) {
				c.Targets = append(c.Targets, target)
			}
		}
		c.Reason = name + " at " + s.ID
	}
	return c
}

// checkSignals holds the signal issuers against the rest of the charter.
func checkSignals(c *Charter, d *document) {
	ids := set{}
	for i := range c.Signals {
		s, p := &c.Signals[i], at("$.signals", i)
		d.id(ids, s.ID, p+".id")
		d.want(s.JWKS != "" || s.SCIM, "value", p, "the signal issuer %s has neither keys nor scim: it could say nothing", s.ID)
		if s.JWKS != "" {
			_, err := jwks.Parse([]byte(s.JWKS))
			d.want(err == nil, "key", p+".jwks", "%v", err)
			d.want(s.Issuer != "" && s.Audience != "" && len(s.Algorithms) > 0 && len(s.Events) > 0, "value", p, "the signal issuer %s has keys, and no issuer, audience, algorithms or events", s.ID)
		}
		for j, a := range s.Algorithms {
			d.oneOf(a, at(p+".algorithms", j), jwks.Algorithms()...)
		}
		for j, e := range s.Events {
			d.oneOf(e, at(p+".events", j), signalEvents()...)
		}
		for j, m := range s.Subjects {
			path := at(p+".subjects", j)
			d.oneOf(m.Kind, path+".kind", "person", "agent", "workload")
			d.want(validName(m.Subject), "value", path+".subject", "%q is not a subject", m.Subject)
			known := m.Kind == "agent" && validName(m.ID) || m.Kind == "person" && c.person(m.ID) != nil ||
				m.Kind == "workload" && slices.ContainsFunc(c.Workloads, func(w Workload) bool { return w.ID == m.ID })
			d.want(known, "reference", path+".id", "the charter has no %s %q", m.Kind, m.ID)
		}
	}
}
