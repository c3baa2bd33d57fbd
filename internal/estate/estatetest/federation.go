package estatetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/statement"
)

// Federated gives every unit a federation with a key of c1's that nobody keeps: its statement holds, and nothing can be signed.
func Federated(t testing.TB) Option {
	return Edit(func(p *estate.Plan) {
		for unit, cu := range p.Custody {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(t, err)
			jwk, _, err := federation.Public(key.Public(), "ES256")
			must(t, err)
			now := time.Now()
			f := federation.Add(statement.Federation{Issuer: "https://id.example/" + unit, TrustDomain: "acme.example"}, federation.Entry("c1", jwk, now), now)
			cu.Federation = &f
		}
	})
}
