package register

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// RecordKind is the kind of the journal's records: their payload type is "application/vnd.reeve.component+json".
const RecordKind = "component"

var (
	// ErrRecord is the refusal of a record that is malformed, or says what cannot be so.
	ErrRecord = errors.New("the record is refused")
	// ErrChain is the refusal of a journal in which a record is missing, doubled, moved or changed.
	ErrChain = errors.New("the journal's chain is broken")
	// ErrSigner is the refusal of a record that nobody signed who was entitled to.
	ErrSigner = errors.New("the record's signer is not entitled to it")
	// ErrMissing says that a journal lacks a record which a ledger has.
	ErrMissing = errors.New("the journal lacks a record that the ledger has")
)

// Record is one file of the journal: what a person said of a component.
type Record struct {
	Estate   string    `json:"estate"`
	Number   int64     `json:"number"`   // from 1, without gaps
	Prev     string    `json:"prev"`     // hex SHA-256 of the record before (statement.Envelope.ID); empty for the first
	Recorded time.Time `json:"recorded"` // not before that of the record before
	Said     Said      `json:"component"`
}

// Said is what a record says of a component from Valid on, in place of everything that was said of it before for that time.
type Said struct {
	ID          string    `json:"id"`
	Kind        Kind      `json:"kind"`
	Name        string    `json:"name,omitempty"`
	Units       []string  `json:"units,omitempty"` // of this estate; empty for all
	Owners      Owners    `json:"owners"`          // people of the charter
	Declared    []Flag    `json:"declared,omitempty"`
	Discovered  []Flag    `json:"discovered,omitempty"`
	Observed    []Flag    `json:"observed,omitempty"`
	Credentials []string  `json:"credentials,omitempty"`
	Probed      time.Time `json:"probed,omitzero"` // until when Verdict holds
	Verdict     *Verdict  `json:"verdict,omitempty"`
	Valid       time.Time `json:"valid"`
	Until       time.Time `json:"until,omitzero"` // not before Valid; the same for a component that is retired from then on
}

// Verdict is what a probe of a component found, and what it cannot tell.
type Verdict struct {
	URL    string    `json:"url"` // of the component
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
	Found  []Finding `json:"found"`            // one for each flag that was seen
	Unseen []Flag    `json:"unseen,omitempty"` // what the probe could not see either way, in the order of Flags: a vendor's counts as able to
	Cannot []string  `json:"cannot"`           // what it cannot tell apart or see, a sentence each
}

// Finding is a flag that a probe saw.
type Finding struct {
	Flag Flag   `json:"flag"`
	Why  string `json:"why"` // what arrived, one sentence
}

const (
	maxVerdict = 366 * 24 * time.Hour // longest time that a verdict holds
	maxText    = 512                  // bytes of a name or sentence
	maxList    = 4096                 // elements of a list
	skew       = 5 * time.Minute      // by which a signer's clock may be ahead
)

// check refuses what no set of statements could make good. The error is ErrRecord.
func (r *Record) check() error {
	s := &r.Said
	text := func(list ...string) bool {
		return len(list) <= maxList && !slices.ContainsFunc(list, func(x string) bool {
			return len(x) > maxText || strings.ContainsFunc(x, func(c rune) bool { return c < ' ' || c == 0x7f })
		})
	}
	switch {
	case !validID(s.ID) || !slices.Contains(Kinds, s.Kind):
		return refuse(ErrRecord, r, "%q of kind %q is no component: an id is 1 to 64 of a-z, 0-9, '.', '_' and '-', a kind one of %v", s.ID, s.Kind, Kinds)
	case !text(s.Name, s.Owners.Policy, s.Owners.Operations, s.Owners.Lifecycle, s.Owners.Contract) || !text(s.Units...) || !text(s.Credentials...):
		return refuse(ErrRecord, r, "a name in it is longer than %d bytes or has control characters, or a list is longer than %d", maxText, maxList)
	case !ordered(s.Declared) || !ordered(s.Discovered) || !ordered(s.Observed):
		return refuse(ErrRecord, r, "its flags are not some of %v, in that order, each once", Flags)
	case s.Kind.Own() && (len(s.Declared)+len(s.Units)+len(s.Credentials) > 0 || s.Name != "" || s.Owners != Owners{}):
		return refuse(ErrRecord, r, "a %s of this estate is declared by the signed statements: a record only says what was discovered and observed of it", s.Kind)
	case s.Kind != Vendor && s.Owners.Contract != "":
		return refuse(ErrRecord, r, "only a vendor's gateway has a contract owner")
	case r.Recorded.IsZero() || s.Valid.IsZero() || !s.Until.IsZero() && s.Until.Before(s.Valid):
		return refuse(ErrRecord, r, "it does not say from when it holds, or ends before that")
	case s.Probed.IsZero() != (s.Verdict == nil):
		return refuse(ErrRecord, r, "a verdict and its end come together")
	}
	return r.checkVerdict(text)
}

func (r *Record) checkVerdict(text func(...string) bool) error {
	v := r.Said.Verdict
	if v == nil {
		return nil
	}
	var found []Flag
	if !ordered(v.Unseen) || slices.ContainsFunc(v.Unseen, func(x Flag) bool { return slices.Contains(r.Said.Discovered, x) }) {
		return refuse(ErrRecord, r, "what its verdict has not seen is not some of %v, in that order, each once, without those that it found", Flags)
	}
	for _, f := range v.Found {
		if found = append(found, f.Flag); !text(f.Why) {
			return refuse(ErrRecord, r, "its verdict has a sentence that is too long")
		}
	}
	u, err := url.Parse(v.URL)
	if err != nil || u.User != nil || u.Host == "" || !text(v.URL) || !text(v.Cannot...) || !slices.Equal(found, r.Said.Discovered) || v.Ended.Before(v.Begun) ||
		r.Said.Probed.Sub(v.Ended) > maxVerdict {
		return refuse(ErrRecord, r, "its verdict names no URL, is not of the flags discovered, or holds for more than a year")
	}
	return nil
}

