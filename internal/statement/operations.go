package statement

import (
	"encoding/hex"
	"time"
)

// Operations is operations.yaml: gateways, routes and limits. It names custodians and enrols none.
// Signed by the operations owners.
type Operations struct {
	Gateways  []Gateway  `yaml:"gateways"`
	Providers []Provider `yaml:"providers"`
	// Aliases map a name that clients send as the model to provider/model. The custodian applies them itself.
	Aliases map[string]string `yaml:"aliases"`
	Limits  GatewayLimits     `yaml:"limits"`
}

// Gateway is one gateway with its three accountable owners, who are three different people.
type Gateway struct {
	ID     string        `yaml:"id"`
	Owners GatewayOwners `yaml:"owners"`
	URL    string        `yaml:"url"` // public URL
	// Peer is its key on the hop from another machine, "sha256:" and the hex SHA-256 of the SubjectPublicKeyInfo; empty for a
	// gateway that reaches its custodians by Unix sockets only.
	Peer string `yaml:"peer"`
	// Custodians that it hands requests to. For a credential that several of them serve, the first that answers is asked.
	Custodians []string `yaml:"custodians"`
	// Units whose credentials may be used through it.
	Units []string `yaml:"units"`
}

// GatewayOwners names one live person for each role.
type GatewayOwners struct {
	Policy     string `yaml:"policy"`
	Operations string `yaml:"operations"`
	Lifecycle  string `yaml:"lifecycle"`
}

// Provider is a name that clients put before the model, with one credential for each unit that uses it.
type Provider struct {
	Name        string            `yaml:"name"` // the part before "/" in provider/model
	Dialect     string            `yaml:"dialect"`
	Credentials map[string]string `yaml:"credentials"` // unit id to credential id
	Models      []string          `yaml:"models"`      // what /v1/models may list, without the provider's name
	Default     bool              `yaml:"default"`     // used for its dialect when a model names no provider
}

// GatewayLimits bound one gateway process. Zero means the default given.
type GatewayLimits struct {
	BodyBytes      int64    `yaml:"body_bytes"`      // 32 MiB
	HeaderBytes    int64    `yaml:"header_bytes"`    // 64 KiB
	HeaderTimeout  Duration `yaml:"header_timeout"`  // 10 s to read a request's header
	BodyTimeout    Duration `yaml:"body_timeout"`    // 60 s to read a request's body
	IdleTimeout    Duration `yaml:"idle_timeout"`    // 120 s between requests of one connection
	StreamIdle     Duration `yaml:"stream_idle"`     // 300 s between two pieces of an answer
	ConcurrentEach int64    `yaml:"concurrent_each"` // requests in flight per workload
	PerMinuteEach  int64    `yaml:"per_minute_each"` // requests a minute per workload
}

// Lock is estate.lock: the set as a whole. The hash of its manifest stands in every ledger entry. Signed by two people who
// hold two different owner roles.
type Lock struct {
	Statements map[string]Locked `json:"statements"` // by statement name, all but the lock itself

	Version int64     `json:"-"` // from the manifest: only rises
	Created time.Time `json:"-"` // from the manifest
	Expires time.Time `json:"-"` // from the manifest
}

// Locked is the one version of a statement that a lock binds.
type Locked struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"` // hex, of its manifest
}

// Locked is the version and hash of the set's own lock: what a verifier remembers of it.
func (s *Set) Locked() Locked {
	return Locked{Version: s.Lock.Version, SHA256: hex.EncodeToString(s.LockHash[:])}
}
