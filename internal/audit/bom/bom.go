// Package bom lists the credentials of an estate as a CycloneDX bill of materials: what there is, whose it is, where it comes from, where alone it may
// go, who serves it, and which versions of its secret live. It holds no secret; fingerprints are the custodians' keyed ones.
package bom

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/uuid"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// BOM is the part of CycloneDX 1.7 that is written here. (cyclonedx.org/docs/1.7/json)
type BOM struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     Metadata     `json:"metadata"`
	Components   []Component  `json:"components"`
	Services     []Service    `json:"services"`
	Dependencies []Dependency `json:"dependencies"`
}

// Metadata says of what, as of when and by what.
type Metadata struct {
	Timestamp  time.Time   `json:"timestamp"`
	Lifecycles []Lifecycle `json:"lifecycles"`
	Tools      Tools       `json:"tools"`
	Component  Component   `json:"component"`
	Properties []Property  `json:"properties,omitempty"`
}

// Lifecycle is where in its life the estate was looked at.
type Lifecycle struct {
	Phase string `json:"phase"`
}

// Tools made it.
type Tools struct {
	Components []Component `json:"components"`
}

// Component is a credential, with the versions of its secret below it, or a process.
type Component struct {
	Type       string      `json:"type"`
	Ref        string      `json:"bom-ref,omitempty"`
	Group      string      `json:"group,omitempty"` // business unit
	Name       string      `json:"name"`
	Version    string      `json:"version,omitempty"`
	Components []Component `json:"components,omitempty"`
	Crypto     *Crypto     `json:"cryptoProperties,omitempty"`
	Properties []Property  `json:"properties,omitempty"`
}

// Crypto is what kind of cryptographic asset it is.
type Crypto struct {
	Asset    string   `json:"assetType"`
	Material Material `json:"relatedCryptoMaterialProperties"`
}

// Material is a credential, or one version of its secret.
type Material struct {
	Type      string     `json:"type"`
	ID        string     `json:"id,omitempty"`
	State     string     `json:"state,omitempty"`
	Created   *time.Time `json:"creationDate,omitempty"`
	Updated   *time.Time `json:"updateDate,omitempty"`
	Expires   *time.Time `json:"expirationDate,omitempty"`
	SecuredBy *Secured   `json:"securedBy,omitempty"`
}

// Secured says how the secret is kept.
type Secured struct {
	Mechanism string `json:"mechanism"`
}

// Service is an origin that a credential may be sent to, or that it comes from.
type Service struct {
	Ref           string   `json:"bom-ref"`
	Name          string   `json:"name"`
	Endpoints     []string `json:"endpoints"`
	Authenticated bool     `json:"authenticated"`
	Crosses       bool     `json:"x-trust-boundary"`
}

// Dependency is what something cannot do without.
type Dependency struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn,omitempty"`
}

// Property is a member of the taxonomy "reeve:".
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Make lists what was in force at an instant.
func Make(ctx context.Context, b *books.Books, at time.Time) (*BOM, error) {
	span, err := b.History.At(at)
	if err != nil {
		return nil, err
	}
	live, err := b.Index.Versions(ctx, index.Filter{From: at, To: at.Add(1)})
	if err != nil {
		return nil, err
	}
	by := map[string][]index.Version{}
	for _, v := range live {
		if v.State == "destroyed" || v.State == "revoked-proven" {
			continue
		}
		by[v.Credential] = append(by[v.Credential], v)
	}
	m := maker{set: span.Set, estate: span.Hash, at: at.UTC(), versions: by, on: map[string][]string{}, origins: map[string]bool{}}
	return m.make()
}

// maker gathers one bill.
type maker struct {
	set      *statement.Set
	estate   string
	at       time.Time
	versions map[string][]index.Version
	on       map[string][]string // dependencies, by ref
	origins  map[string]bool
	list     []Component
}

func (m *maker) make() (*BOM, error) {
	for _, unit := range slices.Sorted(maps.Keys(m.set.Custody)) {
		for i := range m.set.Custody[unit].Credentials {
			m.credential(unit, &m.set.Custody[unit].Credentials[i])
		}
	}
	m.processes()
	slices.SortFunc(m.list, func(a, b Component) int { return cmp.Compare(a.Ref, b.Ref) })
	name := m.set.Charter.Estate
	d := &BOM{Schema: "http://cyclonedx.org/schema/bom-1.7.schema.json", Format: "CycloneDX", Spec: "1.7", Version: 1, Components: m.list, Services: []Service{}, Dependencies: []Dependency{},
		Metadata: Metadata{Timestamp: m.at, Lifecycles: []Lifecycle{{"operations"}}, Tools: Tools{[]Component{{Type: "application", Name: "reeve"}}},
			Component: Component{Type: "application", Ref: "estate:" + name, Name: name}, Properties: []Property{{"reeve:estate-lock", m.estate}}}}
	if d.Components == nil {
		d.Components = []Component{}
	}
	for _, o := range slices.Sorted(maps.Keys(m.origins)) {
		d.Services = append(d.Services, Service{Ref: "service:" + o, Name: o, Endpoints: []string{o}, Authenticated: true, Crosses: true})
	}
	for _, ref := range slices.Sorted(maps.Keys(m.on)) {
		slices.Sort(m.on[ref])
		d.Dependencies = append(d.Dependencies, Dependency{ref, slices.Compact(m.on[ref])})
	}
	b, err := json.Marshal(d)
	d.Serial = "urn:uuid:" + uuid.Of("bom", string(b))
	return d, err
}

