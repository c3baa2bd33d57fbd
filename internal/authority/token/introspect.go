package token

import (
	"errors"
	"net/http"

	"github.com/reevehq/reeve/internal/workload"
)

// state is the answer to an introspection (RFC 7662 section 2.2): of a token that would not be taken it says nothing else.
type state struct {
	Active       bool                   `json:"active"`
	TokenType    string                 `json:"token_type,omitempty"`
	Issuer       string                 `json:"iss,omitempty"`
	Subject      string                 `json:"sub,omitempty"`
	Audience     string                 `json:"aud,omitempty"`
	ClientID     string                 `json:"client_id,omitempty"`
	Expiry       int64                  `json:"exp,omitempty"`
	IssuedAt     int64                  `json:"iat,omitempty"`
	ID           string                 `json:"jti,omitempty"`
	Confirmation *workload.Confirmation `json:"cnf,omitempty"`
	Actor        *workload.Actor        `json:"act,omitempty"`
	Grants       []workload.Grant       `json:"authorization_details,omitempty"`
}

// introspect serves RFC 7662 to workloads, about tokens of their own tenant.
func (e *Endpoint) introspect(v *View, f form, _ *http.Request, _ http.Header) (any, error) {
	now := e.Clock()
	client, err := e.client(v, f, now)
	if err != nil {
		return nil, e.unknown(err)
	}
	if f.get("token") == "" {
		return nil, invalid("token is missing")
	}
	c, err := e.claimed(v, f.get("token"), now)
	if err != nil {
		return state{}, nil
	}
	w, unit, ok := v.Set.Workload(c.Subject)
	if !ok || unit.Tenant != client.Tenant {
		return state{}, nil
	}
	about := &subject{Identity: workload.Identity{Workload: w.ID, Unit: unit.ID, Tenant: unit.Tenant, Token: names(f.get("token"), c), Parents: c.Parents}, key: c.Key}
	if e.closed(v, about, c.Actor) != nil {
		return state{}, nil
	}
	s := state{
		Active: true, TokenType: "Bearer", Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, ClientID: c.ClientID, Expiry: c.Expiry,
		IssuedAt: c.IssuedAt, ID: c.ID, Confirmation: c.Confirmation, Actor: c.Actor, Grants: c.Grants,
	}
	if c.Confirmation != nil {
		s.TokenType = "DPoP"
	}
	return s, nil
}

// revoke serves RFC 7009: who has a token may close it. What is not a live token of this authority is answered the same.
func (e *Endpoint) revoke(v *View, f form, _ *http.Request, _ http.Header) (any, error) {
	if f.get("token") == "" {
		return nil, invalid("token is missing")
	}
	c, err := e.claimed(v, f.get("token"), e.Clock())
	if err != nil {
		return nil, nil
	}
	err = e.Close(c.ID, c.Subject)
	if errors.Is(err, ErrAway) {
		return nil, &fault{http.StatusServiceUnavailable, "temporarily_unavailable", err.Error()}
	}
	return nil, err
}
