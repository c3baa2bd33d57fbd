package custodian

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/statement"
)

// admit runs every step that can refuse, in the design's order. What a step finds out is for the steps after it.
func (c *Custodian) admit(ctx context.Context, u *use) *refusal {
	for _, step := range [...]func(*Custodian, *use) *refusal{
		(*Custodian).meet,     // the peer is a gateway of the estate
		(*Custodian).identify, // the workload's own proof holds
		(*Custodian).find,     // the credential's record, and with it the destination
		(*Custodian).bait,     // it is no bait
		(*Custodian).stay,     // it is one that the workload's token and signature reach
		(*Custodian).agree,    // operations and custody name this gateway, custodian and credential; live people own both
		(*Custodian).route,    // public path to provider path, by the record
		(*Custodian).read,     // what policy looks at in the body; alias to model, by the signed tables
		(*Custodian).narrow,   // the model is one that the workload's token reaches
		(*Custodian).decide,   // policy permits
		(*Custodian).isolate,  // the credential's isolation level is reached
		(*Custodian).count,    // within the ceilings
		(*Custodian).live,     // nothing of it is revoked or frozen
		(*Custodian).informed, // the news of revocations is fresh
		(*Custodian).cosigned, // witnesses have seen the ledger
	} {
		if no := step(c, u); no != nil {
			return no
		}
	}
	return c.hold(ctx, u) // there is a secret to use
}

func (c *Custodian) meet(u *use) *refusal {
	if u.view == nil {
		return refuseStarting()
	}
	if g, ok := u.view.set.Gateway(u.peer.Name); !ok || u.peer.Key != "" && u.peer.Key != g.Peer {
		return refusePeer()
	}
	u.Gateway = u.peer.Name
	return nil
}

func (c *Custodian) find(u *use) *refusal {
	u.credential = u.view.credentials[u.open.Credential]
	if u.credential == nil {
		return refuseCredential()
	}
	u.Credential, u.Units[1] = u.credential.ID, u.credential.unit.ID
	return nil
}

// agree is two of the three keys; the third is decide. The tenant is the isolation border.
func (c *Custodian) agree(u *use) *refusal {
	if reason := u.view.set.Route(u.Gateway, c.ID, u.Credential, u.start); reason != "" {
		return refuseRoute(reason)
	}
	if u.credential.unit.Tenant != u.who.Tenant {
		return refuseRoute("other_tenant")
	}
	if errors.Is(u.credential.err, source.ErrHome) {
		return refuseUnheld(u.Credential, u.credential.err)
	}
	if u.credential.err != nil {
		return refuseRoute("custody_record")
	}
	return nil
}

func (c *Custodian) route(u *use) *refusal {
	target, err := u.credential.pin.Target(u.open.Method, u.open.Path)
	if err != nil {
		return refuseRequest("path_refused", 403, err)
	}
	if u.header, err = u.credential.pin.Header(u.covered()); err != nil {
		return refuseRequest("header_refused", 400, err)
	}
	u.target = target
	return nil
}

// read looks at the body's top-level members and puts the model's signed name in. A body is one JSON object or nothing:
// what policy could not read is not sent.
func (c *Custodian) read(u *use) *refusal {
	u.body, u.ask.MaxTokens = u.open.Body, -1
	if len(u.body) == 0 {
		return nil
	}
	call, err := scan.Body(u.body)
	if err != nil {
		return refuseRequest("body_refused", 400, err)
	}
	u.ask.MaxTokens, u.ask.Stream = call.MaxTokens, call.Stream
	if call.Model.Absent() {
		return nil
	}
	u.named = string(call.Name)
	model, no := u.view.model(string(call.Name), u.credential)
	if no != nil {
		return no
	}
	if model != string(call.Name) {
		u.body = scan.Replace(u.body, call.Model, model)
	}
	u.ask.Model = model
	return nil
}