func validID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

func ordered(f []Flag) bool {
	return slices.Equal(f, union(f)) && !slices.ContainsFunc(f, func(x Flag) bool { return !slices.Contains(Flags, x) })
}

func refuse(kind error, r *Record, format string, args ...any) error {
	return fmt.Errorf("record %d of the register, of %q: %w: %s", r.Number, r.Said.ID, kind, fmt.Sprintf(format, args...))
}

// link is a record as it stands in a journal.
type link struct {
	Record
	hash     string // hex, of its statement.Envelope.ID
	sum      string // of its file
	envelope *statement.Envelope
	signers  []string  // once verified
	anchored time.Time // of the ledger's entry; zero without one
}

// parse reads one file and holds it against the one before, nil for the first.
func parse(file []byte, before *link) (*link, error) {
	number := int64(1)
	if before != nil {
		number = before.Number + 1
	}
	env, err := statement.ParseEnvelope(file)
	if err != nil {
		return nil, fmt.Errorf("record %d of the register: %w: %w", number, ErrRecord, err)
	}
	id := env.ID()
	l := &link{envelope: env, hash: hex.EncodeToString(id[:]), sum: Sum(file)}
	if env.PayloadType != statement.RecordType(RecordKind) {
		return nil, fmt.Errorf("record %d of the register: %w: its type is %q", number, ErrRecord, env.PayloadType)
	}
	err = json.Unmarshal(env.Payload, &l.Record)
	if err == nil {
		var again []byte
		if again, err = statement.Canonical(l.Record); err == nil && !bytes.Equal(again, env.Payload) {
			err = errors.New("it is not the canonical form of exactly the expected members")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("record %d of the register: %w: %w", number, ErrRecord, err)
	}
	prev := ""
	if before != nil {
		prev = before.hash
	}
	switch {
	case l.Number != number || l.Prev != prev:
		return nil, refuse(ErrChain, &l.Record, "it stands in place %d and names %.16q as the record before it, which is %.16q: one was taken away, added or changed; restore the folder from another copy of the store",
			number, l.Prev, prev)
	case before != nil && l.Recorded.Before(before.Recorded):
		return nil, refuse(ErrChain, &l.Record, "it is dated before the record before it")
	}
	return l, l.check()
}

// verify refuses a record that nobody entitled to it signed, or that names what the set did not have. The set is the one in force when the record was
// made. Operations owners and root holders make records.
func (l *link) verify(set *statement.Set, now time.Time) error {
	c, s := &set.Charter, &l.Said
	if l.Estate != c.Estate || l.Recorded.After(now.Add(skew)) {
		return refuse(ErrRecord, &l.Record, "it was made for the estate %q at %s", l.Estate, l.Recorded.Format(time.RFC3339))
	}
	l.signers = nil
	entitled := false
	for _, a := range c.Approvals(l.envelope.PayloadType, l.envelope.Payload, l.envelope.Signatures) {
		l.signers = append(l.signers, a.Person)
		entitled = entitled || Entitled(c, a.Person, l.Recorded)
	}
	if slices.Sort(l.signers); !entitled {
		return refuse(ErrSigner, &l.Record, "an operations owner or root holder of the charter, live on %s, has to sign it, and %q did", l.Recorded.Format(time.RFC3339), l.signers)
	}
	for _, p := range []string{s.Owners.Policy, s.Owners.Operations, s.Owners.Lifecycle, s.Owners.Contract} {
		if _, ok := set.Person(p); p != "" && !ok {
			return refuse(ErrRecord, &l.Record, "the charter has no person %q to answer for it", p)
		}
	}
	for _, u := range s.Units {
		if !slices.ContainsFunc(c.Units, func(have statement.Unit) bool { return have.ID == u }) {
			return refuse(ErrRecord, &l.Record, "the charter has no unit %q", u)
		}
	}
	return nil
}

// Entitled reports whether the person may sign records of the register at t: he holds the operations role, himself or as acting deputy, or is a root
// holder, and is live.
func Entitled(c *statement.Charter, person string, t time.Time) bool {
	if slices.Contains(c.Roles.Root, person) && acting(c, person, t) == person {
		return true
	}
	return slices.ContainsFunc(c.Roles.Operations, func(id string) bool { return acting(c, id, t) == person })
}

// component is what the record says.
func (l *link) component() Component {
	s := &l.Said
	c := Component{ID: s.ID, Kind: s.Kind, Name: s.Name, Units: s.Units, Named: s.Owners, Declared: s.Declared, Discovered: s.Discovered, Observed: s.Observed,
		Credentials: s.Credentials, Probed: s.Probed, Verdict: s.Verdict, Valid: s.Valid, Until: s.Until, Recorded: l.known(), Anchored: !l.anchored.IsZero(), Record: l.hash, Signers: l.signers}
	return c
}

// known is when the record was known: when the ledger had it, else when its signer says.
func (l *link) known() time.Time {
	if !l.anchored.IsZero() {
		return l.anchored
	}
	return l.Recorded
}

// Sum is the hex SHA-256 of what evidence of a record is about: its file.
func Sum(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}
