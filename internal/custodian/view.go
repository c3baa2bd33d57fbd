package custodian

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/ceiling"
	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// view is what the owners have signed, ready for use. It is immutable: a new set or a new workload key is a new view.
type view struct {
	signed      *statement.Set // as its owners signed it
	set         *statement.Set // that without the people who are closed: what decides
	lock        string         // hex lock hash: the entries' "estate"
	policies    *policy.Policies
	tokens      *workload.Tokens
	who         *workload.Verifier
	ceilings    *ceiling.Table
	credentials map[string]*credential
	providers   map[string]*statement.Provider
}

// credential is one credential of the set, served by this custodian or not.
type credential struct {
	statement.Credential // with what its template filled in
	unit                 *statement.Unit
	pin                  *pin.Pin
	isolation            string        // weakest level at which it is used
	bound                time.Duration // how old the news of revocations may be
	err                  error         // why its record cannot be used

	link   *link // nil when it cannot be used, and so is keeper
	keeper *lifecycle.Keeper
}

// link is where a credential's connections are. Successive sets share it for as long as the destination stays the same.
type link struct {
	mu   sync.Mutex
	pool Connections
	own  map[*tls.Certificate]*ownPool // of each version of a secret that is a client certificate
}

// ownPool is the connections that one client certificate was shown for.
type ownPool struct {
	Connections
	used time.Time
}

// unused is how long the connections of a client certificate are kept without a use. Then it was replaced, or nobody needs it.
const unused = time.Minute

// connections are those of the credential, or with a client certificate its own.
func (c *Custodian) connections(cr *credential, certificate *tls.Certificate) (Connections, error) {
	l := cr.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if certificate == nil {
		return l.pool, nil
	}
	own, now := l.own[certificate], c.Clock()
	if own == nil {
		pool, err := c.Dial(cr.Destination, certificate)
		if err != nil {
			return nil, err
		}
		if l.own == nil {
			l.own = map[*tls.Certificate]*ownPool{}
		}
		own = &ownPool{Connections: pool}
		l.own[certificate] = own
	}
	own.used = now
	return own.Connections, nil
}

// prune lets the connections of client certificates go that nobody has used for a while.
func (l *link) prune(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for certificate, p := range l.own {
		if now.Sub(p.used) > unused {
			p.Retire()
			delete(l.own, certificate)
		}
	}
}

// redial gives the credential new connections and ends the old ones. A credential that cannot be used has none.
func (c *Custodian) redial(cr *credential, end func(Connections)) {
	if cr.link == nil {
		return
	}
	fresh, err := c.Dial(cr.Destination, nil)
	if err != nil { // that its destination can be dialled was found when it was compiled
		return
	}
	cr.link.mu.Lock()
	defer cr.link.mu.Unlock()
	end(cr.link.pool)
	cr.link.pool = fresh
	for _, p := range cr.link.own {
		end(p.Connections)
	}
	clear(cr.link.own)
}

// compile makes a set usable. A credential whose record cannot be used refuses its own uses, not the set: what the same set
// closes must not wait for it.
func (c *Custodian) compile(set *statement.Set, old *view) (*view, error) {
	policies, err := policy.Compile(set)
	if err != nil {
		return nil, fmt.Errorf("compiling the policies: %w", err)
	}
	v := &view{
		signed:      set,
		set:         set,
		lock:        hex.EncodeToString(set.LockHash[:]),
		policies:    policies,
		credentials: map[string]*credential{},
		providers:   map[string]*statement.Provider{},
	}
	if v.tokens, err = workload.NewTokens(set, c.IssuerKeys, c.Secrets.Unseal); err != nil {
		return nil, err
	}
	var ceilings *ceiling.Table
	if old != nil {
		ceilings = old.ceilings
	}
	v.ceilings = ceiling.New(set, ceilings, c.Clock())
	for i := range set.Operations.Providers {
		p := &set.Operations.Providers[i]
		v.providers[p.Name] = p
	}
	for _, custody := range set.Custody {
		for i := range custody.Credentials {
			cr := c.credential(set, custody.Credentials[i], old)
			v.credentials[cr.ID] = cr
		}
	}
	c.keepers(v, old)
	return v, nil
}

func (c *Custodian) credential(set *statement.Set, record statement.Credential, old *view) *credential {
	_, unit, _ := set.Credential(record.ID)
	cr := &credential{Credential: record, unit: unit, bound: Bound(set, record.Class), isolation: isolation.Need(&set.Charter, record.AcceptIsolation)}
	if !set.Serves(c.ID, record.ID) {
		return cr
	}
	p, err := pin.Compile(record)
	if err == nil {
		err = custody.Check(p.Credential)
	}
	if err == nil {
		cr.pin, cr.Credential = p, p.Credential
		if cr.link = old.link(cr); cr.link == nil {
			var pool Connections
			if pool, err = c.Dial(cr.Destination, nil); err == nil {
				cr.link = &link{pool: pool}
			}
		}
	}
	c.unusable(cr, err)
	return cr
}

// unusable refuses a credential's uses for an error.
func (c *Custodian) unusable(cr *credential, err error) {
	if cr.err = err; err != nil {
		c.Log.Error("a credential cannot be used as its custody record is written", "credential", cr.ID, "error", err)
	}
}

// link is that of a credential of an earlier view, when it leads where the new one does.
func (v *view) link(cr *credential) *link {
	if v == nil {
		return nil
	}
	if old := v.credentials[cr.ID]; old != nil && old.link != nil && reflect.DeepEqual(old.Destination, cr.Destination) {
		return old.link
	}
	return nil
}

// Set is the set in force without the people who are closed, or nil before the first.
func (c *Custodian) Set() *statement.Set {
	if v := c.view.Load(); v != nil {
		return v.set
	}
	return nil
}

// provider applies the signed tables to a model's name: an alias becomes provider/model, and a provider's name goes away. Without
// a provider of ours the name is the upstream's own.
func (v *view) provider(name string) (p *statement.Provider, model string) {
	if to, ok := v.set.Operations.Aliases[name]; ok {
		name = to
	}
	if first, rest, found := strings.Cut(name, "/"); found && v.providers[first] != nil {
		return v.providers[first], rest
	}
	return nil, name
}

// resolve is provider for a name that is used with a credential: without a provider it is the default one's whose the credential is.
func (v *view) resolve(name string, cr *credential, unit string) (p *statement.Provider, model string) {
	if p, model = v.provider(name); p != nil {
		return p, model
	}
	for _, d := range v.providers {
		if d.Default && d.Credentials[unit] == cr.ID {
			return d, model
		}
	}
	return nil, model
}

// model is the name that goes upstream. A provider that another credential is for is refused.
func (v *view) model(name string, cr *credential) (string, *refusal) {
	p, model := v.provider(name)
	if p == nil {
		return model, nil
	}
	for _, id := range p.Credentials {
		if id == cr.ID {
			return model, nil
		}
	}
	return "", refuseModel(p.Name+"/"+model, cr.ID)
}

// Bound is how old the newest news of revocations may be for a class: what the charter says, or the design's defaults.
func Bound(set *statement.Set, class string) time.Duration {
	d, standard := time.Duration(set.Charter.Revocation.Normal), 30*time.Second
	if class == "high" {
		d, standard = time.Duration(set.Charter.Revocation.High), 5*time.Second
	}
	if d <= 0 {
		d = standard
	}
	return min(max(d, 2*time.Second), time.Minute)
}
