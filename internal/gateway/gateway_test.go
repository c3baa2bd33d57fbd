package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

func TestRoutes(t *testing.T) {
	tests := []struct {
		method, path, body string
		header             []string
		status             int
		credential         string // of what reached the custodian; empty: nothing did
		contains           string // in the answer
	}{
		{method: "POST", path: "/v1/chat/completions", body: chat, status: 200, credential: "research-openai"},
		{method: "POST", path: "/openai/v1/chat/completions?a=b&c=%2F", body: chat, status: 200, credential: "research-openai"},
		{method: "POST", path: "/v1/responses", body: chat, status: 200, credential: "research-openai"},
		{method: "GET", path: "/v1/responses/resp_1?include=x", status: 200, credential: "research-openai"},
		{method: "DELETE", path: "/v1/responses/resp_1", status: 200, credential: "research-openai"},
		{method: "POST", path: "/v1/responses/resp_1/cancel", body: "", status: 200, credential: "research-openai"},
		{method: "GET", path: "/openai/v1/responses/resp_1/input_items?limit=2", status: 200, credential: "research-openai"},
		{method: "POST", path: "/v1/embeddings", body: `{"model":"vector","input":"x"}`, status: 200, credential: "research-openai"},
		{method: "POST", path: "/v1/messages?beta=true", body: message, status: 200, credential: "research-anthropic"},
		{method: "POST", path: "/anthropic/v1/messages", body: message, status: 200, credential: "research-anthropic"},
		{method: "POST", path: "/v1/messages/count_tokens", body: message, status: 200, credential: "research-anthropic"},
		{method: "POST", path: "/credentials/research-anthropic/model/m/invoke?a=b", body: `{"x":1}`, status: 200, credential: "research-anthropic"},
		{method: "GET", path: "/credentials/research-openai/repos/a/b", status: 200, credential: "research-openai"},
		{method: "GET", path: "/credentials/nobody/repos", status: 404, contains: "no credential `nobody`"},
		{method: "GET", path: "/credentials/research-openai", status: 404},
		{method: "GET", path: "/credentials/research-openai/", status: 404},
		{method: "GET", path: "/v1/models", status: 200, contains: `{"object":"list","data":[{"id":"fast"`},
		{method: "GET", path: "/openai/v1/models", header: []string{"anthropic-version", "x"}, status: 200, contains: `"object":"list"`},
		{method: "GET", path: "/anthropic/v1/models", status: 200, contains: `"has_more":false`},
		{method: "GET", path: "/v1/models?limit=1000", header: []string{"anthropic-version", "2023-06-01"}, status: 200, contains: `"type":"model"`},
		{method: "GET", path: "/v1/models/openai/large", status: 200, contains: `{"id":"openai/large","object":"model"`},
		{method: "GET", path: "/v1/models/openai%2Flarge", status: 200, contains: `{"id":"openai/large"`},
		{method: "GET", path: "/v1/models/fast", status: 200, contains: `{"id":"fast"`},
		{method: "GET", path: "/v1/models/claude-fast", header: []string{"anthropic-version", "x"}, status: 200, contains: `"display_name":"claude-fast"`},
		{method: "GET", path: "/v1/models/claude-fast", status: 404, contains: `"code":"model_not_found"`},
		{method: "GET", path: "/v1/models/none", header: []string{"anthropic-version", "x"}, status: 404, contains: `"type":"not_found_error"`},
		{method: "HEAD", path: "/", header: []string{"Authorization", ""}, status: 200},
		{method: "HEAD", path: "/api/hello", header: []string{"Authorization", ""}, status: 200},
		{method: "GET", path: "/", status: 404, contains: `"type":"invalid_request_error"`},
		{method: "GET", path: "/v1/models/", status: 404},
		{method: "GET", path: "/v1/chat/completions", status: 405, contains: "HINT: use POST"},
		{method: "PUT", path: "/v1/responses/resp_1", status: 405, contains: "use GET, DELETE"},
		{method: "GET", path: "/v1/messages", status: 405, contains: `{"type":"error","error":{"type":"invalid_request_error"`},
		{method: "POST", path: "/v1/messages/batches", body: message, status: 404, contains: `{"type":"error","error":{"type":"not_found_error"`},
		{method: "POST", path: "/anthropic/v1/chat/completions", body: chat, status: 404, contains: `"type":"not_found_error"`},
		{method: "POST", path: "/openai/v1/messages", body: message, status: 404, contains: `"type":"invalid_request_error"`},
		{method: "POST", path: "/v1//chat/completions", body: chat, status: 404},
		{method: "POST", path: "/v1/chat/completions/", body: chat, status: 404},
		{method: "POST", path: "/v1/x/../chat/completions", body: chat, status: 404},
		{method: "POST", path: "/v1/chat%2Fcompletions", body: chat, status: 404},
		{method: "GET", path: "/v1/responses/", status: 404},
		{method: "GET", path: "/v1/responses/a/b/c", status: 404},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			r := newRig(t, answerJSON)
			resp := r.do(test.method, test.path, test.body, test.header...)
			body := text(t, resp)
			if resp.StatusCode != test.status || !strings.Contains(body, test.contains) {
				t.Errorf("%d %s, want %d with %q", resp.StatusCode, body, test.status, test.contains)
			}
			if resp.Header.Get("X-Request-Id") == "" {
				t.Error("no X-Request-Id")
			}
			if test.credential == "" {
				if len(r.opens) != 0 {
					t.Errorf("the custodian got %+v", r.opens)
				}
				return
			}
			o := r.open()
			want := hop.Open{Credential: test.credential, Method: test.method, Path: test.path, URL: "https://ai.example" + test.path}
			got := hop.Open{Credential: o.Credential, Method: o.Method, Path: o.Path, URL: o.URL}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if string(o.Body) != test.body {
				t.Errorf("body %q, want %q", o.Body, test.body)
			}
			if body != `{"ok":true}` || resp.Header.Get("Reeve-Receipt") == "" || resp.ContentLength != 11 {
				t.Errorf("answer %q %v", body, resp.Header)
			}
		})
	}
}

