package estate

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// NoteKey writes a note verifier key: algorithm 1 for Ed25519, 4 for a witness's cosignatures.
func NoteKey(name string, alg byte, public ed25519.PublicKey) string {
	return noteKey("", name, alg, public, public)
}

// NoteSigner writes a note signer key ("PRIVATE+KEY+name+hash+base64"), in the form of golang.org/x/mod/sumdb/note.
func NoteSigner(name string, alg byte, key ed25519.PrivateKey) string {
	return noteKey("PRIVATE+KEY+", name, alg, key.Public().(ed25519.PublicKey), key.Seed())
}

func noteKey(prefix, name string, alg byte, public ed25519.PublicKey, data []byte) string {
	sum := sha256.Sum256(append(fmt.Appendf(nil, "%s\n%c", name, alg), public...))
	return fmt.Sprintf("%s%s+%08x+%s", prefix, name, binary.BigEndian.Uint32(sum[:]), base64.StdEncoding.EncodeToString(append([]byte{alg}, data...)))
}

// Demo says what a demo-shaped estate depends on: three people, two units with a workload and two credentials each, one of
// every process.
type Demo struct {
	Estate      string // id; "demo" when empty
	Policy      *Signer
	Operations  *Signer
	Lifecycle   *Signer
	ServiceKeys []statement.ServiceKey // a log key for each of g1, c1 and a1, a feed key for a1, a witness key for w1
	Recipient   string                 // age recipient of c1
	Gateway     string                 // peer key of g1 on the hop between machines; may be empty
	Custodian   string                 // peer key of c1; may be empty
	GatewayURL  string                 // such as http://127.0.0.1:7800
	Authority   string                 // public URL of a1, the issuer of access tokens; empty for none
	Origin      string                 // of the upstream, such as https://127.0.0.1:7809
	Networks    []string               // private networks that the origin may be in
	CA          string                 // PEM
	AgentKeys   string                 // JWKS of research-agent's own key, with which it signs tokens; empty for none
	Until       time.Time              // attestations run until here
	// Federations are the units whose credentials the upstream gives for a signed token. Those of others are handed over.
	Federations map[string]*statement.Federation
}

// Plan is the demo's content.
func (o Demo) Plan() *Plan {
	id := o.Estate
	if id == "" {
		id = "demo"
	}
	var log string
	for _, k := range o.ServiceKeys {
		if k.Use == "log" && k.Process == "c1" {
			log = k.Key
		}
	}
	person := func(s *Signer, name string, by *Signer) statement.Person {
		return statement.Person{ID: s.Person, Name: name, AttestedUntil: o.Until.UTC().Truncate(time.Second), AttestedBy: by.Person, Keys: []statement.Key{s.Key()}}
	}
	ada, bea, cora := o.Policy, o.Operations, o.Lifecycle
	roles := statement.UnitRoles{Policy: []string{ada.Person}, Lifecycle: []string{cora.Person}}
	p := &Plan{
		Charter: statement.Charter{
			Estate: id, Demo: true, Tenants: []string{"acme"}, Authority: statement.Authority{Issuer: o.Authority},
			Units:       []statement.Unit{{ID: "research", Tenant: "acme"}, {ID: "support", Tenant: "acme"}},
			People:      []statement.Person{person(ada, "Ada", bea), person(bea, "Bea", cora), person(cora, "Cora", ada)},
			Roles:       statement.Roles{Root: []string{ada.Person, bea.Person, cora.Person}, Operations: []string{bea.Person}, Units: map[string]statement.UnitRoles{"research": roles, "support": roles}},
			Threshold:   statement.Threshold{Root: 2},
			ServiceKeys: o.ServiceKeys,
			Witnesses:   statement.WitnessRule{Need: 1},
			// A demo runs wherever it is started; what is not defended there is said.
			RequireIsolation: "none",
		},
		Policies: map[string]*statement.PolicyStatement{}, Custody: map[string]*statement.CustodyStatement{}, Cedar: map[string]map[string]string{},
		Operations: statement.Operations{
			Gateways: []statement.Gateway{{ID: "g1", Peer: o.Gateway, Owners: statement.GatewayOwners{Policy: ada.Person, Operations: bea.Person, Lifecycle: cora.Person}, URL: o.GatewayURL, Custodians: []string{"c1"}, Units: []string{"research", "support"}}},
			Providers: []statement.Provider{
				{Name: "openai", Dialect: "openai", Default: true, Credentials: map[string]string{}, Models: []string{"demo-small", "demo-large", "demo-embed"}},
				{Name: "anthropic", Dialect: "anthropic", Default: true, Credentials: map[string]string{}, Models: []string{"demo-claude"}},
			},
			Aliases: map[string]string{"fast": "openai/demo-small"},
		},
	}
	for _, u := range []string{"research", "support"} {
		p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: u + "-agent", Unit: u, Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
		p.Policies[u] = &statement.PolicyStatement{Unit: u, Cedar: []string{"use.cedar"},
			Ceilings: []statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 600_000, Concurrent: 20_000, OnExcess: "deny"}},
			Limits:   []statement.WorkloadLimit{{Workload: "*", CredentialsPerMinute: 10, DenialsPerMinute: 600, OnExcess: "deny"}}}
		p.Cedar[u] = map[string]string{"use.cedar": fmt.Sprintf(demoCedar, u)}
		cu := &statement.CustodyStatement{Unit: u, Custodians: []statement.Custodian{{ID: "c1", Recipient: o.Recipient, Log: log, Peer: o.Custodian}}}
		for _, dialect := range []string{"openai", "anthropic"} {
			c := statement.Credential{ID: u + "-" + dialect, Owner: cora.Person, Class: "normal", Dialect: dialect, Source: "sealed",
				Destination: statement.Destination{Origin: o.Origin, Networks: o.Networks, CA: o.CA, Methods: []string{"GET", "POST", "DELETE"}, Paths: demoPaths(dialect)},
				Inject:      statement.Inject{As: "bearer"}, MaxLifetime: statement.Duration(90 * 24 * time.Hour)}
			if dialect == "anthropic" {
				c.Inject = statement.Inject{As: "header", Name: "x-api-key"}
				c.Destination.Methods = []string{"GET", "POST"}
			}
			if cu.Federation = o.Federations[u]; cu.Federation != nil {
				o.federate(&c, u)
			}
			cu.Credentials = append(cu.Credentials, c)
		}
		p.Custody[u] = cu
		p.Operations.Providers[0].Credentials[u] = u + "-openai"
		p.Operations.Providers[1].Credentials[u] = u + "-anthropic"
	}
	o.vouch(&p.Charter, "research-agent")
	return p
}

