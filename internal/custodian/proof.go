package custodian

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/workload"
)

// identify verifies the workload's own proof. A request that was signed is taken once, and only with a nonce of this custodian.
func (c *Custodian) identify(u *use) *refusal {
	who, err := u.view.who.Verify(u.open.Proof, &pop.Request{Method: u.open.Method, URL: u.open.URL, Header: u.field, Body: u.open.Body}, u.admitted)
	u.know(who)
	if err == nil && who.Pop != nil {
		err = c.spend(u)
	}
	if err != nil {
		return refuseProof(err, who.Workload != "")
	}
	return u.near()
}

// know notes who the workload is, as far as it is known.
func (u *use) know(who workload.Identity) {
	u.who = who
	u.Workload, u.Tenant, u.Units[0], u.Key, u.Actors = who.Workload, who.Tenant, who.Unit, who.SHA256, who.Actor
	u.Tokens, u.Parents = [4]string{who.Token[0], who.Token[1], who.Subject[0], who.Subject[1]}, who.Parents
}

// field returns the values of a header field as the client sent them. The token came apart from the others.
func (u *use) field(name string) (values []string) {
	if strings.EqualFold(name, "Authorization") {
		if token := u.open.Proof.Value; len(token) > 0 {
			values = append(values, "Bearer "+string(token))
		}
		return values
	}
	for _, f := range u.open.Header {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

var (
	errAudience = errors.New("the request was signed for another custodian")
	errNonce    = errors.New("the request was not signed with a fresh nonce of this custodian")
	errRoute    = errors.New("the request was signed for another gateway or path")
)

// spend takes a request whose signature holds, once.
func (c *Custodian) spend(u *use) error {
	g, _ := u.view.set.Gateway(u.peer.Name)
	p := u.who.Pop
	switch {
	case p.Audience != c.ID:
		return errAudience
	case u.open.URL != g.URL+u.open.Path:
		return errRoute
	case !c.Replay.Fresh(p.Terms.Nonce, u.start):
		return errNonce
	}
	return c.Replay.Spend(p.KeyID, p.ClientNonce, u.start)
}

// nonce is what the next signed request needs: on every answer to who signs, or could.
func (c *Custodian) nonce(u *use) string {
	if u.open.Proof.Kind == workload.Bearer {
		return ""
	}
	return c.Replay.Nonce(c.Clock())
}

// renew puts the nonce on a refusal.
func (c *Custodian) renew(u *use, no *hop.Refusal) *hop.Refusal {
	no.Nonce = c.nonce(u)
	return no
}

// near checks where a key may be used from. Only the gateway says where that is: it can close, and open what a thief on
// another network would not.
func (u *use) near() *refusal {
	if u.who.Networks == nil {
		return nil
	}
	ip, err := netip.ParseAddr(asserted(u.open.Asserted)["client_ip"])
	if err != nil || !slices.ContainsFunc(u.who.Networks, func(n netip.Prefix) bool { return n.Contains(ip.Unmap()) }) {
		return refuseNetwork()
	}
	return nil
}

// recognize finds the workload again by other statements: what its proof rests on still has to hold.
func (c *Custodian) recognize(u *use) *refusal {
	who, err := u.view.who.Again(u.open.Proof, &u.who, u.admitted)
	if err != nil {
		return refuseProof(err, false)
	}
	u.know(who)
	return u.near()
}

// stay refuses a credential that the workload's token or signature does not reach.
func (c *Custodian) stay(u *use) *refusal {
	if !workload.Allows(u.who.Grants, u.Credential, func(string) bool { return true }) {
		return refuseGrant("credential")
	}
	if p := u.who.Pop; p != nil && !slices.Contains(p.Fallbacks, u.Credential) && !u.view.means(p.Terms.Credential, u.credential, u.who.Unit) {
		return refuseTerms(p.Terms.Credential)
	}
	return nil
}

// covered leaves those header fields that the signature covers: who carries a signed request adds nothing to it.
func (u *use) covered() []hop.Field {
	if u.who.Pop == nil {
		return u.open.Header
	}
	return slices.DeleteFunc(slices.Clone(u.open.Header), func(f hop.Field) bool { return !u.who.Pop.Covers(f.Name) })
}

// means reports whether a name stands for the credential: its own, or a model's whose provider uses it for the unit. A name
// without a provider has to be one that the provider lists.
func (v *view) means(name string, cr *credential, unit string) bool {
	if v.credentials[name] != nil {
		return name == cr.ID
	}
	p, _ := v.provider(name)
	if p == nil {
		var model string
		if p, model = v.resolve(name, cr, unit); p != nil && !slices.Contains(p.Models, model) {
			return false
		}
	}
	return p != nil && p.Credentials[unit] == cr.ID
}

// narrow refuses a model that the workload's token does not reach.
func (c *Custodian) narrow(u *use) *refusal {
	provider, model := u.view.resolve(u.named, u.credential, u.who.Unit)
	if !workload.Allows(u.who.Grants, u.Credential, func(granted string) bool {
		p, m := u.view.resolve(granted, u.credential, u.who.Unit)
		return p == provider && m == model && u.named != ""
	}) {
		return refuseGrant("model")
	}
	return nil
}
