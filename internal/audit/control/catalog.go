package control

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Catalogue is what is judged, and what that answers in which framework.
type Catalogue struct {
	Frameworks []Framework `json:"frameworks" yaml:"frameworks"`
	Controls   []Control   `json:"controls" yaml:"controls"`
}

// Framework is a public document that has controls, or names risks.
type Framework struct {
	ID     string            `json:"id" yaml:"id"` // as in Control.Maps
	Title  string            `json:"title" yaml:"title"`
	Source string            `json:"source" yaml:"source"` // URL
	Note   string            `json:"note,omitempty" yaml:"note"`
	Titles map[string]string `json:"titles" yaml:"titles"` // by the framework's id
}

//go:embed catalog.yaml
var catalog []byte

// Catalog reads the catalogue. Who changes it gets a copy of his own.
func Catalog() (*Catalogue, error) {
	c := new(Catalogue)
	if err := yaml.UnmarshalWithOptions(catalog, c, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("reading the control catalogue: %w", err)
	}
	return c, nil
}

// Control returns the control of an id, or false.
func (c *Catalogue) Control(id string) (*Control, bool) {
	i := slices.IndexFunc(c.Controls, func(x Control) bool { return x.ID == id })
	if i < 0 {
		return nil, false
	}
	return &c.Controls[i], true
}

// Framework returns the framework of an id, or false.
func (c *Catalogue) Framework(id string) (*Framework, bool) {
	i := slices.IndexFunc(c.Frameworks, func(x Framework) bool { return x.ID == id })
	if i < 0 {
		return nil, false
	}
	return &c.Frameworks[i], true
}

// IDs are the ids of a framework that a control answers to, with those controls. Ids are sorted as a person counts: NHI2 before NHI10.
func (c *Catalogue) IDs(framework string) (ids []string, by map[string][]string) {
	by = map[string][]string{}
	for _, x := range c.Controls {
		for _, id := range x.Maps[framework] {
			by[id] = append(by[id], x.ID)
		}
	}
	return slices.SortedFunc(maps.Keys(by), counted), by
}

// Uncovered are the ids of a framework that the catalogue knows and no control answers to, sorted as IDs are.
func (c *Catalogue) Uncovered(framework string) (ids []string) {
	f, ok := c.Framework(framework)
	if !ok {
		return nil
	}
	_, by := c.IDs(framework)
	for id := range f.Titles {
		if by[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, counted)
	return ids
}

// counted orders ids by their text, and numbers in them by what they count.
func counted(a, b string) int {
	for a != "" && b != "" {
		x, y := leading(a), leading(b)
		n, errN := strconv.Atoi(x)
		m, errM := strconv.Atoi(y)
		order := strings.Compare(x, y)
		if errN == nil && errM == nil {
			order = cmp.Or(cmp.Compare(n, m), order)
		}
		if order != 0 {
			return order
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

// leading is the number, or the text before the next number, that an id begins with.
func leading(id string) string {
	digit := func(i int) bool { return '0' <= id[i] && id[i] <= '9' }
	i := 1
	for i < len(id) && digit(i) == digit(0) {
		i++
	}
	return id[:i]
}

// names are the ids of the frameworks.
func (c *Catalogue) names() (ids []string) {
	for _, f := range c.Frameworks {
		ids = append(ids, f.ID)
	}
	return ids
}
