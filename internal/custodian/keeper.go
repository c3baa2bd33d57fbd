package custodian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// keepers gives the credentials of a new view their keepers. Those that make room are let go together: sources that hang hold up a set
// once, and not one after the other.
func (c *Custodian) keepers(v, old *view) {
	var over sync.WaitGroup
	for id, cr := range v.credentials {
		if old == nil || cr.link == nil || cr.err != nil || old.credentials[id] == nil {
			continue
		}
		if was := old.credentials[id].keeper; was != nil && !same(&was.Config, cr) {
			over.Go(was.Close)
		}
	}
	over.Wait()
	for _, cr := range v.credentials {
		if cr.link != nil && cr.err == nil {
			var err error
			cr.keeper, err = c.keeper(cr, old)
			c.unusable(cr, err)
		}
	}
}

// keeper is what keeps the credential's versions: that of the view before for as long as its record says the same.
func (c *Custodian) keeper(cr *credential, old *view) (*lifecycle.Keeper, error) {
	var uses *lifecycle.Uses
	if old != nil {
		if was := old.credentials[cr.ID]; was != nil && was.keeper != nil {
			if same(&was.keeper.Config, cr) {
				return was.keeper, nil
			}
			uses = was.keeper.Uses
			was.keeper.Close()
		}
	}
	dir, err := c.Secrets.Dir(cr.ID)
	if err != nil {
		return nil, err
	}
	id := cr.ID
	cfg := lifecycle.Config{
		Record: cr.Credential, Tenant: cr.unit.Tenant, Unit: cr.unit.ID, Dir: dir, Uses: uses,
		Root:        func() *sealed.Held { return c.Secrets.Of(cr.unit, id) },
		Fingerprint: c.Secrets.Fingerprint,
		Open:        cr.pin.Open,
		Version:     func(n int64) (*sealed.Held, error) { return c.Secrets.Version(cr.unit, id, n) },
		Destroy:     func(n int64) error { return c.Secrets.Destroy(id, n) },
		Probe:       func() statement.Probe { return c.probes(id) },
		Try:         func(ctx context.Context, s source.Secret) (lifecycle.Answer, error) { return c.probe(ctx, id, s) },
		May:         func() error { return c.may(id) },
		Entry:       func(t entry.Type) *entry.Entry { return (&use{view: c.view.Load(), age: c.News()}).entry(t) },
		Append: func(e *entry.Entry) (ledger.Durable, error) {
			c.meters.source(e)
			return c.Ledger.Append(e, nil)
		},
		Note: func(e *entry.Entry) {
			c.meters.source(e)
			c.note(e)
		},
		Clock: c.Clock, Log: c.Log,
	}
	if cr.Source != "sealed" {
		if cfg.Source, err = c.source(cr); err != nil {
			return nil, err
		}
	}
	return lifecycle.New(cfg)
}

// same reports whether a keeper's secrets are what the record asks for.
func same(k *lifecycle.Config, cr *credential) bool {
	of := func(r *statement.Credential, tenant, unit string) []any {
		return []any{tenant, unit, r.Source, r.From, r.Inject, r.MaxLifetime, r.Destination.Origin}
	}
	return reflect.DeepEqual(of(&k.Record, k.Tenant, k.Unit), of(&cr.Credential, cr.unit.Tenant, cr.unit.ID))
}

// source makes the credential's source.
func (c *Custodian) source(cr *credential) (source.Source, error) {
	if home := cr.From.Home; home != "" && home != c.ID {
		return nil, fmt.Errorf("%w: for %s it is %s (from.home); send its uses there", source.ErrHome, cr.ID, home)
	}
	memory, err := c.Secrets.Memory(cr.ID)
	if err != nil {
		return nil, err
	}
	set := c.Secrets
	return c.Source(source.Config{
		Custodian: c.ID, Tenant: cr.unit.Tenant, Unit: cr.unit.ID, Record: cr.Credential, State: memory, Clock: c.Clock,
		Root: func(d ledger.Durable) (secret.Value, error) {
			if root := set.Of(cr.unit, cr.ID); root != nil {
				return root.Fetch(d)
			}
			return secret.Value{}, source.ErrNoRoot
		},
	})
}

// probes is the probe that the record in force names.
func (c *Custodian) probes(id string) (p statement.Probe) {
	if v := c.view.Load(); v != nil && v.credentials[id] != nil {
		p = v.credentials[id].Probe
	}
	return p
}

// maxProbe bounds what of a probe's answer is looked at, in bytes.
const maxProbe = 64 << 10

