package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

var eventStream = []hop.Field{{Name: "Content-Type", Value: "text/event-stream; charset=utf-8"}}

// streamOf answers with pieces; then it ends the stream, or breaks it off.
func streamOf(clean bool, pieces ...string) hop.Handler {
	return func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, eventStream)
		for _, p := range pieces {
			io.WriteString(w, p)
		}
		if clean {
			w.End(nil)
			return
		}
		w.Break("the upstream closed the connection")
	}
}

const (
	chunk      = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
	done       = "data: [DONE]\n\n"
	blockDelta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n"
	stop       = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
)

func TestHowStreamsEnd(t *testing.T) {
	const openaiFrame, anthropicFrame = `data: {"error":{"message":"The answer broke off: `, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"The answer broke off: "
	responses := func(state string) string {
		return "event: response." + state + "\ndata: {\"type\":\"response." + state + "\"}\n\n"
	}
	tests := []struct {
		name, path string
		script     hop.Handler
		sent       string // what the client must get, unchanged
		frame      string // beginning of the error frame after it; empty for none
		clean      bool
	}{
		{"whole chat", "/v1/chat/completions", streamOf(true, chunk, chunk, done), chunk + chunk + done, "", true},
		{"chat with carriage returns", "/v1/chat/completions", streamOf(true, "data: {}\r\n\r\n", "data: [DONE]\r\n\r\n"), "data: {}\r\n\r\ndata: [DONE]\r\n\r\n", "", true},
		{"chat whose last line has no end", "/v1/chat/completions", streamOf(true, chunk, "data: [DONE]"), chunk + "data: [DONE]", "", true},
		{"chat cut between events", "/v1/chat/completions", streamOf(false, chunk), chunk, openaiFrame + "the upstream closed", false},
		{"chat cut in an event", "/v1/chat/completions", streamOf(false, chunk, chunk[:20]), chunk + chunk[:20], "", false},
		{"chat cut in an event after a line", "/v1/chat/completions", streamOf(false, "data: {}\n"), "data: {}\n", "", false},
		{"chat cut before its first event", "/v1/chat/completions", streamOf(false), "", openaiFrame, false},
		{"chat that ends without its last event", "/v1/chat/completions", streamOf(true, chunk), chunk, openaiFrame + "the stream ended before its last event", false},
		{"chat that ends with an error", "/v1/chat/completions", streamOf(true, chunk, "data: {\"error\": {\"message\":\"x\"}}\n\n"), chunk + "data: {\"error\": {\"message\":\"x\"}}\n\n", "", true},
		{"whole messages", "/v1/messages", streamOf(true, "event: ping\ndata: {}\n\n", blockDelta, stop), "event: ping\ndata: {}\n\n" + blockDelta + stop, "", true},
		{"messages cut between events", "/v1/messages", streamOf(false, blockDelta), blockDelta, anthropicFrame, false},
		{"messages that end without their last event", "/v1/messages", streamOf(true, blockDelta), blockDelta, anthropicFrame, false},
		{"messages that end with an error", "/v1/messages", streamOf(true, "event: error\ndata: {}\n\n"), "event: error\ndata: {}\n\n", "", true},
		{"whole response", "/v1/responses", streamOf(true, responses("created"), responses("output_text.delta"), responses("completed")), responses("created") + responses("output_text.delta") + responses("completed"), "", true},
		{"incomplete response", "/v1/responses", streamOf(true, responses("incomplete")), responses("incomplete"), "", true},
		{"response that ends while in progress", "/v1/responses", streamOf(true, responses("in_progress")), responses("in_progress"), openaiFrame, false},
		{"response that ends after a delta", "/v1/responses", streamOf(true, responses("output_text.done")), responses("output_text.done"), openaiFrame, false},
		{"response cut", "/v1/responses", streamOf(false, responses("created")), responses("created"), openaiFrame, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.script)
			body := chatStream
			if test.path == "/v1/messages" {
				body = messageStream
			}
			resp := r.do("POST", test.path, body)
			if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
				t.Fatal(resp.Status, resp.Header)
			}
			b, err := io.ReadAll(resp.Body)
			if clean := err == nil; clean != test.clean {
				t.Errorf("ended with %v, want clean %v", err, test.clean)
			}
			rest, ok := strings.CutPrefix(string(b), test.sent)
			if !ok || !strings.HasPrefix(rest, test.frame) || test.frame == "" && rest != "" {
				t.Errorf("got %q\nwant %q and then %q", b, test.sent, test.frame)
			}
			if rest != "" && !strings.HasSuffix(rest, "\n\n") {
				t.Errorf("the frame has no end: %q", rest)
			}
		})
	}
}

