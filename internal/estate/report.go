package estate

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Report is the state of an estate as its owners should know it.
type Report struct {
	Estate     string      `json:"estate"`
	Lock       int64       `json:"lock"`              // version in force, 0 when none is
	Expires    time.Time   `json:"expires"`           // from when on the set in force is not used
	Since      int64       `json:"since"`             // lock version from which on every change was held against the set before it
	Refused    string      `json:"refused,omitempty"` // why the published set does not hold
	Draft      string      `json:"draft,omitempty"`   // why the owners' files do not hold
	Statements []Statement `json:"statements"`
	Warnings   []string    `json:"warnings"`
}

// Statement is one statement's state: its newest published version, and what waits.
type Statement struct {
	Signed
	Changed bool    `json:"changed"` // the owners' files differ from the newest version, published or pending
	Pending *Signed `json:"pending,omitempty"`
}

// Names are the statements of a charter in the order in which they are signed, the lock last.
func Names(c *statement.Charter) []string {
	names := []string{"charter", "operations"}
	for _, u := range c.Units {
		names = append(names, "policy-"+u.ID, "custody-"+u.ID)
	}
	return append(names, "lock")
}

// Report verifies what is published, and compares it with the owners' files and the drafts.
func (d Dir) Report(pin statement.Pin, now time.Time) (*Report, error) {
	r := &Report{Estate: pin.Estate, Warnings: []string{}}
	var known []*statement.Charter // by which signatures are verified
	set, err := statement.Load(d.Store(), pin, nil, now)
	if err != nil {
		r.Refused = err.Error()
	} else {
		r.Lock, r.Expires, r.Since, r.Warnings = set.Lock.Version, set.Expires, set.Since, append(r.Warnings, Warnings(set, now)...)
		if known, err = charters(d.Store(), set); err != nil {
			return nil, err
		}
	}
	draft, err := d.Check()
	switch {
	case err != nil:
		r.Draft = err.Error()
	default:
		set = draft // the owners' files name the statements that there should be
		known = append([]*statement.Charter{&draft.Charter}, known...)
	}
	if set == nil {
		return r, nil
	}
	for _, name := range Names(&set.Charter) {
		s, err := d.statement(name, known)
		if err != nil {
			return nil, err
		}
		r.Statements = append(r.Statements, s)
	}
	return r, nil
}

func (d Dir) statement(name string, known []*statement.Charter) (s Statement, err error) {
	s.Signed.Statement = name
	for _, store := range []statement.Dir{statement.Dir(d.Signed()), statement.Dir(d.pending())} {
		versions, err := Log(store, name)
		if err != nil {
			return s, err
		}
		if len(versions) == 0 {
			continue
		}
		newest, err := signed(store, known, versions[0])
		if err != nil {
			return s, err
		}
		if string(store) == d.Signed() {
			s.Signed = newest
		} else {
			s.Pending = &newest
		}
	}
	if name == "lock" {
		return s, nil
	}
	files, err := d.Files(name)
	if err != nil {
		return s, err
	}
	newest := s.Version.Version
	if s.Pending != nil {
		newest = s.Pending.Version.Version
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		b, err := d.Drafts().ReadFile(fmt.Sprintf("%s/%d/%s", name, newest, f))
		s.Changed = s.Changed || err != nil || !bytes.Equal(b, files[f])
	}
	return s, nil
}

// Warnings says what ends within thirty days, or has ended, and who is concerned.
func Warnings(s *statement.Set, now time.Time) (list []string) {
	ends := func(t time.Time, format string, args ...any) {
		switch left := t.Sub(now); {
		case left <= 0:
			list = append(list, fmt.Sprintf(format, args...)+" has ended")
		case left <= 30*24*time.Hour:
			list = append(list, fmt.Sprintf("%s ends in %d days, on %s", fmt.Sprintf(format, args...), int(left.Hours()/24), t.UTC().Format(time.DateOnly)))
		}
	}
	ends(s.Expires, "the published set")
	for _, p := range s.Charter.People {
		switch {
		case !p.Left.IsZero() && !now.Before(p.Left):
			list = append(list, fmt.Sprintf("%s has left", p.ID))
		case !p.Left.IsZero():
			ends(p.Left, "%s's time here", p.ID)
		default:
			ends(p.AttestedUntil, "%s's attestation", p.ID)
		}
	}
	for _, k := range s.Charter.ServiceKeys {
		ends(k.NotAfter, "the %s key of %s", k.Use, k.Process)
	}
	var owners []string
	held := map[string][]statement.Orphan{}
	for _, o := range s.Orphans() {
		if held[o.Owner] == nil {
			owners = append(owners, o.Owner)
		}
		held[o.Owner] = append(held[o.Owner], o)
	}
	for _, owner := range owners {
		if line := orphaned(owner, held[owner], now); line != "" {
			list = append(list, line)
		}
	}
	for _, p := range People(s, now) {
		if p.Acting != "" {
			list = append(list, fmt.Sprintf("%s acts for %s", p.Acting, p.ID))
		}
	}
	return list
}

// orphaned warns at 30, 7 and 1 days before what a person answers for is orphaned, and when it is.
func orphaned(owner string, list []statement.Orphan, now time.Time) string {
	var what []string
	for _, o := range list {
		if one := o.Kind + " " + o.ID; !slices.Contains(what, one) {
			what = append(what, one)
		}
	}
	at := list[0].At
	when := ""
	switch left := at.Sub(now); {
	case left <= 0:
		return fmt.Sprintf("orphaned and not used, for neither %s nor a deputy is live: %s", owner, strings.Join(what, ", "))
	case left <= 24*time.Hour:
		when = "within a day, at " + at.UTC().Format(time.RFC3339)
	case left <= 7*24*time.Hour:
		when = "within 7 days, on " + at.UTC().Format(time.DateOnly)
	case left <= 30*24*time.Hour:
		when = "within 30 days, on " + at.UTC().Format(time.DateOnly)
	default:
		return ""
	}
	return fmt.Sprintf("orphaned %s, unless %s is attested (reeve attest): %s", when, owner, strings.Join(what, ", "))
}
