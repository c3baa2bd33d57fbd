package demo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// units are the demo's.
var units = []string{"research", "support"}

// federate makes the custodian a key for each unit, and what the custody statements say of it.
func federate(d *host.Dir, recipient string, now time.Time) (map[string]*statement.Federation, error) {
	all := map[string]*statement.Federation{}
	for _, u := range units {
		f := statement.Federation{Issuer: "https://federation." + ID + ".invalid/" + u, TrustDomain: ID + ".invalid"}
		if err := addKey(d, u, recipient, &f, now); err != nil {
			return nil, err
		}
		all[u] = &f
	}
	return all, nil
}

func addKey(d *host.Dir, unit, recipient string, f *statement.Federation, now time.Time) error {
	jwk, err := federation.NewKey(d.Join(host.Custodian, "federation"), unit, "ES256", recipient)
	if err != nil {
		return fmt.Errorf("making the federation key of %s: %w", unit, err)
	}
	*f = federation.Add(*f, federation.Entry(Processes.Custodian, jwk, now), now)
	return nil
}

// federationsLast reports whether every unit that federates has a key that still signs at t.
func federationsLast(set *statement.Set, t time.Time) bool {
	for _, cu := range set.Custody {
		if f := cu.Federation; f != nil && !slices.ContainsFunc(f.Keys, func(k statement.FederationKey) bool { return t.Before(k.NotAfter) }) {
			return false
		}
	}
	return true
}

// rekey adds a key to each unit whose last one ends within the margin, as docs/procedures/federation-keys.md says.
func rekey(d *host.Dir, now time.Time) error {
	dir := estate.Dir(d.Join("estate"))
	for _, u := range units {
		files, err := dir.Files("custody-" + u)
		if err != nil {
			return err
		}
		var cu statement.CustodyStatement
		if err := yaml.UnmarshalWithOptions(files["custody.yaml"], &cu, yaml.Strict()); err != nil {
			return fmt.Errorf("custody.yaml of %s:\n%w", u, err)
		}
		if cu.Federation == nil || len(cu.Custodians) == 0 || federationsLast(&statement.Set{Custody: map[string]*statement.CustodyStatement{u: &cu}}, now.Add(margin)) {
			continue
		}
		if err := addKey(d, u, cu.Custodians[0].Recipient, cu.Federation, now); err != nil {
			return err
		}
		b, err := yaml.MarshalWithOptions(cu, yaml.OmitZero(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
		if err != nil {
			return err
		}
		if err := durable.Replace(d.Join("estate", "units", u, "custody.yaml"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// trust tells the upstream what its owner would: whose tokens it takes, for what.
func trust(d *host.Dir, set *statement.Set) error {
	all := []upstream.Trust{}
	for unit, cu := range set.Custody {
		for _, c := range cu.Credentials {
			if c.Source != "federation" || cu.Federation == nil {
				continue
			}
			c, err := custody.Read(c)
			if err != nil {
				return err
			}
			e, _ := custody.FindExchange(c.From.Parameters["exchange"])
			ids := maps.Clone(c.From.Parameters)
			maps.DeleteFunc(ids, func(name, _ string) bool { return name == "exchange" || name == "audience" || name == "algorithm" })
			audience := c.From.Parameters["audience"]
			if audience == "" {
				audience = e.Audience
			}
			all = append(all, upstream.Trust{Dialect: c.Dialect, Issuer: cu.Federation.Issuer, JWKS: json.RawMessage(cu.Federation.JWKS()),
				Audience: audience, Subject: cu.Federation.Subject(unit, c.ID, ""), Account: c.ID, IDs: ids, Life: int64(time.Duration(c.From.Lifetime) / time.Second)})
		}
	}
	return upstream.WriteTrust(d.Join(host.Upstream), all)
}