func TestOtherAnswersThatBreakOff(t *testing.T) {
	for _, header := range [][]hop.Field{
		{field("Content-Type", "application/json"), field("Content-Length", "100")},
		{field("Content-Type", "application/json")},
	} {
		r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			w.Head(200, header)
			io.WriteString(w, `{"half":`)
		})
		req, _ := http.NewRequest("POST", r.url+"/v1/chat/completions", strings.NewReader(chat))
		req.Header.Set("api-key", "rv_research")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			continue // nothing had been flushed
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("%v: a clean end after %q", header, b)
		}
	}
}

func TestAnswerThatBreaksOffBeforeItsBody(t *testing.T) {
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, []hop.Field{field("Content-Type", "application/json"), field("Content-Length", "100"), field("Reeve-Receipt", "v1.l.7.h.s"), field("Etag", "x")})
		w.Break("the upstream closed the connection")
	})
	resp := r.do("POST", "/v1/messages", message)
	got := text(t, resp)
	if resp.StatusCode != 502 || resp.Header.Get("Reeve-Refusal") != "broken" || resp.Header.Get("Reeve-Receipt") != "v1.l.7.h.s" || resp.Header.Get("Etag") != "" ||
		!strings.Contains(got, "the upstream closed the connection") {
		t.Errorf("%s %s %v", resp.Status, got, resp.Header)
	}
}

func TestStatusThatIsNoFinalOne(t *testing.T) {
	for _, status := range []int{100, 199, 600, 999} {
		r := newRig(t, nil, func(r *rig) {
			r.parts.Custodian = answering{&hop.Response{Status: status, Body: io.NopCloser(strings.NewReader("x"))}}
		})
		if resp := r.do("POST", "/v1/chat/completions", chat); resp.StatusCode != 502 || resp.Header.Get("Reeve-Refusal") != "upstream_status" {
			t.Errorf("%d: %s", status, resp.Status)
		}
	}
}

type answering struct{ resp *hop.Response }

func (a answering) Do(context.Context, *hop.Open) (*hop.Response, error) { return a.resp, nil }

func TestEmptyAnswer(t *testing.T) {
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(204, []hop.Field{field("X-Other", "1")})
		w.End(nil)
	})
	resp := r.do("DELETE", "/v1/responses/r1", "")
	if resp.StatusCode != 204 || resp.Header.Get("X-Other") != "1" {
		t.Error(resp.Status)
	}
}

func TestEachPieceIsSentAtOnce(t *testing.T) {
	next := make(chan string)
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, eventStream)
		for p := range next {
			io.WriteString(w, p)
		}
		w.End(nil)
	})
	resp := r.do("POST", "/v1/chat/completions", chatStream) // the head comes before any piece
	in := lines(resp)
	for range 5 {
		next <- chunk
		if got := line(t, in) + "\n" + line(t, in) + "\n"; got != chunk {
			t.Fatalf("got %q", got)
		}
	}
	next <- done
	close(next)
	if rest, err := io.ReadAll(in); string(rest) != done || err != nil {
		t.Errorf("%q %v", rest, err)
	}
}

func TestLargeAnswersPassWhole(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 200<<10/16)
	for _, kind := range []string{"application/json", "text/event-stream"} {
		sent := big
		if kind == "text/event-stream" {
			sent = "data: " + big + "\n\n" + done
		}
		r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			w.Head(200, []hop.Field{field("Content-Type", kind)})
			io.WriteString(w, sent)
			w.End(nil)
		})
		body := chat
		if kind == "text/event-stream" {
			body = chatStream
		}
		if got := text(t, r.do("POST", "/v1/chat/completions", body)); got != sent {
			t.Errorf("%s: %d bytes, want %d", kind, len(got), len(sent))
		}
	}
}

func TestKeepAlive(t *testing.T) {
	next := make(chan string)
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, eventStream)
		for p := range next {
			io.WriteString(w, p)
		}
		w.End(nil)
	}, func(r *rig) { r.parts.KeepAlive = 5 * time.Millisecond })
	in := lines(r.do("POST", "/v1/messages", messageStream))
	if got := line(t, in); got != ": keep-alive" { // before the first event
		t.Fatalf("got %q", got)
	}
	next <- "event: message_start\ndata: {\"half\":"
	got := ""
	for !strings.HasPrefix(got, "event: ") {
		got = line(t, in)
	}
	time.Sleep(50 * time.Millisecond) // many times the keep-alive: none may come into an event
	next <- "1}\n\n"
	if got := line(t, in); got != `data: {"half":1}` {
		t.Fatalf("something came into the event: %q", got)
	}
	for got = ""; got != ": keep-alive"; {
		got = line(t, in)
	}
	next <- stop
	close(next)
	if _, err := io.ReadAll(in); err != nil {
		t.Error(err)
	}
}

