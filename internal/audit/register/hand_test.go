package register_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
)

// TestHands: who can read a credential is whoever holds it, operates that, hands it over, or may have it recovered; deputies once they act. Who only
// uses it reads nothing.
func TestHands(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(t, estatetest.At(now), estatetest.With(dan), estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			switch q := &p.Charter.People[i]; q.ID {
			case "ada": // decides about uses: nothing is recovered to her
				q.Recipient = "age1" + strings.Repeat("q", 58)
			case "bea":
				q.Recipient = "age1" + strings.Repeat("p", 58)
			case "cora":
				q.Left, q.Deputies = now.Add(2*time.Hour), []string{"dan"}
			}
		}
	}))
	acme := vendor("acme", now, register.Transport)
	acme.Credentials = []string{"support-openai"}
	b.add(t, now, acme)
	b.add(t, now, register.Said{ID: "host", Kind: register.AgentHost, Declared: []register.Flag{register.Invoke}, Valid: now, Owners: register.Owners{Operations: "dan"}})
	b.add(t, now, register.Said{ID: "vault", Kind: register.Store, Units: []string{"research"}, Declared: []register.Flag{register.Retrieve}, Valid: now})
	b.add(t, now.Add(time.Minute), register.Said{ID: "g1", Kind: register.Gateway, Observed: []register.Flag{register.Forward}, Valid: now.Add(time.Minute)})
	r := b.open(t, now.Add(4*time.Hour))
	hands := func(credential string, at time.Time) (list []string) {
		all, err := r.At(at, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range register.Hands(b.Set, all, credential, at) {
			one := h.Who
			if h.Latent {
				one += " later"
			}
			list = append(list, one)
		}
		return list
	}
	for _, c := range []struct {
		name, credential string
		after            time.Duration
		want             []string
	}{
		{"of a unit that a store serves", "research-openai", 0, []string{"custodian:c1", "secret-store:vault", "person:bea", "person:cora", "person:dan later"}},
		{"known to be at a vendor's", "support-openai", 0, []string{"custodian:c1", "vendor-gateway:acme", "person:bea", "person:cora", "person:dan later"}},
		{"a gateway was seen to forward", "support-openai", time.Minute, []string{"custodian:c1", "gateway:g1", "vendor-gateway:acme", "person:bea", "person:cora", "person:dan later"}},
		{"the owner has left", "support-openai", 3 * time.Hour, []string{"custodian:c1", "gateway:g1", "vendor-gateway:acme", "person:bea", "person:dan"}},
		{"nobody has it", "nothing", 0, nil},
	} {
		got := hands(c.credential, now.Add(c.after))
		slices.Sort(got)
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
