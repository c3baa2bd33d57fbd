package token

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// The endpoint's paths below the authority's public URL.
const (
	Path           = "/v1/token"
	IntrospectPath = "/v1/introspect"
	RevokePath     = "/v1/revoke"
	KeysPath       = "/v1/jwks"
	MetadataPath   = "/.well-known/oauth-authorization-server"
)

const (
	maxForm  = 64 << 10 // bytes of a request
	formTime = 10 * time.Second
)

// fault is a refusal as RFC 6749 section 5.2 has it.
type fault struct {
	status      int
	code        string
	description string
}

func (f *fault) Error() string { return f.description }

// invalid is the refusal of a token that is to be exchanged (RFC 8693 section 2.2.2) and of a malformed request.
func invalid(why string) *fault { return &fault{http.StatusBadRequest, "invalid_request", why} }

// refusedAs is the code of a subject that may not have a token.
func refusedAs(kind entry.Type) string {
	if kind == entry.Exchange {
		return "invalid_request"
	}
	return "invalid_grant"
}

// Routes are the endpoint's handlers by method and path.
func (e *Endpoint) Routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST " + Path:           e.posted(e.token),
		"POST " + IntrospectPath: e.posted(e.introspect),
		"POST " + RevokePath:     e.posted(e.revoke),
		"GET " + KeysPath:        e.keys,
		"GET " + MetadataPath:    e.metadata,
	}
}

// posted reads a form for a handler, and answers what it returns.
func (e *Endpoint) posted(handle func(*View, form, *http.Request, http.Header) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var answer any
		v := e.View()
		f, err := parameters(w, r)
		switch {
		case err != nil:
		case v == nil || v.Set.Charter.Authority.Issuer == "":
			err = &fault{http.StatusNotFound, "invalid_request", "the charter names no token issuer (authority.issuer)"}
		case r.Header.Get("Authorization") != "":
			w.Header().Set("WWW-Authenticate", `Basic realm="reeve"`)
			err = &fault{http.StatusUnauthorized, "invalid_client", "there are no client secrets; use private_key_jwt"}
		default:
			answer, err = handle(v, f, r, w.Header())
		}
		e.answer(w, answer, err)
	}
}

func parameters(w http.ResponseWriter, r *http.Request) (form, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, &fault{http.StatusUnsupportedMediaType, "invalid_request", "parameters come as application/x-www-form-urlencoded"}
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return nil, &fault{http.StatusRequestEntityTooLarge, "invalid_request", "the request is too large"}
	} else if err != nil {
		return nil, invalid("the request could not be read")
	}
	values, err := url.ParseQuery(string(b))
	if err != nil {
		return nil, invalid("the request is not a form")
	}
	for name, v := range values {
		if len(v) > 1 {
			return nil, invalid(name + " is given more than once")
		}
	}
	return form(values), nil
}

// answer writes what RFC 6749 section 5 asks for.
func (e *Endpoint) answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	f := new(fault)
	switch {
	case err == nil && v == nil:
		w.Header().Del("Content-Type")
		return
	case err == nil:
		json.NewEncoder(w).Encode(v)
		return
	case errors.As(err, &f):
	case errors.Is(err, ErrAway):
		f = &fault{http.StatusServiceUnavailable, "temporarily_unavailable", err.Error()}
	default:
		e.Log.Error("token endpoint", "error", err)
		f = &fault{http.StatusInternalServerError, "server_error", "the request could not be decided; the authority's log says why"}
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(f.status)
	json.NewEncoder(w).Encode(map[string]string{"error": f.code, "error_description": printable(err, f)})
}

// printable is a description of the characters that RFC 6749 section 5.2 allows.
func printable(err error, f *fault) string {
	text := f.description
	if f.status < http.StatusInternalServerError {
		text = err.Error() // with what was wrong: subject_token, actor_token
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ' || r > '~' || r == '\\':
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), 500)]
}

// token serves POST /v1/token.
func (e *Endpoint) token(v *View, f form, r *http.Request, h http.Header) (any, error) {
	now := e.Clock()
	proof, err := e.proof(r, v.Set.Charter.Authority.Issuer+Path, now)
	if err != nil {
		return nil, e.unknown(err)
	}
	asked, err := e.parse(v, f, now)
	if err != nil {
		return nil, e.unknown(err)
	}
	asked.proof = proof
	resp, receipt, err := e.issue(v, asked)
	if err != nil {
		return nil, err
	}
	if receipt != "" {
		h.Set("Reeve-Receipt", receipt)
	}
	return resp, nil
}

// unknown notes the refusal of somebody whose proof did not hold: many of them are one entry.
func (e *Endpoint) unknown(err error) error {
	if f := new(fault); errors.As(err, &f) && f.status < http.StatusInternalServerError {
		e.Refused(&entry.Entry{Type: entry.Deny, Decision: "deny", Reason: "token: " + f.code, FeedAgeMS: -1, Count: 1})
	}
	return err
}

// metadata serves RFC 8414.
func (e *Endpoint) metadata(w http.ResponseWriter, _ *http.Request) {
	v := e.View()
	if v == nil || v.Set.Charter.Authority.Issuer == "" {
		e.answer(w, nil, &fault{http.StatusNotFound, "invalid_request", "the charter names no token issuer (authority.issuer)"})
		return
	}
	issuer := v.Set.Charter.Authority.Issuer
	methods, algorithms := []string{"private_key_jwt"}, []string{"EdDSA", "ES256", "ES384", "RS256", "PS256"}
	e.answer(w, map[string]any{
		"issuer":                                issuer,
		"token_endpoint":                        issuer + Path,
		"introspection_endpoint":                issuer + IntrospectPath,
		"revocation_endpoint":                   issuer + RevokePath,
		"jwks_uri":                              issuer + KeysPath,
		"response_types_supported":              []string{}, // nobody logs in here
		"grant_types_supported":                 []string{grantClient, grantBearer, grantExchange},
		"token_endpoint_auth_methods_supported": append([]string{"none"}, methods...),
		"token_endpoint_auth_signing_alg_values_supported":         algorithms,
		"introspection_endpoint_auth_methods_supported":            methods,
		"introspection_endpoint_auth_signing_alg_values_supported": algorithms,
		"revocation_endpoint_auth_methods_supported":               []string{"none"},
		"dpop_signing_alg_values_supported":                        []string{"EdDSA", "ES256"},
		"authorization_details_types_supported":                    []string{workload.GrantType},
	}, nil)
}

// keys serves the public token keys that the charter has now, of every authority.
func (e *Endpoint) keys(w http.ResponseWriter, _ *http.Request) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	if v := e.View(); v != nil {
		for _, k := range v.Set.ServiceKeys("token", e.Clock()) {
			_, _, public, err := statement.ParseNoteKey(k.Key)
			if err != nil {
				continue
			}
			if kid, err := workload.AccessKeyID(public); err == nil {
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: kid, Algorithm: "EdDSA", Use: "sig"})
			}
		}
	}
	e.answer(w, set, nil)
}
