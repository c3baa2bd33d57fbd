package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/docs/schema"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

var update = flag.Bool("update", false, "rewrite the schemas")

// statements are the owners' files.
func statements() map[string]any {
	return map[string]any{"charter": statement.Charter{}, "operations": statement.Operations{}, "policy": statement.PolicyStatement{}, "custody": statement.CustodyStatement{}}
}

type object = map[string]any

const (
	id       = "^[a-z0-9][a-z0-9-]{0,62}$"
	duration = "^(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"
)

// words are those that a member may have. TestWords holds them against the strict reader.
func words() map[string][]string {
	isolation := []string{"host", "separate-uid", "one-uid", "none"}
	var kinds []string
	for _, k := range custody.Kinds() {
		kinds = append(kinds, k.Name)
	}
	return map[string][]string{
		"Ceiling.OnExcess":           {"deny", "freeze"},
		"WorkloadLimit.OnExcess":     {"deny", "freeze"},
		"Credential.Class":           {"normal", "high"},
		"Credential.Dialect":         {"openai", "anthropic"},
		"Credential.Source":          kinds,
		"Credential.AcceptIsolation": isolation,
		"Credential.OnReflection":    {"alarm", "freeze"},
		"Credential.Honey":           {"alarm", "freeze"},
		"FederationKey.Held":         {"helper"},
		"Inject.As":                  {"bearer", "header", "query", "sigv4", "tls"},
		"Provider.Dialect":           {"openai", "anthropic"},
		"ServiceKey.Use":             {"log", "feed", "token", "witness"},
		"Charter.RequireIsolation":   isolation,
	}
}

// generator writes the schema of one type. docs are the comments on its members, by "Type.Member".
type generator struct {
	docs map[string]string
	defs object
}

func (g *generator) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[statement.Duration]():
		return object{"type": "string", "pattern": duration}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Struct:
		if g.defs[t.Name()] == nil {
			g.defs[t.Name()] = object{} // it may hold itself
			g.defs[t.Name()] = g.structure(t)
		}
		return object{"$ref": "#/$defs/" + t.Name()}
	}
	panic("no schema for " + t.String())
}

func (g *generator) structure(t reflect.Type) object {
	members := object{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("yaml")
		if !ok || !f.IsExported() {
			continue
		}
		m, key := g.of(f.Type), t.Name()+"."+f.Name
		if w := words()[key]; w != nil {
			m["enum"] = w
		}
		if f.Name == "ID" {
			m["pattern"] = id
		}
		if d := g.docs[key]; d != "" {
			m["description"] = d
		}
		members[name] = m
	}
	o := object{"type": "object", "additionalProperties": false, "properties": members}
	if d := g.docs[t.Name()]; d != "" {
		o["description"] = d
	}
	if t == reflect.TypeFor[statement.Credential]() {
		g.credential(o, members)
	}
	return o
}

// credential adds what internal/custody knows of templates and sources.
func (g *generator) credential(o, members object) {
	var templates []object
	for _, t := range custody.Templates() {
		templates = append(templates, object{"const": t.Name, "description": t.Doc})
	}
	template := members["template"].(object)
	template["anyOf"] = append(templates, object{"pattern": id, "description": "one of another version"})
	var sources []object
	for _, k := range custody.Kinds() {
		parameters := object{}
		for _, p := range slices.Concat(k.Parameters, variants(&k)) {
			one := object{"type": "string", "description": p.Doc}
			if len(p.Values) > 0 {
				one["enum"] = p.Values
			}
			parameters[p.Name] = one
		}
		then := object{"properties": object{"source": object{"description": k.Doc},
			"from": object{"properties": object{"parameters": object{"additionalProperties": false, "properties": parameters}}}}}
		sources = append(sources, object{"if": object{"required": []string{"source"}, "properties": object{"source": object{"const": k.Name}}}, "then": then})
	}
	o["required"] = []string{"id", "owner", "class", "source"}
	o["allOf"] = sources
}

// variants are the parameters of all variants of a kind, each once.
func variants(k *custody.Kind) (list []custody.Parameter) {
	for _, v := range k.Variants {
		for _, p := range v.Parameters {
			if !slices.ContainsFunc(list, func(q custody.Parameter) bool { return q.Name == p.Name }) {
				list = append(list, p)
			}
		}
	}
	return list
}

