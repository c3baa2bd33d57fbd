package sample

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/statement"
)

// ID is the invented company's estate.
const ID = "meridian"

// The company's shape.
const (
	units      = 40
	gateways   = 3
	custodians = 3
)

// Planted names, which the questions ask for.
const (
	Captured   = "g2"
	Vendor     = "chatbridge" // a vendor's gateway
	leaver     = "otto"       // left: operations of g3
	lonely     = "lena"       // left: the one owner of a credential, without a deputy
	Leaving    = "lukas"      // a lifecycle owner who is about to leave
	TwoHatted  = "mira"       // policy of a unit, and lifecycle of one that lends to it
	agentProof = "idp"        // the issuer that vouches for workloads
)

// names of units; those of a tenant stand together.
func unitNames() []string {
	return []string{
		"accounts", "actuary", "archive", "billing", "brand", "campus", "claims", "compliance", "credit", "crm", "data", "design", "dispatch", "edge", "energy", "events",
		"fleet", "forecast", "fraud", "grid", "hiring", "insight", "internal-it", "inventory", "labs", "legal", "lending", "logistics", "loyalty", "media", "mobile", "networks",
		"payments", "payroll", "pricing", "research", "risk", "support", "treasury", "warehouse",
	}
}

func tenantOf(unit int) string {
	switch {
	case unit < 24:
		return "meridian"
	case unit < 34:
		return "northwind"
	}
	return "atelier"
}

// gatewaysOf are those that serve a unit: neighbours share one.
func gatewaysOf(unit int) (list []string) {
	for g, span := range [gateways][2]int{{0, 16}, {12, 28}, {26, 40}} {
		if unit >= span[0] && unit < span[1] {
			list = append(list, fmt.Sprintf("g%d", g+1))
		}
	}
	return list
}

func custodianOf(unit int) string { return fmt.Sprintf("c%d", unit%custodians+1) }

// company is the invented estate as its owners write it, and everybody's keys.
type company struct {
	seed    int64
	plan    *estate.Plan
	signers map[string]*estate.Signer
	service map[string]ed25519.PrivateKey // by use and process
	unit    []*unit
	loans   []loan
}

// unit is what the generator knows of a business unit.
type unit struct {
	index             int
	id, tenant        string
	policy, lifecycle string // owners
	credentials       []*credential
	workloads         []*workload
}

type credential struct {
	id, unit, tenant string
	n                int    // in its unit
	owner            string // at the beginning
	class            string
	source           string // sealed, federation or vault
	template         string
	honey            bool
	custodian        string
	origin           string
}

type workload struct {
	id   string
	unit *unit
	pop  bool // proves each request by a key of its own
	low  bool // may not use credentials of class high
}

// loan lets a unit use another's credential.
type loan struct {
	credential *credential
	to         *unit
	late       bool // since the second lock
}

// key derives a private key from the seed: whoever has the seed has it, as befits an invented company.
func (c *company) key(name string) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "reeve sample %d %s", c.seed, name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// hand signs with a derived key.
type hand struct{ key ed25519.PrivateKey }

func (h hand) Sign(m *estate.Message) (statement.Signature, error) {
	return statement.Signature{Sig: ed25519.Sign(h.key, statement.PAE(m.PayloadType, m.Payload))}, nil
}

// person adds somebody to the charter.
func (c *company) person(id, by string, until time.Time, deputies ...string) {
	key := c.key("person " + id)
	k := statement.Key{ID: id + "-1", Type: "ed25519", Public: base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}
	c.signers[id] = &estate.Signer{Person: id, Keys: []statement.Key{k}, Hand: hand{key}}
	c.plan.Charter.People = append(c.plan.Charter.People, statement.Person{ID: id, Name: id, AttestedUntil: until, AttestedBy: by, Keys: []statement.Key{k}, Deputies: deputies})
}

// policyPeople and lifecyclePeople each answer for two neighbouring units.
func policyPeople() []string {
	return []string{"ada", "bruno", "chen", "dora", "emil", "fay", "gil", "hana", "ivan", "june", "kofi", "lea", "max", "nina", "omar", "pia", "quin", "rafa", "sofia", "tom"}
}

