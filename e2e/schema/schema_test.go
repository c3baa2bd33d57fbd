// Package schema holds the editors' schemas against files of an estate, by a validator that knows nothing of reeve.
package schema

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/reevehq/reeve/docs/schema"
	"github.com/reevehq/reeve/internal/credential"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

func compiled(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	raw, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read turns YAML into what the validator takes.
func read(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEstate(t *testing.T) {
	e := estatetest.New(t, estatetest.Federated(t))
	for name, file := range map[string]string{"charter": "charter", "operations": "operations", "policy-research": "policy", "custody-research": "custody"} {
		files, err := e.Dir.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled(t, file).Validate(read(t, files[file+".yaml"])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	s := compiled(t, "custody")
	validate := func(c statement.Credential) error {
		text, err := credential.Text(c)
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(read(t, []byte("unit: research\ncredentials:\n"+text)))
	}
	for _, tt := range custody.Templates() {
		for _, way := range tt.Ways {
			if _, ok := custody.FindKind(way.Source); !ok {
				continue
			}
			c := statement.Credential{ID: "x", Owner: "cora", Class: "high", Template: tt.Name, Dialect: tt.Dialect, Source: way.Source, Inject: way.Inject, Probe: tt.Probe,
				From: statement.From{URL: way.URL, Parameters: way.Parameters}, Destination: statement.Destination{Origin: tt.Origin, Paths: tt.Paths}}
			if err := validate(c); err != nil {
				t.Errorf("%s by %s: %v", tt.Name, way.Source, err)
			}
		}
	}
	good := statement.Credential{ID: "x", Owner: "cora", Class: "high", Template: "of-another-version", Source: "sealed"}
	if err := validate(good); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]func(*statement.Credential){
		"no class":       func(c *statement.Credential) { c.Class = "" },
		"another class":  func(c *statement.Credential) { c.Class = "low" },
		"another source": func(c *statement.Credential) { c.Source = "env" },
		"no id":          func(c *statement.Credential) { c.ID = "A B" },
		"no template":    func(c *statement.Credential) { c.Template = "Of Another" },
		"another honey":  func(c *statement.Credential) { c.Honey = "yes" },
		"unknown parameter": func(c *statement.Credential) {
			c.Source, c.From.Parameters = "oauth", map[string]string{"engine": "kv2"}
		},
		"unknown value": func(c *statement.Credential) {
			c.Source, c.From.Parameters = "oauth", map[string]string{"grant": "password"}
		},
	} {
		c := good
		if edit(&c); validate(c) == nil {
			t.Errorf("%s holds", name)
		}
	}
	for _, bad := range []string{"unit: research\nsecrets: []\n", "unit: [research]\n", "unit: research\ncredentials: [{id: x, owner: c, class: high, source: sealed, max_lifetime: 90}]\n"} {
		if s.Validate(read(t, []byte(bad))) == nil {
			t.Errorf("%q holds", bad)
		}
	}
}