// TestNativeAnswers: what a provider's own API answers with reaches the client byte for byte, event streams of AWS too; and nobody learns
// by asking which credentials another tenant has.
func TestNativeAnswers(t *testing.T) {
	events := "\x00\x00\x00\x10\x00\x00\x00\x00binary\xff\xfe"
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, []hop.Field{{Name: "Content-Type", Value: "application/vnd.amazon.eventstream"}})
		io.WriteString(w, events)
		w.End(nil)
	}, func(r *rig) {
		r.parts.Proofs.(keyring)["rv_other"] = workload.Identity{Workload: "x", Unit: "y", Tenant: "other", Proof: "bearer"}
	})
	resp := r.do("POST", "/credentials/research-openai/model/m/converse-stream", `{"stream":true}`)
	if got := text(t, resp); got != events || resp.Header.Get("Content-Type") != "application/vnd.amazon.eventstream" {
		t.Errorf("%q %v", got, resp.Header)
	}
	resp = r.do("POST", "/credentials/research-openai/model/m/invoke", `{}`, "Authorization", "Bearer rv_other")
	if got := text(t, resp); resp.StatusCode != 404 || len(r.opens) != 1 {
		t.Errorf("of another tenant: %d %s", resp.StatusCode, got)
	}
}

func TestAbsoluteFormIsNoRoute(t *testing.T) {
	r := newRig(t, answerJSON)
	answer := raw(t, r, "GET http://elsewhere.example/v1/models HTTP/1.1\r\nHost: elsewhere.example\r\nAuthorization: Bearer rv_research\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 404 ") {
		t.Error(answer)
	}
}

