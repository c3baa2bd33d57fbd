package oauth

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/jwt"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// root is what the owner handed over: a client secret as it is, or one object of JSON.
type root struct {
	Secret  source.Text `json:"client_secret"`
	Key     source.Text `json:"private_key"` // PEM
	Cert    source.Text `json:"certificate"` // PEM, with its chain
	Refresh source.Text `json:"refresh_token"`
	Home    string      `json:"home"` // the custodian that may spend the refresh token
}

func (r *root) wipe() {
	for _, t := range []source.Text{r.Secret, r.Key, r.Cert, r.Refresh} {
		t.Wipe()
	}
}

func (s *Source) root(d ledger.Durable) (*root, error) {
	v, err := s.cfg.Root(d)
	if err != nil {
		return nil, err
	}
	r := new(root)
	if b := v.Reveal(); len(b) > 0 && b[0] != '{' {
		r.Secret.Value = secret.New(bytes.Clone(b))
	} else if json.Unmarshal(b, r) != nil { // its error may quote
		r.wipe()
		return nil, fmt.Errorf("%w: what was handed over for %s is not one object of JSON whose members are strings", source.ErrNoRoot, s.cfg.Record.ID)
	}
	if err := s.complete(r); err != nil {
		r.wipe()
		return nil, err
	}
	return r, nil
}

// complete holds what was handed over to what the record needs.
func (s *Source) complete(r *root) error {
	lacks := ""
	switch {
	case s.rotates() && !visible(r.Refresh.Reveal()):
		lacks = "refresh_token"
	case s.rotates() && r.Home == "":
		lacks = "home"
	case (s.method == "client_secret_basic" || s.method == "client_secret_post") && r.Secret.Empty():
		lacks = "client_secret"
	case (s.method == "private_key_jwt" || s.method == "tls_client_auth") && r.Key.Empty():
		lacks = "private_key"
	case s.method == "tls_client_auth" && r.Cert.Empty():
		lacks = "certificate"
	}
	if lacks == "" {
		return nil
	}
	return fmt.Errorf("%w: what was handed over for %s lacks %s", source.ErrNoRoot, s.cfg.Record.ID, lacks)
}

// certificate is the client's for TLS, nil unless it authenticates so.
func (s *Source) certificate(r *root) (*tls.Certificate, error) {
	if s.method != "tls_client_auth" {
		return nil, nil
	}
	c, err := tls.X509KeyPair(r.Cert.Reveal(), r.Key.Reveal())
	if err != nil { // may quote what it read
		return nil, fmt.Errorf("%w: certificate and private_key for %s are not PEM that fits together", source.ErrNoRoot, s.cfg.Record.ID)
	}
	return &c, nil
}

// assertion is the client's own (RFC 7523, section 2.2 and 3): as good as its key, for a minute, once.
func (s *Source) assertion(r *root) ([]byte, error) {
	key, err := jwt.Key(r.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	now := s.cfg.Clock()
	claims := map[string]any{
		"iss": s.param("client_id"), "sub": s.param("client_id"), "aud": s.audience, "jti": name(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	b, err := jwt.Sign(key, s.param("algorithm"), s.param("key_id"), claims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	return b, nil
}
