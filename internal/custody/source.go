package custody

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/statement"
)

// Parameter is one word of a record's from.parameters.
type Parameter struct {
	Name     string
	Required bool
	Values   []string // that it may have; empty for any
	Doc      string   // one line for a person
}

// Kind is one kind of source.
type Kind struct {
	Name string
	Doc  string // one line for a person
	// Root is what its owner hands over with reeve credential put: empty for nothing.
	Root string
	// Standing says that the root is a secret of the provider that lives on, so that posture counts it as static.
	Standing   bool
	Parameters []Parameter
	Check      func(statement.Credential) error // what goes beyond single parameters; nil for nothing
	// Choice is the parameter that chooses among the variants, where there are any.
	Choice   string
	Variants []Variant
}

// Variant is one of several ways of a kind, with the parameters that only it has.
type Variant struct {
	Name       string
	Doc        string
	Parameters []Parameter
}

// All are the parameters that a record of this kind may have, by the variant that it chooses.
func (k *Kind) All(chosen map[string]string) []Parameter {
	for _, v := range k.Variants {
		if v.Name == chosen[k.Choice] {
			return slices.Concat(k.Parameters, v.Parameters)
		}
	}
	return k.Parameters
}

// Kinds are the sources that a custody record may name.
func Kinds() []Kind {
	return []Kind{
		{Name: "sealed", Doc: "the owner hands the secret over, and again to rotate it", Root: "the secret itself", Standing: true},
		oauth(),
		githubApp(),
		vault(),
		openAIKey(),
		federation(),
	}
}

// federation has a variant for each exchange.
func federation() Kind {
	k := Kind{Name: "federation", Doc: "the custodian says who it is by a signed token, and the provider exchanges that for a short-lived secret", Choice: "exchange"}
	var names []string
	for _, e := range Exchanges() {
		audience := Parameter{Name: "audience", Required: e.Audience == "", Doc: "the token's aud, as the provider was told to expect it"}
		k.Variants = append(k.Variants, Variant{Name: e.Name, Doc: e.Doc, Parameters: append(slices.Clip(e.Parameters), audience)})
		names = append(names, e.Name)
	}
	k.Parameters = []Parameter{
		{Name: "exchange", Required: true, Values: names, Doc: "whose way of exchanging tokens"},
		{Name: "algorithm", Values: []string{"ES256", "RS256"}, Doc: "of the token's signature, where the provider asks for another than is usual there"},
	}
	return k
}

var kinds = sync.OnceValue(Kinds)

// FindKind returns the kind of that name. All who ask share it: it is not to be changed.
func FindKind(name string) (*Kind, bool) {
	list := kinds()
	i := slices.IndexFunc(list, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return nil, false
	}
	return &list[i], true
}

// Read is Fill and Check.
func Read(c statement.Credential) (statement.Credential, error) {
	c, err := Fill(c)
	if err == nil {
		err = Check(c)
	}
	return c, err
}

// documented reports whether the record's probe is its template's.
func documented(c statement.Credential) bool {
	t, ok := Find(c.Template)
	return ok && c.Probe.Method == t.Probe.Method && c.Probe.Path == c.Destination.Prefix+t.Probe.Path && c.Probe.Body == t.Probe.Body
}

// Check holds a filled record to what may be left to a template, and to what its kind of source needs. The error wraps ErrRecord and names
// the member.
func Check(c statement.Credential) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: credential %s: "+format, append([]any{ErrRecord, c.ID}, args...)...)
	}
	kind, ok := FindKind(c.Source)
	d := &c.Destination
	switch {
	case !ok:
		return no("this version knows no source %q", c.Source)
	case d.Origin == "":
		return no("the template %s leaves destination.origin to the record", c.Template)
	case len(d.Methods) == 0 || len(d.Paths) == 0:
		return no("the template %s leaves destination.methods and paths to the record", c.Template)
	case c.Inject.As == "":
		return no("the template %s does not say how a secret of source %s is put in: inject", c.Template, c.Source)
	case (c.Inject.As == "sigv4") != (c.Inject.Region != ""):
		return no("inject as %s with the region %q; sigv4 needs the one of its origin, and nothing else has any: inject.region", c.Inject.As, c.Inject.Region)
	case c.Probe.Method == "POST" && !documented(c):
		return no("a probe is sent again and again with a secret that may still work: by POST only where the template %q documents it; use GET or HEAD", c.Template)
	case c.Source != "sealed" && c.From.URL == "":
		return no("source %s needs from.url", c.Source)
	}
	left := maps.Clone(c.From.Parameters)
	for _, p := range kind.All(c.From.Parameters) {
		if p.Required && left[p.Name] == "" {
			return no("source %s needs from.parameters.%s: %s", c.Source, p.Name, p.Doc)
		}
		if v := left[p.Name]; v != "" && len(p.Values) > 0 && !slices.Contains(p.Values, v) {
			return no("source %s takes no from.parameters.%s %q; it is one of %s", c.Source, p.Name, v, strings.Join(p.Values, ", "))
		}
		delete(left, p.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		return no("source %s knows no from.parameters.%s", c.Source, name)
	}
	if kind.Check != nil {
		return kind.Check(c)
	}
	return nil
}
