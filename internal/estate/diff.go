package estate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// Diff is what publishing the owners' files would do to the set in force.
type Diff struct {
	Lock    int64        `json:"lock"` // version in force, 0 when none is
	Opens   []reach.Path `json:"opens"`
	Narrows []reach.Path `json:"narrows"` // open before without conditions, and from now on under some
	Closes  []reach.Path `json:"closes"`
	Changes []DiffItem   `json:"changes"`
}

// DiffItem is an item that changes, and who signs it besides its statement's approvers.
type DiffItem struct {
	statement.Change
	From [][]string `json:"from"` // for each of Needs, the people any one of whom may sign; empty where the approvers stand in
}

// Diff compares the owners' files with the set in force at t.
func (d Dir) Diff(pin statement.Pin, t time.Time) (*Diff, error) {
	before, after, changes, err := d.Changes(pin)
	if err != nil {
		return nil, err
	}
	r := &Diff{Changes: []DiffItem{}}
	old, next := []reach.Path(nil), []reach.Path(nil)
	if before != nil {
		r.Lock = before.Lock.Version
		if old, err = paths(before, t); err != nil {
			return nil, err
		}
	}
	after.Expires = t.Add(time.Hour) // what nobody has signed has no end yet
	if next, err = paths(after, t); err != nil {
		return nil, err
	}
	r.Opens, r.Narrows, r.Closes = compare(old, next)
	for _, ch := range changes {
		one := DiffItem{Change: ch, From: [][]string{}}
		for _, o := range ch.Needs {
			one.From = append(one.From, after.Signers(o, t))
		}
		r.Changes = append(r.Changes, one)
	}
	return r, nil
}

func paths(set *statement.Set, t time.Time) ([]reach.Path, error) {
	list, err := reach.Paths(set, t, "", "")
	for i := range list {
		list[i].Rules = nil // a policy that was only renamed opens nothing
	}
	return list, err
}

// lacking are the paths of a that b does not have.
func lacking(a, b []reach.Path) (list []reach.Path) {
	has := map[string]bool{}
	for _, p := range b {
		has[fmt.Sprint(p)] = true
	}
	for _, p := range a {
		if !has[fmt.Sprint(p)] {
			list = append(list, p)
		}
	}
	return list
}

// compare says what is open only in next, open before without conditions and in next under some, and open only in old. What loses its
// conditions is opened, and what gets some is narrowed: each is said once. The lists are not nil.
func compare(old, next []reach.Path) (opens, narrows, closes []reach.Path) {
	opens, narrows, closes = []reach.Path{}, []reach.Path{}, []reach.Path{}
	gained, lost := lacking(next, old), lacking(old, next)
	for _, p := range gained {
		if p.Conditional && otherwise(lost, p) {
			narrows = append(narrows, p)
		} else {
			opens = append(opens, p)
		}
	}
	for _, p := range lost {
		if !otherwise(gained, p) {
			closes = append(closes, p)
		}
	}
	return opens, narrows, closes
}

// otherwise reports whether a list has a path that differs from p in nothing but whether there are conditions.
func otherwise(list []reach.Path, p reach.Path) bool {
	p.Conditional = !p.Conditional
	return slices.ContainsFunc(list, func(q reach.Path) bool { return fmt.Sprint(p) == fmt.Sprint(q) })
}

// Sentences says paths in words, one for all models of the same workload, credential, gateway and destination.
func Sentences(paths []reach.Path) (lines []string) {
	models := map[string][]string{}
	for _, p := range paths {
		model := p.Model
		if model == "" {
			model = "any model"
		}
		when := ""
		if p.Conditional {
			when = ", under conditions"
		}
		p.Model = ""
		line := fmt.Sprintf("%s may use %s%s, through %s, for %%s, at %s (%s, %d paths)", p.Workload, p.Credential, when, p.Gateway, p.Destination, strings.Join(p.Methods, " "), len(p.Paths))
		if models[line] == nil {
			lines = append(lines, line)
		}
		if !slices.Contains(models[line], model) {
			models[line] = append(models[line], model)
		}
	}
	for i, line := range lines {
		lines[i] = fmt.Sprintf(line, strings.Join(models[line], ", "))
	}
	return lines
}
