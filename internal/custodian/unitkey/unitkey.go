// Package unitkey holds the keys with which this custodian says, to providers that federate, who it is: at least one for each business
// unit, in a file that only the custodian can open, or in a helper that gives signatures and never the key. It signs SPIFFE
// JWT-SVIDs for the unit's credentials and nothing else, and only with keys that the unit's custody statement names.
package unitkey

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// Warning is how long before a key's end people are told that it needs a successor.
const Warning = 30 * 24 * time.Hour

// key is a private key, wherever it is.
type key interface {
	Public() crypto.PublicKey
	// Sign signs a SHA-256 digest, in the form of RFC 7518, section 3.
	Sign(ctx context.Context, digest []byte) ([]byte, error)
	sealed() bool // it cannot be taken out of where it is
}

// Seal opens what was encrypted to the custodian, and encrypts it anew when the custodian's identity changes: a *sealed.Store.
type Seal interface {
	Unseal([]byte) ([]byte, error)
	Rewrap(dir state.Dir, name string, plain []byte) error
}

// Book is the keys of all units. Safe for concurrent use.
type Book struct {
	dir       state.Dir // <unit>/*.age: PKCS #8, encrypted to the custodian
	custodian string
	seal      Seal
	helper    *Helper // nil for none
	clock     func() time.Time

	mu    sync.Mutex // guards the fields below
	held  map[string][]key
	units map[string]*statement.Federation
}

// Open reads the keys. What cannot be opened is told and left out.
func Open(dir state.Dir, custodian string, seal Seal, helper *Helper, clock func() time.Time) (*Book, error) {
	b := &Book{dir: dir, custodian: custodian, seal: seal, helper: helper, clock: clock, units: map[string]*statement.Federation{}}
	return b, b.Reread()
}

// Reread takes the keys that are there now.
func (b *Book) Reread() error {
	held, problems := map[string][]key{}, error(nil)
	paths, err := filepath.Glob(b.dir.Path("*/*.age"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		k, err := b.read(path)
		if err != nil {
			problems = errors.Join(problems, fmt.Errorf("the federation key %s cannot be used: %w", path, err))
			continue
		}
		unit := filepath.Base(filepath.Dir(path))
		held[unit] = append(held[unit], k)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = held
	return problems
}

func (b *Book) read(path string) (key, error) {
	if err := state.Private(path); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	der, err := b.seal.Unseal(text)
	if err != nil {
		return nil, errors.New("it was not encrypted to this custodian's identity")
	}
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is not PKCS #8")
	}
	if err := b.seal.Rewrap(state.Dir(filepath.Dir(path)), filepath.Base(path), der); err != nil {
		return nil, err
	}
	return fileKey(private)
}

// Use takes what the custody statements of the set say.
func (b *Book) Use(set *statement.Set) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.units = map[string]*statement.Federation{}
	for unit, custody := range set.Custody {
		if custody.Federation != nil {
			b.units[unit] = custody.Federation
		}
	}
}

// claims are a JWT-SVID's (SPIFFE JWT-SVID, section 3), with what OpenAI and Anthropic ask for besides: iss and iat.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	ID       string   `json:"jti"`
}

// Sign signs a token in the name of the unit. Its error wraps source.ErrIdentity when no key of the statement's is here.
func (b *Book) Sign(ctx context.Context, unit string, t source.Token) (secret.Value, error) {
	f, pinned, k, err := b.choose(ctx, unit, t)
	if err != nil {
		return secret.Value{}, err
	}
	body, err := json.Marshal(claims{f.Issuer, f.Subject(unit, t.Credential, t.Workload), []string{t.Audience}, t.Issued.Unix(), t.Expires.Unix(), t.ID})
	if err != nil {
		return secret.Value{}, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(t.Algorithm), Key: &opaque{ctx, pinned, t.Algorithm, k}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return secret.Value{}, err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return secret.Value{}, fmt.Errorf("signing with the federation key of %s: %w", unit, err)
	}
	text, err := signed.CompactSerialize()
	return secret.New([]byte(text)), err
}

