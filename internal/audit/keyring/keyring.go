// Package keyring says what a custodian has besides the secrets of credentials: the keys and logins with which it gets them, and those by which it is
// known itself. Who captured the custodian could use all of them, and took those along that are not in a helper.
package keyring

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// Kind is what a key is.
type Kind string

// The kinds, those first with which most can be had.
const (
	Federation  Kind = "federation-key" // signs tokens that say to providers who the unit is
	Admin       Kind = "admin-key"      // makes keys at a provider
	App         Kind = "app-key"        // gets installation tokens
	Refresh     Kind = "refresh-token"
	Client      Kind = "client-key" // a secret or key that an OAuth client shows or signs with
	Vault       Kind = "vault-login"
	Certificate Kind = "client-certificate" // its key makes TLS connections
	Identity    Kind = "identity"           // opens whatever is sealed to the custodian
	Log         Kind = "log-key"            // signs its ledger
	Hop         Kind = "hop-key"            // gateways know it by this
)

var kinds = [...]Kind{Federation, Admin, App, Refresh, Client, Vault, Certificate, Identity, Log, Hop}

// Own reports whether it is by this key that the custodian itself is known.
func (k Kind) Own() bool { return k == Identity || k == Log || k == Hop }

// Key is one key or login.
type Key struct {
	Kind        Kind      `json:"kind"`
	ID          string    `json:"id"`                    // kid of a federation key; of what was handed over the credential; the role of a login; the custodian for its own
	Unit        string    `json:"unit,omitempty"`        // empty for the custodian's own
	Fingerprint string    `json:"fingerprint,omitempty"` // keyed, of the newest that was handed over
	Credentials []string  `json:"credentials"`           // whose secrets are had with it
	At          []string  `json:"at"`                    // origins that take it
	Mints       string    `json:"mints"`                 // what can be had with it
	Taken       bool      `json:"taken"`                 // it lay where it can be copied; else it could be used while the custodian was captured, and not taken along
	NotAfter    time.Time `json:"not_after,omitzero"`    // the custodian uses it until then; others do not know that
	Fetches     int64     `json:"fetches"`               // calls to sources with it in the window, as the custodian's own ledger says
	Last        time.Time `json:"last,omitzero"`         // of these
	Live        bool      `json:"live"`                  // it works, as far as is known
	Gone        time.Time `json:"gone,omitzero"`         // since when the statements do not name it; what providers were told is not known here
	Rotate      []string  `json:"rotate"`                // people whose signatures that takes now; empty for nobody
	Escalated   []string  `json:"escalated,omitempty"`   // root holders, where nobody live answers
	Do          string    `json:"do"`                    // what they do
}

// Asked is whose keys are meant.
type Asked struct {
	Custodian string
	Spans     []*history.Span // in force in the window, the oldest first
	Now       *history.Span   // as of which people have to act
	From, To  time.Time
	AsOf      time.Time
	Logs      []string // ids of the custodian's ledgers
}

// maker gathers the keys.
type maker struct {
	Asked
	by      map[string]*Key // by kind, unit and id
	roots   map[string]index.Version
	fetches map[string]index.Uses
}

// Of lists the keys, those first that matter most: what still works and was taken along, then by kind, unit and id.
func Of(ctx context.Context, x index.Reader, a Asked) ([]Key, error) {
	m := &maker{Asked: a, by: map[string]*Key{}, roots: map[string]index.Version{}, fetches: map[string]index.Uses{}}
	for _, l := range a.Logs {
		if err := m.read(ctx, x, l); err != nil {
			return nil, err
		}
	}
	for _, s := range a.Spans {
		m.span(s)
	}
	list := []Key{}
	for _, k := range m.by {
		m.finish(k)
		list = append(list, *k)
	}
	slices.SortFunc(list, func(x, y Key) int {
		grave := func(k *Key) int { return map[bool]int{true: 0, false: 1}[k.Live && k.Taken] }
		return cmp.Or(cmp.Compare(grave(&x), grave(&y)), cmp.Compare(slices.Index(kinds[:], x.Kind), slices.Index(kinds[:], y.Kind)), cmp.Compare(x.Unit, y.Unit), cmp.Compare(x.ID, y.ID))
	})
	return list, nil
}

// read reads what was handed over and what was fetched.
func (m *maker) read(ctx context.Context, x index.Reader, log string) error {
	versions, err := x.Versions(ctx, index.Filter{Log: log, To: m.To})
	if err != nil {
		return fmt.Errorf("what was handed over: %w", err)
	}
	for _, v := range versions { // sorted by when they came
		if v.State == "pending" {
			m.roots[v.Credential] = v
		}
	}
	uses, err := x.Uses(ctx, index.Filter{Log: log, From: m.From, To: m.To, Types: []entry.Type{entry.Mint}}, index.ByCredential)
	if err != nil {
		return fmt.Errorf("what was fetched: %w", err)
	}
	for _, u := range uses {
		sum := m.fetches[u.Credential]
		sum.Count, sum.Last = sum.Count+u.Count, max(sum.Last, u.Last)
		m.fetches[u.Credential] = sum
	}
	return nil
}

