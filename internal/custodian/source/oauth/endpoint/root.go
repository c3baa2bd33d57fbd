package endpoint

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/jwt"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// Root is what the owner handed over: one object of JSON, or what shows the client as it is. That is a client secret, or PEM of a private key
// alone or with its certificate.
type Root struct {
	Secret  source.Text `json:"client_secret"`
	Key     source.Text `json:"private_key"` // PEM
	Cert    source.Text `json:"certificate"` // PEM, with its chain
	Refresh source.Text `json:"refresh_token"`
	Home    string      `json:"home"` // the custodian that may spend the refresh token
}

// Wipe overwrites it.
func (r *Root) Wipe() {
	for _, t := range []source.Text{r.Secret, r.Key, r.Cert, r.Refresh} {
		t.Wipe()
	}
}

// Root reads what was handed over, newest version. The error wraps source.ErrNoRoot and names what is missing.
func (e *Endpoint) Root(d ledger.Durable) (*Root, error) {
	v, err := e.cfg.Root(d)
	if err != nil {
		return nil, err
	}
	r := new(Root)
	if b := v.Reveal(); len(b) > 0 && b[0] != '{' {
		whole := source.Text{Value: secret.New(bytes.Clone(b))}
		switch e.method {
		case "tls_client_auth":
			r.Key, r.Cert = whole, whole
		case "private_key_jwt":
			r.Key = whole
		default:
			r.Secret = whole
		}
	} else if json.Unmarshal(b, r) != nil { // its error may quote
		r.Wipe()
		return nil, fmt.Errorf("%w: what was handed over for %s is not one object of JSON whose members are strings", source.ErrNoRoot, e.cfg.Record.ID)
	}
	if err := e.complete(r); err != nil {
		r.Wipe()
		return nil, err
	}
	return r, nil
}

// complete holds what was handed over to what the record needs.
func (e *Endpoint) complete(r *Root) error {
	secret := e.method == "client_secret_basic" || e.method == "client_secret_post"
	key := e.method == "private_key_jwt" || e.method == "tls_client_auth"
	lacks := ""
	switch {
	case e.Rotates() && !Visible(r.Refresh.Reveal()):
		lacks = "refresh_token"
	case e.Rotates() && r.Home == "":
		lacks = "home"
	case secret && r.Secret.Empty():
		lacks = "client_secret"
	case key && r.Key.Empty():
		lacks = "private_key"
	case e.method == "tls_client_auth" && r.Cert.Empty():
		lacks = "certificate"
	default:
		return nil
	}
	return fmt.Errorf("%w: what was handed over for %s lacks %s", source.ErrNoRoot, e.cfg.Record.ID, lacks)
}

// certificate is the client's for TLS, nil unless it authenticates so.
func (e *Endpoint) certificate(r *Root) (*tls.Certificate, error) {
	if e.method != "tls_client_auth" {
		return nil, nil
	}
	c, err := tls.X509KeyPair(r.Cert.Reveal(), r.Key.Reveal())
	if err != nil { // may quote what it read
		return nil, fmt.Errorf("%w: certificate and private_key for %s are not PEM that fits together", source.ErrNoRoot, e.cfg.Record.ID)
	}
	return &c, nil
}

// assertion is the client's own (RFC 7523, section 2.2 and 3): as good as its key, for a minute, once.
func (e *Endpoint) assertion(r *Root) ([]byte, error) {
	key, err := jwt.Key(r.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	now := e.cfg.Clock()
	claims := map[string]any{
		"iss": e.param("client_id"), "sub": e.param("client_id"), "aud": e.audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	b, err := jwt.Sign(key, e.param("algorithm"), e.param("key_id"), claims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	return b, nil
}
