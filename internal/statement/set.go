// Package statement parses and verifies what an estate's owners have signed: the charter, each unit's policy and custody,
// the operations statement and the lock that binds one version of each.
package statement

import (
	"crypto/sha256"
	"time"
)

// Set is one verified version of an estate. It is immutable: a new version is a new Set.
type Set struct {
	Charter    Charter
	Policies   map[string]*PolicyStatement  // by unit id
	Cedar      map[string]map[string][]byte // by unit id and file name
	Custody    map[string]*CustodyStatement // by unit id
	Operations Operations
	Lock       Lock
	LockHash   [sha256.Size]byte // of the lock's manifest: the "estate" field of ledger entries

	index *index
}

// Credential returns the credential and its unit, or false.
func (s *Set) Credential(id string) (*Credential, *Unit, bool) { return s.index.credential(id) }

// Workload returns the workload and its unit, or false.
func (s *Set) Workload(id string) (*Workload, *Unit, bool) { return s.index.workload(id) }

// Gateway returns the gateway, or false.
func (s *Set) Gateway(id string) (*Gateway, bool) { return s.index.gateway(id) }

// Owner returns the live accountable lifecycle owner of a credential at t (the owner, or his first live deputy),
// or false when the credential is orphaned.
func (s *Set) Owner(credential string, t time.Time) (*Person, bool) {
	return s.index.owner(credential, t)
}

// ServiceKeys returns the note verifier keys of one use that are valid at t.
func (s *Set) ServiceKeys(use string, t time.Time) []ServiceKey { return s.Charter.serviceKeys(use, t) }