// key is one that is there already, or that make makes.
func (m *maker) key(kind Kind, unit, id string, fill func(*Key)) *Key {
	at := strings.Join([]string{string(kind), unit, id}, "\x00")
	k := m.by[at]
	if k == nil {
		k = &Key{Kind: kind, Unit: unit, ID: id, Credentials: []string{}, At: []string{}, Taken: true, Rotate: []string{}}
		m.by[at] = k
		fill(k)
	}
	return k
}

// span adds what a set says.
func (m *maker) span(s *history.Span) {
	for _, u := range s.Charter.Units {
		cu := s.Custody[u.ID]
		if cu == nil {
			continue
		}
		i := slices.IndexFunc(cu.Custodians, func(k statement.Custodian) bool { return k.ID == m.Custodian })
		if i < 0 {
			continue
		}
		m.own(&cu.Custodians[i], u.ID)
		var federated []*statement.Credential
		for i := range cu.Credentials {
			c := &cu.Credentials[i]
			full, err := custody.Fill(*c)
			if err != nil {
				full = *c
			}
			if federates(&full) { // its key is the unit's: it gets the secrets of those too that another custodian serves
				federated = append(federated, &full)
			}
			if s.Serves(m.Custodian, c.ID) && (full.From.Home == "" || full.From.Home == m.Custodian) {
				m.source(u.ID, &full)
			}
		}
		if cu.Federation != nil {
			m.federation(u.ID, cu.Federation, federated)
		}
	}
}

// federates reports whether the custodian gets the credential's secrets by a token that it signs.
func federates(c *statement.Credential) bool {
	return c.Source == "federation" || c.Source == "vault" && custody.VaultFederates(*c)
}

// federation adds the unit's keys that this custodian has.
func (m *maker) federation(unit string, f *statement.Federation, all []*statement.Credential) {
	for i := range f.Keys {
		p := &f.Keys[i]
		public, err := p.Parse()
		if err != nil || p.Custodian != m.Custodian || !p.NotBefore.Before(m.To) || !p.NotAfter.After(m.From) {
			continue
		}
		k := m.key(Federation, unit, public.ID, func(k *Key) {
			k.Taken, k.NotAfter = p.Held != statement.HeldByHelper, p.NotAfter
			k.Do = fmt.Sprintf("take it out of federation.keys in the custody.yaml of %s and out of the key set at every provider, make another (reeve federation key %s), sign and publish", unit, unit)
		})
		for _, c := range all {
			k.mints(c)
		}
		k.Mints = fmt.Sprintf("tokens of the issuer %s for any subject below spiffe://%s/unit/%s: secrets of %s, and whatever else trusts that issuer",
			f.Issuer, f.TrustDomain, unit, credentials(len(k.Credentials)))
	}
}

// source adds what a credential's secrets are got with, where that is no key of a federation.
func (m *maker) source(unit string, c *statement.Credential) {
	p, id := c.From.Parameters, c.ID
	var kind Kind
	var what, do string
	switch {
	case federates(c):
	case c.Source == "vault" && p["login"] == "approle":
		kind, what, do = Vault, "what the role {role} may read there", "destroy its secret id there and hand another over (reeve credential put {id})"
	case c.Source == "vault":
		kind, id = Vault, strings.Join([]string{origin(c.From.URL), cmp.Or(p["auth_path"], p["login"]), p["role"]}, " ")
		what, do = "what the role {role} may read there, as long as its token of the platform lives", "take the role from that token there, and give the custodian's service another"
	case c.Source == "oauth" && p["grant"] == "refresh_token":
		kind, what, do = Refresh, "access tokens of the client {client}, and its next refresh tokens", "end the grant at the provider, ask for another and hand it over (reeve credential put {id})"
	case c.Source == "oauth":
		kind, what, do = Client, "access tokens of the client {client}", "give the client another secret or key at the provider and hand it over (reeve credential put {id})"
	case c.Source == "github-app":
		kind, what, do = App, "tokens of every installation of the app {app}, not of this one alone", "delete the app's private key at GitHub, make another and hand it over (reeve credential put {id})"
	case c.Source == "openai-key":
		kind, what, do = Admin, "keys of service accounts in any project of the organisation", "delete the admin key at OpenAI, make another and hand it over (reeve credential put {id}); look for service accounts that nobody knows"
	case c.Inject.As == "tls":
		kind, what, do = Certificate, "TLS connections as its subject, wherever its authority is trusted", "have its authority revoke the certificate, and hand another over (reeve credential put {id})"
	}
	if kind == "" {
		return
	}
	k := m.key(kind, unit, id, func(k *Key) {
		fill := strings.NewReplacer("{id}", c.ID, "{role}", p["role"], "{client}", p["client_id"], "{app}", p["app"])
		k.Mints, k.Do = fill.Replace(what), fill.Replace(do)
	})
	if root, ok := m.roots[c.ID]; ok && id == c.ID {
		k.Fingerprint = root.Fingerprint
	}
	k.mints(c)
}

