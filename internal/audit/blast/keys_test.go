package blast_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// sources gives research a credential of each kind of source, all of them looked after by c1, and has a helper hold support's federation key.
func sources(p *estate.Plan) {
	cu := p.Custody["research"]
	like := cu.Credentials[0]
	add := func(id, source, url string, parameters map[string]string) *statement.Credential {
		c := like
		c.ID, c.Source, c.Dialect, c.From = id, source, "", statement.From{URL: url, Parameters: parameters}
		cu.Credentials = append(cu.Credentials, c)
		return &cu.Credentials[len(cu.Credentials)-1]
	}
	exchange := map[string]string{"exchange": "openai", "identity_provider_id": "idp", "service_account_id": "sa"}
	add("fed-1", "federation", "https://auth.provider.example/oauth/token", exchange)
	add("fed-2", "federation", "https://auth.provider.example/oauth/token", exchange)
	vault := map[string]string{"engine": "kv2", "field": "key", "login": "kubernetes", "role": "reeve"}
	add("leased-1", "vault", "https://vault.example/v1/secret/data/one", vault)
	add("leased-2", "vault", "https://vault.example/v1/secret/data/two", vault)
	add("role-id", "vault", "https://vault.example/v1/secret/data/three", map[string]string{"engine": "kv2", "field": "key", "login": "approle", "role": "r1"})
	add("signed-in", "vault", "https://vault.example/v1/secret/data/four", map[string]string{"engine": "kv2", "field": "key", "login": "jwt", "role": "r2", "audience": "vault"})
	refresh := add("refreshed", "oauth", "https://login.example/token", map[string]string{"grant": "refresh_token", "client_id": "app-7"})
	refresh.From.Home = "c1"
	add("client", "oauth", "https://login.example/token", map[string]string{"grant": "client_credentials", "client_id": "app-9"})
	add("admin", "openai-key", "https://api.openai.com/v1/organization", map[string]string{"project": "proj_1"})
	add("app", "github-app", "https://api.github.com/app", map[string]string{"installation": "12", "app": "34"})
	mutual := add("mutual", "sealed", "", nil)
	mutual.Inject = statement.Inject{As: "tls"}
	p.Custody["lab"].Federation = nil
	for _, unit := range []string{"research", "support"} {
		k := &p.Custody[unit].Federation.Keys[0]
		k.NotBefore, k.NotAfter = start().Add(-time.Hour), start().Add(24*time.Hour)
	}
	p.Custody["support"].Federation.Keys[0].Held = statement.HeldByHelper
}

// keyed are the keys of an answer in short.
func keyed(keys []keyring.Key) (list []string) {
	for _, k := range keys {
		id := k.ID
		if k.Kind == keyring.Federation {
			id = "kid"
		}
		list = append(list, fmt.Sprintf("%s %s %s taken=%v live=%v fetches=%d by %s for %s", k.Kind, k.Unit, id, k.Taken, k.Live, k.Fetches, strings.Join(k.Rotate, "|"), strings.Join(k.Credentials, "|")))
	}
	return list
}

// Each key and login of a captured custodian is a row of its own: what can be had with it, who rotates it, and whether it can have been taken along.
func TestKeys(t *testing.T) {
	e := estatetest.New(t, estatetest.At(start()), estatetest.Service("log", "c2"), estatetest.Service("log", "g2"), estatetest.Federated(t), estatetest.Edit(shape), estatetest.Edit(sources))
	w := newWorld(t, e)
	w.put(logC1, time.Minute, entry.Entry{Type: entry.Publish, Reason: "handover", Credential: "refreshed", Lease: "v1", CredFP: "fp-refreshed-1", Actor: []string{"cora-1"}})
	for i := range 3 {
		w.put(logC1, minute+time.Duration(i)*time.Second, entry.Entry{Type: entry.Mint, Reason: "fetch", Credential: "fed-1"})
	}
	w.put(logC1, 2*minute, entry.Entry{Type: entry.Mint, Reason: "fetch", Credential: "leased-2"})
	a := w.ask(component("c1"), blast.Options{})
	want := []string{
		"federation-key research kid taken=true live=true fetches=3 by cora for fed-1|fed-2|signed-in",
		"admin-key research admin taken=true live=true fetches=0 by cora for admin",
		"app-key research app taken=true live=true fetches=0 by cora for app",
		"refresh-token research refreshed taken=true live=true fetches=0 by cora for refreshed",
		"client-key research client taken=true live=true fetches=0 by cora for client",
		"vault-login research https://vault.example kubernetes reeve taken=true live=true fetches=1 by cora for leased-1|leased-2",
		"vault-login research role-id taken=true live=true fetches=0 by cora for role-id",
		"client-certificate research mutual taken=true live=true fetches=0 by cora for mutual",
		"identity  c1 taken=true live=true fetches=0 by cora for ",
		"log-key  c1 taken=true live=true fetches=0 by ada|bea|cora for ",
		"federation-key support kid taken=false live=true fetches=0 by cora for ", // of nothing yet: the unit's own people
	}
	if diff := cmp.Diff(want, keyed(a.Keys)); diff != "" {
		t.Error(diff)
	}
	if a.Residual.Keys != len(want)-1 {
		t.Errorf("%d keys live on", a.Residual.Keys)
	}
	for _, k := range a.Keys {
		if k.Mints == "" || k.Do == "" || strings.ContainsAny(k.Mints+k.Do, "{}") {
			t.Errorf("%s: %q, %q", k.Kind, k.Mints, k.Do)
		}
		switch k.Kind {
		case keyring.Federation:
			if !strings.Contains(k.Mints, "spiffe://acme.example/unit/"+k.Unit) || k.NotAfter.IsZero() {
				t.Errorf("%+v", k)
			}
		case keyring.Refresh:
			if k.Fingerprint != "fp-refreshed-1" || !slices.Equal(k.At, []string{"https://login.example"}) {
				t.Errorf("%+v", k)
			}
		}
	}
	if a = w.ask(component("g1"), blast.Options{}); len(a.Keys) != 0 {
		t.Errorf("a gateway has no such keys: %v", keyed(a.Keys))
	}
}
