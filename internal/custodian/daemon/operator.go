package daemon

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/statement"
)

// operator is what the admin socket serves: an admin.Custodian.
type operator struct{ *host }

// Status implements admin.Custodian.
func (o operator) Status() *admin.Status {
	now := o.Clock()
	s := &admin.Status{
		ID: o.ID, Version: o.rt.Version, PID: os.Getpid(), UID: os.Getuid(), Estate: o.cfg.EstateTrust.Estate, Confinement: o.confined,
		FeedAgeMS: -1, InFlight: o.Gate.Live(), Isolation: o.Isolation.Seen(), Extensions: map[string]int64{},
	}
	s.Ready, s.Waits = o.rt.Ready.State()
	for what, until := range o.Extended() {
		s.Extensions[what] = max(int64(until.Sub(now)/time.Second), 0)
	}
	if f := o.follower.Load(); f != nil {
		st := f.Status()
		s.FeedError, s.Withheld, s.Gaps = st.Err, st.Withheld, len(st.Gaps)
		if st.Authority > st.Lock {
			s.SetError = st.Err
		}
		if age := f.Age(); age >= 0 {
			s.FeedAgeMS = age.Milliseconds()
		}
	}
	if log := o.book.log.Load(); log != nil {
		st := log.Status()
		s.Ledger = admin.Ledger{Log: st.ID, Origin: st.Origin, Size: st.Size, Cosigned: st.Cosigned, LagMS: st.Oldest.Milliseconds(), Error: st.Reason}
	}
	for _, c := range o.Gate.State().List() {
		s.Closed = append(s.Closed, admin.Closed(c))
	}
	if err := o.Gate.Flush(); err != nil {
		s.Unsaved = err.Error()
	}
	s.Glass = o.glass(now)
	if set := o.Set(); set != nil {
		s.Demo, s.Lock, s.LockHash, s.LockExpires = set.Charter.Demo, set.Lock.Version, hex.EncodeToString(set.LockHash[:]), set.Expires
		s.Credentials, s.Mints = o.credentials(set), o.units.Mints()
	}
	return s
}

func (o operator) glass(now time.Time) (list []admin.Glass) {
	for _, k := range o.Custodian.Glass.List() {
		g := admin.Glass{
			Record: k.Record, Credential: k.Credential, Workload: k.Workload, Waive: k.Waive, Recipient: k.Recipient, Reason: k.Reason, Signers: k.Signers,
			Created: k.Created, Until: k.Until, Running: !k.Ended && now.Before(k.Until), Rotate: k.Recovered != nil && !k.Recovered.Rotated,
		}
		if k.Review != nil {
			g.Reviewers, g.Finding = k.Review.Signers, k.Review.Finding
		}
		list = append(list, g)
	}
	return list
}

// Recovered implements admin.Custodian.
func (o operator) Recovered(record string) ([]byte, error) {
	k := o.Custodian.Glass.Find(record)
	if k == nil || k.Recovered == nil {
		return nil, fmt.Errorf("no secret was recovered here by the break-glass %.16s", record)
	}
	return k.Recovered.Ciphertext, nil
}

func (o operator) credentials(set *statement.Set) (list []admin.Credential) {
	for _, custody := range set.Custody {
		for _, cr := range custody.Credentials {
			if !set.Serves(o.ID, cr.ID) {
				continue
			}
			a := admin.Credential{ID: cr.ID, Class: cr.Class}
			if owner, ok := set.Owner(cr.ID, o.Clock()); ok {
				a.Owner = owner.ID
			}
			if h := o.Secrets.Get(cr.ID); h != nil {
				a.Version, a.Fingerprint, a.Created = h.Version, h.Fingerprint, h.Created
			} else if err := o.unopened[cr.ID]; err != nil {
				a.Error = err.Error()
			}
			o.Show(&a, o.Clock())
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b admin.Credential) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Freeze implements admin.Custodian.
func (o operator) Freeze(target statement.Target, reason string) (string, error) {
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", errors.New("a freeze needs a reason: it will stand in the ledger")
	}
	switch target.Kind {
	case closing.Everything:
		if target.ID != "" {
			return "", errors.New("everything has no id")
		}
	case closing.Workload, closing.Agent, closing.Person, closing.Tenant, closing.Unit, closing.Credential, closing.Gateway, closing.Key, closing.Token:
		if target.ID == "" {
			return "", fmt.Errorf("name the %s to freeze", target.Kind)
		}
	default:
		return "", fmt.Errorf("%q cannot be frozen; workload, agent, person, tenant, unit, credential, gateway, key, token and everything can", target.Kind)
	}
	changed, err := o.Close(closing.Closed{Target: target, Reason: reason, By: "admin", Time: o.Clock()})
	done := "frozen, and its streams are cut"
	if !changed {
		done = "it was frozen already"
	}
	if err != nil {
		return done, fmt.Errorf("%s, but a restart would open it again: %w", done, err)
	}
	if !o.known(target) {
		return done, fmt.Errorf("the set in force has no %s %q: check the name", target.Kind, target.ID)
	}
	return done, nil
}

// known reports whether the set in force has the target. Without a set nobody can tell; keys, tokens and agents are not looked up.
func (o operator) known(t statement.Target) bool {
	set := o.Set()
	return set == nil || slices.Contains([]string{closing.Key, closing.Token, closing.Agent}, t.Kind) || set.Has(t)
}

// Accept implements admin.Custodian. The follower verifies the record and keeps it. What it closes is in force before the disk is
// asked, and on disk when the operator is told so.
func (o operator) Accept(record []byte) (string, error) {
	if err := o.offer(record, "admin"); err != nil {
		return "", err
	}
	o.Rekey()
	if err := o.Gate.Flush(); err != nil {
		return "", err
	}
	return "accepted", nil
}

// Reload implements admin.Custodian.
func (o operator) Reload() (string, error) {
	o.Rekey()
	if err := o.Gate.Flush(); err != nil {
		return "", err
	}
	set := o.Set()
	if set == nil {
		return "", errors.New("there is no set yet")
	}
	return fmt.Sprintf("lock version %d is in force; newer sets are taken as they come", set.Lock.Version), nil
}
