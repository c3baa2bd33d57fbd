package statement_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

const someKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}`

func TestMatchSubject(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"system:serviceaccount:research:agent", "system:serviceaccount:research:agent", true},
		{"system:serviceaccount:research:agent", "system:serviceaccount:research:agent2", false},
		{"system:serviceaccount:research:*", "system:serviceaccount:research:anything", true},
		{"system:serviceaccount:research:*", "system:serviceaccount:research:", false},
		{"system:serviceaccount:research:*", "system:serviceaccount:research:a:b", false},
		{"system:serviceaccount:research:*", "system:serviceaccount:research", false},
		{"system:serviceaccount:*:agent", "system:serviceaccount:support:agent", true},
		{"repo:acme/agents:ref:refs/heads/*", "repo:acme/agents:ref:refs/heads/main", true},
		{"repo:acme/agents:ref:refs/heads/*", "repo:acme/agents:ref:refs/heads/a/b", false},
		{"repo:acme/agents:ref:refs/heads/*", "repo:acme/agents:ref:refs:heads/a", false},
		{"repo:acme/*:environment:prod", "repo:acme/x:environment:prod", true},
		{"repo:acme/*:environment:prod", "repo:acme/x/y:environment:prod", false},
		{"repo:acme/agents:pull_request", "repo:acme/agents:pull_request", true},
		{"spiffe://acme.example/ns/research/sa/*", "spiffe://acme.example/ns/research/sa/agent", true},
		{"spiffe://acme.example/ns/research/sa/*", "spiffe://evil.example/ns/research/sa/agent", false},
		{"spiffe://acme.example/ns/research/sa/*", "spiffe:/x/acme.example/ns/research/sa/agent", false},
		{"agent", "agent", true},
		{"agent", "", false},
	} {
		if got := statement.MatchSubject(c.pattern, c.subject); got != c.want {
			t.Errorf("%s against %s: %v", c.subject, c.pattern, got)
		}
	}
}

// Whatever matches two patterns makes them overlap, and the charter refuses that.
func TestIssuers(t *testing.T) {
	issuer := func(f func(*statement.Issuer)) func(*estate.Plan) {
		return func(p *estate.Plan) {
			i := statement.Issuer{ID: "cluster", Issuer: "https://kubernetes.example", JWKS: someKeys, Algorithms: []string{"EdDSA"}}
			if f != nil {
				f(&i)
			}
			p.Charter.Issuers = append(p.Charter.Issuers, i)
		}
	}
	identity := func(subjects ...string) func(*estate.Plan) {
		return func(p *estate.Plan) {
			issuer(nil)(p)
			for i, s := range subjects {
				p.Charter.Workloads[i].Identities = []statement.Identity{{Issuer: "cluster", Audience: "reeve", Subject: s}}
			}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*estate.Plan)
		rule string
		says string
	}{
		{"static", identity("system:serviceaccount:research:agent"), "", ""},
		{"discovery", issuer(func(i *statement.Issuer) { i.JWKS, i.Discovery, i.Networks = "", true, []string{"10.0.0.0/8"} }), "", ""},
		{"a trust domain", issuer(func(i *statement.Issuer) { i.Issuer = "spiffe://acme.example" }), "", ""},
		{"several workloads", identity("repo:acme/a:ref:refs/heads/*", "repo:acme/b:ref:refs/heads/*"), "", ""},
		{"the authority", func(p *estate.Plan) {
			p.Charter.Workloads[0].Identities = []statement.Identity{{Issuer: "authority"}}
		}, "", ""},

		{"an id that is reserved", issuer(func(i *statement.Issuer) { i.ID = "reeve" }), "id", "twice"},
		{"two with one iss", func(p *estate.Plan) { issuer(nil)(p); issuer(func(i *statement.Issuer) { i.ID = "other" })(p) }, "value", "same iss"},
		{"http", issuer(func(i *statement.Issuer) { i.Issuer = "http://kubernetes.example" }), "value", "not an issuer"},
		{"a query", issuer(func(i *statement.Issuer) { i.Issuer = "https://kubernetes.example/?a" }), "value", "not an issuer"},
		{"a trust domain with a path", issuer(func(i *statement.Issuer) { i.Issuer = "spiffe://acme.example/a" }), "value", "not an issuer"},
		{"keys twice", issuer(func(i *statement.Issuer) { i.Discovery = true }), "value", "either"},
		{"no keys", issuer(func(i *statement.Issuer) { i.JWKS = "" }), "value", "either"},
		{"keys that are none", issuer(func(i *statement.Issuer) { i.JWKS = `{"keys":[]}` }), "key", "no key"},
		{"a trust domain that is asked", issuer(func(i *statement.Issuer) { i.Issuer, i.JWKS, i.Discovery = "spiffe://a.example", "", true }), "value", "asked"},
		{"networks for nothing", issuer(func(i *statement.Issuer) { i.Networks = []string{"10.0.0.0/8"} }), "value", "for discovery"},
		{"no algorithms", issuer(func(i *statement.Issuer) { i.Algorithms = nil }), "value", "algorithms"},
		{"no signature", issuer(func(i *statement.Issuer) { i.Algorithms = []string{"none"} }), "value", "none"},
		{"a shared key", issuer(func(i *statement.Issuer) { i.Algorithms = []string{"HS256"} }), "value", "HS256"},
		{"an unknown issuer", func(p *estate.Plan) { identity("a:b")(p); p.Charter.Workloads[0].Identities[0].Issuer = "x" }, "reference", "not an issuer of the charter"},
		{"no audience", func(p *estate.Plan) { identity("a:b")(p); p.Charter.Workloads[0].Identities[0].Audience = "" }, "value", "audience"},
		{"any audience", func(p *estate.Plan) { identity("a:b")(p); p.Charter.Workloads[0].Identities[0].Audience = "*" }, "value", "audience"},
		{"a subject of reeve", func(p *estate.Plan) {
			p.Charter.Workloads[0].Identities = []statement.Identity{{Issuer: "reeve", Subject: "a"}}
		}, "value", "neither"},
		{"no subject", identity(""), "value", "not a subject"},
		{"any subject", identity("*"), "value", "not a subject"},
		{"any first segment", identity("*:a:b"), "value", "not a subject"},
		{"any second segment", identity("repo:*/agents:ref:refs/heads/main"), "value", "not a subject"},
		{"any trust domain", identity("spiffe://*/agent"), "value", "not a subject"},
		{"a part of a segment", identity("a:b:c*"), "value", "not a subject"},
		{"a space", identity("a b"), "value", "not a subject"},
		{"one subject twice", identity("a:b:c", "a:b:c"), "separation", "both research-agent and support-agent"},
		{"a subject in a pattern", identity("a:b:c", "a:b:*"), "separation", "both"},
		{"a pattern around a subject", identity("a:b:*", "a:b:c"), "separation", "both"},
		{"two patterns", identity("a:b:*:d", "a:b:c:*"), "separation", "both"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := estatetest.Try(t, estatetest.Edit(c.edit))
			if c.rule == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := err.(*statement.Error)
			if !ok || e.Rule != c.rule || !strings.Contains(e.What, c.says) || e.Line == 0 {
				t.Fatalf("got %v (%s)", err, fmt.Sprintf("%T", err))
			}
		})
	}
}