// raw sends bytes and reads one answer's head and body.
func raw(t *testing.T, r *rig, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(in, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	resp.Write(&b)
	return b.String()
}

func TestKeys(t *testing.T) {
	const none, two = "No workload key", "Two different keys"
	tests := []struct {
		name   string
		header []string
		want   string // in the message; empty when it is accepted
	}{
		{"bearer", []string{"Authorization", "Bearer rv_research"}, ""},
		{"lower case scheme", []string{"authorization", "bearer  rv_research"}, ""},
		{"x-api-key", []string{"x-api-key", "rv_research"}, ""},
		{"x-goog-api-key", []string{"x-goog-api-key", "rv_research"}, ""},
		{"api-key", []string{"api-key", "rv_research"}, ""},
		{"the same twice", []string{"x-api-key", "rv_research", "Authorization", "Bearer rv_research"}, ""},
		{"all four", []string{"x-api-key", "rv_research", "Authorization", "Bearer rv_research", "api-key", "rv_research", "x-goog-api-key", "rv_research"}, ""},
		{"two", []string{"x-api-key", "rv_support", "Authorization", "Bearer rv_research"}, two},
		{"two, one of them unknown", []string{"x-api-key", "rv_other", "Authorization", "Bearer rv_research"}, two},
		{"two api-keys", []string{"x-api-key", "rv_support", "api-key", "rv_research"}, two},
		{"none", nil, none},
		{"empty", []string{"x-api-key", " "}, none},
		{"basic", []string{"Authorization", "Basic cnZfcmVzZWFyY2g="}, none},
		{"bare token", []string{"Authorization", "rv_research"}, none},
		{"unknown", []string{"x-api-key", "rv_nobody"}, "Incorrect API key"},
		{"expired", []string{"x-api-key", "rv_expired"}, "expired"},
		{"revoked", []string{"x-api-key", "rv_revoked"}, "revoked"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{"/v1/chat/completions", "/v1/messages"} {
				r := newRig(t, answerJSON)
				body := chat
				if path == "/v1/messages" {
					body = message
				}
				resp := r.do("POST", path, body, append([]string{"Authorization", ""}, test.header...)...)
				got := text(t, resp)
				if test.want == "" {
					if resp.StatusCode != 200 {
						t.Fatalf("%d %s", resp.StatusCode, got)
					}
					o := r.open()
					if o.Proof.Kind != "bearer" || string(o.Proof.Value) != "rv_research" {
						t.Errorf("proof %+v", o.Proof)
					}
					for _, f := range o.Header {
						if strings.Contains(f.Value, "rv_") {
							t.Errorf("the key went on in %s", f.Name)
						}
					}
					continue
				}
				if resp.StatusCode != 401 || !strings.Contains(got, test.want) || resp.Header.Get("X-Should-Retry") != "false" || len(r.opens) != 0 {
					t.Errorf("%d %s %v", resp.StatusCode, got, resp.Header)
				}
				if path == "/v1/chat/completions" && !strings.Contains(got, `"type":"invalid_request_error"`) ||
					path == "/v1/messages" && !strings.Contains(got, `{"type":"error","error":{"type":"authentication_error"`) {
					t.Errorf("not the client's dialect: %s", got)
				}
			}
		})
	}
}

func TestTwoBearerKeysThatDiffer(t *testing.T) {
	r := newRig(t, answerJSON)
	answer := raw(t, r, "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rv_research\r\nAuthorization: Bearer rv_support\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 401 ") {
		t.Error(answer)
	}
}

func TestHeaderThatGoesOn(t *testing.T) {
	r := newRig(t, answerJSON)
	answer := raw(t, r, "POST /v1/messages HTTP/1.1\r\nHost: gateway.example\r\nx-api-key: rv_research\r\nCookie: a=b\r\n"+
		"Connection: keep-alive, X-Private , anthropic-hidden\r\nX-Private: 1\r\nAnthropic-Hidden: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n"+
		"Upgrade: h2c\r\nProxy-Authorization: Basic x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.0.0.1\r\n"+
		"Accept-Encoding: gzip, br\r\nExpect: 100-continue\r\nReeve-Provider: x\r\nX-Request-Id: mine\r\n"+
		"User-Agent: claude-cli/2.0\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: a-1,b-2\r\nAnthropic-Beta: c-3\r\n"+
		"x-stainless-lang: js\r\nX-Claude-Code-Session-Id: s1\r\nOpenAI-Organization: o\r\nAccept: application/json\r\nX-Unknown: kept\r\n"+
		fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(message), message))
	if !strings.Contains(answer, "200 OK") || !strings.Contains(answer, "X-Request-Id: mine\r\n") {
		t.Error(answer)
	}
	var got []string
	for _, f := range r.open().Header {
		got = append(got, f.Name+": "+f.Value)
	}
	slices.Sort(got)
	want := []string{
		"Accept: application/json", "Anthropic-Beta: a-1,b-2", "Anthropic-Beta: c-3", "Anthropic-Version: 2023-06-01",
		"Content-Type: application/json", "Openai-Organization: o", "User-Agent: claude-cli/2.0",
		"X-Claude-Code-Session-Id: s1", "X-Stainless-Lang: js", "X-Unknown: kept",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]hop.Field{{Name: "client_ip", Value: "127.0.0.1"}}, r.open().Asserted); d != "" {
		t.Error(d)
	}
	if r.open().RequestID != "mine" {
		t.Errorf("request id %q", r.open().RequestID)
	}
}