func (m *maker) credential(unit string, c *statement.Credential) {
	if full, err := custody.Fill(*c); err == nil { // with what its template says
		c = &full
	}
	ref := "credential:" + c.ID
	u := slices.IndexFunc(m.set.Charter.Units, func(u statement.Unit) bool { return u.ID == unit })
	p := properties("owner", c.Owner, "class", c.Class, "source", c.Source, "dialect", c.Dialect, "inject", c.Inject.As, "tenant", m.set.Charter.Units[u].Tenant, "honey", c.Honey)
	if c.MaxLifetime > 0 {
		p = append(p, Property{"reeve:max-lifetime", time.Duration(c.MaxLifetime).String()})
	}
	for _, path := range c.Destination.Paths {
		p = append(p, Property{"reeve:path", path})
	}
	for _, g := range m.set.Custody[unit].Grants {
		if g.Credential == c.ID {
			p = append(p, Property{"reeve:granted-to", g.Unit})
		}
	}
	x := Component{Type: "cryptographic-asset", Ref: ref, Group: unit, Name: c.ID, Properties: p, Crypto: &Crypto{"related-crypto-material", Material{Type: kind(c), SecuredBy: &Secured{"held by custodians alone; sealed with age where it is at rest"}}}}
	for _, v := range m.versions[c.ID] {
		x.Components = append(x.Components, m.version(ref, kind(c), v))
	}
	m.list = append(m.list, x)
	m.on[ref] = nil
	if c.Destination.Origin != "" {
		m.on[ref] = append(m.on[ref], m.origin(c.Destination.Origin))
	}
	if from, err := url.Parse(c.From.URL); err == nil && from.Host != "" {
		m.on[ref] = append(m.on[ref], m.origin(from.Scheme+"://"+from.Host))
	}
}

// version is one version of the secret, in one custodian.
func (m *maker) version(ref, kind string, v index.Version) Component {
	created, since := time.Unix(0, v.Bound).UTC(), time.Unix(0, v.Since).UTC()
	x := Component{Type: "cryptographic-asset", Ref: strings.Join([]string{ref, v.Log, v.Workload, v.Lease}, "/"), Name: v.Credential, Version: v.Lease,
		Properties: properties("state", v.State, "keyed-fingerprint", v.Fingerprint, "workload", v.Workload, "log", v.Log),
		Crypto:     &Crypto{"related-crypto-material", Material{Type: kind, ID: v.Lease, State: state(v.State), Created: &created, Updated: &since}}}
	if v.Expires > 0 {
		t := time.Unix(v.Expires, 0).UTC()
		x.Crypto.Material.Expires = &t
	}
	return x
}

// processes are the custodians, which hold credentials, and the gateways, which reach them.
func (m *maker) processes() {
	there := map[string]bool{}
	for _, unit := range slices.Sorted(maps.Keys(m.set.Custody)) {
		for _, k := range m.set.Custody[unit].Custodians {
			ref := "custodian:" + k.ID
			if !there[ref] {
				there[ref] = true
				m.list = append(m.list, Component{Type: "application", Ref: ref, Name: k.ID, Properties: properties("log", k.Log)})
			}
			for i := range m.set.Custody[unit].Credentials {
				if c := &m.set.Custody[unit].Credentials[i]; len(c.Custodians) == 0 || slices.Contains(c.Custodians, k.ID) {
					m.on[ref] = append(m.on[ref], "credential:"+c.ID)
				}
			}
		}
	}
	for _, g := range m.set.Operations.Gateways {
		ref := "gateway:" + g.ID
		m.list = append(m.list, Component{Type: "application", Ref: ref, Name: g.ID, Properties: properties("policy-owner", g.Owners.Policy, "operations-owner", g.Owners.Operations, "lifecycle-owner", g.Owners.Lifecycle)})
		m.on[ref] = nil
		for _, k := range g.Custodians {
			if there["custodian:"+k] {
				m.on[ref] = append(m.on[ref], "custodian:"+k)
			}
		}
	}
}

// origin notes an origin and returns its ref.
func (m *maker) origin(o string) string {
	m.origins[o] = true
	return "service:" + o
}

// kind is CycloneDX's word for the secret.
func kind(c *statement.Credential) string {
	switch {
	case c.Inject.As == "tls":
		return "private-key"
	case c.Inject.As == "sigv4":
		return "secret-key"
	case c.Source == "federation" || c.Source == "oauth" || c.Source == "github-app":
		return "token"
	}
	return "credential"
}

// state is CycloneDX's word for a version's state.
func state(s string) string {
	switch s {
	case "pending":
		return "pre-activation"
	case "frozen":
		return "suspended"
	case "revoked-unproven", "revoked-proven":
		return "deactivated"
	case "destroyed":
		return "destroyed"
	}
	return "active"
}

// properties are name and value in turn; empty values are left out.
func properties(all ...string) (list []Property) {
	for i := 0; i+1 < len(all); i += 2 {
		if all[i+1] != "" {
			list = append(list, Property{"reeve:" + all[i], all[i+1]})
		}
	}
	return list
}