// choose finds the newest key of the statement's that holds now and that is here.
func (b *Book) choose(ctx context.Context, unit string, t source.Token) (f *statement.Federation, kid string, k key, err error) {
	b.mu.Lock()
	f, held := b.units[unit], b.held[unit]
	b.mu.Unlock()
	if f == nil {
		return nil, "", nil, fmt.Errorf("%w: the custody statement of %s has no federation; see reeve federation key", source.ErrIdentity, unit)
	}
	if b.helper != nil {
		more, err := b.helper.keys(ctx, unit)
		if err != nil {
			return nil, "", nil, fmt.Errorf("%w: the helper with the keys of %s: %w", source.ErrDown, unit, err)
		}
		held = append(more, held...)
	}
	var newest time.Time
	now := b.clock()
	for i := range f.Keys {
		p := &f.Keys[i]
		if p.Custodian != b.custodian || now.Before(p.NotBefore) || !now.Before(p.NotAfter) || p.NotBefore.Before(newest) {
			continue
		}
		public, err := p.Parse()
		if err != nil || public.Algorithms[0] != t.Algorithm {
			continue
		}
		if own := find(held, public.Public, t.Sealed || p.Held == statement.HeldByHelper); own != nil {
			newest, kid, k = p.NotBefore, public.ID, own
		}
	}
	if k == nil {
		where := "here"
		if t.Sealed {
			where = "in a helper, as class high needs it"
		}
		return nil, "", nil, fmt.Errorf("%w: no %s key that the custody statement of %s names for %s holds now and is %s; run reeve federation key %s on this host, publish what it prints, and try again",
			source.ErrIdentity, t.Algorithm, unit, b.custodian, where, unit)
	}
	return f, kid, k, nil
}

// find is the private key of a public one.
func find(held []key, public crypto.PublicKey, sealed bool) key {
	for _, k := range held {
		if p, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && p.Equal(public) && (k.sealed() || !sealed) {
			return k
		}
	}
	return nil
}

// Problems says of each unit what its people have to do, or nothing.
func (b *Book) Problems(now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for unit, f := range b.units {
		var last time.Time
		serves := false
		for _, k := range f.Keys {
			if k.Custodian == b.custodian {
				serves = true
				if k.NotAfter.After(last) {
					last = k.NotAfter
				}
			}
		}
		if serves && last.Sub(now) < Warning {
			all = append(all, fmt.Sprintf("the last federation key of %s ends on %s: run reeve federation key %s on this host and publish what it prints", unit, last.Format(time.DateOnly), unit))
		}
	}
	return all
}

// Mints are the keys that the statements name for this custodian, by unit.
func (b *Book) Mints() (all []admin.Mint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, unit := range slices.Sorted(maps.Keys(b.units)) {
		for i := range b.units[unit].Keys {
			p := &b.units[unit].Keys[i]
			public, err := p.Parse()
			if err != nil || p.Custodian != b.custodian {
				continue
			}
			m := admin.Mint{Unit: unit, Key: public.ID, Algorithm: public.Algorithms[0], NotAfter: p.NotAfter, Where: "nowhere"}
			if find(b.held[unit], public.Public, false) != nil {
				m.Where = "file"
			} else if b.helper != nil {
				m.Where = "helper"
			}
			all = append(all, m)
		}
	}
	return all
}

// Publish writes, for each unit, the two files that its providers verify with: <unit>/jwks.json and
// <unit>/.well-known/openid-configuration. They say what the signed statement says. No folder
// is no error.
func (b *Book) Publish(folder string) error {
	if folder == "" {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for unit, f := range b.units {
		for name, content := range map[string][]byte{"jwks.json": f.JWKS(), filepath.Join(".well-known", "openid-configuration"): f.Discovery()} {
			if err := publish(filepath.Join(folder, unit, name), content); err != nil {
				return fmt.Errorf("writing what %s publishes: %w", unit, err)
			}
		}
	}
	return nil
}

// opaque lets go-jose sign with a key that it never sees.
type opaque struct {
	ctx       context.Context
	kid       string
	algorithm string
	key       key
}

// Public implements jose.OpaqueSigner.
func (o *opaque) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: o.key.Public(), KeyID: o.kid, Algorithm: o.algorithm}
}

// Algs implements jose.OpaqueSigner.
func (o *opaque) Algs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.algorithm)}
}

// SignPayload implements jose.OpaqueSigner.
func (o *opaque) SignPayload(payload []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	digest := sha256.Sum256(payload)
	return o.key.Sign(o.ctx, digest[:])
}

// errKey refuses a private key of another kind.
var errKey = errors.New("it is neither a P-256 nor an RSA key")
