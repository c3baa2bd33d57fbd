// Package sigv4_test holds the custodian's signatures for AWS against the AWS SDK's own signer, and passes the SDK's event streams through the
// custodian's guard.
package sigv4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	id    = "AKIDDEMO0001"
	key   = "demo/upstream+key/of/research/0001"
	token = "demo//session+token==of-research-0001"
)

// bedrock is a double of Amazon Bedrock's runtime: it takes what the SDK's signer would have signed the same way, and nothing else.
type bedrock struct {
	t      *testing.T
	origin string
	ca     string
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
}

func newBedrock(t *testing.T) *bedrock {
	b := &bedrock{t: t, answer: func(w http.ResponseWriter, _ *http.Request, _ []byte) { io.WriteString(w, "{}") }}
	s := httptest.NewTLSServer(b)
	t.Cleanup(s.Close)
	b.origin = strings.Replace(s.URL, "127.0.0.1", "example.com", 1)
	b.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return b
}

func (b *bedrock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Error(err)
	}
	if err := verify(r, body); err != nil {
		http.Error(w, `{"message":"`+err.Error()+`"}`, http.StatusForbidden)
		return
	}
	b.answer(w, r, body)
}

var errSignature = errors.New("the request signature we calculated does not match the signature you provided")

// verify signs what came once more with the SDK: of the fields those that the signature names, which must be all that AWS wants.
func verify(r *http.Request, body []byte) error {
	got := r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(got, "SignedHeaders=")
	names, _, _ := strings.Cut(rest, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return errSignature
	}
	again := &http.Request{Method: r.Method, Host: r.Host, Header: http.Header{}}
	if again.URL, err = url.ParseRequestURI("https://" + r.Host + r.RequestURI); err != nil {
		return err
	}
	signed := strings.Split(names, ";")
	for _, name := range signed {
		if name != "host" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	for name := range r.Header { // AWS wants Host, Content-Type if it is there, and every X-Amz- field
		if name = strings.ToLower(name); (name == "content-type" || strings.HasPrefix(name, "x-amz-")) && !strings.Contains(";"+names+";", ";"+name+";") {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if sent := r.Header.Get("X-Amz-Content-Sha256"); sent != hash {
		return errors.New("the body has another digest")
	}
	creds := aws.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: r.Header.Get("X-Amz-Security-Token")}
	if creds.SessionToken != "" && creds.SessionToken != token {
		return errSignature
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, again, hash, "bedrock", "eu-central-1", at); err != nil {
		return err
	}
	if again.Header.Get("Authorization") != got {
		return errSignature
	}
	return nil
}

// custodian is the parts of the custodian that a use of a bedrock credential runs through.
type custodian struct {
	pin    *pin.Pin
	pool   *egress.Pool
	secret *source.Secret
}

func newCustodian(t *testing.T, b *bedrock, s *source.Secret) *custodian {
	t.Helper()
	p, err := pin.Compile(statement.Credential{ID: "bedrock", Template: "bedrock", Source: "federation",
		Inject: statement.Inject{Region: "eu-central-1"}, Destination: statement.Destination{Origin: b.origin, CA: b.ca, Networks: []string{"127.0.0.1/32"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(s); err != nil {
		t.Fatal(err)
	}
	pool, err := egress.New(egress.Config{Destination: p.Credential.Destination,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &custodian{p, pool, s}
}

// send is custodian.send without what decides. change spoils the request after it was signed.
func (c *custodian) send(t *testing.T, method, path string, header []hop.Field, body []byte, change func(*egress.Request)) (*egress.Response, []byte) {
	t.Helper()
	target, err := c.pin.Target(method, path)
	if err != nil {
		t.Fatal(err)
	}
	if header, err = c.pin.Header(header); err != nil {
		t.Fatal(err)
	}
	r := &egress.Request{Method: method, Header: header, Body: body}
	c.pin.Inject(r, target, c.secret, time.Now())
	if change != nil {
		change(r)
	}
	resp, err := c.pool.Send(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

func of(session string) *source.Secret {
	return &source.Secret{Public: id, Value: secret.New([]byte(key)), Session: secret.New([]byte(session))}
}

var asJSON = []hop.Field{{Name: "Content-Type", Value: "application/json"}}

// TestAgainstSDK: whatever the path, the query, the fields and the body, the SDK signs it alike.
func TestAgainstSDK(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	b := newBedrock(t)
	both := []*custodian{newCustodian(t, b, of("")), newCustodian(t, b, of(token))}
	for range 400 {
		model := pick("anthropic.claude-3-5-sonnet-20241022-v2:0", "eu.amazon.nova-micro-v1%3A0", "a~b_c-d.e", "m%24%26%2B%2C%3D%40", "x'(y)!*z", "%3a%3A:")
		path := "/model/" + model + pick("/invoke", "/converse", "/converse-stream", "/invoke-with-response-stream")
		for i := range r.Intn(4) {
			path += string("?&"[min(i, 1)]) + pick("a", "b", "b2", "B", "%62", "a%20b", "c.d") + pick("", "=", "=1", "=%2F%3D", "=x/y:z@", "=a%2Bb", "=~-_", "=(')!*")
		}
		header := asJSON
		if r.Intn(2) == 0 {
			header = append(header[:1:1], hop.Field{Name: "X-Amzn-Bedrock-Trace", Value: "ENABLED"}, hop.Field{Name: "X-Amz-Date", Value: "the client's"}, hop.Field{Name: "Accept", Value: "*/*"})
		}
		if r.Intn(4) == 0 {
			header = []hop.Field{{Name: "Content-Type", Value: "application/json;  charset=utf-8"}}
		}
		body := make([]byte, r.Intn(3000))
		r.Read(body)
		if resp, answer := both[r.Intn(2)].send(t, "POST", path, header, body, nil); resp.Status != 200 {
			t.Fatalf("POST %s %v with %d bytes: %d %s", path, header, len(body), resp.Status, answer)
		}
	}
}

// TestDoubleRefuses: the double is strict, or what it takes would show nothing.
func TestDoubleRefuses(t *testing.T) {
	b := newBedrock(t)
	c := newCustodian(t, b, of(token))
	other := newCustodian(t, b, &source.Secret{Public: id, Value: secret.New([]byte(key + "x")), Session: secret.New([]byte(token))})
	if resp, _ := other.send(t, "POST", "/model/m/invoke", asJSON, []byte("{}"), nil); resp.Status != 403 {
		t.Error("another key was taken")
	}
	for name, change := range map[string]func(*egress.Request){
		"body":   func(r *egress.Request) { r.Body = []byte("[]") },
		"target": func(r *egress.Request) { r.Target = []byte("/model/m2/invoke") },
		"query":  func(r *egress.Request) { r.Target = append(r.Target, "?a=1"...) },
		"method": func(r *egress.Request) { r.Method = "PUT" },
		"token":  func(r *egress.Request) { r.Secrets[1] = egress.Secret{} },
		"type":   func(r *egress.Request) { r.Header[0].Value = "text/plain" },
		"field":  func(r *egress.Request) { r.Header = append(r.Header, hop.Field{Name: "X-Amz-Target", Value: "x"}) },
		"date":   func(r *egress.Request) { r.Header[len(r.Header)-2].Value = "20200101T000000Z" },
	} {
		if resp, _ := c.send(t, "POST", "/model/m/invoke", asJSON, []byte("{}"), change); resp.Status != 403 {
			t.Errorf("%s changed after it was signed: status %d", name, resp.Status)
		}
	}
}

// TestEventStream: the binary frames of a response stream pass the guard as they are, in whatever pieces; one that holds the key in base64, as
// InvokeModelWithResponseStream has its chunks, does not.
func TestEventStream(t *testing.T) {
	var frames bytes.Buffer
	e := eventstream.NewEncoder()
	add := func(payload string) {
		m := eventstream.Message{Payload: []byte(payload)}
		m.Headers.Set(":message-type", eventstream.StringValue("event"))
		m.Headers.Set(":event-type", eventstream.StringValue("chunk"))
		m.Headers.Set(":content-type", eventstream.StringValue("application/json"))
		if err := e.Encode(&frames, m); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range 50 {
		text := fmt.Sprintf(`{"bytes":"%s"}`, base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fmt.Sprintf("%d é\n", i), i))))
		want = append(want, text)
		add(text)
	}
	b := newBedrock(t)
	b.answer = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
		for rest := frames.Bytes(); len(rest) > 0; {
			n := min(len(rest), 7+len(rest)%311)
			w.Write(rest[:n])
			w.(http.Flusher).Flush()
			rest = rest[n:]
		}
	}
	c := newCustodian(t, b, of(token))
	pass := func() ([]byte, error) {
		resp, answer := c.send(t, "POST", "/model/m/invoke-with-response-stream", asJSON, []byte("{}"), nil)
		parts, err := c.pin.Open(c.secret)
		if err != nil {
			t.Fatal(err)
		}
		var kind string
		for _, f := range resp.Header {
			if f.Name == "Content-Type" {
				kind = f.Value
			}
		}
		var out bytes.Buffer
		s := parts.Patterns.Stream(&out, kind)
		for len(answer) > 0 {
			n := min(len(answer), 97)
			if _, err := s.Write(answer[:n]); err != nil {
				return out.Bytes(), err
			}
			answer = answer[n:]
		}
		return out.Bytes(), s.Flush()
	}
	got, err := pass()
	if err != nil || !bytes.Equal(got, frames.Bytes()) {
		t.Fatalf("%d bytes of %d, %v", len(got), frames.Len(), err)
	}
	in := bytes.NewReader(got)
	for i, text := range want {
		m, err := eventstream.NewDecoder().Decode(in, nil)
		if err != nil || string(m.Payload) != text {
			t.Fatalf("event %d: %q, %v", i, m.Payload, err)
		}
	}
	for _, hidden := range []string{key, token} {
		before := frames.Len()
		add(fmt.Sprintf(`{"bytes":"%s"}`, base64.StdEncoding.EncodeToString([]byte(`{"text":"`+hidden+`"}`))))
		if got, err := pass(); !errors.Is(err, guard.ErrReflected) || len(got) > before+200 {
			t.Errorf("%s: %v", hidden, err)
		}
		frames.Truncate(before)
	}
}
