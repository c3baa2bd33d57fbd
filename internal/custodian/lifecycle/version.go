// Package lifecycle keeps the versions of a credential's secret, wherever they come from: which one is used, when the next is fetched, and
// what became of the others. A use takes the version in force by one atomic read; everything that waits happens beside it.
package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

// The states of a version, as entries have them. Pending is a credential without any.
const (
	Pending     = "pending"
	Active      = "active"           // new uses take it
	Overlapping = "overlapping"      // a newer one is active; what began with it goes on, and it may still work at its provider
	Frozen      = "frozen"           // nothing uses it, until it is revoked or opened again
	Unproven    = "revoked-unproven" // its source was told to end it, or cannot; nobody has seen that it is dead
	Proven      = "revoked-proven"   // the provider refused it, twice
	Destroyed   = "destroyed"        // its time is over, or its bytes are gone here
)

var (
	// ErrNone means that no secret was handed over.
	ErrNone = errors.New("no secret was handed over")
	// ErrUnfit refuses a secret that cannot be used as the record says.
	ErrUnfit = errors.New("the source gave a secret that cannot be used")
	// ErrOver means that the version may not be used any more.
	ErrOver = errors.New("this version of the secret is revoked")
	// ErrWait means that the source took longer than a request waits.
	ErrWait = errors.New("the source of the credential has not answered yet")
)

// Held is one version of a credential's secret, ready for use. What is exported may be shown, and does not change.
type Held struct {
	Credential  string
	Workload    string // whom alone it is for; empty for everybody
	Version     int64  // of the handover; 0 for what was fetched
	Lease       string // as entries have it: "v3", or what its source calls it
	Fingerprint string // keyed: tells equal secrets within this custodian and says nothing about their bytes
	Issued      time.Time
	Expires     time.Time // as its source says; zero for no end

	*material
	until   time.Time // from then on a new one is fetched before it is used, if the source answers; zero for never
	end     time.Time // from then on it is not used; zero for never
	last    bool      // renewing brings no more
	begun   atomic.Int64
	ended   atomic.Int64
	over    atomic.Bool
	counted int64 // of begun; the keeper's
	age     atomic.Pointer[string]
}

// material is what a version, however often renewed, is made of. It is wiped when the last use of it has gone.
type material struct {
	parts  *pin.Parts
	secret source.Secret // empty with from
	from   *sealed.Held  // what was handed over
	helds  []*Held       // that are made of it; the keeper's
}

// Fetch returns the secret, and what its record makes of it, against evidence that the intent to use it is on disk. It is not kept for longer
// than h is.
func (h *Held) Fetch(d ledger.Durable) (s source.Secret, p *pin.Parts, err error) {
	if !d.Valid() {
		return s, nil, source.ErrNotDurable
	}
	if h.over.Load() {
		return s, nil, ErrOver
	}
	if h.from == nil {
		return h.secret, h.parts, nil
	}
	s.Lease, s.Issued = h.Lease, h.Issued
	s.Value, err = h.from.Fetch(d)
	return s, h.parts, err
}

// cut ends the version with its certificate.
func (h *Held) cut(parts *pin.Parts) {
	if c := parts.Certificate; c != nil && (h.Expires.IsZero() || c.Leaf.NotAfter.Before(h.Expires)) {
		h.Expires = c.Leaf.NotAfter
	}
}

// Leave ends a use that a Keeper began.
func (h *Held) Leave() { h.ended.Add(1) }

// Age is how old it is, in seconds, to one or two.
func (h *Held) Age() string {
	if a := h.age.Load(); a != nil {
		return *a
	}
	return "0"
}

// mark brings its age up to date.
func (h *Held) mark(now time.Time) {
	a := strconv.FormatInt(int64(max(now.Sub(h.Issued), 0)/time.Second), 10)
	if h.Age() != a {
		h.age.Store(&a)
	}
}

// InUse is how many uses of it are open.
func (h *Held) InUse() int64 {
	ended := h.ended.Load() // first: a use that begins meanwhile is counted
	return h.begun.Load() - ended
}

func (h *Held) expired(now time.Time) bool { return !h.end.IsZero() && !now.Before(h.end) }

func (h *Held) stale(now time.Time) bool { return !h.until.IsZero() && !now.Before(h.until) }

// lifetime is how long it lives in all; 0 for no end.
func lifetime(issued, expires time.Time) time.Duration {
	if expires.IsZero() {
		return 0
	}
	return max(expires.Sub(issued), 1)
}

// maxLease bounds the name of a lease, in bytes.
const maxLease = 256

// open makes a secret ready, or says why it cannot be used. The error holds nothing of it.
func (k *Keeper) open(s *source.Secret) (*pin.Parts, error) {
	for _, b := range []byte(s.Lease) {
		if b < ' ' || b > '~' {
			return nil, fmt.Errorf("%w: the name of its lease is not printable", ErrUnfit)
		}
	}
	if s.Lease == "" || len(s.Lease) > maxLease || bytes.Contains([]byte(s.Lease), s.Value.Reveal()) {
		return nil, fmt.Errorf("%w: its lease has no proper name", ErrUnfit)
	}
	parts, err := k.Open(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return parts, nil
}

func newMaterial(parts *pin.Parts, s *source.Secret, from *sealed.Held) *material {
	m := &material{parts: parts, from: from}
	if from == nil {
		m.secret = *s
		runtime.AddCleanup(m, wipe, *s)
	}
	runtime.AddCleanup(m, (*guard.Patterns).Wipe, parts.Patterns)
	return m
}

func wipe(s source.Secret) {
	s.Value.Wipe()
	s.Session.Wipe()
	s.Handle.Wipe()
}
