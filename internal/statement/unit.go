package statement

// PolicyStatement is units/<bu>/policy.yaml with the Cedar files it names. Signed by the unit's policy owners.
type PolicyStatement struct {
	Unit string `yaml:"unit"`
	// Cedar are file names beside policy.yaml, each holding Cedar policies for this unit's credentials.
	Cedar    []string  `yaml:"cedar"`
	Ceilings []Ceiling `yaml:"ceilings"`
	// Limits bound one workload over all its credentials.
	Limits []WorkloadLimit `yaml:"limits"`
}

// Ceiling bounds what one workload may do with one credential, counted by each custodian for itself. Zero means no bound.
// "*" as workload or credential stands for each one of the unit, counted separately.
type Ceiling struct {
	Workload          string `yaml:"workload"`
	Credential        string `yaml:"credential"`
	RequestsPerMinute int64  `yaml:"requests_per_minute"`
	Concurrent        int64  `yaml:"concurrent"`
	BytesPerMinute    int64  `yaml:"bytes_per_minute"` // request and response bodies together
	OnExcess          string `yaml:"on_excess"`        // deny (default) or freeze
}

// WorkloadLimit bounds machine-speed chaining by one workload.
type WorkloadLimit struct {
	Workload             string `yaml:"workload"`
	CredentialsPerMinute int64  `yaml:"credentials_per_minute"` // distinct credentials
	DenialsPerMinute     int64  `yaml:"denials_per_minute"`
	OnExcess             string `yaml:"on_excess"`
}

// CustodyStatement is units/<bu>/custody.yaml. Signed by the unit's credential-lifecycle owners.
type CustodyStatement struct {
	Unit        string       `yaml:"unit"`
	Custodians  []Custodian  `yaml:"custodians"`
	Credentials []Credential `yaml:"credentials"`
	// Grants lend credentials to other units of the tenant. Both units sign: see Compare.
	Grants []Grant `yaml:"grants"`
	// Federation is nil where no credential of the unit comes from a federation.
	Federation *Federation `yaml:"federation"`
}

// Grant lets another unit's policy permit one credential of this unit. This unit's forbids, ceilings and owner stay what they are.
type Grant struct {
	Credential string `yaml:"credential"` // of this unit
	Unit       string `yaml:"unit"`       // that may use it
}

// Custodian is a process that serves credentials of this unit.
type Custodian struct {
	ID        string `yaml:"id"`
	Recipient string `yaml:"recipient"` // age X25519 recipient, "age1…"
	Log       string `yaml:"log"`       // note verifier key of its ledger; must equal a log service key of the charter
	Peer      string `yaml:"peer"`      // its key on the hop to another machine, as in Gateway.Peer; empty for Unix sockets only
}

// Credential is one downstream credential: where it comes from, the only place it may be sent, and who answers for it.
type Credential struct {
	ID    string `yaml:"id"`    // unique in the estate
	Owner string `yaml:"owner"` // the accountable lifecycle owner: one person
	Class string `yaml:"class"` // normal or high
	// Template fills what is not written here. internal/custody has them.
	Template string `yaml:"template"`
	Dialect  string `yaml:"dialect"` // openai or anthropic; empty for what no provider of the operations statement stands for
	// Source is the kind of place that its secrets come from: sealed (an owner hands them over), federation, vault, oauth,
	// github-app, openai-key.
	Source string `yaml:"source"`
	From   From   `yaml:"from"` // for every source but sealed
	// Custodians that serve it; empty means all of the unit.
	Custodians  []string    `yaml:"custodians"`
	Destination Destination `yaml:"destination"`
	Inject      Inject      `yaml:"inject"`
	Probe       Probe       `yaml:"probe"`
	MaxLifetime Duration    `yaml:"max_lifetime"`
	// AcceptIsolation lets this credential be used at a weaker isolation level than the charter requires.
	AcceptIsolation string `yaml:"accept_isolation"`
	// OnReflection is what a secret found in a response does beyond cutting it: alarm (default) or freeze.
	OnReflection string `yaml:"on_reflection"`
	// Honey makes it bait: nobody has a reason to use it, each use is refused and tells its owner (alarm), and closes the workload (freeze).
	Honey string `yaml:"honey"`
}

// Probe is a harmless request that shows whether a secret still works: it proves a revocation when the provider answers twice with its
// documented authentication error. It goes to the destination's origin.
type Probe struct {
	Method string `yaml:"method"` // GET or HEAD, or what else changes nothing there; empty when nothing proves a revocation
	Path   string `yaml:"path"`   // as it is sent, prefix included
	Body   string `yaml:"body"`   // JSON, where the method takes one
	Status int    `yaml:"status"` // of the authentication error
	Holds  string `yaml:"holds"`  // what the error's body holds, such as its code; empty when the status alone is documented
}

// From is where a source gets secrets: one endpoint, pinned as a destination is.
type From struct {
	URL      string   `yaml:"url"`      // https://host[:port]/path
	Networks []string `yaml:"networks"` // as in Destination, and so the next three
	CA       string   `yaml:"ca"`
	Proxy    string   `yaml:"proxy"`
	// ProxyNetworks are the private networks that the proxy's own address may be in.
	ProxyNetworks []string `yaml:"proxy_networks"`
	// Lifetime is what the provider is asked for; empty asks for the shortest that it gives.
	Lifetime Duration `yaml:"lifetime"`
	// PerWorkload gets each workload a secret of its own, so that the provider's log tells them apart.
	PerWorkload bool `yaml:"per_workload"`
	// Home is the one custodian that may fetch, where two writers would take the secret from one another.
	Home string `yaml:"home"`
	// Parameters are the kind's own; internal/custody has their names.
	Parameters map[string]string `yaml:"parameters"`
}

// Destination is where a credential may go. The gateway never names a host.
type Destination struct {
	Origin  string   `yaml:"origin"`  // https://host[:port], no path
	Prefix  string   `yaml:"prefix"`  // put before the public path, such as /api; empty for none
	Methods []string `yaml:"methods"` // upper case
	// Paths are patterns over the exact bytes of the path that is sent: literal segments, "*" for one whole segment,
	// "**" at the end for one or more. "GET,DELETE /v1/responses/*" holds for those of the methods only.
	Paths []string `yaml:"paths"`
	// Networks are the private networks (CIDR) that the origin may resolve to; public addresses need no entry.
	Networks []string `yaml:"networks"`
	CA       string   `yaml:"ca"`    // extra trusted roots, PEM
	Proxy    string   `yaml:"proxy"` // outbound CONNECT proxy, http://host:port; the TLS name stays the origin's
	// ProxyNetworks are the private networks that the proxy's own address may be in.
	ProxyNetworks []string `yaml:"proxy_networks"`
}

// Inject says how the secret is put into a request.
type Inject struct {
	// As is bearer, header or query, where the secret itself is sent; sigv4, where it signs the request for AWS; or tls, where it is a client
	// certificate with its key.
	As     string `yaml:"as"`
	Name   string `yaml:"name"`   // header or query parameter name; for sigv4 the service, such as bedrock
	Region string `yaml:"region"` // for sigv4
	// With are header fields that the provider wants beside it, "Name: value" and no secret.
	With []string `yaml:"with"`
}