func TestRequestID(t *testing.T) {
	r := newRig(t, answerJSON)
	for _, sent := range []string{"", "has space", strings.Repeat("x", 129), `q"uote`} {
		got := r.do("GET", "/v1/models", "", "X-Request-Id", sent).Header.Get("X-Request-Id")
		if !strings.HasPrefix(got, "req_") || len(got) != 28 {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
	r.script = func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(404, []hop.Field{field("content-type", "application/json"), field("x-request-id", "theirs"), field("request-id", "theirs too"),
			field("set-cookie", "a=b"), field("connection", "close"), field("keep-alive", "x"), field("retry-after", "7"), field("x-ratelimit-remaining", "3")})
		w.Write([]byte(`{"error":"odd  form"}`))
		w.End(nil)
	}
	resp := r.do("POST", "/v1/chat/completions", chat, "X-Request-Id", "mine")
	if got := text(t, resp); resp.StatusCode != 404 || got != `{"error":"odd  form"}` {
		t.Errorf("the upstream's error was changed: %d %s", resp.StatusCode, got)
	}
	want := map[string]string{"X-Request-Id": "mine", "Reeve-Upstream-Request-Id": "theirs", "Request-Id": "theirs too", "Retry-After": "7",
		"X-Ratelimit-Remaining": "3", "Set-Cookie": "", "Keep-Alive": "", "Reeve-Refusal": "", "X-Should-Retry": ""}
	for name, value := range want {
		if got := resp.Header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

func TestModelChoice(t *testing.T) {
	tests := []struct {
		path, model, key string
		header           string // Reeve-Provider
		want             string // credential, or the code of the refusal
	}{
		{path: "/v1/chat/completions", model: "large", want: "research-openai"},
		{path: "/v1/chat/completions", model: "openai/large", want: "research-openai"},
		{path: "/v1/chat/completions", model: "fast", want: "research-openai"},
		{path: "/v1/chat/completions", model: `\u0066ast`, want: "research-openai"},
		{path: "/v1/chat/completions", model: "large", key: "rv_support", want: "support-openai"},
		{path: "/v1/chat/completions", model: "other/meta/large", key: "rv_support", want: "support-other"},
		{path: "/v1/chat/completions", model: "other/meta/large", want: "model_not_found"}, // not this unit's
		{path: "/v1/chat/completions", model: "meta/large", key: "rv_support", want: "model_not_found"},
		{path: "/v1/chat/completions", model: "none", want: "model_not_found"},
		{path: "/v1/chat/completions", model: "openai/", want: "model_not_found"},
		{path: "/v1/chat/completions", model: "", want: "model_not_found"},
		{path: "/v1/chat/completions", model: "nowhere", want: "model_not_found"},
		{path: "/v1/chat/completions", model: "claude-fast", want: "dialect"},
		{path: "/v1/chat/completions", model: "anthropic/claude-large", want: "dialect"},
		{path: "/v1/messages", model: "openai/large", want: "dialect"},
		{path: "/v1/messages", model: "claude-fast", want: "research-anthropic"},
		{path: "/v1/messages", model: "claude-large", want: "research-anthropic"},
		{path: "/v1/messages", model: "claude-large", key: "rv_support", want: "model_not_found"},
		{path: "/v1/responses/r1", want: "research-openai"},
		{path: "/v1/responses/r1", key: "rv_support", want: "support-openai"}, // the default of two
		{path: "/v1/responses/r1", key: "rv_support", header: "other", want: "support-other"},
		{path: "/v1/responses/r1", header: "other", want: "provider_unclear"},
		{path: "/v1/responses/r1", header: "anthropic", want: "provider_unclear"},
	}
	for _, test := range tests {
		t.Run(test.path+" "+test.model+test.key+test.header, func(t *testing.T) {
			r := newRig(t, answerJSON)
			header := []string{"Reeve-Provider", test.header}
			if test.key != "" {
				header = append(header, "Authorization", "Bearer "+test.key)
			}
			method, body := "POST", `{"model":"`+test.model+`"}`
			if strings.HasSuffix(test.path, "r1") {
				method, body = "GET", ""
			}
			resp := r.do(method, test.path, body, header...)
			got := resp.Header.Get("Reeve-Refusal")
			if resp.StatusCode == 200 {
				got = r.open().Credential
			}
			if got != test.want {
				t.Errorf("%d %s, want %s: %s", resp.StatusCode, got, test.want, text(t, resp))
			}
		})
	}
}

func TestUnclearProvider(t *testing.T) {
	r := newRig(t, answerJSON, edited(func(p *estate.Plan) { p.Operations.Providers[0].Default = false }))
	resp := r.do("GET", "/v1/responses/r1", "", "Authorization", "Bearer rv_support")
	if resp.StatusCode != 400 || !strings.Contains(text(t, resp), "Reeve-Provider") {
		t.Error(resp.Status)
	}
}

func TestBodies(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"no model", `{"messages":[]}`, "no_model"},
		{"two models", `{"model":"large","model":"small"}`, "invalid_body"},
		{"trailing data", chat + "{}", "invalid_body"},
		{"no object", `[1]`, "invalid_body"},
		{"empty", ``, "invalid_body"},
		{"model is a number", `{"model":3}`, "invalid_body"},
		{"too large", `{"model":"large","x":"` + strings.Repeat("x", 9000) + `"}`, "too_large"},
		{"large enough", `{"model":"large","x":"` + strings.Repeat("x", 8000) + `"}`, ""},
	}
	for _, test := range tests {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, chunked), func(t *testing.T) {
				r := newRig(t, answerJSON, edited(func(p *estate.Plan) { p.Operations.Limits.BodyBytes = 8192 }))
				req, _ := http.NewRequest("POST", r.url+"/v1/chat/completions", strings.NewReader(test.body))
				if chunked {
					req.ContentLength, req.Body = -1, io.NopCloser(strings.NewReader(test.body))
				}
				req.Header.Set("api-key", "rv_research")
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if got := resp.Header.Get("Reeve-Refusal"); got != test.want {
					t.Errorf("%s: refused with %q, want %q", resp.Status, got, test.want)
				}
				if test.want == "" && string(r.open().Body) != test.body {
					t.Error("the body was changed")
				}
				if lent := r.gateway.bodies.lent.Load(); lent != 0 {
					t.Errorf("%d bytes stay lent", lent)
				}
			})
		}
	}
}

