package custody

import (
	"fmt"
	"maps"
	"slices"

	"github.com/reevehq/reeve/internal/statement"
)

// Parameter is one word of a record's from.parameters.
type Parameter struct {
	Name     string
	Required bool
	Doc      string // one line for a person
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
}

// Kinds are the sources that a custody record may name.
func Kinds() []Kind {
	return []Kind{
		{Name: "sealed", Doc: "the owner hands the secret over, and again to rotate it", Root: "the secret itself", Standing: true},
	}
}

// Check holds a filled record to what its kind of source needs. The error wraps ErrRecord and names the parameter.
func Check(c statement.Credential) error {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == c.Source })
	if i < 0 {
		return fmt.Errorf("%w: credential %s: this version knows no source %q", ErrRecord, c.ID, c.Source)
	}
	left := maps.Clone(c.From.Parameters)
	for _, p := range kinds[i].Parameters {
		if p.Required && left[p.Name] == "" {
			return fmt.Errorf("%w: credential %s: source %s needs from.parameters.%s: %s", ErrRecord, c.ID, c.Source, p.Name, p.Doc)
		}
		delete(left, p.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		return fmt.Errorf("%w: credential %s: source %s knows no from.parameters.%s", ErrRecord, c.ID, c.Source, name)
	}
	return nil
}
