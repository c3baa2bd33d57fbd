package statement

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Duration is a time.Duration written "5s" or "720h" in YAML. It is never negative.
type Duration time.Duration

// UnmarshalYAML reads a duration as time.ParseDuration does. It takes the node: to be given bytes, the library writes them from every
// token of the file, for each value anew.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return scalarError{text, "a duration such as 90s or 720h"}
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes the duration as time.Duration.String does.
func (d Duration) MarshalYAML() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// unmarshalTime reads a time; the YAML library would read many forms, and take what it does not know for the zero time.
func unmarshalTime(t *time.Time, b []byte) error {
	text := unquote(b)
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return scalarError{text, "a time such as 2026-11-23T05:50:00Z"}
	}
	*t = v
	return nil
}

// unquote strips the quotes of a quoted scalar; times and durations have no escapes.
func unquote(b []byte) string { return strings.Trim(strings.TrimSpace(string(b)), `"'`) }

// scalarError is a scalar that does not have the form it should.
type scalarError struct{ text, form string }

func (e scalarError) Error() string { return fmt.Sprintf("%q is not %s", e.text, e.form) }

// Bounds of one YAML file: the parser recurses, and is quadratic in the items between two brackets.
const (
	maxYAML  = 1 << 20 // bytes
	maxDepth = 32
	maxFlow  = 1000 // commas between an outermost pair of brackets
)

// document is a parsed YAML file. It keeps the syntax tree to give refusals their line and column, and the first refusal.
type document struct {
	file  string
	body  ast.Node
	err   *Error
	value any // that it was read into: checked and not changed
}

// parse reads one YAML document into v. Unknown fields, duplicate keys, anchors, aliases, tags, merge keys, directives
// and further documents are refused.
func parse(file string, data []byte, v any) (*document, error) {
	d := &document{file: file, value: v}
	if !utf8.Valid(data) || bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return nil, refuse("yaml", "the file is not UTF-8 without a byte order mark").in(file)
	}
	if len(data) > maxYAML {
		return nil, refuse("size", "the file has more than %d bytes", maxYAML).in(file)
	}
	if line := tooDeep(data); line > 0 {
		e := refuse("yaml", "values are nested more than %d deep, or more than %d stand between brackets: use lines", maxDepth, maxFlow).in(file)
		e.Line, e.Column = line, 1
		return nil, e
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.yamlError(err)
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, refuse("yaml", "the file holds %d documents, not one", len(f.Docs)).in(file)
	}
	d.body = f.Docs[0].Body
	if d.body.Type() != ast.MappingType {
		return nil, refuse("yaml", "the file is not a mapping").in(file)
	}
	ast.Walk(plain{d}, d.body)
	if d.err != nil {
		return nil, d.err
	}
	if err := yaml.NodeToValue(d.body, v, yaml.Strict(), yaml.CustomUnmarshaler(unmarshalTime)); err != nil {
		return nil, d.yamlError(err)
	}
	return d, nil
}

// tooDeep returns the line at which values may be nested deeper than maxDepth, or a flow be longer than maxFlow, or 0. It
// looks at the bytes: brackets that are open, and indentation with dashes and question marks.
func tooDeep(data []byte) int {
	open, items, n := 0, 0, 0
	for line := range bytes.Lines(data) {
		n++
		indent := bytes.TrimLeft(line, " ")
		deep := (len(line) - len(indent)) / 2
		for len(indent) > 1 && (indent[0] == '-' || indent[0] == '?') && indent[1] == ' ' {
			indent = bytes.TrimLeft(indent[1:], " ")
			deep++
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			case ',':
				items++
			}
			if open == 0 {
				items = 0
			}
			if open+deep > maxDepth || items > maxFlow {
				return n
			}
		}
	}
	return 0
}

// plain refuses what YAML has and a statement has not. It visits every node.
type plain struct{ d *document }