func TestBodyThatDoesNotCome(t *testing.T) {
	r := newRig(t, answerJSON, edited(func(p *estate.Plan) { p.Operations.Limits.BodyTimeout = statement.Duration(20 * time.Millisecond) }))
	answer := raw(t, r, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: rv_research\r\nContent-Length: 100\r\n\r\n{")
	if !strings.HasPrefix(answer, "HTTP/1.1 408 ") || !strings.Contains(answer, "did not arrive") {
		t.Error(answer)
	}
}

func TestSlowBodyOfARefusedRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, answerJSON)
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	conn.SetReadDeadline(time.Now().Add(2*unread + 10*time.Second))
	if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 401 ") {
		t.Errorf("the connection stays: %q %v", b, err)
	}
}

func TestEncodedBody(t *testing.T) {
	r := newRig(t, answerJSON)
	resp := r.do("POST", "/v1/chat/completions", chat, "Content-Encoding", "gzip")
	if resp.StatusCode != 415 {
		t.Error(resp.Status)
	}
}

func TestMemoryForBodiesIsBounded(t *testing.T) {
	r := newRig(t, answerJSON, func(r *rig) { r.parts.Memory = 16 << 10 })
	big := `{"model":"large","x":"` + strings.Repeat("x", 20000) + `"}`
	if resp := r.do("POST", "/v1/chat/completions", big); resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != "overloaded" {
		t.Error(resp.Status)
	}
	if resp := r.do("POST", "/v1/chat/completions", chat); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestRefusalsOfTheCustodian(t *testing.T) {
	tests := []struct {
		refusal           hop.Refusal
		status            int
		retry, retryAfter string
		openai, anthropic string // error types
	}{
		{hop.Refusal{Code: "policy_denied", Status: 403, Message: "no"}, 403, "false", "", "permission_error", "permission_error"},
		{hop.Refusal{Code: "unauthenticated", Status: 401, Message: "no"}, 401, "false", "", "invalid_request_error", "authentication_error"},
		{hop.Refusal{Code: "budget", Status: 402, Message: "no"}, 402, "false", "", "insufficient_quota", "billing_error"},
		{hop.Refusal{Code: "ceiling", Status: 429, Message: "no", RetryAfter: 7}, 429, "", "7", "rate_limit_error", "rate_limit_error"},
		{hop.Refusal{Code: "ceiling", Status: 429, Message: "no"}, 429, "false", "", "rate_limit_error", "rate_limit_error"},
		{hop.Refusal{Code: "frozen", Status: 403, Message: "no"}, 403, "false", "", "permission_error", "permission_error"},
		{hop.Refusal{Code: "stale", Status: 503, Message: "no", RetryAfter: 1}, 503, "", "1", "server_error", "overloaded_error"},
		{hop.Refusal{Code: "ledger", Status: 503, Message: "no"}, 503, "", "", "server_error", "overloaded_error"},
		{hop.Refusal{Code: "upstream_unreachable", Status: 502, Message: "no"}, 502, "", "", "server_error", "api_error"},
		{hop.Refusal{Code: "upstream_timeout", Status: 504, Message: "no"}, 504, "", "", "server_error", "timeout_error"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.refusal.Code, test.refusal.RetryAfter), func(t *testing.T) {
			refusal := test.refusal
			refusal.Receipt = "v1.l.7.h.s"
			r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) { w.Refuse(&refusal) })
			check := func(resp *http.Response) map[string]any {
				h := resp.Header
				if resp.StatusCode != test.status || h.Get("X-Should-Retry") != test.retry || h.Get("Retry-After") != test.retryAfter ||
					h.Get("Reeve-Receipt") != "v1.l.7.h.s" || h.Get("Reeve-Refusal") != refusal.Code {
					t.Errorf("%s %v", resp.Status, h)
				}
				return object(t, text(t, resp))
			}
			got := check(r.do("POST", "/v1/chat/completions", chat))
			e, _ := got["error"].(map[string]any)
			if e["type"] != test.openai || e["message"] != "no" || len(e) != 4 {
				t.Errorf("OpenAI: %v", got)
			}
			resp := r.do("POST", "/v1/messages", message)
			got = check(resp)
			e, _ = got["error"].(map[string]any)
			if got["type"] != "error" || e["type"] != test.anthropic || e["message"] != "no" || got["request_id"] != resp.Header.Get("X-Request-Id") || resp.Header.Get("Request-Id") != got["request_id"] {
				t.Errorf("Anthropic: %v", got)
			}
			r.gateway.Flush(&r.ledger)
			if len(r.ledger.entries) != 0 {
				t.Error("what the custodian's ledger has was entered again")
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Do(context.Context, *hop.Open) (*hop.Response, error) { return nil, f.err }

func TestBrokenHop(t *testing.T) {
	for _, test := range []struct {
		err  error
		code string
	}{
		{fmt.Errorf("%w: no such file", hop.ErrUnavailable), "custodian_unavailable"},
		{fmt.Errorf("%w: it died", hop.ErrBroken), "custodian_broken"},
		{io.ErrUnexpectedEOF, "custodian_broken"},
	} {
		r := newRig(t, nil, func(r *rig) { r.parts.Custodian = failing{test.err} })
		resp := r.do("POST", "/v1/messages", message)
		if resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != test.code || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("X-Should-Retry") != "" {
			t.Errorf("%v: %s %v", test.err, resp.Status, resp.Header)
		}
	}
}

func TestModelsList(t *testing.T) {
	r := newRig(t, answerJSON, edited(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] += `@id("no-large") forbid (principal, action, resource) when { context.model == "large" };`
	}))
	ids := func(path string, header ...string) string {
		var ids []string
		got := object(t, text(t, r.do("GET", path, "", header...)))
		for _, m := range got["data"].([]any) {
			ids = append(ids, m.(map[string]any)["id"].(string))
		}
		more, _ := got["has_more"].(bool)
		return fmt.Sprint(ids, more)
	}
	anthropic := []string{"anthropic-version", "2023-06-01"}
	for _, test := range []struct {
		path, want string
		header     []string
	}{
		{"/v1/models", "[fast openai/small openai/vector] false", nil},
		{"/v1/models", "[fast openai/large openai/small openai/vector other/meta/large] false", []string{"Authorization", "Bearer rv_support"}},
		{"/anthropic/v1/models", "[] false", []string{"Authorization", "Bearer rv_support"}},
		{"/v1/models?limit=1000", "[anthropic/claude-large anthropic/claude-small claude-fast] false", anthropic},
		{"/v1/models?limit=2", "[anthropic/claude-large anthropic/claude-small] true", anthropic},
		{"/v1/models?limit=2&after_id=anthropic/claude-small", "[claude-fast] false", anthropic},
		{"/v1/models?limit=1&before_id=claude-fast", "[anthropic/claude-small] true", anthropic},
		{"/v1/models?limit=x", "[anthropic/claude-large anthropic/claude-small claude-fast] false", anthropic},
	} {
		if got := ids(test.path, test.header...); got != test.want {
			t.Errorf("%s: %s, want %s", test.path, got, test.want)
		}
	}
	if resp := r.do("GET", "/v1/models/large", ""); resp.StatusCode != 404 {
		t.Errorf("a forbidden model: %s", resp.Status)
	}
}

func TestLimits(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	r := newRig(t, func(ctx context.Context, p hop.Peer, o *hop.Open, w *hop.Writer) {
		entered <- true
		<-leave
		answerJSON(ctx, p, o, w)
	}, edited(func(p *estate.Plan) { p.Operations.Limits.ConcurrentEach, p.Operations.Limits.PerMinuteEach = 2, 4 }))
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if resp := r.do("POST", "/v1/chat/completions", chat); resp.StatusCode != 200 {
				t.Error(resp.Status)
			}
		})
		<-entered
	}
	resp := r.do("GET", "/v1/models", "")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(text(t, resp), "in flight") {
		t.Errorf("a third: %s", resp.Status)
	}
	if resp := r.do("GET", "/v1/models", "", "Authorization", "Bearer rv_support"); resp.StatusCode != 200 {
		t.Errorf("another workload: %s", resp.Status)
	}
	close(leave)
	group.Wait()
	go func() {
		for range entered {
		}
	}()
	for range 2 {
		if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != 200 {
			t.Errorf("within the minute's limit: %s", resp.Status)
		}
	}
	resp = r.do("GET", "/v1/models", "")
	if after := resp.Header.Get("Retry-After"); resp.StatusCode != 429 || after == "" || after == "0" || resp.Header.Get("X-Should-Retry") != "" {
		t.Errorf("above the minute's limit: %s, Retry-After %q", resp.Status, after)
	}
}

