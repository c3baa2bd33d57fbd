package register

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Conflict is a person who has two of three powers over the same thing: over policy, over operations, over secrets.
type Conflict struct {
	Person string   `json:"person"`
	Where  string   `json:"where"`  // "unit:research", "grant:research-openai to support", "gateway:g1", "vendor-gateway:acme"
	Powers []string `json:"powers"` // a sentence each
	Latent bool     `json:"latent"` // he has them once he acts as somebody's deputy, and not now
}

// powers are what one person has somewhere, by kind of power, and whether he has one of the kind now.
type powers struct {
	policy, operations, secrets power
}

type power struct {
	now   bool
	words []string
}

func (p *power) add(now bool, what string) {
	if p.now = p.now || now; !slices.Contains(p.words, what) {
		p.words = append(p.words, what)
	}
}

// conflicts gathers who has which power where.
type conflicts struct {
	set  *statement.Set
	t    time.Time
	held map[[2]string]*powers // by where and person
}

// hold gives a power to who is named for it, and to his deputies in case he is not live.
func (x *conflicts) hold(where, named, what string, kind func(*powers) *power) {
	p, ok := x.set.Person(named)
	if !ok {
		return
	}
	now := acting(&x.set.Charter, named, x.t)
	for _, id := range append([]string{named}, p.Deputies...) {
		if q, ok := x.set.Person(id); !ok || !q.Live(x.t) {
			continue
		}
		key := [2]string{where, id}
		if x.held[key] == nil {
			x.held[key] = new(powers)
		}
		said := what
		if id != named {
			said += ", as a deputy of " + named
		}
		kind(x.held[key]).add(id == now, said)
	}
}

func (x *conflicts) policy(where, named, what string) {
	x.hold(where, named, what, func(p *powers) *power { return &p.policy })
}

func (x *conflicts) operations(where, named, what string) {
	x.hold(where, named, what, func(p *powers) *power { return &p.operations })
}

func (x *conflicts) secrets(where, named, what string) {
	x.hold(where, named, what, func(p *powers) *power { return &p.secrets })
}

// Conflicts lists who holds policy, operations and secret power together at t: over a unit, over a credential that one unit lends another, and as owners
// of one component. Deputies count for what they would hold.
func Conflicts(set *statement.Set, all []Component, t time.Time) (list []Conflict) {
	x := &conflicts{set, t, map[[2]string]*powers{}}
	for _, u := range set.Charter.Units {
		x.unit("unit:"+u.ID, u.ID, u.ID)
		for _, g := range set.Custody[u.ID].Grants {
			x.unit("grant:"+g.Credential+" to "+g.Unit, g.Unit, u.ID)
		}
	}
	for _, o := range all {
		if where := string(o.Kind) + ":" + o.ID; o.Kind == Gateway || !o.Kind.Own() {
			x.policy(where, o.Named.Policy, "is its policy owner")
			x.operations(where, o.Named.Operations, "is its operations owner")
			x.secrets(where, o.Named.Lifecycle, "is its lifecycle owner")
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(x.held), func(a, b [2]string) int { return cmp.Or(strings.Compare(a[1], b[1]), strings.Compare(a[0], b[0])) }) {
		kinds, now := 0, 0
		c := Conflict{Person: key[1], Where: key[0]}
		for _, p := range []power{x.held[key].policy, x.held[key].operations, x.held[key].secrets} {
			if len(p.words) > 0 {
				kinds++
			}
			if p.now {
				now++
			}
			c.Powers = append(c.Powers, p.words...)
		}
		if c.Latent = now < 2; kinds > 1 {
			list = append(list, c)
		}
	}
	return list
}

// unit holds who decides by one unit's policy against who has the secrets of the same or another unit.
func (x *conflicts) unit(where, policy, custody string) {
	for _, p := range x.set.Charter.Roles.Units[policy].Policy {
		x.policy(where, p, "signs the policy of "+policy)
	}
	for _, p := range x.set.Charter.Roles.Operations {
		x.operations(where, p, "operates the gateways")
	}
	for _, p := range x.set.Charter.Roles.Units[custody].Lifecycle {
		x.secrets(where, p, "signs the custody of "+custody)
	}
	for _, cr := range x.set.Custody[custody].Credentials {
		x.secrets(where, cr.Owner, "owns "+cr.ID)
	}
}
