// Package founding drafts a real estate from a few answers: three people, one unit with one workload, one provider. Nothing in
// it is signed; the owners read the files, change what they like, and sign.
package founding

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// Answers are what has to be decided.
type Answers struct {
	Estate     string
	Tenant     string // the estate's id when empty
	Unit       string
	Workload   string // <unit>-agent when empty
	Policy     Person
	Operations Person
	Lifecycle  Person
	Provider   string // openai, anthropic or openai-compatible
	Name       string // what clients put before the model; the provider's when empty
	Origin     string // only for openai-compatible: https://host[:port]
	Prefix     string // only for openai-compatible: put before /v1, such as /api
	URL        string // the gateway's public URL
	Authority  string // the authority's public URL, the issuer of access tokens; empty for none
	Isolation  string // the weakest level that is accepted; separate-uid when empty
}

// Person is an owner: with a key of his own, or one that is made here.
type Person struct {
	ID  string
	Key *statement.Key // his own; nil when a key file is made
}

// ErrAnswer is wrapped by every refusal of an answer.
var ErrAnswer = errors.New("not accepted")

// Processes are the ids of the first processes.
var Processes = host.IDs{Gateway: "g1", Custodian: "c1", Authority: "a1", Auditor: "w1"}

// attested is how long the people are attested from the start.
const attested = 180 * 24 * time.Hour

// Providers lists the custody templates.
func Providers() []string { return []string{"openai", "anthropic", "openai-compatible"} }

// Complete fills what may be left out and refuses what cannot work.
func (a *Answers) Complete() error {
	fill := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	fill(&a.Tenant, a.Estate)
	fill(&a.Workload, a.Unit+"-agent")
	fill(&a.Isolation, "separate-uid")
	fill(&a.Name, map[string]string{"openai-compatible": "compatible"}[a.Provider])
	fill(&a.Name, a.Provider)
	for _, id := range [][2]string{{"estate", a.Estate}, {"tenant", a.Tenant}, {"unit", a.Unit}, {"workload", a.Workload}, {"provider's name", a.Name},
		{"policy owner", a.Policy.ID}, {"operations owner", a.Operations.ID}, {"lifecycle owner", a.Lifecycle.ID}} {
		if err := CheckID(id[1]); err != nil {
			return fmt.Errorf("the %s: %w", id[0], err)
		}
	}
	if a.Policy.ID == a.Operations.ID || a.Policy.ID == a.Lifecycle.ID || a.Operations.ID == a.Lifecycle.ID {
		return fmt.Errorf("the three owners are three people: nobody decides, runs and holds the keys alone: %w", ErrAnswer)
	}
	return a.checkProvider()
}

func (a *Answers) checkProvider() error {
	switch {
	case a.Provider == "openai-compatible" && a.Origin == "":
		return fmt.Errorf("an openai-compatible provider needs its origin, such as https://llm.example.com: %w", ErrAnswer)
	case a.Provider == "openai-compatible":
		return nil
	case a.Provider != "openai" && a.Provider != "anthropic":
		return fmt.Errorf("the provider %q: openai, anthropic or openai-compatible: %w", a.Provider, ErrAnswer)
	case a.Origin != "":
		return fmt.Errorf("the origin of %s is fixed; openai-compatible takes any: %w", a.Provider, ErrAnswer)
	}
	return nil
}

var id = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckID refuses what cannot be an id in a statement.
func CheckID(s string) error {
	if !id.MatchString(s) {
		return fmt.Errorf("%q is not an id (lower case letters, digits and hyphens, at most 63): %w", s, ErrAnswer)
	}
	return nil
}

// Plan is the estate that the answers describe. keys are the people's keys as they stand in the charter, by person id.
func (a *Answers) Plan(keys map[string]statement.Key, public *host.Public, now time.Time) *estate.Plan {
	credential := a.Credential()
	return &estate.Plan{
		Charter: a.charter(keys, public, now),
		Policies: map[string]*statement.PolicyStatement{a.Unit: {Unit: a.Unit, Cedar: []string{"use.cedar"},
			Ceilings: []statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 600, Concurrent: 100, OnExcess: "deny"}},
			Limits:   []statement.WorkloadLimit{{Workload: "*", CredentialsPerMinute: 5, DenialsPerMinute: 60, OnExcess: "freeze"}}}},
		Cedar: map[string]map[string]string{a.Unit: {"use.cedar": fmt.Sprintf(cedar, a.Unit, a.Workload)}},
		Custody: map[string]*statement.CustodyStatement{a.Unit: {Unit: a.Unit,
			Custodians: []statement.Custodian{{ID: Processes.Custodian, Recipient: public.Recipient, Log: public.Log, Peer: public.Custodian}},
			Credentials: []statement.Credential{{ID: credential, Owner: a.Lifecycle.ID, Class: "high", Template: a.Provider,
				Dialect: a.dialect(), Source: "sealed", MaxLifetime: statement.Duration(90 * 24 * time.Hour), OnReflection: "freeze",
				Destination: statement.Destination{Origin: a.Origin, Prefix: a.Prefix}}}}},
		Operations: statement.Operations{
			Gateways: []statement.Gateway{{ID: Processes.Gateway, Peer: public.Gateway, URL: a.URL, Custodians: []string{Processes.Custodian}, Units: []string{a.Unit},
				Owners: statement.GatewayOwners{Policy: a.Policy.ID, Operations: a.Operations.ID, Lifecycle: a.Lifecycle.ID}}},
			Providers: []statement.Provider{{Name: a.Name, Dialect: a.dialect(), Default: true,
				Credentials: map[string]string{a.Unit: credential}}},
		},
	}
}

// Credential is the id of the first credential.
func (a *Answers) Credential() string { return a.Unit + "-" + a.Name }

func (a *Answers) dialect() string {
	if a.Provider == "anthropic" {
		return "anthropic"
	}
	return "openai"
}

func (a *Answers) charter(keys map[string]statement.Key, public *host.Public, now time.Time) statement.Charter {
	person := func(p, by Person) statement.Person {
		return statement.Person{ID: p.ID, AttestedUntil: now.Add(attested).UTC().Truncate(time.Second), AttestedBy: by.ID,
			Keys: []statement.Key{keys[p.ID]}}
	}
	return statement.Charter{
		Estate: a.Estate, Tenants: []string{a.Tenant}, Units: []statement.Unit{{ID: a.Unit, Tenant: a.Tenant}},
		People: []statement.Person{person(a.Policy, a.Operations), person(a.Operations, a.Lifecycle), person(a.Lifecycle, a.Policy)},
		Roles: statement.Roles{Root: []string{a.Policy.ID, a.Operations.ID, a.Lifecycle.ID}, Operations: []string{a.Operations.ID},
			Units: map[string]statement.UnitRoles{a.Unit: {Policy: []string{a.Policy.ID}, Lifecycle: []string{a.Lifecycle.ID}}}},
		Threshold:        statement.Threshold{Root: 2},
		Workloads:        []statement.Workload{{ID: a.Workload, Unit: a.Unit, Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}}},
		ServiceKeys:      public.ServiceKeys,
		Authority:        statement.Authority{Issuer: a.Authority},
		Witnesses:        statement.WitnessRule{Need: 1},
		RequireIsolation: a.Isolation,
	}
}

// cedar is the first policy of the unit.
const cedar = `// Who may use the credentials of %[1]s, and for what.

@id("agent")
permit (
  principal == Workload::"%[2]s",
  action == Action::"use",
  resource in Unit::"%[1]s"
);
`
