// Package workload verifies a workload's proof of who it is.
package workload

import (
	"errors"
	"time"
)

var (
	ErrUnknown = errors.New("unknown workload key")
	ErrExpired = errors.New("workload key expired")
	ErrRevoked = errors.New("workload key revoked")
	ErrProof   = errors.New("malformed proof")
)

// Proof is what a workload presents, forwarded unchanged by the gateway.
type Proof struct {
	Kind  string // bearer
	Value []byte // the bearer token; not kept after verification
}

// Identity is a verified workload.
type Identity struct {
	Workload string
	Unit     string
	Tenant   string
	Level    int    // 0 for W0
	Proof    string // bearer or pop
	KeyID    string // first 16 hex digits of the key's SHA-256: names the key without giving it away
	NotAfter time.Time
}