func (v plain) Visit(n ast.Node) ast.Visitor {
	bad := ""
	switch n.(type) {
	case *ast.StringNode: // alone: the library would write each time anew from every token that this one leads to
		n.GetToken().Prev, n.GetToken().Next = nil, nil
	case *ast.AnchorNode:
		bad = "an anchor"
	case *ast.AliasNode:
		bad = "an alias"
	case *ast.TagNode:
		bad = "a tag"
	case *ast.MergeKeyNode:
		bad = "a merge key"
	case *ast.DirectiveNode:
		bad = "a directive"
	case *ast.InfinityNode, *ast.NanNode, *ast.FloatNode:
		bad = "a number that is not an integer"
	}
	if bad != "" && v.d.err == nil {
		v.d.err = refuse("yaml", "the file has %s", bad).in(v.d.file)
		v.d.err.place(n)
	}
	return v
}

// place sets the line and column to where n begins.
func (e *Error) place(n ast.Node) {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return
	}
	e.Line, e.Column = n.GetToken().Position.Line, n.GetToken().Position.Column
}

// yamlError turns the parser's error into a refusal with its place.
func (d *document) yamlError(err error) error {
	e := refuse("yaml", "%s", err).in(d.file)
	var ye yaml.Error
	var se scalarError
	switch {
	case errors.As(err, &ye):
		e.What = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	case errors.As(err, &se): // the library does not say where
		for _, n := range append(ast.Filter(ast.StringType, d.body), ast.Filter(ast.IntegerType, d.body)...) {
			if e.Line == 0 && n.GetToken().Value == se.text {
				e.place(n)
			}
		}
	}
	return e
}

// want keeps the first refusal: ok is what must hold at the YAML path (such as "$.people[2].id").
func (d *document) want(ok bool, rule, path, format string, args ...any) bool {
	if ok || d.err != nil {
		return ok
	}
	d.err = refuse(rule, format, args...).in(d.file)
	d.place(d.err, path)
	return false
}

// place sets the line and column of a refusal to what stands at the YAML path, or the nearest member that the file has.
func (d *document) place(e *Error, path string) {
	for ; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if p, err := yaml.PathString(path); err == nil {
			if n, err := p.FilterNode(d.body); err == nil && n != nil {
				e.place(n)
				return
			}
		}
	}
}

// done returns the first refusal, as an error that is nil when there is none.
func (d *document) done() error {
	if d.err != nil {
		return d.err
	}
	return nil
}

// id wants a well-formed id that is not in seen yet, and adds it.
func (d *document) id(seen map[string]bool, id, path string) {
	d.want(ValidID(id), "id", path, "%q is not an id: lower-case letters, digits and dashes, at most 63", id)
	d.want(!seen[id], "id", path, "the id %q is used twice", id)
	seen[id] = true
}

// peer wants a key on the hop that nobody else has, or none.
func (d *document) peer(seen map[string]bool, key, path string) {
	if key == "" {
		return
	}
	sum, ok := strings.CutPrefix(key, "sha256:")
	ok = ok && len(sum) == 64 && strings.Trim(sum, "0123456789abcdef") == ""
	d.want(ok, "key", path, "%q is not a peer key: sha256: and 64 lower-case hex digits, as printed by reeve host key", key)
	d.want(!seen[key], "separation", path, "the peer key %q is used twice", key)
	seen[key] = true
}

// within wants 0 ≤ n ≤ limit.
func (d *document) within(n, limit int64, path string) {
	d.want(n >= 0 && n <= limit, "value", path, "%d is not between 0 and %d", n, limit)
}

// oneOf wants one of the words.
func (d *document) oneOf(s, path string, words ...string) {
	d.want(slices.Contains(words, s), "value", path, "%q is not one of %q", s, words)
}

// ValidID reports whether s is an id of an estate, a unit, a process or another thing of statements: [a-z0-9][a-z0-9-]{0,62}.
func ValidID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 63
}

// at appends an index to a YAML path.
func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

const unbounded = math.MaxInt64
