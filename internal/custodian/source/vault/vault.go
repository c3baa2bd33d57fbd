// Package vault gets secrets from OpenBao or HashiCorp Vault: a version of what a key-value engine holds, or the lease of an engine that makes
// secrets, such as a database user.
package vault

import (
	"fmt"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/custodian/source/vault/session"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/secret"
)

// engine is what both kinds share.
type engine struct {
	*session.Session
	cfg source.Config
}

// New checks the record and returns a source without connections. It is a source.Renewer if the engine leases.
func New(cfg source.Config) (source.Source, error) {
	if err := custody.Check(cfg.Record); err != nil {
		return nil, err
	}
	all, err := session.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", cfg.Record.ID, err)
	}
	e := engine{all, cfg}
	if e.parameter("engine") == "kv2" {
		return &versioned{e}, nil
	}
	return &leased{engine: e, leases: map[string]*session.Login{}}, nil
}

func (e engine) parameter(name string) string { return e.cfg.Record.From.Parameters[name] }

// fill takes the members that the record names out of data. On an error nothing of it is left.
func (e engine) fill(got *source.Secret, a *api.Answer) error {
	var public secret.Value
	for name, into := range map[string]*secret.Value{"field": &got.Value, "session": &got.Session, "public": &public} {
		member := e.parameter(name)
		if member == "" {
			continue
		}
		var err error
		if *into, err = a.Text(member); err != nil {
			got.Value.Wipe()
			got.Session.Wipe()
			return err
		}
	}
	got.Public = string(public.Reveal())
	return nil
}
