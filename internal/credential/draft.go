// Package credential is the lifecycle owner's end of a credential: a record drafted from a few answers and written into the custody file,
// what to set up at the provider, and what every credential of the estate stands at.
package credential

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrAnswer is wrapped by every refusal of an answer.
var ErrAnswer = errors.New("not accepted")

// Draft is what has to be decided about a new credential.
type Draft struct {
	ID       string
	Unit     string
	Template string
	Source   string
	Owner    string
	Class    string
	Honey    string
	// Words are what the template and the source ask for: the words in braces, parameters, and origin, url, paths, home, max_lifetime.
	Words map[string]string
}

// Question is what is not decided yet.
type Question struct {
	Name    string // of the answer, for Draft.Answer
	Ask     string // for a person
	Choices []string
	Default string // what most would answer; empty when only a person knows
}

// Answer takes the answer to a question.
func (d *Draft) Answer(name, value string) error {
	for field, to := range map[string]*string{"name": &d.ID, "unit": &d.Unit, "template": &d.Template, "source": &d.Source, "owner": &d.Owner, "class": &d.Class} {
		if name == field {
			*to = value
			return nil
		}
	}
	if value == "" || strings.ContainsAny(value, "\n\r") {
		return fmt.Errorf("%s: %w: it is one line of text", name, ErrAnswer)
	}
	if d.Words == nil {
		d.Words = map[string]string{}
	}
	d.Words[name] = value
	return nil
}

// Next is the next question, or nil when everything is decided. The error is about an answer that was given.
func (d *Draft) Next(set *statement.Set) (*Question, error) {
	choose := func(name, value, ask, otherwise string, choices []string) (*Question, error) {
		if value == "" {
			return &Question{name, ask, choices, otherwise}, nil
		}
		if !slices.Contains(choices, value) {
			return nil, fmt.Errorf("the %s %q: %w: there are %s", name, value, ErrAnswer, strings.Join(choices, ", "))
		}
		return nil, nil
	}
	units := slices.Sorted(maps.Keys(set.Custody))
	if q, err := choose("unit", d.Unit, "Business unit", only(units), units); q != nil || err != nil {
		return q, err
	}
	var templates []string
	for _, t := range custody.Templates() {
		templates = append(templates, t.Name)
	}
	if q, err := choose("template", d.Template, "Provider or kind of API", "", templates); q != nil || err != nil {
		return q, err
	}
	t, _ := custody.Find(d.Template)
	var sources []string
	for _, w := range t.Ways {
		if _, ok := custody.FindKind(w.Source); ok {
			sources = append(sources, w.Source)
		}
	}
	if q, err := choose("source", d.Source, "Where its secrets come from", first(sources), sources); q != nil || err != nil {
		return q, err
	}
	owners := set.Charter.Roles.Units[d.Unit].Lifecycle
	if q, err := choose("owner", d.Owner, "Accountable lifecycle owner", first(owners), owners); q != nil || err != nil {
		return q, err
	}
	if q, err := choose("class", d.Class, "Class, which says how old the news of revocations may be", "normal", []string{"normal", "high"}); q != nil || err != nil {
		return q, err
	}
	if d.ID == "" {
		return &Question{Name: "name", Ask: "Name, as policies and operations call it", Default: d.Unit + "-" + d.Template}, nil
	}
	if _, _, taken := set.Credential(d.ID); taken {
		return nil, fmt.Errorf("%w: the estate has a credential %s already", ErrAnswer, d.ID)
	}
	for _, q := range d.words(t, set) {
		if d.Words[q.Name] == "" {
			return &q, nil
		}
	}
	return nil, nil
}

