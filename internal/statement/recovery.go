package statement

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Recovery lets keys that are used for nothing else sign a charter in the place of a root quorum that is lost. What they sign is
// announced first, and takes effect when the notice has run: whoever still belongs to the quorum can publish another charter.
type Recovery struct {
	Keys   []Key    `yaml:"keys"`
	Need   int      `yaml:"need"`   // how many of them sign: at least 2, which 0 stands for
	Notice Duration `yaml:"notice"` // from the announcement to its effect: at least 24h, but for a demo; 0 stands for 72h
}

func (r *Recovery) need() int { return max(2, r.Need) }

// Wait is how long the notice runs.
func (r *Recovery) Wait() time.Duration {
	if r.Notice == 0 {
		return 72 * time.Hour
	}
	return time.Duration(r.Notice)
}

// Announcement is the notice that the recovery keys give of a charter: a record, signed by as many of them as the charter in
// force asks for. It lies in the store as records/recovery/<version>.json, and in the authority's ledger.
type Announcement struct {
	Estate  string    `json:"estate"`
	Version int64     `json:"version"` // of the charter
	SHA256  string    `json:"sha256"`  // hex, of its manifest
	Reason  string    `json:"reason"`
	Created time.Time `json:"created"`
}

func (*Announcement) kind() string                { return "recovery" }
func (a *Announcement) made() (string, time.Time) { return a.Estate, a.Created }

// checkRecovery wants the recovery keys to be keys of nobody, and seen to have none of them.
func (c *Charter) checkRecovery(d *document, ids, keys set) {
	r := &c.Recovery
	for i := range r.Keys {
		path := at("$.recovery.keys", i)
		d.id(ids, r.Keys[i].ID, path+".id")
		k, err := r.Keys[i].parse()
		if d.want(err == nil, "key", path, "%v", err) {
			d.want(!keys[k.point], "separation", path, "the key %s stands in the charter twice: a recovery key is used for nothing else", r.Keys[i].ID)
			keys[k.point] = true
		}
	}
	d.want(len(r.Keys) == 0 || len(r.Keys) >= r.need(), "approvers", "$.recovery", "%d recovery keys are there and %d must sign", len(r.Keys), r.need())
	d.want(r.Need >= 0 && r.Need != 1, "value", "$.recovery.need", "a recovery by %d key is not one: 2 at least", r.Need)
	d.want(r.Notice == 0 || (r.Wait() >= 24*time.Hour || c.Demo) && r.Wait() <= 30*24*time.Hour, "value", "$.recovery.notice", "the notice %v is not between 24h and 720h", r.Wait())
}

// recovering counts the recovery keys that signed.
func (c *Charter) recovering(payloadType string, payload []byte, sigs []Signature) int {
	var keys Charter // in which each key is a person
	for _, k := range c.Recovery.Keys {
		keys.People = append(keys.People, Person{ID: k.ID, Keys: []Key{k}})
	}
	return len(keys.Approvals(payloadType, payload, sigs))
}

// OpenAnnouncement verifies the announcement of a charter against the set in force.
func (s *Set) OpenAnnouncement(env *Envelope, now time.Time) (*Announcement, error) {
	a, err := s.Charter.openAnnouncement(env)
	if err == nil && a.Created.After(now.Add(clockSkew)) {
		return nil, refuse("value", "the recovery was announced at %s", a.Created.Format(time.RFC3339))
	}
	return a, err
}

func (c *Charter) openAnnouncement(env *Envelope) (*Announcement, error) {
	a := new(Announcement)
	if err := env.read(a.kind(), a); err != nil {
		return nil, err
	}
	switch n := c.recovering(env.PayloadType, env.Payload, env.Signatures); {
	case len(c.Recovery.Keys) == 0 || n < c.Recovery.need():
		return nil, refuse("right", "the announcement of a charter needs %d recovery keys, and %d signed", c.Recovery.need(), n)
	case a.Estate != c.Estate || a.Version < 1 || !validHash(a.SHA256) || strings.TrimSpace(a.Reason) == "" || a.Created.IsZero():
		return nil, refuse("value", "the announcement names no estate, charter, time or reason")
	}
	return a, nil
}

// recovered accepts a charter that the quorum before it did not sign, which is lost: the recovery keys did, it was announced,
// and the notice has run. known is true for a charter that was in force here before.
func (l *loader) recovered(g *signed, lost error, known bool) error {
	c, r := l.trusted, &l.trusted.Recovery
	n := c.recovering(PayloadType, g.raw, g.sigs)
	switch {
	case n == 0:
		return lost
	case n < r.need():
		return refuse("approvers", "version %d of the charter needs %d recovery keys in the place of the root quorum, and %d signed", g.Version, r.need(), n)
	}
	file := fmt.Sprintf("records/recovery/%d.json", g.Version)
	raw, err := l.read(file)
	var e *Error
	if errors.As(err, &e) && e.beyond {
		return refuse("notice", "the recovery of the charter in version %d was never announced", g.Version).in(file)
	}
	if err != nil {
		return err
	}
	env, err := ParseEnvelope(raw)
	if err != nil {
		return err
	}
	a, err := c.openAnnouncement(env)
	if err != nil {
		return inDir(err, file)
	}
	if a.Version != g.Version || a.SHA256 != hexSHA256(g.raw) {
		return refuse("notice", "another charter was announced than version %d", g.Version).in(file)
	}
	heard := a.Created
	if l.pin.Heard != nil && !known {
		heard = l.pin.Heard(a.SHA256)
	}
	if until := heard.Add(r.Wait()); !known && l.now.Before(until) {
		return refuse("notice", "the recovery of the charter takes effect on %s, when its notice has run", until.UTC().Format(time.RFC3339)).in(file)
	}
	return nil
}