func lifecyclePeople() []string {
	return []string{"alma", "boris", "cora", "dov", "elsa", "finn", "greta", "hugo", "ines", "jan", "kira", "lukas", "maya", "noah", "olaf", "petra", "ravi", "sara", "tariq", "uma"}
}

// newCompany plans the estate with so many credentials, as of start, when it is signed first. end is when the month ends.
func newCompany(seed int64, credentials int, start, end time.Time) (*company, error) {
	c := &company{seed: seed, signers: map[string]*estate.Signer{}, service: map[string]ed25519.PrivateKey{}, plan: &estate.Plan{
		Policies: map[string]*statement.PolicyStatement{}, Cedar: map[string]map[string]string{}, Custody: map[string]*statement.CustodyStatement{},
	}}
	ch, until := &c.plan.Charter, end.Add(180*24*time.Hour)
	ch.Estate, ch.Demo, ch.RequireIsolation = ID, true, "none"
	ch.Tenants = []string{"atelier", "meridian", "northwind"}
	ch.Threshold.Root, ch.Witnesses.Need = 2, 1
	for _, p := range []string{"rosa", "remy", "rita"} {
		c.person(p, "oona", until)
		ch.Roles.Root = append(ch.Roles.Root, p)
	}
	for _, p := range []string{"odin", "olga", leaver} {
		c.person(p, "ada", until, "oona")
		ch.Roles.Operations = append(ch.Roles.Operations, p)
	}
	c.person("oona", "ada", until)
	ch.Roles.Operations = append(ch.Roles.Operations, "oona")
	c.person("paul", "odin", until)
	c.person("lars", "odin", until)
	for _, p := range policyPeople() {
		c.person(p, "odin", until, "paul")
	}
	for _, p := range lifecyclePeople() {
		deputies := []string{"lars"}
		if p == Leaving {
			deputies = nil
		}
		c.person(p, "odin", until, deputies...)
	}
	c.person(lonely, "odin", until)
	c.person(TwoHatted, "olga", until)

	now := start.Add(-24 * time.Hour)
	for _, k := range [][2]string{{"log", "g1"}, {"log", "g2"}, {"log", "g3"}, {"log", "c1"}, {"log", "c2"}, {"log", "c3"}, {"log", "a1"}, {"feed", "a1"}, {"token", "a1"}, {"witness", "w1"}} {
		c.serve(k[0], k[1], now, end.Add(365*24*time.Hour))
	}
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig", "alg": "EdDSA",
		"x": base64.RawURLEncoding.EncodeToString(c.key("issuer").Public().(ed25519.PublicKey))}}})
	if err != nil {
		return nil, err
	}
	ch.Issuers = []statement.Issuer{{ID: agentProof, Issuer: "https://id.meridian.example", JWKS: string(jwks), Algorithms: []string{"EdDSA"}}}
	ch.Roles.Units = map[string]statement.UnitRoles{}
	for i, id := range unitNames() {
		if err := c.addUnit(i, id, credentials/units, start); err != nil {
			return nil, err
		}
	}
	c.addGateways()
	c.lend()
	return c, nil
}

// serve makes a service key.
func (c *company) serve(use, process string, from, to time.Time) {
	key := c.key(use + " " + process)
	name, alg := "reeve/"+ID+"/"+use+"/"+process, byte(1)
	if use == "log" {
		name = "reeve/" + ID + "/" + process
	}
	if use == "witness" {
		alg = 4
	}
	c.service[use+" "+process] = key
	c.plan.Charter.ServiceKeys = append(c.plan.Charter.ServiceKeys, statement.ServiceKey{Use: use, Process: process,
		Key: estate.NoteKey(name, alg, key.Public().(ed25519.PublicKey)), NotBefore: from, NotAfter: to})
}

// recipient is a custodian's: the age keys of these are nobody's.
func recipient(custodian string) string {
	return map[string]string{
		"c1": "age1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0sph7cfx",
		"c2": "age1qyqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0szrgx9u",
		"c3": "age1qgqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0sgk5xde",
	}[custodian]
}