// probe makes the one harmless request that the record names, with a secret that was revoked. Nothing of its answer goes anywhere.
func (c *Custodian) probe(ctx context.Context, id string, s source.Secret) (a lifecycle.Answer, err error) {
	v := c.view.Load()
	if v == nil || v.credentials[id] == nil || v.credentials[id].link == nil {
		return a, errors.New("its custody record is gone, or cannot be used")
	}
	cr := v.credentials[id]
	header := append(cr.pin.Beside(), hop.Field{Name: "Accept", Value: "application/json"}, hop.Field{Name: "Accept-Encoding", Value: "identity"})
	if cr.Dialect == "anthropic" {
		header = append(header, hop.Field{Name: "anthropic-version", Value: "2023-06-01"})
	}
	if cr.Probe.Body != "" {
		header = append(header, hop.Field{Name: "Content-Type", Value: "application/json"})
	}
	parts, err := cr.pin.Open(&s)
	if err != nil {
		return a, err
	}
	to, err := c.connections(cr, parts.Certificate)
	if err != nil {
		return a, err
	}
	req := &egress.Request{Method: cr.Probe.Method, Header: header, Body: []byte(cr.Probe.Body)}
	cr.pin.Inject(req, cr.Probe.Path, &s, c.Clock())
	resp, err := to.Send(ctx, req)
	req.Wipe()
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbe))
	defer clear(body)
	a.Status = resp.Status
	a.Refused = err == nil && resp.Status == cr.Probe.Status && bytes.Contains(body, []byte(cr.Probe.Holds))
	return a, err
}

// may reports why nothing is fetched for a credential now: it is closed or orphaned, the news is stale or the ledger uncosigned.
func (c *Custodian) may(id string) error {
	v := c.view.Load()
	if v == nil || v.credentials[id] == nil {
		return refuseCredential()
	}
	cr, now := v.credentials[id], c.Clock()
	u := &use{Use: closing.Use{Credential: id, Tenant: cr.unit.Tenant, Units: [2]string{cr.unit.ID, cr.unit.ID}}, view: v, credential: cr, start: now}
	if _, live := v.set.Owner(id, now); !live {
		return refuseRoute("orphaned_credential")
	}
	for _, step := range [...]func(*Custodian, *use) *refusal{(*Custodian).live, (*Custodian).informed, (*Custodian).cosigned} {
		if no := step(c, u); no != nil {
			return no
		}
	}
	return nil
}

// Keep does what time brings for the secrets: it is called every now and then, and does not wait.
func (c *Custodian) Keep() {
	v := c.view.Load()
	if v == nil {
		return
	}
	for _, cr := range v.credentials {
		if cr.keeper != nil {
			cr.keeper.Keep()
			cr.link.prune(c.Clock())
		}
	}
}

// Rest waits for what runs at the sources, at most until ctx ends: what was begun there is on disk then. Nothing new begins.
func (c *Custodian) Rest(ctx context.Context) {
	v := c.view.Load()
	if v == nil {
		return
	}
	for _, cr := range v.credentials {
		if cr.keeper != nil {
			cr.keeper.Rest(ctx)
		}
	}
}

// Show fills in what an operator sees of a credential's secrets.
func (c *Custodian) Show(a *admin.Credential, now time.Time) {
	v := c.view.Load()
	if v == nil || v.credentials[a.ID] == nil {
		return
	}
	cr := v.credentials[a.ID]
	a.Unit, a.Source, a.MaxLifetime, a.Home = cr.unit.ID, cr.Source, int64(time.Duration(cr.MaxLifetime)/time.Second), cr.From.Home == c.ID
	a.State = lifecycle.Pending
	u := &use{Use: closing.Use{Credential: a.ID, Tenant: cr.unit.Tenant, Units: [2]string{cr.unit.ID, cr.unit.ID}}}
	if closed := c.Gate.State().Of(&u.Use); closed != nil {
		a.Closed = closed.Error()
	}
	if cr.keeper != nil {
		cr.keeper.Show(a, now)
	}
	if cr.err != nil {
		a.Error = cr.err.Error()
	}
}

// mark names in the entry of a closing the version that it freezes, or in that of an opening the one that may be used again.
func (c *Custodian) mark(e *entry.Entry, closes bool) {
	v := c.view.Load()
	if v == nil || v.credentials[e.Credential] == nil || v.credentials[e.Credential].keeper == nil {
		return
	}
	if e.CredFP, e.Lease = v.credentials[e.Credential].keeper.Active(); e.Lease != "" {
		if e.State = lifecycle.Active; closes {
			e.State = lifecycle.Frozen
		}
	}
}