// A stranger that announces a body and sends none of it is answered and let go, whatever it asks for: net/http would read on.
func TestUnreadBodiesEnd(t *testing.T) {
	r := newRig(t, answerJSON)
	for _, request := range []string{"HEAD /", "GET /v1/nothing", "POST /v1/chat/completions", "GET /v1/models"} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			proof := ""
			if strings.HasSuffix(request, "models") {
				proof = "api-key: rv_research\r\n"
			}
			raw(t, r, request+" HTTP/1.1\r\nHost: x\r\n"+proof+"Content-Length: 1000\r\n\r\n")
		})
	}
}

// A request whose length a proxy before the gateway may have read otherwise is the last of its connection (RFC 9112, section 6.1): what
// stands behind it is nobody's next request.
func TestNothingIsSmuggled(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: x\r\napi-key: rv_research\r\n"
	second := "GET /v1/models" + head + "\r\n"
	body := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(chat), chat)
	for name, request := range map[string]string{
		"both lengths":            "POST /v1/chat/completions" + head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
		"both, of a stranger":     "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
		"both, where none belong": "GET /v1/models" + head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"an upstream's page":      "POST /v1/messages" + head + "anthropic-version: 1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
		"two lengths":             "POST /v1/chat/completions" + head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}  ",
		"a coding in doubt":       "POST /v1/chat/completions" + head + "Transfer-Encoding: xchunked\r\n\r\n" + body,
		"two codings":             "POST /v1/chat/completions" + head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + body,
		"a space before a colon":  "POST /v1/chat/completions" + head + "Transfer-Encoding : chunked\r\n\r\n" + body,
		"a folded line":           "POST /v1/chat/completions" + head + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n" + body,
		"a bare line feed":        "POST /v1/chat/completions" + head + "Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
		"a signed length":         "POST /v1/chat/completions" + head + "Content-Length: +2\r\n\r\n{}",
		"a signed chunk":          "POST /v1/chat/completions" + head + "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, answerJSON)
			conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(conn, request+second); err != nil {
				t.Fatal(err)
			}
			answers, err := io.ReadAll(conn)
			if n := bytes.Count(answers, []byte("HTTP/1.1 ")); n != 1 && err == nil || n > 1 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d answers, %v:\n%s", n, err, answers)
			}
		})
	}
}