func (c *Custodian) decide(u *use) *refusal {
	path, _, _ := strings.Cut(u.target, "?")
	u.ask = policy.Request{
		Workload:          u.who.Workload,
		Level:             u.who.Level,
		Proof:             u.who.Proof,
		Actors:            u.who.Actor,
		AuthorityAsserted: u.who.AuthorityAsserted,
		Credential:        u.credential.ID,
		Gateway:           u.peer.Name,
		Method:            u.open.Method,
		Path:              path,
		Model:             u.ask.Model,
		MaxTokens:         u.ask.MaxTokens,
		Stream:            u.ask.Stream,
		Isolation:         c.Isolation.Level(u.peer, u.start),
		Time:              u.start,
		Asserted:          asserted(u.open.Asserted),
	}
	u.decision = u.view.policies.Decide(&u.ask)
	if u.decision.Reason == "no_permit" { // a forbid stands
		if k := c.broken(u, statement.WaivePolicy, u.start, &u.waivers); k != nil {
			u.decision = policy.Decision{Allow: true, Reason: glassReason, Policies: []string{"break-glass:" + k.Record}}
		}
	}
	if !u.decision.Allow {
		return refusePolicy(u.decision.Reason)
	}
	return nil
}

func (c *Custodian) isolate(u *use) *refusal {
	if !isolation.Reaches(u.ask.Isolation, u.credential.isolation) {
		return refuseIsolation(u.ask.Isolation, u.credential.isolation)
	}
	return nil
}

func (c *Custodian) count(u *use) *refusal {
	slot, excess := u.view.ceilings.Enter(u.who.Workload, u.credential.ID, int64(len(u.body)), u.start)
	if excess != nil {
		return c.exceed(u, excess)
	}
	u.slot = slot
	return nil
}

func (c *Custodian) live(u *use) *refusal {
	if closed := c.Gate.State().Of(&u.Use); closed != nil {
		return refuseClosed(closed)
	}
	return nil
}

func (c *Custodian) informed(u *use) *refusal {
	u.age = c.News()
	return c.fresh(u, u.age, u.start, &u.waivers)
}

// fresh refuses news of that age at now. A break-glass that the use rests on then is added to rests.
func (c *Custodian) fresh(u *use, age time.Duration, now time.Time, rests *[]string) *refusal {
	if (age < 0 || age > u.credential.bound) && !c.extra.holds(feedBound, now) && c.broken(u, statement.WaiveFeed, now, rests) == nil {
		return refuseStale(age, u.credential.bound)
	}
	return nil
}

func (c *Custodian) cosigned(u *use) *refusal {
	if lag, _ := c.Ledger.Uncosigned(); lag > Fuse && !c.extra.holds(witnessFuse, u.start) && c.broken(u, statement.WaiveWitness, u.start, &u.waivers) == nil {
		return refuseUncosigned(lag)
	}
	return nil
}

// hold finds the version of the secret that the intent will name, and has one fetched where none is held. The secret itself comes only against
// the intent.
func (c *Custodian) hold(ctx context.Context, u *use) *refusal {
	held, err := u.credential.keeper.Hold(ctx, u.Workload, u.start)
	if err != nil {
		return refuseUnheld(u.Credential, err)
	}
	u.secret = held
	if life := time.Duration(u.credential.MaxLifetime); life > 0 && (held.Version > 0 || held.Expires.IsZero()) && u.start.Sub(held.Issued) > life {
		return refuseOldSecret(u.Credential, life)
	}
	return nil
}

// again decides a use once more, by another view: what it asks for stays, what the owners say may have changed.
func (c *Custodian) again(u *use, v *view) *refusal {
	now := &use{Use: u.Use, peer: u.peer, open: u.open, admitted: u.admitted, start: c.Clock(), view: v, who: u.who, named: u.named, ask: u.ask}
	for _, step := range [...]func(*Custodian, *use) *refusal{
		(*Custodian).meet, (*Custodian).recognize, (*Custodian).find, (*Custodian).stay, (*Custodian).agree, (*Custodian).route, (*Custodian).narrow, (*Custodian).decide, (*Custodian).isolate,
	} {
		if no := step(c, now); no != nil {
			return no
		}
	}
	if now.target != u.target || now.credential.Destination.Origin != u.credential.Destination.Origin {
		return refuseRoute("destination_changed")
	}
	return nil
}

// asserted takes the attributes that policy knows.
func asserted(fields []hop.Field) map[string]string {
	var m map[string]string
	for _, f := range fields {
		if f.Name == "client_ip" || f.Name == "spend" {
			if m == nil {
				m = map[string]string{}
			}
			m[f.Name] = clip(f.Value, maxName)
		}
	}
	return m
}
