package credential

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// answer answers every question: with what is given, else with what most would answer.
func answer(t *testing.T, set *statement.Set, given map[string]string) (statement.Credential, error) {
	t.Helper()
	d := new(Draft)
	for range 50 {
		q, err := d.Next(set)
		if err != nil {
			return statement.Credential{}, err
		}
		if q == nil {
			return d.Record()
		}
		value := given[q.Name]
		if value == "" {
			value = q.Default
		}
		if value == "" && len(q.Choices) > 0 {
			value = q.Choices[0]
		}
		if value == "" {
			value = map[string]string{"origin": "https://api.example.com", "url": "https://token.example.com/v1/secret/data/openai", "paths": "GET,POST /v1/things; GET /v1/things/*",
				"installation": "7", "workspace": "acme.cloud.example"}[q.Name]
		}
		if value == "" {
			value = "word"
		}
		if err := d.Answer(q.Name, value); err != nil {
			return statement.Credential{}, err
		}
	}
	t.Fatal("the questions do not end")
	return statement.Credential{}, nil
}

// TestEveryTemplate: by every template and each of its sources the answers make a record that custodians can use, which goes into a
// custody file that still holds.
func TestEveryTemplate(t *testing.T) {
	e := estatetest.New(t, estatetest.Federated(t))
	for _, tt := range custody.Templates() {
		for _, way := range tt.Ways {
			if _, ok := custody.FindKind(way.Source); !ok {
				continue
			}
			c, err := answer(t, e.Set, map[string]string{"unit": "research", "template": tt.Name, "source": way.Source, "name": "research-new"})
			if err != nil {
				t.Errorf("%s by %s: %v", tt.Name, way.Source, err)
				continue
			}
			files, err := e.Dir.Files("custody-research")
			if err != nil {
				t.Fatal(err)
			}
			if files["custody.yaml"], err = Insert(files["custody.yaml"], c); err != nil {
				t.Fatal(err)
			}
			set, err := e.Dir.CheckWith("custody-research", files)
			if err != nil {
				t.Errorf("%s by %s: %v", tt.Name, way.Source, err)
				continue
			}
			list := set.Custody["research"].Credentials
			if diff := cmp.Diff(e.Set.Custody["research"].Credentials, list[:len(list)-1]); diff != "" {
				t.Errorf("%s by %s: another record changed:\n%s", tt.Name, way.Source, diff)
			}
			if strings.Contains(c.Probe.Path, "//") || custody.Open(c.Probe.Path) {
				t.Errorf("%s by %s: the probe's path is %q", tt.Name, way.Source, c.Probe.Path)
			}
			want, err := custody.Read(c)
			if err != nil {
				t.Error(err)
			}
			if got, err := custody.Read(list[len(list)-1]); err != nil || cmp.Diff(want, got) != "" {
				t.Errorf("%s by %s: what was read is not what was written: %v\n%s", tt.Name, way.Source, err, cmp.Diff(want, got))
			}
		}
	}
}

func TestRecord(t *testing.T) {
	e := estatetest.New(t)
	got, err := answer(t, e.Set, map[string]string{"unit": "research", "template": "github", "source": "github-app", "app": "Iv1", "installation": "42", "class": "high"})
	want := statement.Credential{ID: "research-github", Owner: "cora", Class: "high", Template: "github", Source: "github-app",
		From: statement.From{URL: "https://api.github.com/app/installations/42/access_tokens", Parameters: map[string]string{"app": "Iv1"}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = answer(t, e.Set, map[string]string{"unit": "research", "template": "bedrock", "source": "sealed", "region": "eu-central-1", "max_lifetime": "12h"})
	if err != nil || got.Destination.Origin != "https://bedrock-runtime.eu-central-1.amazonaws.com" || got.MaxLifetime == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, given := range map[string]map[string]string{
		"unknown unit":  {"unit": "sales"},
		"unknown":       {"unit": "research", "template": "nobody"},
		"another way":   {"unit": "research", "template": "gemini", "source": "oauth"},
		"not his":       {"unit": "research", "template": "gemini", "owner": "ada"},
		"taken":         {"unit": "research", "template": "gemini", "name": "research-openai"},
		"no duration":   {"unit": "research", "template": "gemini", "max_lifetime": "soon"},
		"two lines":     {"unit": "research", "template": "bedrock", "source": "sealed", "region": "a\nb"},
		"secret issuer": {"unit": "research", "template": "api", "origin": "http://plain.example"},
	} {
		c, err := answer(t, e.Set, given)
		if err == nil { // what goes beyond single answers is the whole estate's to refuse
			files, _ := e.Dir.Files("custody-research")
			files["custody.yaml"], _ = Insert(files["custody.yaml"], c)
			_, err = e.Dir.CheckWith("custody-research", files)
		} else if !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			t.Errorf("%s is accepted: %+v", name, c)
		}
	}
	d := Draft{Unit: "research", Template: "gemini", Source: "sealed", ID: "x", Owner: "cora", Class: "normal", Words: map[string]string{"max_lifetime": "1h", "colour": "red"}}
	if _, err := d.Record(); !errors.Is(err, ErrAnswer) {
		t.Errorf("a word that nothing asks for: %v", err)
	}
}
