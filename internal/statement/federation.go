package statement

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/workload/jwks"
)

// FederationKeyLife is how long a key may sign for a unit at most: its successor is published beside it before.
const FederationKeyLife = 90 * 24 * time.Hour

// Federation is how this unit's custodians say who they are to providers that exchange a signed token for a short-lived secret. The
// two files that providers verify those tokens with are Discovery and JWKS; the owners publish or upload them as they are.
type Federation struct {
	Issuer      string `yaml:"issuer"`       // exact iss, an https URL; a provider looks for the discovery document below it
	TrustDomain string `yaml:"trust_domain"` // of the SPIFFE ids that the tokens are for, such as acme.example
	// Keys sign, each for one custodian; the newest that holds is used.
	Keys []FederationKey `yaml:"keys"`
	// JWKSSHA256 and DiscoverySHA256 are hex, of the files. They say what the owners have looked at and published.
	JWKSSHA256      string `yaml:"jwks_sha256"`
	DiscoverySHA256 string `yaml:"discovery_sha256"`
}

// FederationKey is one public key of the key set.
type FederationKey struct {
	Custodian string    `yaml:"custodian"` // that has the private key
	JWK       string    `yaml:"jwk"`       // RFC 7517, JSON text of one line with kid and alg: ES256 or RS256
	NotBefore time.Time `yaml:"not_before"`
	NotAfter  time.Time `yaml:"not_after"` // at most FederationKeyLife later
	Held      string    `yaml:"held"`      // helper, where the custodian can use the private key and not read it; empty for a file of its own
}

// HeldByHelper is FederationKey.Held of a key that a helper has. The custodian then signs with no copy in a file.
const HeldByHelper = "helper"

// errFederationKey refuses what is not one public key of one algorithm.
var errFederationKey = errors.New("it is not one public key on one line with kid and with alg ES256 or RS256")

// Parse returns the key. Its one algorithm is ES256 or RS256.
func (k *FederationKey) Parse() (jwks.Key, error) {
	if strings.Contains(k.JWK, "\n") || !json.Valid([]byte(k.JWK)) {
		return jwks.Key{}, errFederationKey
	}
	set, err := jwks.Parse([]byte(`{"keys":[` + k.JWK + `]}`))
	if err != nil || len(set.Keys) != 1 {
		return jwks.Key{}, errFederationKey
	}
	key := set.Keys[0]
	if key.ID == "" || len(key.Algorithms) != 1 || key.Algorithms[0] != "ES256" && key.Algorithms[0] != "RS256" {
		return jwks.Key{}, errFederationKey
	}
	return key, nil
}

// JWKS is the key set file: the keys as the statement has them, in its order.
func (f *Federation) JWKS() []byte {
	all := make([]string, len(f.Keys))
	for i, k := range f.Keys {
		all[i] = k.JWK
	}
	return []byte(`{"keys":[` + strings.Join(all, ",") + "]}\n")
}

// Discovery is the file at <issuer>/.well-known/openid-configuration (OpenID Connect Discovery 1.0, section 3).
func (f *Federation) Discovery() []byte {
	b, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKS          string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{f.Issuer, f.Issuer + "/jwks.json", []string{"id_token"}, []string{"public"}, []string{"ES256", "RS256"}})
	if err != nil {
		panic(err) // strings always encode
	}
	return append(b, '\n')
}

// Subject is the SPIFFE id of a credential of the unit, and of a workload with it where there is one: the sub that a provider's trust
// rule names.
func (f *Federation) Subject(unit, credential, workload string) string {
	s := "spiffe://" + f.TrustDomain + "/unit/" + unit + "/credential/" + credential
	if workload != "" {
		s += "/workload/" + workload
	}
	return s
}

// Sum is the form of JWKSSHA256 and DiscoverySHA256.
func (f *Federation) Sum(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// checkFederation holds a unit's federation to its form. Without one no credential may federate.
func checkFederation(cu *CustodyStatement, d *document) {
	f := cu.Federation
	if f == nil {
		for i := range cu.Credentials {
			d.want(cu.Credentials[i].Source != "federation", "reference", at("$.credentials", i)+".source", "the unit has no federation, with which its custodians could say who they are; see reeve federation")
		}
		return
	}
	u, err := url.Parse(f.Issuer)
	ok := err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && !strings.ContainsAny(f.Issuer, "?#%\\ ") && !strings.HasSuffix(f.Issuer, "/")
	d.want(ok, "value", "$.federation.issuer", "%q is not an issuer: an https URL without query and without / at its end", f.Issuer)
	d.want(f.TrustDomain != "" && strings.Trim(f.TrustDomain, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == "", "value", "$.federation.trust_domain", "%q is not a SPIFFE trust domain", f.TrustDomain)
	ids := set{}
	for i := range f.Keys {
		k, path := &f.Keys[i], at("$.federation.keys", i)
		d.want(slices.ContainsFunc(cu.Custodians, func(c Custodian) bool { return c.ID == k.Custodian }), "reference", path+".custodian", "%q is not a custodian of the unit", k.Custodian)
		key, err := k.Parse()
		d.want(err == nil && !ids[key.ID], "key", path+".jwk", "the kid is another key's too, or %v", errFederationKey)
		ids[key.ID] = true
		d.oneOf(k.Held, path+".held", "", HeldByHelper)
		d.want(k.NotAfter.After(k.NotBefore) && k.NotAfter.Sub(k.NotBefore) <= FederationKeyLife, "value", path+".not_after", "a key signs for at most %s", FederationKeyLife)
	}
	d.want(f.JWKSSHA256 == f.Sum(f.JWKS()), "hash", "$.federation.jwks_sha256", "the key set that these keys make has the hash %s; look at it with reeve federation show", f.Sum(f.JWKS()))
	d.want(f.DiscoverySHA256 == f.Sum(f.Discovery()), "hash", "$.federation.discovery_sha256", "the discovery document of this issuer has the hash %s", f.Sum(f.Discovery()))
}
