package vault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/custodian/source"
)

const (
	roleID   = "8ca8b262-b8cf-a234-166e-b687f17c770a"
	secretID = "fddbcb11-8a4d-4ddf-0af1-4fb693bf7f92"
	wrapping = "hvs.a-wrapping-of-the-double"
)

// double is a Vault as its documents describe it (developer.hashicorp.com/vault/api-docs: auth/approle, auth/jwt, auth/kubernetes, auth/token,
// secret/kv/kv-v2, secret/databases, system/audit, system/leases, system/wrapping-lookup, system/wrapping-unwrap), with the bytes that the
// real server answers. What those do not describe it refuses, and TestRealOpenBao holds it against the real one.
type double struct {
	namespace string
	jwt       string
	loginTTL  int64 // seconds of a login
	loginMax  int   // how often a login can be renewed
	leaseTTL  int64 // seconds of a lease
	fixed     bool  // leases cannot be renewed
	unaudited bool
	stuck     bool // the engine behind cannot revoke
	made      string

	mu      sync.Mutex
	n       int
	logins  map[string]int    // token → renewals
	leases  map[string]string // id → login
	ended   []string          // logins that were given back
	opened  bool              // the wrapping
	version int
	gone    []int // versions destroyed
	calls   []string
	said    []string // secrets
}

func newDouble() *double {
	return &double{
		jwt: "header.claims.signature", loginTTL: 1200, loginMax: 3, leaseTTL: 3600, made: "auth/approle/role/reeve/secret-id",
		logins: map[string]int{}, leases: map[string]string{}, version: 1,
	}
}

func (d *double) secrets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{secretID, wrapping, d.jwt}, d.said...)
}

func (d *double) alive(s *source.Secret) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.leases[s.Lease]
	return ok
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	d.calls = append(d.calls, r.Method+" "+r.RequestURI)
	if err := d.form(r, body); err != "" {
		refuse(w, 400, err)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	call := r.Method + " " + strings.TrimPrefix(r.RequestURI, "/v1/")
	switch call {
	case "POST auth/approle/login":
		d.loginBy(w, body, fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, roleID, secretID))
		return
	case "POST auth/jwt/login", "POST auth/cluster-1/login":
		d.loginBy(w, body, fmt.Sprintf(`{"role":"reeve","jwt":%q}`, d.jwt))
		return
	case "POST sys/wrapping/lookup":
		if d.opened || string(body) != fmt.Sprintf(`{"token":%q}`, wrapping) {
			refuse(w, 400, "wrapping token is not valid or does not exist")
			return
		}
		d.answer(w, "", 0, fmt.Sprintf(`{"creation_path":%q,"creation_time":"2026-11-23T12:09:58.534918427Z","creation_ttl":300}`, d.made), "null")
		return
	case "POST sys/wrapping/unwrap":
		if d.opened || token != wrapping {
			refuse(w, 400, "wrapping token is not valid or does not exist")
			return
		}
		d.opened = true
		d.answer(w, "", 0, fmt.Sprintf(`{"secret_id":%q,"secret_id_accessor":"98b1edd1-30fd-7f27-a6b5-33f85edbb2e8","secret_id_num_uses":0,"secret_id_ttl":0}`, secretID), "null")
		return
	}
	if _, ok := d.logins[token]; !ok {
		refuse(w, 403, "2 errors occurred:\\n\\t* permission denied\\n\\t* invalid token\\n\\n")
		return
	}
	d.under(w, call, token, body)
}

// form returns what is wrong with a request's form.
func (d *double) form(r *http.Request, body []byte) string {
	for name := range r.Header {
		if !slices.Contains([]string{"Accept", "Accept-Encoding", "Content-Length", "Content-Type", "X-Vault-Namespace", "X-Vault-Request", "X-Vault-Token"}, name) {
			return "unexpected header " + name
		}
	}
	switch {
	case r.Header.Get("X-Vault-Request") != "true":
		return "missing 'X-Vault-Request' header"
	case r.Header.Get("X-Vault-Namespace") != d.namespace:
		return "wrong namespace"
	case r.Method == "GET" && len(body) > 0:
		return "a body"
	case r.Method == "POST" && (r.Header.Get("Content-Type") != "application/json" || !json.Valid(body)):
		return "no JSON"
	}
	return ""
}

