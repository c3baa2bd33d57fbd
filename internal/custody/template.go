// Package custody knows what a custody record means beyond its form: what a template fills in, and what each kind of source needs to be
// told. The custodian and the people who sign read a record alike because both ask here.
package custody

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/statement"
)

// ErrRecord is wrapped by every refusal of a custody record.
var ErrRecord = errors.New("refused custody record")

// Template is what a provider documents about itself. Text in braces, as in {region}, is a word that the record's owner knows: what holds
// one is never filled in, only proposed when a record is written.
type Template struct {
	Name    string
	Doc     string // one line for a person
	Page    string // where the provider documents it
	Dialect string // openai or anthropic; empty for what clients call in the provider's own way
	Origin  string // empty for any
	Prefix  string // the record's, unless it has one
	// Paths are patterns as in statement.Destination, each with its methods, before the record's prefix is put in front.
	Paths []string
	Probe statement.Probe // its path without prefix; its method is empty where the provider documents no error to tell by
	Ways  []Way           // the first is what to prefer
}

// Way is one way in which the secrets of a template come.
type Way struct {
	Source     string // a Kind's name
	Inject     statement.Inject
	URL        string            // of from
	Parameters map[string]string // of from.parameters
}

// Way is the one by a kind of source; ok is false when the template knows none.
func (t *Template) Way(source string) (w Way, ok bool) {
	i := slices.IndexFunc(t.Ways, func(w Way) bool { return w.Source == source })
	if i < 0 {
		return Way{}, false
	}
	return t.Ways[i], true
}

var templates = sync.OnceValue(Templates)

// Find returns the template of that name. All who ask share it: it is not to be changed.
func Find(name string) (*Template, bool) {
	list := templates()
	i := slices.IndexFunc(list, func(t Template) bool { return t.Name == name })
	if i < 0 {
		return nil, false
	}
	return &list[i], true
}

// Open reports whether a text holds a word in braces.
func Open(text string) bool { return strings.Contains(text, "{") }

// Fill returns the record with what it leaves out taken from its template. Template paths stand behind the record's prefix.
func Fill(c statement.Credential) (statement.Credential, error) {
	if c.Template == "" {
		return c, nil
	}
	t, ok := Find(c.Template)
	if !ok {
		return c, fmt.Errorf("%w: credential %s: this version knows no template %q; there are %s", ErrRecord, c.ID, c.Template, strings.Join(names(), ", "))
	}
	d := &c.Destination
	fill(&d.Origin, t.Origin)
	fill(&d.Prefix, t.Prefix)
	fill(&c.Dialect, t.Dialect)
	if way, ok := t.Way(c.Source); ok {
		if c.Inject.As == "" {
			region := c.Inject.Region
			c.Inject = way.Inject
			c.Inject.With = slices.Clone(way.Inject.With)
			c.Inject.Region = ""
			fill(&c.Inject.Region, region)
			fill(&c.Inject.Region, way.Inject.Region)
		}
		fill(&c.From.URL, way.URL)
		if len(way.Parameters) > 0 {
			all := maps.Clone(c.From.Parameters)
			if all == nil {
				all = map[string]string{}
			}
			for name, value := range way.Parameters {
				have := all[name]
				if fill(&have, value); have != "" {
					all[name] = have
				}
			}
			c.From.Parameters = all
		}
	}
	if c.Probe.Method == "" && t.Probe.Method != "" && !Open(t.Probe.Path) {
		c.Probe = t.Probe
		c.Probe.Path = d.Prefix + c.Probe.Path
	}
	if len(d.Paths) == 0 {
		d.Methods, d.Paths = t.paths(d.Prefix, d.Methods)
	}
	return c, nil
}

func fill(s *string, otherwise string) {
	if *s == "" && !Open(otherwise) {
		*s = otherwise
	}
}

// paths are the template's behind a prefix, with those of the methods that are wanted; none are named for all.
func (t *Template) paths(prefix string, wanted []string) (methods, paths []string) {
	for _, path := range t.Paths {
		some, path, _ := strings.Cut(path, " ")
		for _, m := range strings.Split(some, ",") {
			if !slices.Contains(methods, m) {
				methods = append(methods, m)
			}
		}
		some = strings.Join(slices.DeleteFunc(strings.Split(some, ","), func(m string) bool { return len(wanted) > 0 && !slices.Contains(wanted, m) }), ",")
		if some != "" {
			paths = append(paths, some+" "+prefix+path)
		}
	}
	if len(wanted) > 0 {
		methods = wanted
	}
	return methods, paths
}

func names() (list []string) {
	for _, t := range templates() {
		list = append(list, t.Name)
	}
	return list
}
