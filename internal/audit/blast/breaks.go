package blast

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// Broken is what a revocation of the credential would break.
type Broken struct {
	Credential string       `json:"credential"`
	Unit       string       `json:"unit"`
	Lifecycle  string       `json:"lifecycle"` // who answers for it now
	From       time.Time    `json:"from"`      // uses since
	Users      []User       `json:"users"`     // who loses it, the most recent first
	Models     []string     `json:"models"`    // provider/model that the units reach by it alone
	Aliases    []string     `json:"aliases"`   // names that stand for one of them
	Others     []Substitute `json:"others"`    // what a unit could use in its place for the same dialect
}

// User is a workload that used the credential, or may.
type User struct {
	Unit     string    `json:"unit"`
	Workload string    `json:"workload"`
	Uses     int64     `json:"uses"`
	Last     time.Time `json:"last,omitzero"` // zero for one that may and did not
	May      bool      `json:"may"`           // policy permits it now
}

// Substitute is another credential that a unit's workloads may use.
type Substitute struct {
	Unit       string `json:"unit"`
	Provider   string `json:"provider"`
	Credential string `json:"credential"`
}

// Breaks is what breaks when a credential is revoked at the books' time, by the statements in force and its uses since from. The error wraps ErrUnknown.
func Breaks(ctx context.Context, b *books.Books, credential string, from time.Time) (*Broken, error) {
	a, err := Radius(ctx, b, Subject{Credential, credential}, from, b.Now, Options{})
	if err != nil {
		return nil, err
	}
	s := b.History.Newest()
	x := &Broken{Credential: credential, From: a.From, Users: []User{}, Models: []string{}, Aliases: []string{}, Others: []Substitute{}}
	c, owning, ok := s.Credential(credential)
	if !ok {
		return nil, fmt.Errorf("the credential %q is %w: the statements in force do not have it", credential, ErrUnknown)
	}
	x.Unit = owning.ID
	if p, live := s.Owner(credential, b.Now); live {
		x.Lifecycle = p.ID
	}
	if err := x.users(ctx, b, s.Set); err != nil {
		return nil, err
	}
	for _, p := range s.Operations.Providers {
		for _, unit := range slices.Sorted(maps.Keys(p.Credentials)) {
			switch other := p.Credentials[unit]; {
			case other == credential:
				for _, m := range p.Models {
					x.Models = insert(x.Models, p.Name+"/"+m)
				}
			case p.Dialect == c.Dialect && slices.ContainsFunc(x.Users, func(u User) bool { return u.Unit == unit }):
				x.Others = append(x.Others, Substitute{unit, p.Name, other})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Operations.Aliases)) {
		if to := s.Operations.Aliases[name]; slices.Contains(x.Models, to) {
			x.Aliases = append(x.Aliases, name+" → "+to)
		}
	}
	return x, nil
}

// users are who used it since, and who may now.
func (x *Broken) users(ctx context.Context, b *books.Books, s *statement.Set) error {
	sums, err := b.Index.Uses(ctx, index.Filter{From: x.From, To: b.Now, Credential: x.Credential, Types: []entry.Type{entry.Intent}}, index.ByUnit, index.ByWorkload)
	if err != nil {
		return err
	}
	of := map[string]*User{}
	for _, u := range sums {
		of[u.Workload] = &User{Unit: u.Unit, Workload: u.Workload, Uses: u.Count, Last: instant(u.Last)}
	}
	pairs, err := reach.Pairs(s, b.Now, reach.Ask{Credential: x.Credential})
	if err != nil {
		return err
	}
	for _, p := range pairs {
		for _, w := range p.Workloads {
			if of[w] == nil {
				of[w] = &User{Unit: p.Unit, Workload: w}
			}
			of[w].May = true
		}
	}
	for _, u := range of {
		x.Users = append(x.Users, *u)
	}
	slices.SortFunc(x.Users, func(a, b User) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Workload, b.Workload)) })
	return nil
}