// federate has a credential come from the upstream's token endpoint, as its provider's template says.
func (o Demo) federate(c *statement.Credential, unit string) {
	c.Template, c.Source, c.Inject, c.MaxLifetime = c.Dialect, "federation", statement.Inject{}, statement.Duration(time.Hour)
	c.Destination.Methods, c.Destination.Paths = nil, nil
	c.From = statement.From{URL: o.Origin + "/oauth/token", Networks: o.Networks, CA: o.CA, Parameters: map[string]string{
		"identity_provider_id": "demo-provider-" + unit, "service_account_id": "demo-account-" + unit}}
	if c.Dialect == "anthropic" {
		c.From.URL = o.Origin + "/v1/oauth/token"
		c.From.Parameters = map[string]string{"federation_rule_id": "demo-rule-" + unit, "organization_id": "demo-organization", "service_account_id": "demo-account-" + unit}
	}
}

// vouch lets a workload prove who it is by a key of its own: the charter has it as an issuer.
func (o Demo) vouch(c *statement.Charter, workload string) {
	if o.AgentKeys == "" {
		return
	}
	c.Issuers = append(c.Issuers, statement.Issuer{ID: workload + "-key", Issuer: AgentIssuer(c.Estate), JWKS: o.AgentKeys, Algorithms: []string{"EdDSA"}})
	for i := range c.Workloads {
		if w := &c.Workloads[i]; w.ID == workload {
			for _, audience := range []string{AgentAudience(c.Estate), o.Authority} { // to show, and to exchange
				if audience != "" {
					w.Identities = append(w.Identities, statement.Identity{Issuer: workload + "-key", Audience: audience, Subject: AgentIssuer(c.Estate)})
				}
			}
		}
	}
}

// AgentIssuer is the iss and sub of the tokens that research-agent signs itself, and AgentAudience their aud.
func AgentIssuer(estate string) string { return "https://research-agent." + estate + ".invalid" }

// AgentAudience is the audience of those tokens.
func AgentAudience(estate string) string { return "reeve:" + estate }

func demoPaths(dialect string) []string {
	if dialect == "anthropic" {
		return []string{"/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/models/*"}
	}
	return []string{"/v1/chat/completions", "/v1/responses", "/v1/responses/*", "/v1/embeddings", "/v1/models", "/v1/models/*"}
}

// demoCedar is a unit's policy: its agent may use its credentials, within bounds.
const demoCedar = `// Who may use the credentials of %[1]s, and for what.

@id("agent")
permit (
  principal == Workload::"%[1]s-agent",
  action == Action::"use",
  resource in Unit::"%[1]s"
);

@id("answers-are-bounded")
forbid (principal, action, resource)
when { context.max_tokens > 100000 };
`
