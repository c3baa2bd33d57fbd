package authority

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// SCIM is a provider's SCIM client.
type SCIM struct {
	Signal    string `yaml:"signal"`     // id of a signal issuer of the charter with scim: true
	TokenFile string `yaml:"token_file"` // file with the bearer token that it sends, mode 0600
}

// scimTokens reads the tokens of the SCIM clients, by signal issuer.
func scimTokens(clients []SCIM) (map[string]secret.Value, error) {
	all := map[string]secret.Value{}
	for _, c := range clients {
		v, err := secret.ReadFile(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token of the SCIM client of %s: %w", c.Signal, err)
		}
		if v.Len() < 20 {
			return nil, fmt.Errorf("the token of the SCIM client of %s has %d bytes: who guesses it closes people; use 20 at least", c.Signal, v.Len())
		}
		all[c.Signal] = v
	}
	return all, nil
}

// user is a SCIM user as far as reeve knows one: who stands in the charter's table.
type user struct {
	Schemas  []string `json:"schemas"`
	ID       string   `json:"id"`
	UserName string   `json:"userName"`
	Active   bool     `json:"active"`
}

const (
	scimSchema = "urn:ietf:params:scim:schemas:core:2.0:User"
	scimErrors = "urn:ietf:params:scim:api:messages:2.0:Error"
	scimLists  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
)

func scimAnswer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func scimFault(w http.ResponseWriter, status int, detail string) {
	scimAnswer(w, status, map[string]any{"schemas": []string{scimErrors}, "status": fmt.Sprint(status), "detail": detail})
}

// scimClient returns which provider asks, or answers 401.
func (a *Authority) scimClient(w http.ResponseWriter, r *http.Request) *statement.Signal {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum, set := sha256.Sum256([]byte(token)), a.Set()
	for id, want := range a.scim {
		is := sha256.Sum256(want.Reveal())
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], is[:]) != 1 || set == nil {
			continue
		}
		for i := range set.Charter.Signals {
			if s := &set.Charter.Signals[i]; s.ID == id && s.SCIM {
				return s
			}
		}
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	scimFault(w, http.StatusUnauthorized, "no SCIM client of the charter has this token")
	return nil
}

// find returns a subject of the provider as a user: active while anything of him is open.
func (a *Authority) find(s *statement.Signal, subject string) (user, bool) {
	u, found := user{Schemas: []string{scimSchema}, ID: subject, UserName: subject}, false
	for _, m := range s.Subjects {
		if m.Subject == subject {
			found = true
			u.Active = u.Active || !a.closed(statement.Target{Kind: m.Kind, ID: m.ID})
		}
	}
	return u, found
}

func (a *Authority) scimConfig(w http.ResponseWriter, r *http.Request) {
	if a.scimClient(w, r) == nil {
		return
	}
	no, yes := map[string]bool{"supported": false}, map[string]bool{"supported": true}
	scimAnswer(w, http.StatusOK, map[string]any{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"}, "patch": yes, "bulk": no, "filter": yes, "changePassword": no, "sort": no, "etag": no,
		"authenticationSchemes": []map[string]string{{"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of this provider's client"}},
	})
}

// scimList answers the filter with which providers look a user up (RFC 7644, section 3.4.2.2); nobody is listed without one.
func (a *Authority) scimList(w http.ResponseWriter, r *http.Request) {
	s := a.scimClient(w, r)
	if s == nil {
		return
	}
	found := []user{}
	if m := regexp.MustCompile(`^(?:userName|id|externalId) [eE][qQ] "([^"\\]*)"$`).FindStringSubmatch(r.URL.Query().Get("filter")); m != nil {
		if u, ok := a.find(s, m[1]); ok {
			found = append(found, u)
		}
	}
	scimAnswer(w, http.StatusOK, map[string]any{"schemas": []string{scimLists}, "totalResults": len(found), "startIndex": 1, "itemsPerPage": len(found), "Resources": found})
}