// own adds the keys by which the custodian itself is known.
func (m *maker) own(c *statement.Custodian, unit string) {
	m.key(Identity, "", m.Custodian, func(k *Key) {
		k.Mints = "every secret that was sealed to " + m.Custodian + " and lies in the signed store, and every one that will be until it has another recipient"
		k.Do = "make another (reeve host rotate identity), put its recipient into the custody.yaml of each unit, publish, and hand over new secrets"
	})
	m.key(Log, "", m.Custodian, func(k *Key) {
		k.Mints = "entries and checkpoints of its ledger: what it wrote since it was captured is its captor's word; what witnesses cosigned before stands"
		k.Do = "retire its log and enrol another key (docs/procedures/service-keys.md)"
	})
	if c.Peer != "" {
		m.key(Hop, "", m.Custodian, func(k *Key) {
			k.Mints = "connections from gateways, which then send it requests with their bodies and the workloads' proofs"
			k.Do = "make another (reeve host key), put it into the custody.yaml of each unit as its peer, publish"
		})
	}
}

// mints notes a credential whose secrets are had with the key.
func (k *Key) mints(c *statement.Credential) {
	if i, ok := slices.BinarySearch(k.Credentials, c.ID); !ok {
		k.Credentials = slices.Insert(k.Credentials, i, c.ID)
	}
	to := origin(cmp.Or(c.From.URL, c.Destination.Origin))
	if i, ok := slices.BinarySearch(k.At, to); !ok && to != "" {
		k.At = slices.Insert(k.At, i, to)
	}
}

// finish says who has to act now, and what the ledger knows of the key's use.
func (m *maker) finish(k *Key) {
	k.Live = true
	m.gone(k)
	for _, id := range k.Credentials {
		u, ok := m.fetches[id]
		if ok && m.Now.Serves(m.Custodian, id) {
			k.Fetches += u.Count
			if last := time.Unix(0, u.Last).UTC(); last.After(k.Last) {
				k.Last = last
			}
		}
	}
	k.Rotate = m.owners(k)
	if len(k.Rotate) == 0 {
		for _, id := range m.Now.Charter.Roles.Root {
			if p, ok := m.Now.Person(id); ok && p.Live(m.AsOf) {
				k.Escalated = append(k.Escalated, id)
			}
		}
	}
}

// gone says whether the statements in force now still name a federation key. The other keys live until somebody ends them where they are taken.
func (m *maker) gone(k *Key) {
	if k.Kind != Federation {
		return
	}
	names := func(s *history.Span) bool {
		cu := s.Custody[k.Unit]
		return cu != nil && cu.Federation != nil && slices.ContainsFunc(cu.Federation.Keys, func(f statement.FederationKey) bool {
			public, err := f.Parse()
			return err == nil && public.ID == k.ID
		})
	}
	if names(m.Now) {
		return
	}
	k.Live, k.Gone = false, m.Now.From
	for i, s := range m.Spans {
		if names(s) && i+1 < len(m.Spans) {
			k.Gone = m.Spans[i+1].From
		}
	}
}

// owners are whose signatures another key takes: the owners of the credentials that it is for, or of a unit without any those who hold its secrets'
// role; of the custodian's own keys those of all units that it serves, and the root holders for its log.
func (m *maker) owners(k *Key) []string {
	people := map[string]bool{}
	live := func(ids []string) {
		for _, id := range ids {
			if p := m.Now.Charter.Acting(id, m.AsOf); p != nil {
				people[p.ID] = true
			}
		}
	}
	switch {
	case k.Kind == Log:
		live(m.Now.Charter.Roles.Root)
	case k.Kind.Own():
		for _, u := range m.Now.Charter.Units {
			if cu := m.Now.Custody[u.ID]; cu != nil && slices.ContainsFunc(cu.Custodians, func(c statement.Custodian) bool { return c.ID == m.Custodian }) {
				live(m.Now.Charter.Roles.Units[u.ID].Lifecycle)
			}
		}
	default:
		for _, id := range k.Credentials {
			if p, ok := m.Now.Owner(id, m.AsOf); ok {
				people[p.ID] = true
			}
		}
		if len(k.Credentials) == 0 {
			live(m.Now.Charter.Roles.Units[k.Unit].Lifecycle)
		}
	}
	return slices.Sorted(maps.Keys(people))
}

// origin is a URL's.
func origin(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func credentials(n int) string {
	if n == 1 {
		return "1 credential"
	}
	return fmt.Sprintf("%d credentials", n)
}