func TestMinuteEnds(t *testing.T) {
	l := limiter{tally: map[string]*tally{}}
	lim := &statement.GatewayLimits{PerMinuteEach: 1}
	now := time.Unix(1000, 0)
	for _, test := range []struct {
		after time.Duration
		retry int
	}{{0, -1}, {1 * time.Second, 59}, {59500 * time.Millisecond, 1}, {60 * time.Second, -1}, {61 * time.Second, 59}} {
		_, f := l.enter("w", lim, now.Add(test.after))
		got := -1
		if f != nil {
			got = f.RetryAfter
		}
		if got != test.retry {
			t.Errorf("after %v: Retry-After %d, want %d", test.after, got, test.retry)
		}
	}
}

func TestRefusalsAreEnteredOnceASecond(t *testing.T) {
	r := newRig(t, answerJSON)
	for range 50 {
		r.do("GET", "/v1/models", "", "Authorization", "Bearer rv_nobody")
	}
	r.do("POST", "/v1/chat/completions?q=secret", `{"model":"none"}`)
	r.do("POST", "/v1/chat/completions", chat)
	r.gateway.Flush(&r.ledger)
	r.gateway.Flush(&r.ledger)
	slices.SortFunc(r.ledger.entries, func(a, b entry.Entry) int { return strings.Compare(a.Reason, b.Reason) })
	if len(r.ledger.entries) != 2 {
		t.Fatalf("%d entries: %+v", len(r.ledger.entries), r.ledger.entries)
	}
	model, flood := r.ledger.entries[0], r.ledger.entries[1]
	if flood.Count != 50 || flood.Workload != "" || flood.Reason != "unauthenticated" || flood.Type != "deny" || flood.Status != 401 {
		t.Errorf("flood: %+v", flood)
	}
	if model.Count != 1 || model.Workload != "research-agent" || model.Unit != "research" || model.Tenant != "acme" || model.Level != "W0" ||
		model.Gateway != "g1" || len(model.PathHash) != 64 || model.Decision != "deny" || len(model.Estate) != 64 {
		t.Errorf("model: %+v", model)
	}
}