// words are what the template and the source ask for, in the order in which a person knows them.
func (d *Draft) words(t *custody.Template, set *statement.Set) (list []Question) {
	way, _ := t.Way(d.Source)
	ask := func(name, text, otherwise string, choices ...string) {
		if !slices.ContainsFunc(list, func(q Question) bool { return q.Name == name }) {
			list = append(list, Question{name, text, choices, otherwise})
		}
	}
	if t.Origin == "" {
		ask("origin", "Origin of the API, https://host[:port]", "")
	}
	if len(t.Paths) == 0 {
		ask("paths", "Paths that it may be sent to, each with its methods, such as: GET,POST /v1/things; GET /v1/things/*", "")
	}
	for _, text := range append([]string{t.Origin, way.URL, t.Probe.Path}, slices.Sorted(maps.Values(way.Parameters))...) {
		for _, word := range inBraces.FindAllStringSubmatch(text, -1) {
			ask(word[1], "What "+word[0]+" is in "+text, "")
		}
	}
	if d.Source == "sealed" {
		ask("max_lifetime", "How long one secret is used at most", "2160h")
		return list
	}
	if way.URL == "" {
		ask("url", "The endpoint that secrets come from, https://host/path", "")
	}
	for _, p := range d.parameters(way) {
		if p.Required && way.Parameters[p.Name] == "" {
			ask(p.Name, p.Doc, "", p.Values...)
		}
	}
	if d.Words["grant"] == "refresh_token" || way.Parameters["grant"] == "refresh_token" {
		var ids []string
		for _, c := range set.Custody[d.Unit].Custodians {
			ids = append(ids, c.ID)
		}
		ask("home", "The one custodian that spends the refresh token", only(ids), ids...)
	}
	return list
}

// parameters are those of the source that fit what is decided.
func (d *Draft) parameters(way custody.Way) []custody.Parameter {
	kind, ok := custody.FindKind(way.Source)
	if !ok {
		return nil
	}
	return kind.All(way.Parameters)
}

// Record is the record that the answers make. It holds no more than what its template does not say.
func (d *Draft) Record() (statement.Credential, error) {
	c := statement.Credential{ID: d.ID, Owner: d.Owner, Class: d.Class, Template: d.Template, Source: d.Source, Honey: d.Honey}
	t, ok := custody.Find(d.Template)
	if !ok {
		return c, fmt.Errorf("the template %q: %w", d.Template, ErrAnswer)
	}
	way, _ := t.Way(d.Source)
	left := maps.Clone(d.Words)
	take := func(name string) string { v := left[name]; delete(left, name); return v }
	filled := func(text string) string {
		if !custody.Open(text) {
			return ""
		}
		return inBraces.ReplaceAllStringFunc(text, func(word string) string { return d.Words[strings.Trim(word, "{}")] })
	}
	c.Dialect = t.Dialect
	c.Destination.Origin, c.From.URL, c.From.Home = take("origin"), take("url"), take("home")
	if c.Destination.Origin == "" {
		c.Destination.Origin = filled(t.Origin)
	}
	if c.From.URL == "" {
		c.From.URL = filled(way.URL)
	}
	c.Inject.Region = filled(way.Inject.Region)
	if d.Source != "sealed" {
		c.From.Parameters = map[string]string{}
		for _, p := range d.parameters(way) {
			if v := take(p.Name); v != "" && v != way.Parameters[p.Name] {
				c.From.Parameters[p.Name] = v
			} else if v := filled(way.Parameters[p.Name]); v != "" {
				c.From.Parameters[p.Name] = v
			}
		}
	}
	for _, path := range strings.Split(take("paths"), ";") {
		if path = strings.TrimSpace(path); path != "" {
			c.Destination.Paths = append(c.Destination.Paths, path)
			some, _, _ := strings.Cut(path, " ")
			for _, m := range strings.Split(some, ",") {
				if !slices.Contains(c.Destination.Methods, m) {
					c.Destination.Methods = append(c.Destination.Methods, m)
				}
			}
		}
	}
	if life := take("max_lifetime"); life != "" {
		long, err := time.ParseDuration(life)
		if err != nil || long <= 0 {
			return c, fmt.Errorf("max_lifetime %q: %w: a duration such as 2160h", life, ErrAnswer)
		}
		c.MaxLifetime = statement.Duration(long)
	}
	if probe := filled(t.Probe.Path); probe != "" {
		c.Probe = t.Probe
		c.Probe.Path = t.Prefix + probe
	}
	for _, text := range append([]string{t.Origin, t.Probe.Path, way.URL}, slices.Sorted(maps.Values(way.Parameters))...) {
		for _, word := range inBraces.FindAllStringSubmatch(text, -1) {
			delete(left, word[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		return c, fmt.Errorf("%s: %w: neither the template %s nor the source %s asks for it", name, ErrAnswer, d.Template, d.Source)
	}
	_, err := custody.Read(c)
	return c, err
}

var inBraces = regexp.MustCompile(`\{([a-z_]+)\}`)

func only(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return ""
}

func first(list []string) string {
	if len(list) > 0 {
		return list[0]
	}
	return ""
}
