package pin

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/sigv4"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func checkInject(c statement.Credential) error {
	for _, f := range c.Inject.With {
		name, value, ok := strings.Cut(f, ": ")
		if bad := fold(name); !ok || !token(name) || !fieldValue(value) || local(bad) || authField(bad) || once(bad) != 0 {
			return refuse("credential %s: inject with %q, which is not a field that may stand beside the secret", c.ID, f)
		}
	}
	name := fold(c.Inject.Name)
	if (c.Inject.As == "sigv4") != (c.Inject.Region != "") {
		return refuse("credential %s: inject as %s with the region %q", c.ID, c.Inject.As, c.Inject.Region)
	}
	switch c.Inject.As {
	case "bearer", "tls":
		if name == "" {
			return nil
		}
	case "header":
		if token(name) && (!local(name) || strings.HasPrefix(name, "cf-")) && name != "content-type" && name != "content-encoding" {
			return nil
		}
	case "query":
		if plainName(name) {
			return nil
		}
	case "sigv4":
		if plainName(name) && plainName(c.Inject.Region) && name != "s3" { // S3 has rules of its own for paths
			return nil
		}
	}
	return refuse("credential %s: inject as bearer or tls without a name, as header with a field name, as query with a parameter name, or as sigv4 with a service (not s3) and a region", c.ID)
}

func plainName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// Parts are a secret made ready, as the record uses it.
type Parts struct {
	Patterns    *guard.Patterns  // of what may not come back in an answer
	Certificate *tls.Certificate // for tls, what is shown to the upstream; its Leaf is set
}

// Open makes a secret ready, or says why it cannot be used as the record says. The error holds nothing of it.
func (p *Pin) Open(s *source.Secret) (parts *Parts, err error) {
	parts = &Parts{}
	switch p.Credential.Inject.As {
	case "tls":
		if parts.Certificate, err = p.certificate(s); err == nil {
			parts.Patterns, err = guard.Key(scalar(parts.Certificate.PrivateKey))
		}
	case "sigv4":
		id, key := accessKey(s)
		if strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || len(id) < 8 || len(id) > 128 || len(key) < 16 || !carried(key, false) || !carried(s.Session.Reveal(), false) {
			return nil, refuse("credential %s: what was given is not an AWS access key; hand it over as ACCESS_KEY_ID:SECRET_ACCESS_KEY", p.Credential.ID)
		}
		secrets := []secret.Value{secret.New(key)}
		if !s.Session.Empty() {
			secrets = append(secrets, s.Session)
		}
		parts.Patterns, err = guard.New(secrets...)
	default:
		b := s.Value.Reveal()
		if len(b) == 0 {
			return nil, refuse("credential %s: the secret is empty", p.Credential.ID)
		}
		if !carried(b, p.Credential.Inject.As == "header") {
			return nil, refuse("credential %s: the secret has a space, line break or other byte that cannot be sent; hand it over again without it", p.Credential.ID)
		}
		parts.Patterns, err = guard.New(s.Value)
	}
	if err != nil {
		return nil, err
	}
	return parts, nil
}

// carried reports whether b is printable ASCII, with blanks at most inside a header value such as "Basic …".
func carried(b []byte, blanks bool) bool {
	for i, c := range b {
		if (c <= ' ' || c >= 0x7f) && !(blanks && c == ' ' && i > 0 && i < len(b)-1) {
			return false
		}
	}
	return true
}

// Inject puts the secret into a request that is otherwise complete, its target excepted. What it adds may hold the secret: the caller calls
// Wipe once the request was sent. now is what a signature holds for.
func (p *Pin) Inject(r *egress.Request, target string, s *source.Secret, now time.Time) {
	r.Target = p.target(target, s.Value)
	switch in := &p.Credential.Inject; in.As {
	case "bearer":
		r.Secrets[0] = egress.Secret{Name: "Authorization", Value: append([]byte("Bearer "), s.Value.Reveal()...)}
	case "header":
		r.Secrets[0] = egress.Secret{Name: in.Name, Value: append([]byte(nil), s.Value.Reveal()...)}
	case "sigv4":
		p.sign(r, s, now)
	}
}

// target is the request target that Target returned, with the secret where it goes into the query.
func (p *Pin) target(target string, v secret.Value) []byte {
	in := &p.Credential.Inject
	if in.As != "query" {
		return []byte(target)
	}
	dst := make([]byte, 0, len(target)+len(in.Name)+3*v.Len()+2) // growing would leave copies behind
	joint := byte('?')
	if strings.Contains(target, "?") {
		joint = '&'
	}
	dst = append(append(append(append(dst, target...), joint), in.Name...), '=')
	for _, c := range v.Reveal() {
		if unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return dst
}

// sign signs the request for AWS: the method, the target, the body, and of the fields what says what they are and whose.
func (p *Pin) sign(r *egress.Request, s *source.Secret, now time.Time) {
	in := &p.Credential.Inject
	id, key := accessKey(s)
	body := sha256.Sum256(r.Body)
	r.Header = append(slices.Clip(r.Header),
		hop.Field{Name: "X-Amz-Date", Value: now.UTC().Format(sigv4.Time)},
		hop.Field{Name: "X-Amz-Content-Sha256", Value: hex.EncodeToString(body[:])})
	signed := &sigv4.Request{Method: r.Method, Target: string(r.Target), Body: body,
		Fields: []sigv4.Field{{Name: "host", Value: []byte(strings.TrimPrefix(p.Credential.Destination.Origin, "https://"))}}}
	for _, f := range r.Header {
		if name := strings.ToLower(f.Name); name == "content-type" || strings.HasPrefix(name, "x-amz-") {
			signed.Fields = append(signed.Fields, sigv4.Field{Name: name, Value: []byte(f.Value)})
		}
	}
	if !s.Session.Empty() {
		token := append([]byte(nil), s.Session.Reveal()...)
		r.Secrets[1] = egress.Secret{Name: "X-Amz-Security-Token", Value: token}
		signed.Fields = append(signed.Fields, sigv4.Field{Name: "x-amz-security-token", Value: token})
	}
	r.Secrets[0] = egress.Secret{Name: "Authorization", Value: sigv4.Scope{Region: in.Region, Service: in.Name}.Authorization(signed, id, key, now)}
}

// accessKey takes an AWS access key apart. An owner hands both parts over in one line.
func accessKey(s *source.Secret) (id string, key []byte) {
	if s.Public != "" {
		return s.Public, s.Value.Reveal()
	}
	name, key, _ := bytes.Cut(s.Value.Reveal(), []byte(":"))
	return string(name), key
}