func TestSilentUpstreamIsGivenUp(t *testing.T) {
	for _, events := range []bool{true, false} {
		ended := make(chan bool)
		r := newRig(t, func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			if events {
				w.Head(200, eventStream)
				io.WriteString(w, chunk)
			} else {
				w.Head(200, []hop.Field{field("Content-Type", "application/json")})
			}
			<-ctx.Done()
			close(ended)
		}, edited(func(p *estate.Plan) { p.Operations.Limits.StreamIdle = statement.Duration(30 * time.Millisecond) }))
		body := chat
		if events {
			body = chatStream
		}
		resp := r.do("POST", "/v1/chat/completions", body)
		b, err := io.ReadAll(resp.Body)
		if events == (err == nil) || events == (resp.StatusCode == 502) || !strings.Contains(string(b), "silent for too long") {
			t.Errorf("events %v: %s %q %v", events, resp.Status, b, err)
		}
		<-ended
	}
}

func TestClientThatGoesAwayEndsTheStream(t *testing.T) {
	for _, headed := range []bool{true, false} {
		began, ended := make(chan bool), make(chan bool)
		r := newRig(t, func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			if headed {
				w.Head(200, eventStream)
				io.WriteString(w, chunk)
			}
			close(began)
			<-ctx.Done()
			close(ended)
		})
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/chat/completions", strings.NewReader(chatStream))
		req.Header.Set("api-key", "rv_research")
		go func() {
			<-began
			cancel()
		}()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-ended
		eventually(t, "the request is logged as the client's doing", func() bool { return strings.Contains(r.logs.String(), gone) })
	}
}

func TestContentTypes(t *testing.T) {
	tests := []struct {
		kind, body string
		status     int
		want       int
	}{
		{"text/html; charset=utf-8", chatStream, 200, 502},
		{"text/html", chat, 200, 502},
		{"application/json", chatStream, 200, 502},
		{"", chatStream, 200, 502},
		{"application/json", chat, 200, 200},
		{"text/html", chat, 503, 503}, // an upstream's error passes as it is
		{"application/json", chatStream, 400, 400},
		{"text/event-stream", chat, 200, 200},
	}
	for _, test := range tests {
		ended := make(chan bool, 1)
		r := newRig(t, func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			w.Head(test.status, []hop.Field{field("Content-Type", test.kind), field("Reeve-Receipt", "v1.l.7.h.s"), field("X-Other", "1"), field("Etag", "x")})
			io.WriteString(w, done)
			w.End(nil)
			ended <- true
		})
		resp := r.do("POST", "/v1/chat/completions", test.body)
		got := text(t, resp)
		<-ended
		if resp.StatusCode != test.want || resp.Header.Get("Reeve-Receipt") == "" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s, %d: %s %v, want %d", test.kind, test.status, resp.Status, resp.Header, test.want)
		}
		if test.want == 502 && test.status == 200 && (resp.Header.Get("X-Other") != "" || !strings.Contains(got, `"code":"upstream_content_type"`)) {
			t.Errorf("%s: %s %v", test.kind, got, resp.Header)
		}
	}
}

func TestTrailersPass(t *testing.T) {
	r := newRig(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, []hop.Field{field("Content-Type", "application/json")})
		io.WriteString(w, "{}")
		w.End([]hop.Field{field("x-checksum", "abc")})
	})
	resp := r.do("POST", "/v1/chat/completions", chat)
	text(t, resp)
	if got := resp.Trailer.Get("X-Checksum"); got != "abc" {
		t.Errorf("trailer %q", got)
	}
}

func TestClientThatDoesNotReadIsGivenUp(t *testing.T) {
	ended := make(chan error, 1)
	r := newRig(t, func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, eventStream)
		big := []byte("data: " + strings.Repeat("x", 64<<10) + "\n\n")
		for {
			if _, err := w.Write(big); err != nil {
				ended <- err
				return
			}
		}
	}, edited(func(p *estate.Plan) { p.Operations.Limits.StreamIdle = statement.Duration(100 * time.Millisecond) }))
	resp := r.do("POST", "/v1/chat/completions", chatStream)
	<-ended
	resp.Body.Close()
}
