package custody

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/statement"
)

// TestTemplates: every template is whole, and with its words filled in it makes a record that holds, by each of its ways whose source
// this version has.
func TestTemplates(t *testing.T) {
	words := strings.NewReplacer("{region}", "eu-central-1", "{project}", "p1", "{resource}", "acme", "{directory}", "d1", "{workspace}", "acme.cloud.example", "{installation}", "7")
	sources := []string{"sealed", "federation", "vault", "oauth", "github-app", "openai-key"}
	seen := map[string]bool{}
	for _, tt := range Templates() {
		if seen[tt.Name] || tt.Doc == "" || tt.Page == "" || len(tt.Ways) == 0 {
			t.Errorf("%s: twice, or something is missing", tt.Name)
		}
		seen[tt.Name] = true
		if tt.Dialect != "" && len(tt.Paths) == 0 {
			t.Errorf("%s speaks %s and has no paths", tt.Name, tt.Dialect)
		}
		for _, way := range tt.Ways {
			if !slices.Contains(sources, way.Source) {
				t.Errorf("%s: no custody record may name the source %q", tt.Name, way.Source)
			}
			if u, err := url.Parse(words.Replace(way.URL)); way.URL != "" && (err != nil || u.Scheme != "https" || u.Path == "" || Open(u.String())) {
				t.Errorf("%s: from.url %q", tt.Name, way.URL)
			}
			kind, ok := FindKind(way.Source)
			if !ok {
				continue
			}
			c := statement.Credential{ID: "x", Template: tt.Name, Source: way.Source, From: statement.From{URL: words.Replace(way.URL), Parameters: map[string]string{}}}
			c.Destination.Origin = words.Replace(tt.Origin)
			c.Inject.Region = words.Replace(way.Inject.Region)
			if c.Destination.Origin == "" {
				c.Destination.Origin = "https://api.example.com"
			}
			if len(tt.Paths) == 0 {
				c.Destination.Methods, c.Destination.Paths = []string{"GET"}, []string{"/v1/things"}
			}
			if way.Parameters["grant"] == "refresh_token" {
				c.From.Home = "c1"
			}
			if c.From.URL == "" && way.Source != "sealed" {
				c.From.URL = "https://secrets.example.com/v1/secret/data/key"
			}
			parameters := kind.All(way.Parameters)
			for name := range way.Parameters {
				if !slices.ContainsFunc(parameters, func(p Parameter) bool { return p.Name == name }) {
					t.Errorf("%s: the source %s knows no parameter %s", tt.Name, way.Source, name)
				}
			}
			for _, p := range parameters {
				if p.Required && way.Parameters[p.Name] == "" {
					c.From.Parameters[p.Name] = append(p.Values, "x")[0]
				}
			}
			if _, err := Read(c); err != nil {
				t.Errorf("%s by %s: %v", tt.Name, way.Source, err)
			}
		}
	}
}

func TestFill(t *testing.T) {
	got, err := Fill(statement.Credential{ID: "x", Template: "groq", Source: "sealed", Destination: statement.Destination{Methods: []string{"POST"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := statement.Credential{
		ID: "x", Template: "groq", Source: "sealed", Dialect: "openai", Inject: statement.Inject{As: "bearer"},
		Probe: statement.Probe{Method: "GET", Path: "/openai/v1/models", Status: 401, Holds: "invalid_api_key"},
		Destination: statement.Destination{Origin: "https://api.groq.com", Prefix: "/openai", Methods: []string{"POST"}, Paths: []string{
			"POST /openai/v1/responses", "POST /openai/v1/responses/*/cancel", "POST /openai/v1/chat/completions", "POST /openai/v1/embeddings"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// What the record says stays, and what holds a word of the owner's is not filled in.
	own := statement.Credential{ID: "x", Template: "anthropic", Source: "federation", From: statement.From{Parameters: map[string]string{"exchange": "mine"}}, Inject: statement.Inject{As: "query", Name: "k"}}
	if got, err = Fill(own); err != nil || got.From.Parameters["exchange"] != "mine" || got.Inject.As != "query" || got.From.URL != "https://api.anthropic.com/v1/oauth/token" {
		t.Errorf("%+v, %v", got, err)
	}
	if own.From.Parameters["federation_rule_id"] = "r"; len(got.From.Parameters) != 1 {
		t.Error("the filled record shares its parameters with what it was filled from")
	}
	if got, err = Fill(statement.Credential{ID: "x", Template: "bedrock", Source: "federation"}); err != nil || got.Destination.Origin != "" || got.From.URL != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Fill(statement.Credential{ID: "x", Template: "nobody"}); !errors.Is(err, ErrRecord) {
		t.Errorf("an unknown template: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for name, edit := range map[string]func(*statement.Credential){
		"no source":    func(c *statement.Credential) { c.Source = "env" },
		"no origin":    func(c *statement.Credential) { c.Template = "openai-compatible" },
		"no paths":     func(c *statement.Credential) { c.Template, c.Destination.Origin = "oauth", "https://a.example" },
		"no injection": func(c *statement.Credential) { c.Template = "vertex"; c.Destination.Origin = "https://a.example" },
		"probe that changes": func(c *statement.Credential) {
			c.Probe = statement.Probe{Method: "POST", Path: "/v1/responses", Status: 401}
		},
		"unknown parameter": func(c *statement.Credential) { c.From.Parameters = map[string]string{"x": "y"} },
	} {
		c := statement.Credential{ID: "x", Template: "openai", Source: "sealed"}
		edit(&c)
		if _, err := Read(c); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
