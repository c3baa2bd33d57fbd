// Package oauth drives the token endpoint of the real authority with a client of another make.
package oauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

const agent = "https://agents.example/research"

// site is a running authority whose research-agent has a key of its own in the charter.
type site struct {
	*estatetest.Estate
	url string
	key ed25519.PrivateKey
}

func start(t *testing.T, edits ...func(s *site, p *estate.Plan)) *site {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	must(t, binaries.Build(bin, "", "reeve-authority"))
	free, err := net.Listen("tcp", "127.0.0.1:0") // the charter has the URL before the process listens
	must(t, err)
	address := free.Addr().String()
	must(t, free.Close())
	s := &site{url: "http://" + address}
	_, s.key, err = ed25519.GenerateKey(rand.Reader)
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.key.Public(), KeyID: "k"}}})
	must(t, err)
	s.Estate = estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Authority.Issuer = s.url
		p.Charter.Issuers = []statement.Issuer{{ID: "own", Issuer: agent, JWKS: string(set), Algorithms: []string{"EdDSA"}}}
		w := &p.Charter.Workloads[0]
		w.Identities = append(w.Identities, statement.Identity{Issuer: "own", Audience: s.url, Subject: agent})
		for _, edit := range edits {
			edit(s, p)
		}
	}))
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(content+"\n"), 0o600))
		return path
	}
	for _, d := range []string{"state", "tiles"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	config, err := json.Marshal(map[string]any{ // JSON is YAML
		"id": "a1", "listen": address, "state_dir": filepath.Join(dir, "state"), "tiles_dir": filepath.Join(dir, "tiles"), "estate": s.Dir.Signed(),
		"estate_trust": map[string]any{"estate": s.Pin.Estate, "charter_sha256": s.Pin.CharterSHA256, "root_keys": s.Pin.RootKeys},
		"feed_key":     file("feed.key", s.Signer("feed", "a1")), "log_key": file("log.key", s.Signer("log", "a1")), "token_key": file("token.key", s.Signer("token", "a1")),
		"witnesses": []map[string]string{{"id": "w1", "url": "http://127.0.0.1:1"}},
	})
	must(t, err)
	cmd := exec.Command(filepath.Join(bin, "reeve-authority"), "--demo", "--config", file("authority.yaml", string(config)))
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	publishing := make(chan bool, 1)
	go func() {
		defer close(publishing)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			t.Log(lines.Text())
			if bytes.Contains(lines.Bytes(), []byte(`"msg":"publishing"`)) {
				publishing <- true
			}
		}
	}()
	if !<-publishing {
		t.Fatal("the authority did not start")
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// assertion is the workload's own word, as RFC 7523 section 3 has it.
func (s *site) assertion(t *testing.T) string {
	now := time.Now()
	payload, err := json.Marshal(map[string]any{"iss": agent, "sub": agent, "aud": s.url, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text()})
	must(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	must(t, err)
	jws, err := signer.Sign(payload)
	must(t, err)
	text, err := jws.CompactSerialize()
	must(t, err)
	return text
}

// Client credentials by golang.org/x/oauth2, which knows nothing of reeve: what it gets is a token that custodians take.
func TestClientCredentials(t *testing.T) {
	s := start(t)
	resp, err := http.Get(s.url + "/.well-known/oauth-authorization-server")
	must(t, err)
	defer resp.Body.Close()
	var m struct {
		Issuer string
		Token  string `json:"token_endpoint"`
	}
	must(t, json.NewDecoder(resp.Body).Decode(&m))
	client := clientcredentials.Config{
		ClientID: agent, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {s.assertion(t)},
			"authorization_details": {`[{"type":"reeve","credentials":["research-openai"]}]`},
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := client.Token(ctx)
	must(t, err)
	if m.Issuer != s.url || got.Type() != "Bearer" || !got.Valid() || time.Until(got.Expiry) > 2*time.Minute {
		t.Errorf("%+v", got)
	}
	tokens, err := workload.NewTokens(s.Set, nil, func(sealed []byte) ([]byte, error) {
		plain, err := age.Decrypt(bytes.NewReader(sealed), s.Identity)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(plain)
	})
	must(t, err)
	who, err := tokens.Verify([]byte(got.AccessToken), time.Now())
	if err != nil || who.Workload != "research-agent" || who.Issuer != "own" || len(who.Grants) != 1 {
		t.Errorf("a custodian sees %+v, %v", who, err)
	}
	// The same assertion again, and a client that only has a secret: errors as the library reads them.
	var refused *oauth2.RetrieveError
	if _, err := client.Token(ctx); !asRefusal(err, &refused) || refused.ErrorCode != "invalid_client" {
		t.Errorf("the same assertion: %v", err)
	}
	secret := clientcredentials.Config{ClientID: agent, ClientSecret: "demo-word", TokenURL: m.Token}
	if _, err := secret.Token(ctx); !asRefusal(err, &refused) || refused.ErrorCode != "invalid_client" || refused.Response.StatusCode != 401 {
		t.Errorf("a client secret: %v", err)
	}
}

func asRefusal(err error, to **oauth2.RetrieveError) bool {
	e, ok := err.(*oauth2.RetrieveError)
	*to = e
	return ok
}
