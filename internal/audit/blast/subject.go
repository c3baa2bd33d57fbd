package blast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/statement"
)

// Kind is what a subject is.
type Kind string

// The kinds of subjects.
const (
	Component  Kind = "component" // captured
	Credential Kind = "credential"
	Workload   Kind = "workload" // captured
	Person     Kind = "person"   // captured
	Tenant     Kind = "tenant"
	Unit       Kind = "unit"
)

// Subject is what is asked about.
type Subject struct {
	Kind Kind
	ID   string
}

// String names the subject for people.
func (s Subject) String() string { return string(s.Kind) + ":" + s.ID }

// ErrUnknown means that nothing has the subject's name.
var ErrUnknown = errors.New("not known")

// Known is nil when something had the subject's name in the window. Else the error wraps ErrUnknown.
func Known(ctx context.Context, b *books.Books, s Subject, from, to time.Time) error {
	r := newRadius(b, s, from, to, time.Time{})
	spans, err := r.inForce(ctx)
	if err == nil {
		_, err = find(b, s, spans, r.from, r.to, r.asOf)
	}
	return err
}

// find says what the subject is; the component is empty for one that is none.
func find(b *books.Books, s Subject, spans []*history.Span, from, to, asOf time.Time) (c component, err error) {
	if s.Kind == Component {
		return known(b, s.ID, from, to, asOf)
	}
	for _, span := range spans {
		if has(span.Set, s) {
			return c, nil
		}
	}
	return c, fmt.Errorf("the %s %q is %w: no set of statements that was in force between %s and %s has it", s.Kind, s.ID, ErrUnknown,
		from.Format(time.RFC3339), to.Format(time.RFC3339))
}

// component is what the register knows of one at the start of the window, else at its end.
type component struct {
	register.Component
	flags    []register.Flag // what it has to be taken to have been able to do, at the start or at the end
	unprobed bool            // some because it is a vendor's and no verdict held
	unseen   []register.Flag // and these because a probe could not see them
}

// known asks the register at both ends of the window: a flag may have been seen within it, and a verdict may have run out.
func known(b *books.Books, id string, from, to, asOf time.Time) (c component, err error) {
	var ids []string
	for _, at := range []time.Time{from, to.Add(-1), asOf} {
		if c.ID != "" && at.Equal(asOf) {
			break
		}
		list, err := b.Register.At(at, asOf)
		if errors.Is(err, history.ErrBefore) {
			continue
		}
		if err != nil {
			return c, fmt.Errorf("reading the register: %w", err)
		}
		for i := range list {
			if l := &list[i]; l.ID == id {
				if c.ID == "" {
					c.Component = *l
				}
				c.Discovered, c.Observed = ordered(slices.Concat(c.Discovered, l.Discovered)), ordered(slices.Concat(c.Observed, l.Observed)) // by the window's end
				c.flags, c.unseen = append(c.flags, l.Effective(at)...), append(c.unseen, l.Unseen(at)...)
				c.unprobed = c.unprobed || l.Unprobed(at)
			}
			ids = append(ids, list[i].ID)
		}
	}
	if c.ID != "" {
		c.flags, c.unseen = ordered(c.flags), ordered(c.unseen)
		return c, nil
	}
	slices.Sort(ids)
	return c, fmt.Errorf("the component %q is %w: the register has %q", id, ErrUnknown, slices.Compact(ids))
}

// ordered is each flag once, in the register's order.
func ordered(flags []register.Flag) []register.Flag {
	return slices.DeleteFunc(slices.Clone(register.Flags), func(f register.Flag) bool { return !slices.Contains(flags, f) })
}

// control is what of it puts the component in the identity control plane, for people; empty for nothing.
func (c *component) control() string {
	var can []string
	for _, f := range c.flags {
		if f.ControlPlane() {
			can = append(can, string(f))
		}
	}
	return strings.Join(can, ", ")
}

// has reports whether a set has the subject.
func has(s *statement.Set, of Subject) (ok bool) {
	switch of.Kind {
	case Credential:
		_, _, ok = s.Credential(of.ID)
	case Workload:
		_, _, ok = s.Workload(of.ID)
	case Person:
		_, ok = s.Person(of.ID)
	case Tenant:
		ok = slices.Contains(s.Charter.Tenants, of.ID)
	case Unit:
		ok = slices.ContainsFunc(s.Charter.Units, func(u statement.Unit) bool { return u.ID == of.ID })
	}
	return ok
}