// scimUser finds client and user for a handler.
func (a *Authority) scimUser(do func(http.ResponseWriter, *http.Request, *statement.Signal, user)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := a.scimClient(w, r)
		if s == nil {
			return
		}
		if r.Method != http.MethodGet && !a.changes.Allows(r.RemoteAddr, time.Now()) {
			w.Header().Set("Retry-After", "1")
			scimFault(w, http.StatusServiceUnavailable, errPace.Error())
			return
		}
		u, ok := a.find(s, r.PathValue("id"))
		if !ok {
			scimFault(w, http.StatusNotFound, "the charter has no such subject of this provider")
			return
		}
		do(w, r, s, u)
	}
}

func (a *Authority) scimGet(w http.ResponseWriter, _ *http.Request, _ *statement.Signal, u user) {
	scimAnswer(w, http.StatusOK, u)
}

// truth is a JSON boolean, which some providers send as a string.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(b []byte) error {
	switch strings.ToLower(strings.Trim(string(b), `"`)) {
	case "true":
		*t = true
	case "false":
		*t = false
	default:
		return errors.New("active is neither true nor false")
	}
	return nil
}

func (a *Authority) scimPut(w http.ResponseWriter, r *http.Request, s *statement.Signal, u user) {
	var v struct {
		Active *truth `json:"active"`
	}
	if err := readJSON(w, r, &v); err != nil {
		scimFault(w, http.StatusBadRequest, err.Error())
		return
	}
	a.activate(w, s, u, v.Active)
}

func (a *Authority) scimPatch(w http.ResponseWriter, r *http.Request, s *statement.Signal, u user) {
	var v struct {
		Operations []struct {
			Op    string          `json:"op"`
			Path  string          `json:"path"`
			Value json.RawMessage `json:"value"`
		} `json:"Operations"`
	}
	err := readJSON(w, r, &v)
	var active *truth
	for _, op := range v.Operations {
		var one struct {
			Active *truth `json:"active"`
		}
		switch {
		case err != nil || strings.EqualFold(op.Op, "remove"):
		case strings.EqualFold(op.Path, "active"), strings.EqualFold(op.Path, scimSchema+":active"): // RFC 7644, section 3.10
			one.Active = new(truth)
			err = json.Unmarshal(op.Value, one.Active)
		case op.Path == "":
			err = json.Unmarshal(op.Value, &one)
		}
		if one.Active != nil && (active == nil || !bool(*one.Active)) { // of two in one request, the one that closes
			active = one.Active
		}
	}
	if err != nil {
		scimFault(w, http.StatusBadRequest, err.Error())
		return
	}
	a.activate(w, s, u, active)
}

func (a *Authority) scimDelete(w http.ResponseWriter, _ *http.Request, s *statement.Signal, u user) {
	if u.Active { // else he is closed already, and no second record says more
		if err := a.report(s, u, "deleted"); err != nil {
			scimFault(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// activate closes a user who becomes inactive. Nothing here opens: who was closed stays so until two owners sign.
func (a *Authority) activate(w http.ResponseWriter, s *statement.Signal, u user, active *truth) {
	switch {
	case active == nil || bool(*active) == u.Active:
	case bool(*active):
		scimFault(w, http.StatusForbidden, "a signal only closes: two owners of different roles open again (reeve revoke --open)")
		return
	default:
		if err := a.report(s, u, "deactivated"); err != nil {
			scimFault(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		u.Active = false
	}
	scimAnswer(w, http.StatusOK, u)
}

// report publishes in the authority's name what a provider said.
func (a *Authority) report(s *statement.Signal, u user, act string) error {
	set := a.Set()
	file, err := a.seal("scim", statement.SCIMRecord{Estate: set.Charter.Estate, Signal: s.ID, Subject: u.ID, Act: act, Time: a.clock().UTC()}, true)
	if err == nil {
		_, err = a.Take(&feed.Frame{Record: file}, "scim")
	}
	return err
}
