package upstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	openAIKey    = "demo-upstream-key-openai-for-tests"
	anthropicKey = "demo-upstream-key-anthropic-for-tests"
)

// rig is a served upstream and a client that trusts its CA.
type rig struct {
	t      *testing.T
	url    string
	client *http.Client
	server *Server
	state  string
}

func newRig(t *testing.T, edit ...func(*Config)) *rig {
	t.Helper()
	state := t.TempDir()
	keys := []Key{HashKey("research-openai", "openai", []byte(openAIKey)),
		HashKey("support-openai", "openai", []byte(openAIKey+"-2")),
		HashKey("research-anthropic", "anthropic", []byte(anthropicKey))}
	if err := WriteKeys(state, keys); err != nil {
		t.Fatal(err)
	}
	cfg := Config{State: state}
	for _, f := range edit {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA().PEM)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return &rig{t, "https://" + l.Addr().String(), &http.Client{Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, s, state}
}

// do sends a request with the key of its API; head is "name: value" lines.
func (r *rig) do(method, path, body string, head ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.HasPrefix(path, "/v1/messages") {
		req.Header.Set("X-Api-Key", anthropicKey)
		req.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		req.Header.Set("Authorization", "Bearer "+openAIKey)
	}
	for _, h := range head {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Del(name)
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (r *rig) read(res *http.Response) string {
	r.t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

const (
	chatHi    = `{"model":"demo-small","messages":[{"role":"user","content":"hi there"}]}`
	messageHi = `{"model":"demo-claude","max_tokens":100,"messages":[{"role":"user","content":[{"type":"text","text":"hi there"}]}]}`
)

// TestGolden compares whole answers with testdata, byte by byte. UPDATE=1 writes them anew.
func TestGolden(t *testing.T) {
	stream := func(body string) string { return strings.Replace(body, "{", `{"stream":true,`, 1) }
	with := func(body, members string) string { return strings.Replace(body, "{", "{"+members+",", 1) }
	tool := `"tools":[{"type":"function","function":{"name":"look","parameters":{}}}],"tool_choice":"required"`
	flat := `"tools":[{"type":"function","name":"look","parameters":{}}],"tool_choice":"required"`
	anthropicTool := `"tools":[{"name":"look","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"}`
	responseHi := `{"model":"demo-small","input":"hi there"}`
	for _, c := range []struct{ name, method, path, body string }{
		{"chat", "POST", "/v1/chat/completions", chatHi},
		{"chat-stream", "POST", "/v1/chat/completions", stream(chatHi)},
		{"chat-stream-usage", "POST", "/v1/chat/completions", with(stream(chatHi), `"stream_options":{"include_usage":true}`)},
		{"chat-tool", "POST", "/v1/chat/completions", with(chatHi, tool)},
		{"chat-tool-stream", "POST", "/v1/chat/completions", with(stream(chatHi), tool)},
		{"chat-length", "POST", "/v1/chat/completions", with(chatHi, `"max_tokens":3`)},
		{"response", "POST", "/v1/responses", responseHi},
		{"response-stream", "POST", "/v1/responses", stream(responseHi)},
		{"response-tool-stream", "POST", "/v1/responses", with(stream(responseHi), flat)},
		{"embedding", "POST", "/v1/embeddings", `{"model":"demo-embed","input":["one","two"],"dimensions":4}`},
		{"embedding-base64", "POST", "/v1/embeddings", `{"model":"demo-embed","input":"one","dimensions":4,"encoding_format":"base64"}`},
		{"models", "GET", "/v1/models", ""},
		{"model", "GET", "/v1/models/demo-small", ""},
		{"model-missing", "GET", "/v1/models/nothing", ""},
		{"message", "POST", "/v1/messages?beta=true", messageHi},
		{"message-stream", "POST", "/v1/messages", with(stream(messageHi), `"thinking":{"type":"enabled","budget_tokens":1024}`)},
		{"message-tool", "POST", "/v1/messages", with(messageHi, anthropicTool)},
		{"message-tool-stream", "POST", "/v1/messages", with(stream(messageHi), anthropicTool)},
		{"count-tokens", "POST", "/v1/messages/count_tokens", messageHi},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			res := r.do(c.method, c.path, c.body)
			got := res.Status + "\n" + res.Header.Get("Content-Type") + "\n\n" + r.read(res)
			path := filepath.Join("testdata", c.name+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWrongKeys(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ path, head, want string }{
		{"/v1/chat/completions", "Authorization: Bearer demo-upstream-key-wrong", `"code": "invalid_api_key"`},
		{"/v1/chat/completions", "Authorization: ", `You didn't provide an API key.`},
		{"/v1/chat/completions", "Authorization: Basic " + openAIKey, `You didn't provide an API key.`},
		{"/v1/chat/completions", "Authorization: Bearer " + anthropicKey, `"code": "invalid_api_key"`},
		{"/v1/messages", "X-Api-Key: " + openAIKey, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}`},
		{"/v1/messages", "X-Api-Key: ", `"x-api-key header is required"`},
	} {
		res := r.do("POST", c.path, chatHi, c.head)
		body := r.read(res)
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, c.want) {
			t.Errorf("%s with %q: %s %s, want 401 with %s", c.path, c.head, res.Status, body, c.want)
		}
		if strings.Contains(body, openAIKey) || strings.Contains(body, anthropicKey) {
			t.Errorf("%s: the refusal has the key", c.path)
		}
	}
	if res := r.do("GET", "/v1/models", "", "Authorization: ", "X-Api-Key: "+anthropicKey); res.StatusCode != 200 {
		t.Errorf("Anthropic's /v1/models: %s", res.Status)
	}
}

func TestNewKeysAreTakenUp(t *testing.T) {
	r := newRig(t)
	const fresh = "demo-upstream-key-fresh"
	if res := r.do("POST", "/v1/chat/completions", chatHi, "Authorization: Bearer "+fresh); res.StatusCode != 401 {
		t.Fatalf("before: %s", res.Status)
	}
	if err := WriteKeys(r.state, []Key{HashKey("fresh", "openai", []byte(fresh))}); err != nil {
		t.Fatal(err)
	}
	if res := r.do("POST", "/v1/chat/completions", chatHi, "Authorization: Bearer "+fresh); res.StatusCode != 200 {
		t.Errorf("after: %s", res.Status)
	}
}

func TestRecord(t *testing.T) {
	r := newRig(t)
	r.do("POST", "/v1/chat/completions?x=1", chatHi, "X-Demo-Nonce: n1", "X-Request-Id: id1")
	r.do("POST", "/v1/chat/completions", chatHi, "Authorization: Bearer demo-upstream-key-wrong")
	res := r.do("GET", "/_demo/seen?since=0", "")
	var got struct {
		Count    int64
		Requests []Request
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Count != 2 || len(got.Requests) != 2 {
		t.Fatalf("count %d, %d requests, want 2", got.Count, len(got.Requests))
	}
	first := got.Requests[0]
	if first.TimeNS == 0 {
		t.Error("no time")
	}
	first.TimeNS = 0
	want := Request{Method: "POST", Path: "/v1/chat/completions?x=1", Account: "research-openai", Key: Fingerprint(openAIKey),
		RequestID: "id1", Nonce: "n1", BodyBytes: int64(len(chatHi)), BodySHA256: hashOf(chatHi)}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Requests[1].Account != "" || got.Requests[1].N != 1 {
		t.Errorf("second: %+v", got.Requests[1])
	}
	file, err := os.ReadFile(filepath.Join(r.state, "seen.jsonl"))
	if err != nil || bytes.Count(file, []byte("\n")) != 2 || bytes.Contains(file, []byte(openAIKey)) {
		t.Errorf("file: %v\n%s", err, file)
	}
	if n := len(r.server.Seen().Since(1)); n != 1 {
		t.Errorf("since 1: %d requests", n)
	}
}

func hashOf(s string) string { return HashKey("", "", []byte(s)).SHA256 }

func TestResponsesBelongToTheirAccount(t *testing.T) {
	r := newRig(t)
	var made response
	if err := json.Unmarshal([]byte(r.read(r.do("POST", "/v1/responses", `{"model":"m","input":"hi"}`))), &made); err != nil {
		t.Fatal(err)
	}
	path := "/v1/responses/" + made.ID
	other := "Authorization: Bearer " + openAIKey + "-2"
	steps := []struct {
		method, head string
		status       int
	}{{"GET", "", 200}, {"GET", other, 404}, {"DELETE", other, 404}, {"DELETE", "", 200}, {"GET", "", 404}}
	for _, s := range steps {
		var head []string
		if s.head != "" {
			head = []string{s.head}
		}
		if res := r.do(s.method, path, "", head...); res.StatusCode != s.status {
			t.Errorf("%s: %s, want %d", s.method, res.Status, s.status)
		}
	}
}

// TestReflection looks for the key in the form that was asked for, in every place and encoding.
func TestReflection(t *testing.T) {
	r := newRig(t)
	b64 := func(s string) string { return strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "=") }
	encoded := map[string]string{
		"raw": openAIKey, "base64": b64(openAIKey), "base64-1": b64("." + openAIKey), "base64-2": b64(".." + openAIKey),
		"base64url": base64.RawURLEncoding.EncodeToString([]byte(openAIKey)), "hex": hex.EncodeToString([]byte(openAIKey)),
		"hex-upper": strings.ToUpper(hex.EncodeToString([]byte(openAIKey))),
		"url":       each(openAIKey, "%%%02X"), "json": each(openAIKey, `\u%04x`),
		"html": each(openAIKey, "&#%d;"), "html-hex": each(openAIKey, "&#x%X;"),
	}
	for form, want := range encoded {
		body := r.read(r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Reflect: "+form))
		if !strings.Contains(body, want) {
			t.Errorf("%s: %s", form, body)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s: no JSON: %s", form, body)
		}
	}
	for _, place := range places {
		res := r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Reflect: "+place)
		body := r.read(res)
		var all bytes.Buffer
		res.Header.Write(&all)
		res.Trailer.Write(&all)
		if place == "sse-delta" || place == "ndjson" {
			body = joined(body)
		}
		found := strings.Contains(body+all.String(), openAIKey)
		if place == "header-name" {
			found = res.Header.Get("X-Demo-"+openAIKey) == "1"
		}
		if !found {
			t.Errorf("%s: the key is not in it:\n%s%s", place, &all, body)
		}
	}
	res := r.do("POST", "/v1/messages", messageHi, "X-Demo-Reflect: sse")
	if body := r.read(res); !strings.Contains(body, anthropicKey) || !strings.Contains(body, "event: message_stop") {
		t.Errorf("Anthropic stream: %s", body)
	}
	if body := r.read(r.do("POST", "/v1/chat/completions", `{"model":"demo-reflect-base64-1"}`)); !strings.Contains(body, encoded["base64-1"]) {
		t.Errorf("by the model's name: %s", body)
	}
	if res := r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Reflect: upside-down"); res.StatusCode != 400 {
		t.Errorf("unknown form: %s", res.Status)
	}
}

// joined puts the text deltas of a chat stream together.
func joined(stream string) string {
	var out strings.Builder
	for line := range strings.SplitSeq(stream, "\n") {
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
			Message struct{ Content string }
		}
		json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &chunk)
		for _, c := range chunk.Choices {
			out.WriteString(c.Delta.Content)
		}
		out.WriteString(chunk.Message.Content)
	}
	return out.String()
}

func TestReflectionUnderContentCodings(t *testing.T) {
	r := newRig(t)
	open := map[string]func(io.Reader) (io.Reader, error){
		"gzip":    func(b io.Reader) (io.Reader, error) { return gzip.NewReader(b) },
		"deflate": func(b io.Reader) (io.Reader, error) { return zlib.NewReader(b) },
		"br":      func(b io.Reader) (io.Reader, error) { return b, nil },
	}
	for coding, decode := range open {
		res := r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Reflect: "+coding)
		if got := res.Header.Get("Content-Encoding"); got != coding {
			t.Errorf("%s: Content-Encoding %q", coding, got)
		}
		body, err := decode(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(body); err != nil || !bytes.Contains(b, []byte(openAIKey)) {
			t.Errorf("%s: %v %s", coding, err, b)
		}
	}
}

func TestBreaks(t *testing.T) {
	r := newRig(t)
	streamed := strings.Replace(chatHi, "{", `{"stream":true,`, 1)
	message := strings.Replace(messageHi, "{", `{"stream":true,`, 1)
	for _, c := range []struct {
		name, path, body, head string
		events                 int
		broken                 bool
		last                   string
	}{
		{"abort", "/v1/chat/completions", streamed, "after=3", 3, true, ""},
		{"error event", "/v1/chat/completions", streamed, "after=2;how=error", 3, false, `data: {"error":{"message":"The server had`},
		{"clean", "/v1/chat/completions", streamed, "after=2;how=clean", 2, false, "data: {"},
		{"half of a JSON answer", "/v1/chat/completions", chatHi, "after=3", 0, true, ""},
		{"Anthropic", "/v1/messages", message, "after=4", 4, true, ""},
		{"Anthropic's error event", "/v1/messages", message, "after=1;how=error", 2, false, "event: error"},
		{"Responses", "/v1/responses", `{"model":"m","input":"x","stream":true}`, "after=2;how=error", 3, false, `data: {"type":"error","sequence_number":2,`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := io.ReadAll(r.do("POST", c.path, c.body, "X-Demo-Break: "+c.head).Body)
			if (err != nil) != c.broken {
				t.Errorf("read: %v, broken should be %v", err, c.broken)
			}
			if n := bytes.Count(b, []byte("data: ")); n != c.events {
				t.Errorf("%d events, want %d:\n%s", n, c.events, b)
			}
			if !strings.Contains(string(b), c.last) || bytes.Contains(b, []byte("[DONE]")) {
				t.Errorf("got:\n%s", b)
			}
		})
	}
}

func TestStallEndsWithTheClient(t *testing.T) {
	r := newRig(t)
	done := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		defer close(done)
		r.server.ServeHTTP(w, q)
	}))
	defer front.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", front.URL+"/v1/chat/completions",
		strings.NewReader(strings.Replace(chatHi, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+openAIKey)
	req.Header.Set("X-Demo-Break", "after=1;how=stall")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the handler did not notice that its client went away")
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		path, model, want string
		status            int
	}{
		{"/v1/chat/completions", "demo-error-429", `"code": "rate_limit_exceeded"`, 429},
		{"/v1/chat/completions", "demo-error-500", `"type": "server_error"`, 500},
		{"/v1/chat/completions", "demo-missing", `"code": "model_not_found"`, 404},
		{"/v1/chat/completions", "demo-error-200", `between 300 and 599`, 400},
		{"/v1/chat/completions", "demo-html", `<!doctype html>`, 200},
		{"/v1/messages", "demo-error-529", `"overloaded_error"`, 529},
		{"/v1/messages", "demo-missing", `"not_found_error"`, 404},
	} {
		res := r.do("POST", c.path, strings.Replace(messageHi, "demo-claude", c.model, 1), "X-Demo-Retry-After: 7")
		if body := r.read(res); res.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %s %s", c.model, res.Status, body)
		}
	}
	res := r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Status: 307", "X-Demo-Location: https://127.0.0.1:9/there")
	if res.StatusCode != 307 || res.Header.Get("Location") != "https://127.0.0.1:9/there" {
		t.Errorf("redirect: %s %v", res.Status, res.Header)
	}
	if res := r.do("POST", "/v1/messages", messageHi, "Anthropic-Version: "); res.StatusCode != 400 {
		t.Errorf("without anthropic-version: %s", res.Status)
	}
}

// TestEarlyAnswer sends a body that never ends: the answer comes all the same.
func TestEarlyAnswer(t *testing.T) {
	r := newRig(t)
	pr, pw := io.Pipe()
	defer pw.CloseWithError(errors.New("over"))
	req, _ := http.NewRequest("POST", r.url+"/v1/models", pr)
	req.Method = "POST"
	req.Header.Set("Authorization", "Bearer "+openAIKey)
	req.Header.Set("X-Demo-Early", "1")
	req.Header.Set("X-Demo-Status", "503")
	type result struct {
		status int
		err    error
	}
	got := make(chan result, 1)
	go func() {
		res, err := r.client.Do(req)
		if err != nil {
			got <- result{err: err}
			return
		}
		res.Body.Close()
		got <- result{status: res.StatusCode}
	}()
	select {
	case g := <-got:
		if g.err != nil || g.status != 503 {
			t.Errorf("answer %d, %v", g.status, g.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("no answer before the body's end")
	}
}

func TestSizeAndEvents(t *testing.T) {
	r := newRig(t)
	var answer chatCompletion
	if err := json.Unmarshal([]byte(r.read(r.do("POST", "/v1/chat/completions", chatHi, "X-Demo-Size: 65536"))), &answer); err != nil {
		t.Fatal(err)
	}
	if n := len(*answer.Choices[0].Message.Content); n != 65536 {
		t.Errorf("%d bytes of text", n)
	}
	stream := r.read(r.do("POST", "/v1/chat/completions", strings.Replace(chatHi, "{", `{"stream":true,`, 1), "X-Demo-Size: 1000", "X-Demo-Events: 10"))
	if n := strings.Count(stream, "data: "); n != 10+3 {
		t.Errorf("%d events, want the role, 10 pieces, the end and [DONE]", n)
	}
	if n := len(joined(stream)); n != 1000 {
		t.Errorf("%d bytes of text", n)
	}
}

func TestCAIsKeptAndNamesLoopbackOnly(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenCA(dir)
	if err != nil || !bytes.Equal(a.PEM, b.PEM) {
		t.Fatalf("second opening: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v %v", info, err)
	}
	leaf, err := b.Leaf(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.PEM)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
}

func FuzzControl(f *testing.F) {
	f.Add("after=3;how=error", "body,gzip", "demo-reflect-hex")
	f.Add("how", "sse-delta", "demo-error-429")
	f.Fuzz(func(t *testing.T, brk, reflect, model string) {
		parseControl(http.Header{"X-Demo-Break": {brk}, "X-Demo-Reflect": {reflect}}, model)
	})
}