func (c *company) vkey(use, process string) string {
	for _, k := range c.plan.Charter.ServiceKeys {
		if k.Use == use && k.Process == process {
			return k.Key
		}
	}
	return ""
}

// addUnit plans a unit: its owners, three workloads, its credentials and its policy.
func (c *company) addUnit(i int, id string, credentials int, start time.Time) error {
	u := &unit{index: i, id: id, tenant: tenantOf(i), policy: policyPeople()[i/2], lifecycle: lifecyclePeople()[i/2]}
	ch := &c.plan.Charter
	ch.Units = append(ch.Units, statement.Unit{ID: id, Tenant: u.tenant})
	roles := statement.UnitRoles{Policy: []string{u.policy}, Lifecycle: []string{u.lifecycle}}
	switch i {
	case 20:
		roles.Policy = append(roles.Policy, TwoHatted)
	case 21:
		roles.Lifecycle = append(roles.Lifecycle, lonely)
	case 10:
		roles.Lifecycle = append(roles.Lifecycle, TwoHatted)
	}
	ch.Roles.Units[id] = roles
	for n, kind := range []string{"agent", "batch", "guest"} {
		w := &workload{id: id + "-" + kind, unit: u, pop: (i+n)%3 == 0 && kind != "guest", low: kind == "guest"}
		u.workloads = append(u.workloads, w)
		ch.Workloads = append(ch.Workloads, statement.Workload{ID: w.id, Unit: id, Identities: []statement.Identity{{Issuer: statement.IssuerReeve},
			{Issuer: agentProof, Audience: "reeve:" + ID, Subject: "workload:" + w.id + ":" + ID}}})
	}
	custodian := custodianOf(i)
	cu := &statement.CustodyStatement{Unit: id, Custodians: []statement.Custodian{{ID: custodian, Recipient: recipient(custodian), Log: c.vkey("log", custodian)}}}
	scalar := sha256.Sum256(fmt.Appendf(nil, "reeve sample %d federation %s", c.seed, id))
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		return fmt.Errorf("a federation key from the seed: %w", err)
	}
	jwk, _, err := federation.Public(private.Public(), "ES256")
	if err != nil {
		return err
	}
	f := federation.Add(statement.Federation{Issuer: "https://id.meridian.example/" + id, TrustDomain: "meridian.example"}, federation.Entry(custodian, jwk, start), start)
	cu.Federation = &f
	for n := range credentials {
		k := plannedCredential(u, n, custodian)
		if i == 21 && n == 7 {
			k.owner = lonely
		}
		u.credentials = append(u.credentials, k)
		cu.Credentials = append(cu.Credentials, k.record())
	}
	c.plan.Custody[id] = cu
	c.plan.Policies[id] = &statement.PolicyStatement{Unit: id, Cedar: []string{"use.cedar"},
		Limits: []statement.WorkloadLimit{{Workload: "*", CredentialsPerMinute: 120, DenialsPerMinute: 600, OnExcess: "deny"}}}
	text := fmt.Sprintf(ownCedar, id)
	if closedTo(u, Captured) {
		text += fmt.Sprintf(notThroughCedar, Captured)
	}
	c.plan.Cedar[id] = map[string]string{"use.cedar": text}
	c.unit = append(c.unit, u)
	return nil
}

// closedTo reports whether the unit forbids its high credentials through the gateway.
func closedTo(u *unit, gateway string) bool { return u.index == 14 && gateway == Captured }

const ownCedar = `@id("own")
permit (
  principal in Unit::"%[1]s",
  action == Action::"use",
  resource in Unit::"%[1]s"
);

@id("guests-nothing-high")
forbid (
  principal == Workload::"%[1]s-guest",
  action == Action::"use",
  resource
) when { resource.class == "high" };
`

const notThroughCedar = `
@id("high-not-through-shared")
forbid (principal, action, resource)
when { resource.class == "high" && context.gateway == "%s" };
`

