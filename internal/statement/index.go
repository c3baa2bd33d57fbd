package statement

import (
	"errors"
	"time"
)

// ErrRefused is wrapped by every refusal of a set or record.
var ErrRefused = errors.New("refused")

// Duration is a time.Duration written "5s" or "720h" in YAML.
type Duration time.Duration

type index struct{}

func (*index) credential(string) (*Credential, *Unit, bool) { return nil, nil, false }
func (*index) workload(string) (*Workload, *Unit, bool)     { return nil, nil, false }
func (*index) gateway(string) (*Gateway, bool)              { return nil, false }
func (*index) owner(string, time.Time) (*Person, bool)      { return nil, false }
func (*Charter) serviceKeys(string, time.Time) []ServiceKey { return nil }

// Pin is what a verifier trusts before it has read anything: from the process configuration.
type Pin struct {
	Estate        string
	CharterSHA256 string   // hex, of the manifest of the first charter version; or RootKeys
	RootKeys      []string // base64 Ed25519 public keys, at least the root threshold
	MinCharter    int64    // lowest charter version that is accepted
	AllowDemo     bool
	LastLock      int64 // lowest lock version that is accepted: what was in force before
}

// Store is where signed sets and records lie: estate/.signed, or what came over the feed.
type Store interface {
	// ReadFile reads a file by its slash-separated path below the store.
	ReadFile(name string) ([]byte, error)
	// ReadDir lists the names below a folder of the store, sorted.
	ReadDir(name string) ([]string, error)
}

// Load reads the newest lock in the store and everything that it binds, verifies all of it against the pin and the rules
// at time now, and returns the set. prev is the set in force, or nil. Every refusal wraps ErrRefused and names the rule, the
// person, the file and the line.
func Load(store Store, pin Pin, prev *Set, now time.Time) (*Set, error) {
	return nil, errors.New("statement: not built")
}

// OpenWorkloadKey verifies a workload key record against the set in force.
func (s *Set) OpenWorkloadKey(env *Envelope, now time.Time) (*WorkloadKey, error) {
	return nil, errors.New("statement: not built")
}

// OpenRevocation verifies a revocation record: signer, right to close the target (or, to reopen, a second person of another role).
func (s *Set) OpenRevocation(env *Envelope, now time.Time) (*Revocation, error) {
	return nil, errors.New("statement: not built")
}

// OpenHandover verifies a handover to the named custodian.
func (s *Set) OpenHandover(env *Envelope, custodian string, now time.Time) (*Handover, error) {
	return nil, errors.New("statement: not built")
}

// OpenExtension verifies an extension for the named custodian.
func (s *Set) OpenExtension(env *Envelope, custodian string, now time.Time) (*Extension, error) {
	return nil, errors.New("statement: not built")
}

// OpenRetirement verifies a retirement.
func (s *Set) OpenRetirement(env *Envelope, now time.Time) (*Retirement, error) {
	return nil, errors.New("statement: not built")
}
