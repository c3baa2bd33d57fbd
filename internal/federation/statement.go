package federation

import (
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Entry is a key as the custody statement has it, from now on and for as long as a key may sign.
func Entry(custodian, jwk string, now time.Time) statement.FederationKey {
	from := now.Add(-time.Minute).UTC().Truncate(time.Second)
	return statement.FederationKey{Custodian: custodian, JWK: jwk, NotBefore: from, NotAfter: from.Add(statement.FederationKeyLife)}
}

// Add returns what the custody statement says after a key was added: those whose time is over are left out, and the hashes are those of
// the files that then have to be published. f is unchanged.
func Add(f statement.Federation, k statement.FederationKey, now time.Time) statement.Federation {
	keys := []statement.FederationKey{}
	for _, old := range append(append([]statement.FederationKey{}, f.Keys...), k) {
		if now.Before(old.NotAfter) {
			keys = append(keys, old)
		}
	}
	f.Keys = keys
	f.JWKSSHA256, f.DiscoverySHA256 = f.Sum(f.JWKS()), f.Sum(f.Discovery())
	return f
}