func lentCedar(id string, w string) string {
	return fmt.Sprintf("@id(\"lent-%[1]s\")\npermit (\n  principal == Workload::\"%[2]s\",\n  action == Action::\"use\",\n  resource == Credential::\"%[1]s\"\n);\n\n", id, w)
}

// plannedCredential is number n of a unit.
func plannedCredential(u *unit, n int, custodian string) *credential {
	k := &credential{unit: u.id, tenant: u.tenant, n: n, owner: u.lifecycle, class: "normal", source: "sealed", custodian: custodian, honey: n == 3 && u.index%10 == 5}
	switch n % 10 {
	case 0, 1, 2:
		k.template, k.source, k.origin = "anthropic", "federation", "https://api.anthropic.com"
	case 3:
		k.template, k.origin = "slack", "https://slack.com"
	case 4, 5:
		k.template, k.source, k.origin = "vault", "vault", "https://warehouse.meridian.example"
	case 6, 7:
		k.template, k.origin = "anthropic", "https://api.anthropic.com"
	default:
		k.template, k.origin = "openai", "https://api.openai.com"
	}
	if n%20 == 10 {
		k.class = "high"
	}
	k.id = fmt.Sprintf("%s-%s-%03d", u.id, k.template, n)
	return k
}

// record is the credential as the custody statement has it. What its template says is left out.
func (k *credential) record() statement.Credential {
	r := statement.Credential{ID: k.id, Owner: k.owner, Class: k.class, Template: k.template, Source: k.source}
	switch {
	case k.honey:
		r.Honey = "alarm"
	case k.source == "federation":
		r.MaxLifetime = statement.Duration(time.Hour)
		r.From.Parameters = map[string]string{"federation_rule_id": "rule-" + k.unit, "organization_id": ID, "service_account_id": k.id}
	case k.source == "vault":
		r.MaxLifetime = statement.Duration(12 * time.Hour)
		r.Destination = statement.Destination{Origin: k.origin, Methods: []string{"GET", "POST"}, Paths: []string{"/query/**"}}
		r.From = statement.From{URL: "https://vault.meridian.example/v1/database/creds/" + k.id, Parameters: map[string]string{"engine": "lease", "field": "password", "login": "kubernetes", "role": "reeve"}}
	}
	return r
}

func (c *company) addGateways() {
	for g := range gateways {
		id := fmt.Sprintf("g%d", g+1)
		gw := statement.Gateway{ID: id, URL: fmt.Sprintf("https://%s.gateway.meridian.example", id), Custodians: []string{"c1", "c2", "c3"}}
		for _, u := range c.unit {
			if slices.Contains(gatewaysOf(u.index), id) {
				gw.Units = append(gw.Units, u.id)
			}
		}
		first := c.unit[[]int{0, 16, 30}[g]]
		gw.Owners = statement.GatewayOwners{Policy: first.policy, Operations: []string{"odin", "olga", leaver}[g], Lifecycle: first.lifecycle}
		c.plan.Operations.Gateways = append(c.plan.Operations.Gateways, gw)
	}
}

// lend lets the agents of 30 units use a credential of the unit before theirs, ten of them since the second lock only; and one of a unit for which
// the same person signs as the one who answers for the credential's unit.
func (c *company) lend() {
	c.loans = append(c.loans, loan{c.unit[10].credentials[16], c.unit[20], false})
	for i := 1; i < units && len(c.loans) < 31; i++ {
		to, from := c.unit[i], c.unit[i-1]
		if to.tenant == from.tenant {
			c.loans = append(c.loans, loan{from.credentials[16], to, len(c.loans) > 20})
		}
	}
	for _, l := range c.loans {
		if !l.late {
			c.grant(l)
		}
	}
}

func (c *company) grant(l loan) {
	cu := c.plan.Custody[l.credential.unit]
	cu.Grants = append(cu.Grants, statement.Grant{Credential: l.credential.id, Unit: l.to.id})
	c.plan.Cedar[l.to.id]["use.cedar"] += "\n" + lentCedar(l.credential.id, l.to.workloads[0].id)
}