func (d *double) loginBy(w http.ResponseWriter, body []byte, want string) {
	if string(body) != want {
		refuse(w, 400, "invalid role or secret ID")
		return
	}
	d.n++
	token := fmt.Sprintf("hvs.a-login-of-the-double-%d", d.n)
	d.logins[token] = 0
	d.said = append(d.said, token)
	d.answer(w, "", 0, "null", d.auth(token))
}

func (d *double) auth(token string) string {
	return fmt.Sprintf(`{"client_token":%q,"accessor":"0e9e354a-520f-df04-6867-ee81cae3d42d","policies":["default","reeve"],"token_policies":["default","reeve"],"metadata":{"role_name":"reeve"},`+
		`"lease_duration":%d,"renewable":%v,"entity_id":"7d2e3179-f69b-450c-7179-ac8ee8bd8ca9","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}`, token, d.loginTTL, d.logins[token] < d.loginMax)
}

// under serves what needs a login.
func (d *double) under(w http.ResponseWriter, call, token string, body []byte) {
	var in struct {
		LeaseID   string `json:"lease_id"`
		Increment int64  `json:"increment"`
		Sync      bool   `json:"sync"`
		Versions  []int  `json:"versions"`
	}
	if len(body) > 0 {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if dec.Decode(&in) != nil {
			refuse(w, 400, "unknown member")
			return
		}
	}
	switch call {
	case "POST auth/token/renew-self":
		if d.logins[token] == d.loginMax {
			refuse(w, 400, "lease is not renewable")
			return
		}
		d.logins[token]++
		d.answer(w, "", 0, "null", d.auth(token))
	case "POST auth/token/revoke-self":
		delete(d.logins, token)
		for id, login := range d.leases {
			if login == token {
				delete(d.leases, id)
			}
		}
		d.ended = append(d.ended, token)
		w.WriteHeader(204)
	case "GET sys/audit":
		devices := `{"file/":{"description":"","local":false,"options":{"file_path":"/var/log/vault.log"},"path":"file/","type":"file"}}`
		if d.unaudited {
			devices = "{}"
		}
		d.answer(w, "", 0, devices, "null")
	case "GET database/creds/readonly":
		d.n++
		id, password := fmt.Sprintf("database/creds/readonly/L%d", d.n), fmt.Sprintf("password-of-the-double-%d", d.n)
		d.leases[id] = token
		d.said = append(d.said, password)
		d.answer(w, id, d.leaseTTL, fmt.Sprintf(`{"password":%q,"username":"v-approle-readonly-%d"}`, password, d.n), "null")
	case "POST sys/leases/renew":
		if _, ok := d.leases[in.LeaseID]; !ok || d.fixed {
			refuse(w, 400, "lease not found")
			return
		}
		ttl := d.leaseTTL
		if in.Increment > 0 {
			ttl = in.Increment
		}
		d.answer(w, in.LeaseID, ttl, "null", "null")
	case "POST sys/leases/revoke":
		if in.LeaseID == "" || !in.Sync || d.stuck {
			refuse(w, 400, "failed to revoke entry")
			return
		}
		delete(d.leases, in.LeaseID)
		w.WriteHeader(204)
	case "GET secret/data/openai":
		key := fmt.Sprintf("key-of-the-double-%d", d.version)
		if slices.Contains(d.gone, d.version) {
			w.WriteHeader(404)
			return
		}
		d.said = append(d.said, key)
		d.answer(w, "", 0, fmt.Sprintf(`{"data":{"key":%q,"other":7},"metadata":{"created_time":"2026-11-23T12:09:58.31833825Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":%d}}`, key, d.version), "null")
	case "POST secret/destroy/openai":
		d.gone = append(d.gone, in.Versions...)
		w.WriteHeader(204)
	default:
		refuse(w, 403, "1 error occurred:\\n\\t* permission denied\\n\\n")
	}
}

func (d *double) answer(w http.ResponseWriter, lease string, seconds int64, data, auth string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	fmt.Fprintf(w, `{"request_id":"c571ce30-223d-f676-88cf-e7c2b5b5ea77","lease_id":%q,"renewable":%v,"lease_duration":%d,"data":%s,"wrap_info":null,"warnings":null,"auth":%s}`+"\n",
		lease, lease != "" && !d.fixed, seconds, data, auth)
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":["%s"]}`+"\n", text)
}
