package authority

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
)

// signalRoutes are the two protocols by which identity providers say that somebody is to be closed: push delivery of security event
// tokens (RFC 8935) and SCIM 2.0 (RFC 7644).
func (a *Authority) signalRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/signals":                   a.takeSignal,
		"GET /scim/v2/ServiceProviderConfig": a.scimConfig,
		"GET /scim/v2/Users":                 a.scimList,
		"GET /scim/v2/Users/{id}":            a.scimUser(a.scimGet),
		"PATCH /scim/v2/Users/{id}":          a.scimUser(a.scimPatch),
		"PUT /scim/v2/Users/{id}":            a.scimUser(a.scimPut),
		"DELETE /scim/v2/Users/{id}":         a.scimUser(a.scimDelete),
	}
}

// seal puts a payload into a record's file. Without a key it has no signature: what it carries is signed.
func (a *Authority) seal(kind string, v any, sign bool) ([]byte, error) {
	payload, err := statement.Canonical(v)
	if err != nil {
		return nil, err
	}
	env := statement.Envelope{PayloadType: statement.RecordType(kind), Payload: payload, Signatures: []statement.Signature{}}
	if sign {
		key := a.key.Load()
		sig, err := key.Sign(statement.PAE(env.PayloadType, payload))
		if err != nil {
			return nil, err
		}
		env.Signatures = append(env.Signatures, statement.Signature{KeyID: fmt.Sprintf("%s+%08x", key.Name(), key.KeyHash()), Sig: sig})
	}
	return statement.Canonical(env)
}

// takeSignal takes a security event token. It becomes a record as it is: custodians verify the provider's own signature, so that nobody
// here can make one up.
func (a *Authority) takeSignal(w http.ResponseWriter, r *http.Request) {
	refuse := func(code string, err error) { // RFC 8935, section 2.3
		a.count.refused.Inc()
		answer(w, http.StatusBadRequest, map[string]string{"err": code, "description": err.Error()})
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/secevent+jwt" {
		refuse("invalid_request", errors.New("want a security event token as application/secevent+jwt"))
		return
	}
	b, ok := body(w, r, feed.MaxRecord/2)
	if !ok {
		return
	}
	set := a.Set()
	err := errPace
	if set == nil {
		err = ErrNoSet
	}
	if set == nil || !a.signals.Allows(r.RemoteAddr, time.Now()) {
		w.Header().Set("Retry-After", "1")
		fault(w, http.StatusServiceUnavailable, "signal not taken", err)
		return
	}
	compact := strings.TrimSpace(string(b))
	issuer, err := issuerOf(compact)
	if err != nil {
		refuse("invalid_request", err)
		return
	}
	failed := error(nil)
	for _, s := range set.Charter.Signals {
		if s.JWKS == "" || s.Issuer != issuer {
			continue
		}
		var closing *statement.Closing
		file, err := a.seal("signal", statement.SignalRecord{Estate: set.Charter.Estate, Signal: s.ID, Token: compact}, false)
		if err == nil {
			closing, err = a.opened(set, file)
		}
		if err == nil && len(closing.Targets) > 0 {
			_, err = a.Take(&feed.Frame{Record: file}, "signal")
		}
		if err == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		failed = err
	}
	switch {
	case failed == nil:
		refuse("invalid_issuer", fmt.Errorf("the charter has no signal issuer %.200q", issuer))
	case errors.Is(failed, statement.ErrRefused):
		refuse("authentication_failed", failed)
	default:
		fault(w, http.StatusServiceUnavailable, "signal not published", failed)
	}
}

func (a *Authority) opened(set *statement.Set, file []byte) (*statement.Closing, error) {
	env, _, err := feed.ParseRecord(file)
	if err != nil {
		return nil, err
	}
	return set.OpenSignal(env, a.clock())
}

// issuerOf reads who a token says that it is of. Nothing is verified.
func issuerOf(compact string) (string, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return "", errors.New("not a compact JWS")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var t struct {
		Issuer string `json:"iss"`
	}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return "", fmt.Errorf("the token's payload cannot be read: %w", err)
	}
	return t.Issuer, nil
}

// closed reports whether a target is closed by the records that are published.
func (a *Authority) closed(t statement.Target) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.issue.closed[t]
	return r != nil && !r.Open
}

// readJSON reads a request's body into v.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