// comments reads what stands beside the members of statement's types.
func comments(t *testing.T) map[string]string {
	docs := map[string]string{}
	files, err := filepath.Glob("../../internal/statement/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, spec := range decl.Specs {
				s, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				structure, ok := s.Type.(*ast.StructType)
				if !ok {
					continue
				}
				docs[s.Name.Name] = oneLine(decl.Doc.Text())
				for _, field := range structure.Fields.List {
					for _, m := range field.Names {
						docs[s.Name.Name+"."+m.Name] = oneLine(field.Doc.Text() + " " + field.Comment.Text())
					}
				}
			}
			return true
		})
	}
	return docs
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestSchemas: the files say what the types and tables say. -update rewrites them.
func TestSchemas(t *testing.T) {
	docs := comments(t)
	for name, v := range statements() {
		g := &generator{docs: docs, defs: object{}}
		root := reflect.TypeOf(v)
		g.of(root)
		text := object{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name + ".yaml", "$ref": "#/$defs/" + root.Name(), "$defs": g.defs}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(text); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name+".json", b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := schema.Files.ReadFile(name + ".json")
		if err != nil && !*update {
			t.Error(err)
			continue
		}
		if !*update && !bytes.Equal(got, b.Bytes()) {
			t.Errorf("%s.json is not what the types say; go test ./docs/schema -update (-want +got):\n%s", name, cmp.Diff(b.String(), string(got)))
		}
	}
}

// TestWords: the strict reader takes each word that the schemas name, and of each such member no other.
func TestWords(t *testing.T) {
	e := estatetest.New(t, estatetest.Federated(t), estatetest.Edit(func(p *estate.Plan) {
		p.Policies["research"].Ceilings = []statement.Ceiling{{Workload: "*", Credential: "*"}}
		p.Policies["research"].Limits = []statement.WorkloadLimit{{Workload: "*"}}
	}))
	place := map[string]struct{ statement, file, path string }{
		"Ceiling":       {"policy-research", "policy.yaml", "$.ceilings[0]"},
		"WorkloadLimit": {"policy-research", "policy.yaml", "$.limits[0]"},
		"Credential":    {"custody-research", "custody.yaml", "$.credentials[0]"},
		"Inject":        {"custody-research", "custody.yaml", "$.credentials[0].inject"},
		"Provider":      {"operations", "operations.yaml", "$.providers[0]"},
		"ServiceKey":    {"charter", "charter.yaml", "$.service_keys[0]"},
		"Charter":       {"charter", "charter.yaml", "$"},
		"FederationKey": {"custody-research", "custody.yaml", "$.federation.keys[0]"},
	}
	for key, list := range words() {
		kind, member, _ := strings.Cut(key, ".")
		at := place[kind]
		tag := tagOf(kind, member)
		if at.file == "" || tag == "" {
			t.Errorf("nothing tries the words of %s", key)
			continue
		}
		for _, word := range append(list, "no-such-word") {
			err := check(t, e, at.statement, at.file, at.path, tag, word)
			refused := err != nil && strings.Contains(err.Error(), `"`+word+`" is not one of`)
			if refused != (word == "no-such-word") {
				t.Errorf("%s: %s: %v", key, word, err)
			}
		}
	}
}

func tagOf(kind, member string) string {
	for _, v := range []any{statement.Ceiling{}, statement.WorkloadLimit{}, statement.Credential{}, statement.Inject{}, statement.Provider{}, statement.ServiceKey{}, statement.Charter{}, statement.FederationKey{}} {
		if t := reflect.TypeOf(v); t.Name() == kind {
			f, _ := t.FieldByName(member)
			return f.Tag.Get("yaml")
		}
	}
	return ""
}

// check reads the estate with one member of one file set to a word.
func check(t *testing.T, e *estatetest.Estate, name, file, path, member, word string) error {
	t.Helper()
	files, err := e.Dir.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(files[file], &doc); err != nil {
		t.Fatal(err)
	}
	at := doc
	for _, step := range strings.FieldsFunc(strings.TrimPrefix(path, "$"), func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if list, ok := at.([]any); ok {
			at = list[0]
		} else {
			at = at.(map[string]any)[step]
		}
	}
	at.(map[string]any)[member] = word
	if files[file], err = yaml.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	_, err = e.Dir.CheckWith(name, files)
	return err
}

// TestMembers: the strict reader knows every member of the schemas, and they know each of its own.
func TestMembers(t *testing.T) {
	for name, v := range statements() {
		raw, err := schema.Files.ReadFile(name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var text struct {
			Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
		}
		if err := json.Unmarshal(raw, &text); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		var walk func(reflect.Type)
		walk = func(typ reflect.Type) {
			for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
				typ = typ.Elem()
			}
			if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || seen[typ.Name()] {
				return
			}
			seen[typ.Name()] = true
			members := text.Defs[typ.Name()].Properties
			for member := range members {
				into := reflect.New(typ).Interface()
				if err := yaml.UnmarshalWithOptions([]byte(member+":\n"), into, yaml.Strict()); err != nil {
					t.Errorf("%s: the reader does not know %s of %s: %v", name, member, typ.Name(), err)
				}
			}
			n := 0
			for i := range typ.NumField() {
				if f := typ.Field(i); f.IsExported() {
					n++
					if members[strings.ToLower(f.Tag.Get("yaml"))] == nil {
						t.Errorf("%s: the schema does not know %s of %s", name, f.Name, typ.Name())
					}
					walk(f.Type)
				}
			}
			if n != len(members) {
				t.Errorf("%s: %s has %d members, and %d in the schema", name, typ.Name(), n, len(members))
			}
		}
		walk(reflect.TypeOf(v))
	}
}
