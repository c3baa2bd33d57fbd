package token

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/pop"
)

// proofLife is how far a proof's iat may be from now. Within it each jti counts once.
const proofLife = time.Minute

// proof is a DPoP proof that holds. It counts once, and is spent when nothing else refuses the request.
type proof struct {
	key   string // thumbprint; empty without a proof
	id    string // jti
	until time.Time
}

// proof verifies the DPoP proof of a request for a token (RFC 9449 section 4.3).
func (e *Endpoint) proof(r *http.Request, endpoint string, now time.Time) (proof, error) {
	fields := r.Header.Values("DPoP")
	if len(fields) == 0 {
		return proof{}, nil
	}
	refuse := func(why string) (proof, error) {
		return proof{}, &fault{http.StatusBadRequest, "invalid_dpop_proof", why}
	}
	if len(fields) > 1 || len(fields[0]) > 4<<10 {
		return refuse("one proof of at most 4 KiB is taken")
	}
	jws, err := jose.ParseSignedCompact(fields[0], []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	if err != nil {
		return refuse("it is not a token signed with EdDSA or ES256")
	}
	header := jws.Signatures[0].Protected
	key := header.JSONWebKey
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); kind != "dpop+jwt" || key == nil || !key.IsPublic() || !key.Valid() {
		return refuse("its header has not the type dpop+jwt and a public key")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return refuse("its signature does not hold under its own key")
	}
	var c struct {
		ID       string `json:"jti"`
		Method   string `json:"htm"`
		URI      string `json:"htu"`
		IssuedAt int64  `json:"iat"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return refuse("its claims are not those of RFC 9449")
	}
	issued := time.Unix(c.IssuedAt, 0)
	switch {
	case c.Method != r.Method || c.URI != endpoint:
		return refuse("it is for another request: htm is " + r.Method + " and htu is " + endpoint)
	case now.Sub(issued).Abs() > proofLife:
		return refuse("its iat is more than a minute away; compare the clocks of both machines")
	case c.ID == "" || len(c.ID) > 256:
		return refuse("it has no jti")
	}
	thumbprint, err := pop.Thumbprint(key.Key)
	if err != nil {
		return refuse("its key is neither Ed25519 nor P-256")
	}
	return proof{thumbprint, c.ID, issued.Add(proofLife)}, nil
}
