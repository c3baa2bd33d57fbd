// Package source is what the sources of secrets share, one package below it for each kind: the order, in which an entry is durable before
// anything is fetched; a client that goes nowhere but to the signed record's endpoint; errors that hold no secret.
package source

import (
	"context"
	"errors"
	"time"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrDown means that the source did not answer, or answered that it cannot now: what is held may be used until it expires.
	ErrDown = errors.New("the source of the credential does not answer")
	// ErrRefused means that the source answered no: asking again brings nothing until a person has changed something there.
	ErrRefused = errors.New("the source refused")
	// ErrMalformed means an answer that is not what the provider documents. Nothing of it is used.
	ErrMalformed = errors.New("the source's answer is not what its provider documents")
	// ErrNoRoot means that the owner has not handed over what the source itself needs.
	ErrNoRoot = errors.New("nothing was handed over for the source; see reeve credential put")
	// ErrCannotRevoke means that the provider has no call that ends the secret before its time.
	ErrCannotRevoke = errors.New("the provider cannot revoke it")
	// ErrHome means that the record names another custodian as the credential's home, or the secret was handed over for another one.
	ErrHome = errors.New("this custodian is not the home of the credential")
	// ErrIdentity means that this custodian cannot say who it is: it has no key that the custody statement pins.
	ErrIdentity = errors.New("the custodian has no federation key that the custody statement names")
	// ErrNotDurable refuses to fetch for a caller whose entry is not on disk.
	ErrNotDurable = errors.New("no durable entry")
)

// Ask says whom a secret is for.
type Ask struct {
	Workload string // empty unless the record says per_workload
}

// Secret is one version of a credential, as its source gave it.
type Secret struct {
	Value   secret.Value // what is injected: a bearer token, a key, an AWS secret access key, a private key in PEM
	Session secret.Value // what goes beside it and is secret too: an AWS session token; empty for none
	Public  string       // what goes beside it in the clear: an AWS access key id, a certificate chain in PEM
	Lease   string       // names it at the provider; unique for the credential; no secret. Entries hold it
	Handle  secret.Value // what Revoke needs besides, if that is secret; empty for none
	Issued  time.Time
	Expires time.Time // as the provider says; zero when it says nothing
}

// Source gets the secrets of one credential. Safe for concurrent use; the caller sees to it that one Fetch for one Ask runs at a time.
// Every method returns by ctx's end, and no error of any holds a secret.
type Source interface {
	// Fetch gets or makes a secret. d shows that the entry about it is durable; without one it returns ErrNotDurable.
	Fetch(ctx context.Context, d ledger.Durable, ask Ask) (*Secret, error)
	// Revoke ends a secret at the provider; ErrCannotRevoke when it has no such call. Revoking what is gone is no error.
	Revoke(ctx context.Context, d ledger.Durable, old *Secret) error
	// Close ends its connections. Fetch and Revoke fail afterwards.
	Close()
}

// Renewer is a Source whose secrets can be made to live longer.
type Renewer interface {
	// Renew asks for more life; the new end is in the result, which is otherwise old.
	Renew(ctx context.Context, d ledger.Durable, old *Secret) (*Secret, error)
}

// Sweeper is a Source that makes secrets at a provider which live until they are deleted. After a crash something may be left there that no
// entry names.
type Sweeper interface {
	// Sweep deletes at the provider what this custodian made for the credential and keep does not name, and returns the leases deleted.
	Sweep(ctx context.Context, d ledger.Durable, keep []string) (deleted []string, err error)
}

// Copier is a Source whose secrets are copies that others use too: one ends when it is revoked, and never because nothing uses it here any more.
type Copier interface{ Copies() }

// Ender is a Source that holds something of its own at the provider which brings new secrets, such as a refresh token.
type Ender interface {
	// End revokes that at the provider, and forgets it: Fetch fails until an owner has handed over anew. ErrCannotRevoke when the provider
	// has no such call; then nothing is forgotten.
	End(ctx context.Context, d ledger.Durable) error
}

// Config is what a source is made of.
type Config struct {
	Custodian string // its id
	Estate    string
	Tenant    string
	Unit      string
	Record    statement.Credential // filled and checked
	// Root is what the owner handed over for the source itself, newest version; ErrNoRoot before he has.
	Root func(ledger.Durable) (secret.Value, error)
	// State is a durable, sealed memory of the credential's own; what Save wrote is on disk when it returns.
	State State
	// Sign signs a token in the name of the unit; nil where the unit has no federation.
	Sign func(context.Context, Token) (secret.Value, error)
	// Tokens is a folder with tokens that the platform made for this process; empty for none. A record may name a file in it, and no other.
	Tokens string
	// Resolve, for tests, looks a host up; nil means the system's resolver.
	Resolve Resolver
	Clock   func() time.Time
}

// Token is all that a unit's key signs: a SPIFFE JWT-SVID for one credential, or for one workload with it. Who signs adds issuer and
// trust domain, as the custody statement in force has them.
type Token struct {
	Credential string
	Workload   string // empty for the credential itself
	Audience   string
	Algorithm  string // ES256 or RS256
	ID         string // jti
	Issued     time.Time
	Expires    time.Time
	Sealed     bool // only by a key that cannot be taken out of where it is
}

// State is a few bytes that survive a crash, encrypted to the custodian. One source at a time may have it: the one before is closed first.
type State interface {
	Load() (secret.Value, error) // empty before the first Save
	Save(secret.Value) error
}
