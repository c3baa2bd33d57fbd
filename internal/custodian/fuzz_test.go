package custodian

import (
	"bytes"
	"strings"
	"testing"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/scan"
)

// FuzzServe is the gateway that was taken over: it holds a workload's genuine key and says whatever it likes. Nothing that
// it says may reach a place, a model or a header that the owners did not allow, or an entry, or make the custodian fault.
func FuzzServe(f *testing.F) {
	w := newWorld(f, estatetest.Edit(func(p *estate.Plan) {
		p.Policies["research"].Limits, p.Policies["research"].Ceilings = nil, nil
	}))
	f.Add("research-openai", "POST", "/v1/chat/completions", "Content-Type", "application/json", []byte(`{"model":"fast","max_tokens":5}`))
	f.Add("research-openai", "POST", "/openai/v1/responses/r%2F..%2F?x=1", "Connection", "authorization", []byte(`{"model":"anthropic/demo-claude"}`))
	f.Add("research-anthropic", "GET", "/v1/models?limit=1000&key=x", "X-Api-Key", "x", []byte(nil))
	f.Add("support-openai", "DELETE", "//evil.example/v1/responses/r1", "Transfer-Encoding", "chunked", []byte(`{"model":"a","model":"b"}`))
	f.Add("research-openai", "POST", "/v1/embeddings", "Host", "evil.example\r\nX: y", []byte("{\"model\":\"\\u0064emo-small\",\"MODEL\":\"other\"}"))
	f.Fuzz(func(t *testing.T, credential, method, path, name, value string, body []byte) {
		sent, intents := len(w.wire.sent), len(w.ledger.of(entry.Intent))
		open := w.chat()
		open.Credential, open.Method, open.Path, open.URL, open.RequestID, open.Body = credential, method, path, path, value, body
		open.Header = []hop.Field{{Name: name, Value: value}, {Name: "X-Second", Value: name}}
		open.Asserted = []hop.Field{{Name: name, Value: value}, {Name: "client_ip", Value: value}}
		a := w.do(open)
		if n := len(w.ledger.of(entry.Alarm)); n > 0 {
			t.Fatalf("an alarm: %+v", w.ledger.of(entry.Alarm)[n-1])
		}
		if len(w.wire.sent) == sent {
			if a.refusal == nil {
				t.Fatal("neither sent nor refused")
			}
			return
		}
		r := w.wire.sent[sent]
		where, _, _ := bytes.Cut(r.Target, []byte("?"))
		switch {
		case len(w.ledger.of(entry.Intent)) != intents+1:
			t.Fatal("sent without an intent")
		case credential != "research-openai" && credential != "research-anthropic":
			t.Fatalf("sent with %q", credential)
		case !bytes.HasPrefix(r.Target, []byte("/v1/")) || bytes.ContainsAny(r.Target, " \r\n\x00#\\") || bytes.Contains(where, []byte("/../")) || bytes.HasSuffix(where, []byte("/..")):
			t.Fatalf("sent to %q", r.Target)
		case r.Method != "GET" && r.Method != "POST" && r.Method != "DELETE":
			t.Fatalf("sent %q", r.Method)
		}
		for _, h := range r.Header {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") || strings.EqualFold(h.Name, "Authorization") || strings.EqualFold(h.Name, "Host") {
				t.Fatalf("sent the header %q: %q", h.Name, h.Value)
			}
		}
		if len(r.Body) > 0 {
			call, err := scan.Body(r.Body)
			if err != nil || call.MaxTokens > 100000 || strings.HasPrefix(string(call.Name), "openai/") || strings.HasPrefix(string(call.Name), "anthropic/") {
				t.Fatalf("sent the body %q: %v", r.Body, err)
			}
		}
	})
}