func TestNotReadyAndDraining(t *testing.T) {
	r := newRig(t, answerJSON)
	f := r.gateway.force.Swap(nil)
	if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != "not_ready" {
		t.Error(resp.Status)
	}
	r.gateway.force.Store(f)
	r.gateway.Drain()
	if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != "draining" || !resp.Close {
		t.Error(resp.Status)
	}
}

func TestTooManyConnections(t *testing.T) {
	r := newRig(t, answerJSON, func(r *rig) { r.parts.Conns = 1 })
	idle, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection counts", func() bool { return r.gateway.conns.Load() == 1 })
	if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != "overloaded" {
		t.Error(resp.Status)
	}
	idle.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	eventually(t, "the connections end", func() bool { return r.gateway.conns.Load() == 0 })
	if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestASetThatDoesNotNameTheGatewayIsRefused(t *testing.T) {
	r := newRig(t, answerJSON)
	before := r.gateway.force.Load()
	other := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) { p.Operations.Gateways[0].ID = "g2" }))
	if err := r.gateway.Use(other.Set); err == nil || !strings.Contains(err.Error(), `"g1"`) {
		t.Error(err)
	}
	if r.gateway.force.Load() != before {
		t.Error("the old set is not in force any more")
	}
}

func TestAccessLogHasNoBody(t *testing.T) {
	r := newRig(t, answerJSON)
	r.do("POST", "/v1/chat/completions", `{"model":"fast","messages":[{"role":"user","content":"confidential"}]}`, "X-Request-Id", "look-for-me")
	eventually(t, "the request is logged", func() bool { return strings.Contains(r.logs.String(), "look-for-me") })
	got := r.logs.String()
	for _, bad := range []string{"confidential", "rv_research"} {
		if strings.Contains(got, bad) {
			t.Errorf("the log has %q: %s", bad, got)
		}
	}
	m := object(t, got)
	for name, want := range map[string]any{"request_id": "look-for-me", "workload": "research-agent", "credential": "research-openai", "model": "fast",
		"status": 200.0, "out": 11.0, "receipt": "v1.0.1.x.y", "key": "0123456789abcdef", "route": "/v1/chat/completions", "client": "127.0.0.1"} {
		if m[name] != want {
			t.Errorf("%s: %v, want %v", name, m[name], want)
		}
	}
	var b strings.Builder
	r.parts.Metrics.WriteTo(&b)
	for _, want := range []string{
		`reeve_gateway_requests_total{route="/v1/chat/completions",status="200"} 1`, "reeve_gateway_in_flight 0",
		"reeve_gateway_answer_bytes_total 11", "reeve_gateway_first_byte_seconds_count 1",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("metrics lack %s:\n%s", want, b.String())
		}
	}
}

func TestBodyArrivesByteForByte(t *testing.T) {
	const body = "{ \"system\" : [ {\"type\":\"text\",\"text\":\"a\\u00e9\\/\",\"cache_control\":{\"type\":\"ephemeral\"}} ],\n\t\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1e3}," +
		"\"model\":\"claude-large\",\"max_tokens\":32000,\"unknown_field\":{\"b\":1,\"a\":[1.0,2.50,null]},\"metadata\":{\"user_id\":\"x\"},\"stream\":false,\"context_management\":{\"edits\":[]} } \r\n"
	r := newRig(t, answerJSON)
	resp := r.do("POST", "/v1/messages?beta=true", body, "anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14,never-heard-of-2031-01-01",
		"anthropic-version", "2023-06-01", "x-app", "cli", "anthropic-dangerous-direct-browser-access", "true")
	if resp.StatusCode != 200 {
		t.Fatal(text(t, resp))
	}
	o := r.open()
	if string(o.Body) != body || o.Path != "/v1/messages?beta=true" {
		t.Errorf("%s %q", o.Path, o.Body)
	}
	if !slices.Contains(o.Header, field("Anthropic-Beta", "claude-code-20250219,interleaved-thinking-2025-05-14,never-heard-of-2031-01-01")) {
		t.Errorf("%v", o.Header)
	}
}
