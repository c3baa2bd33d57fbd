package sample

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

const life = 300 * 24 * time.Hour // of what is signed

// publish writes the plan, has the named statements and the lock signed by those who answer for them, and publishes.
func (c *company) publish(dir estate.Dir, pin *statement.Pin, at time.Time, names ...string) (*statement.Set, error) {
	if err := c.plan.Write(dir); err != nil {
		return nil, err
	}
	terms := estate.Terms{Created: at, Expires: at.Add(life)}
	for _, name := range append(names, "lock") {
		by := c.signersOf(name)
		if _, err := dir.Sign(ID, name, c.signers[by[0]], terms); err != nil {
			return nil, fmt.Errorf("signing %s: %w", name, err)
		}
		for _, p := range by[1:] {
			if err := dir.Approve(name, c.signers[p]); err != nil {
				return nil, fmt.Errorf("approving %s: %w", name, err)
			}
		}
	}
	if pin.Estate == "" {
		first, err := estate.Log(dir.Drafts(), "charter")
		if err != nil {
			return nil, err
		}
		*pin = statement.Pin{Estate: ID, CharterSHA256: first[0].SHA256, AllowDemo: true}
	}
	return dir.Publish(*pin, at)
}

// signersOf are who sign a statement, its author first.
func (c *company) signersOf(name string) []string {
	ch := &c.plan.Charter
	kind, unit, _ := strings.Cut(name, "-")
	var by []string
	switch kind {
	case "charter":
		return []string{"rosa", "remy", "rita"}
	case "lock":
		return []string{"odin", "ada"}
	case "operations":
		by = []string{"ada"}
		for _, g := range c.plan.Operations.Gateways {
			by = append(by, g.Owners.Operations, g.Owners.Policy, g.Owners.Lifecycle)
		}
	case "policy":
		by = append([]string{"odin"}, ch.Roles.Units[unit].Policy...)
	case "custody":
		by = append([]string{"odin"}, ch.Roles.Units[unit].Lifecycle...)
		by = append(by, ch.Roles.Units[unit].Policy...) // for what it lends
		for _, g := range c.plan.Custody[unit].Grants {
			by = append(by, ch.Roles.Units[g.Unit].Policy...)
		}
	}
	var once []string
	for _, p := range by {
		if !slices.Contains(once, p) {
			once = append(once, p)
		}
	}
	return once
}

// statements are all of the company's, without the lock.
func (c *company) statements() []string {
	names := []string{"charter", "operations"}
	for _, u := range slices.Sorted(maps.Keys(c.plan.Custody)) {
		names = append(names, "policy-"+u, "custody-"+u)
	}
	return names
}
