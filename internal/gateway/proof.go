package gateway

import (
	"net/http"
	"strings"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/workload"
)

// authenticate finds out which workload calls. The custodian verifies the same proof again and decides; what is refused here
// does not reach it.
func (c *call) authenticate() *dialect.Fault {
	p, f := proof(c.r.Header)
	if f != nil {
		return f
	}
	who, err := c.g.cfg.Proofs.Verify(p, &pop.Request{Method: c.r.Method, URL: c.url(), Header: c.r.Header.Values}, c.start)
	if err != nil {
		c.who = who // whose request it pretends to be
		return proofFault(err)
	}
	c.who, c.proof = who, p
	c.use = closing.Use{
		Workload: who.Workload, Tenant: who.Tenant, Units: [2]string{who.Unit}, Gateway: c.g.cfg.ID, Key: who.SHA256, Actors: who.Actor,
		Tokens: [4]string{who.Token[0], who.Token[1], who.Subject[0], who.Subject[1]}, Parents: who.Parents,
	}
	return c.live()
}

// url is what the client asked for, at this gateway's public URL: who signs a request signs that.
func (c *call) url() string { return c.force.gateway.URL + c.r.RequestURI }

// proof is what the client shows: a key of reeve's own, a token, or a signature over the request.
func proof(h http.Header) (p workload.Proof, f *dialect.Fault) {
	signed := signs(h)
	if signed && len(h[http.CanonicalHeaderKey(pop.FieldSVID)]) > 0 && len(h["Authorization"]) == 0 {
		return workload.Proof{Kind: workload.Pop}, nil
	}
	k, f := key(h)
	switch {
	case f != nil:
	case strings.HasPrefix(k, "rv_"):
		p = workload.Proof{Kind: workload.Bearer, Value: []byte(k)}
	case signed:
		p = workload.Proof{Kind: workload.Pop, Value: []byte(k)}
	default:
		p = workload.Proof{Kind: workload.Token, Value: []byte(k)}
	}
	return p, f
}

// signs reports whether a request carries a signature of reeve's form.
func signs(h http.Header) bool { return strings.HasPrefix(h.Get(pop.FieldInput), "reeve=") }
