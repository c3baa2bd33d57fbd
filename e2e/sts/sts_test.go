// Package sts_test exchanges a token of ours at a real implementation of the AWS Security Token Service, moto, and uses what it gives: moto
// checks signatures with botocore.
package sts_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/federation"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	version = "5.1.18" // of moto, Apache-2.0
	role    = "arn:aws:iam::123456789012:role/reeve-demo"
)

// moto starts a moto server, and returns where it listens. It is installed once for this user, apart from everything else.
func moto(t *testing.T) string {
	t.Helper()
	need.Real(t, "python3")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "reeve", "moto-"+version)
	server := filepath.Join(venv, "bin", "moto_server")
	if _, err := os.Stat(server); err != nil {
		for _, args := range [][]string{{"python3", "-m", "venv", venv}, {filepath.Join(venv, "bin", "pip"), "install", "--quiet", "moto[server]==" + version}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				os.RemoveAll(venv)
				t.Skipf("needs moto %s, which could not be installed: %v: %v\n%s", version, args, err, out)
			}
		}
	}
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1", "NO_COLOR=1")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "Running on http://"); ok {
			go io.Copy(io.Discard, out)
			return "http://" + strings.TrimSpace(at)
		}
	}
	t.Fatal("moto ended before it listened")
	return ""
}

// call makes a request of the AWS query API without a signature.
func call(t *testing.T, at string, form url.Values) {
	t.Helper()
	service := map[string]string{"2010-05-08": "iam"}[form.Get("Version")]
	r, err := http.NewRequest("POST", at, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = service + ".amazonaws.com"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/"+service+"/aws4_request, SignedHeaders=host, Signature=none")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s", form.Get("Action"), resp.Status, b)
	}
}

// front is moto behind TLS, under the name of AWS's endpoint for the region, as the custodian wants it.
func front(t *testing.T, at string) (origin, ca string) {
	t.Helper()
	to, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "https://example.com:" + port, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func loopback(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// TestRealSTS: a token of ours becomes an access key of 15 minutes, and requests that the custodian signs with it are AWS's own idea of signed.
func TestRealSTS(t *testing.T) {
	at := moto(t)
	call(t, at, url.Values{"Action": {"CreateRole"}, "Version": {"2010-05-08"}, "RoleName": {"reeve-demo"}, "AssumeRolePolicyDocument": {"{}"}})
	origin, ca := front(t, at)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	record := statement.Credential{ID: "research-aws", Source: "federation",
		From:        statement.From{URL: origin + "/", CA: ca, Networks: []string{"127.0.0.1/32"}, Parameters: map[string]string{"exchange": "aws", "role_arn": role}},
		Inject:      statement.Inject{As: "sigv4", Name: "sts", Region: "us-east-1"},
		Destination: statement.Destination{Origin: origin, CA: ca, Networks: []string{"127.0.0.1/32"}, Methods: []string{"GET"}, Paths: []string{"/v1/things"}},
	}
	src, err := federation.New(source.Config{Custodian: "c1", Tenant: "tenant-a", Unit: "research", Record: record, Resolve: loopback, Clock: time.Now,
		Sign: func(_ context.Context, tok source.Token) (secret.Value, error) {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
			if err != nil {
				return secret.Value{}, err
			}
			text, err := jwt.Signed(signer).Claims(map[string]any{"iss": "https://demo.example", "sub": "spiffe://demo.example/research", "aud": tok.Audience,
				"exp": tok.Expires.Unix(), "iat": tok.Issued.Unix(), "jti": tok.ID}).Serialize()
			return secret.New([]byte(text)), err
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	got, err := src.Fetch(context.Background(), sourcetest.Durable(t), source.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Until(got.Expires); life < 14*time.Minute || life > 16*time.Minute || got.Public == "" || got.Session.Empty() {
		t.Errorf("an access key %q that lives %v", got.Public, life)
	}

	// From now on moto checks every signature.
	resp, err := http.Post(at+"/moto-api/reset-auth", "text/plain", strings.NewReader("0"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p, err := pin.Compile(record)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := egress.New(egress.Config{Destination: record.Destination, Resolve: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	who := func(s *source.Secret) (int, string) {
		t.Helper()
		if _, err := p.Open(s); err != nil {
			t.Fatal(err)
		}
		r := &egress.Request{Method: "GET"}
		p.Inject(r, "/?Action=GetCallerIdentity&Version=2011-06-15", s, time.Now())
		resp, err := pool.Send(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status, string(b)
	}
	if status, body := who(got); status != 200 || !strings.Contains(body, "assumed-role/reeve-demo/reeve-research-aws") {
		t.Errorf("signed with what was given: %d %s", status, body)
	}
	other := *got
	other.Value = secret.New([]byte(strings.Repeat("x", got.Value.Len())))
	if status, body := who(&other); status != 403 || !strings.Contains(body, "SignatureDoesNotMatch") {
		t.Errorf("signed with another key: %d %s", status, body)
	}
}
