package estate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// PersonState is a person of the charter and what hangs on him.
type PersonState struct {
	ID          string    `json:"id"`
	State       string    `json:"state"` // live, not attested or left
	Until       time.Time `json:"until"` // when he stops being live
	AttestedBy  string    `json:"attested_by"`
	Deputies    []string  `json:"deputies"`
	Acting      string    `json:"acting,omitempty"` // who acts for him now, if he is not live
	Roles       []string  `json:"roles"`
	Credentials []string  `json:"credentials"` // that he answers for
	Gateways    []string  `json:"gateways"`    // that he is an owner of
	Alone       []string  `json:"alone"`       // of those, what is orphaned without him: he has no live deputy
}

// People lists the charter's people at t.
func People(s *statement.Set, t time.Time) []PersonState {
	list := []PersonState{}
	for i := range s.Charter.People {
		p := &s.Charter.People[i]
		one := PersonState{ID: p.ID, State: "live", Until: p.Until(), AttestedBy: p.AttestedBy, Deputies: append([]string{}, p.Deputies...), Roles: listed(&s.Charter, p.ID),
			Credentials: []string{}, Gateways: []string{}, Alone: []string{}}
		if !p.Live(t) {
			one.State = "not attested"
			if !p.Left.IsZero() && !t.Before(p.Left) {
				one.State = "left"
			}
		}
		without := s.Without(p.ID)
		for _, u := range s.Charter.Units {
			for _, c := range s.Custody[u.ID].Credentials {
				if c.Owner != p.ID {
					continue
				}
				one.Credentials = append(one.Credentials, c.ID)
				if _, live := without.Owner(c.ID, t); !live {
					one.Alone = append(one.Alone, "credential "+c.ID)
				}
				if who, live := s.Owner(c.ID, t); live && who.ID != p.ID {
					one.Acting = who.ID
				}
			}
		}
		orphaned := map[string]bool{}
		for _, o := range without.Orphans() {
			orphaned[o.Kind+o.ID+o.Role] = !t.Before(o.At)
		}
		for _, g := range s.Operations.Gateways {
			for role, id := range map[string]string{"policy": g.Owners.Policy, "operations": g.Owners.Operations, "lifecycle": g.Owners.Lifecycle} {
				if id != p.ID {
					continue
				}
				one.Gateways = append(one.Gateways, g.ID)
				if orphaned["gateway"+g.ID+role] {
					one.Alone = append(one.Alone, "gateway "+g.ID)
				}
			}
		}
		list = append(list, one)
	}
	return list
}

// listed are the roles that the charter lists for a person, root included.
func listed(c *statement.Charter, id string) []string {
	roles := []string{}
	for _, r := range []struct {
		name string
		list []string
	}{{"root", c.Roles.Root}, {"operations", c.Roles.Operations}} {
		if slices.Contains(r.list, id) {
			roles = append(roles, r.name)
		}
	}
	for _, u := range c.Units {
		if slices.Contains(c.Roles.Units[u.ID].Policy, id) {
			roles = append(roles, "policy of "+u.ID)
		}
		if slices.Contains(c.Roles.Units[u.ID].Lifecycle, id) {
			roles = append(roles, "lifecycle of "+u.ID)
		}
	}
	return roles
}

// ErrPerson means that the charter does not have a person.
var ErrPerson = errors.New("the charter has no person")

// Leaving is what a person's leaving asks of those who stay.
type Leaving struct {
	Person   PersonState `json:"person"`
	Transfer []string    `json:"transfer"` // what needs another owner in the charter, custody or operations
	Rotate   []string    `json:"rotate"`   // what he knew, or signed alone
}

// Leave lists what hangs on a person who leaves. What he alone held is orphaned, and so closed, once a revocation of the person is
// in force: see Revoke with the target person.
func (d Dir) Leave(s *statement.Set, person string, t time.Time) (*Leaving, error) {
	people := People(s, t)
	i := slices.IndexFunc(people, func(p PersonState) bool { return p.ID == person })
	if i < 0 {
		return nil, fmt.Errorf("%w %q: see reeve people", ErrPerson, person)
	}
	l := &Leaving{Person: people[i], Transfer: []string{}, Rotate: []string{}}
	for _, r := range l.Person.Roles {
		l.Transfer = append(l.Transfer, "the role "+r+" (charter.yaml)")
	}
	for _, c := range l.Person.Credentials {
		l.Transfer = append(l.Transfer, "the credential "+c+" (custody.yaml: owner)")
		l.Rotate = append(l.Rotate, "the secret of "+c+", which he could hand over (reeve credential put)")
	}
	for _, g := range l.Person.Gateways {
		l.Transfer = append(l.Transfer, "the gateway "+g+" (operations.yaml: owners)")
	}
	for _, p := range s.Charter.People {
		if p.AttestedBy == person {
			l.Transfer = append(l.Transfer, fmt.Sprintf("the attestation of %s, by somebody else when it is renewed", p.ID))
		}
		if slices.Contains(p.Deputies, person) {
			l.Transfer = append(l.Transfer, fmt.Sprintf("%s's deputy (charter.yaml)", p.ID))
		}
	}
	records, err := ReadRecords(d.Store(), "workload-key")
	if err != nil {
		return nil, err
	}
	for _, env := range records {
		var k statement.WorkloadKey
		err := json.Unmarshal(env.Payload, &k)
		_, before := s.OpenWorkloadKey(env, t)
		_, after := s.Without(person).OpenWorkloadKey(env, t)
		if err == nil && before == nil && after != nil && t.Before(k.NotAfter) {
			l.Rotate = append(l.Rotate, fmt.Sprintf("the key %s… of %s, which he alone signed (reeve workload key issue)", k.Prefix, k.Workload))
		}
	}
	slices.Sort(l.Rotate)
	return l, nil
}

// Attest writes into charter.yaml until when a person is attested and by whom, and leaves the rest of the file as it is. The root
// quorum signs it; the set is refused if the attester did not.
func (d Dir) Attest(person, by string, until time.Time) error {
	name := filepath.Join(string(d), "charter.yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	charter, err := statement.ParseCharter("charter.yaml", text)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(charter.People, func(p statement.Person) bool { return p.ID == person })
	if i < 0 {
		return fmt.Errorf("%w %q: see reeve people", ErrPerson, person)
	}
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return err
	}
	for member, value := range map[string]string{"attested_until": until.UTC().Format(time.RFC3339), "attested_by": by} {
		path, err := yaml.PathString(fmt.Sprintf("$.people[%d].%s", i, member))
		if err != nil {
			return err
		}
		if err := path.ReplaceWithReader(file, strings.NewReader(value)); err != nil {
			return fmt.Errorf("charter.yaml has no %s of %s to replace: %w", member, person, err)
		}
	}
	next := []byte(file.String())
	if _, err := statement.ParseCharter("charter.yaml", next); err != nil {
		return err
	}
	if bytes.Equal(next, text) {
		return nil
	}
	return durable.Replace(name, append(bytes.TrimRight(next, "\n"), '\n'), 0o644)
}
