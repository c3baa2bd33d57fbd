package credential

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/statement"
)

// The classes of lifetimes, as admin.Uses counts them.
const (
	Static   = "static" // no end, or a day and more
	Day      = "<24h"
	Hour     = "<1h"
	Quarters = "<15min" // 15 minutes and less
)

// Posture is what a credential stands at: what the statements say of it, and what its custodians do.
type Posture struct {
	handover.Held
	Orphan   bool      `json:"orphan"` // nobody answers for it, and so nobody uses it
	Template string    `json:"template,omitempty"`
	Source   string    `json:"source"`
	Standing bool      `json:"standing"` // its owner hands over a secret that lives until it is revoked: the secret itself, or what others are got with
	Mint     bool      `json:"mint"`     // its custodians can get secrets that nobody handed over
	Honey    string    `json:"honey,omitempty"`
	Handed   time.Time `json:"handed,omitzero"` // when the newest version was handed over
	Unusable string    `json:"unusable,omitempty"`

	Known     bool                        `json:"known"`              // a custodian has said what follows
	State     string                      `json:"state,omitempty"`    // of the version in use
	Lifetime  int64                       `json:"lifetime_s"`         // seconds that the version in use lives; 0 for no end, or not known
	Lives     string                      `json:"lifetime,omitempty"` // in words: Static, Day, Hour or Quarters; empty when not known
	Age       int64                       `json:"age_s"`              // seconds, of the version in use, or of what was handed over
	LastUse   time.Time                   `json:"last_use,omitzero"`
	Uses      admin.Uses                  `json:"uses"`
	Next      time.Time                   `json:"next,omitzero"` // when it is replaced: by a custodian, or at the latest by its owner
	Closed    string                      `json:"closed,omitempty"`
	Error     string                      `json:"error,omitempty"`
	Custodian map[string]admin.Credential `json:"custodian_status,omitempty"` // what each custodian says, by its id
}

// Key is a key with which a unit's custodians say who they are: whoever has it can mint.
type Key struct {
	Unit      string    `json:"unit"`
	Custodian string    `json:"custodian"`
	ID        string    `json:"kid"`
	Can       string    `json:"can"` // mint
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Report is the posture of an estate.
type Report struct {
	Credentials []Posture `json:"credentials"`
	Keys        []Key     `json:"keys"`
}

// List is the posture of every credential of the set at now, by unit in the charter's order, with what those custodians say that were asked.
func List(dir estate.Dir, set *statement.Set, asked []*admin.Status, now time.Time) (*Report, error) {
	held, err := handover.List(dir, set, now)
	if err != nil {
		return nil, err
	}
	records, err := estate.ReadRecords(dir.Store(), "handover")
	if err != nil {
		return nil, err
	}
	r := &Report{Credentials: []Posture{}, Keys: []Key{}}
	for _, h := range held {
		c, _, _ := set.Credential(h.Credential)
		p := Posture{Held: h, Orphan: h.Owner == "", Template: c.Template, Source: c.Source, Mint: c.Source != "sealed", Honey: c.Honey}
		if kind, ok := custody.FindKind(c.Source); ok {
			p.Standing = kind.Standing && kind.Root != ""
		}
		filled, err := custody.Read(*c)
		if err != nil {
			p.Unusable = err.Error()
		}
		p.Origin = filled.Destination.Origin
		for _, custodian := range h.Custodians {
			if env := records[fmt.Sprintf("%s-%d-%s", h.Credential, h.Version, custodian)]; env != nil {
				if record, err := set.OpenHandover(env, custodian, now); err == nil && record.Created.After(p.Handed) {
					p.Handed = record.Created
				}
			}
		}
		for _, s := range asked {
			i := slices.IndexFunc(s.Credentials, func(a admin.Credential) bool { return a.ID == h.Credential })
			if i >= 0 && slices.Contains(h.Custodians, s.ID) {
				p.add(s.ID, s.Credentials[i])
			}
		}
		p.settle(time.Duration(c.MaxLifetime), now)
		r.Credentials = append(r.Credentials, p)
	}
	for _, u := range set.Charter.Units {
		if f := set.Custody[u.ID].Federation; f != nil {
			for _, k := range f.Keys {
				if key, err := k.Parse(); err == nil {
					r.Keys = append(r.Keys, Key{u.ID, k.Custodian, key.ID, "mint", k.NotBefore, k.NotAfter})
				}
			}
		}
	}
	return r, nil
}

// add takes what a custodian says: uses are summed, and the version in use is the newest of all.
func (p *Posture) add(custodian string, a admin.Credential) {
	if p.Custodian == nil {
		p.Custodian = map[string]admin.Credential{}
	}
	p.Custodian[custodian] = a
	if v := slices.IndexFunc(a.Versions, func(v admin.Version) bool { return v.State == "active" || v.State == "frozen" }); v >= 0 {
		used := a.Versions[v]
		if !p.Known || p.Age == 0 || used.Age < p.Age {
			p.Age, p.Lifetime = used.Age, 0
			if !used.Expires.IsZero() {
				p.Lifetime = int64(used.Expires.Sub(used.Issued) / time.Second)
			}
			p.Lives = class(p.Lifetime)
		}
	}
	if !p.Known || a.State != "pending" {
		p.State = a.State
	}
	p.Known = true
	if a.LastUse.After(p.LastUse) {
		p.LastUse = a.LastUse
	}
	if !a.Next.IsZero() && (p.Next.IsZero() || a.Next.Before(p.Next)) {
		p.Next = a.Next
	}
	u := &p.Uses
	u.Static, u.Day, u.Hour, u.Quarters = u.Static+a.Uses.Static, u.Day+a.Uses.Day, u.Hour+a.Uses.Hour, u.Quarters+a.Uses.Quarters
	if u.Since.Before(a.Uses.Since) {
		u.Since = a.Uses.Since
	}
	p.Closed, p.Error = cmp.Or(p.Closed, a.Closed), cmp.Or(p.Error, a.Error)
}

// settle says what follows from the statements where no custodian said more.
func (p *Posture) settle(life time.Duration, now time.Time) {
	if p.Source != "sealed" {
		return
	}
	p.Lives = Static
	if p.Handed.IsZero() {
		return
	}
	p.Age = int64(now.Sub(p.Handed) / time.Second)
	if life > 0 {
		p.Next = p.Handed.Add(life)
	}
}

// class is the class of a lifetime in seconds.
func class(seconds int64) string {
	switch life := time.Duration(seconds) * time.Second; {
	case life <= 0 || life >= 24*time.Hour:
		return Static
	case life >= time.Hour:
		return Day
	case life > 15*time.Minute:
		return Hour
	}
	return Quarters
}
