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
	Expires    time.Time         // the set is not used from here on: the first expiry of the lock and what it binds, the charter not counted

	index *index
}
