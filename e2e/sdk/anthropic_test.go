package sdk

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

func (a *attempts) claude(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	a.n++
	resp, err := next(r)
	a.last = resp
	return resp, err
}

func anthropicClient(s *stack, more ...option.RequestOption) (*anthropic.Client, *attempts) {
	a := new(attempts)
	c := anthropic.NewClient(append([]option.RequestOption{option.WithBaseURL(s.url), option.WithAPIKey(s.key), option.WithMiddleware(a.claude)}, more...)...)
	return &c, a
}

func say(text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: anthropicModel, MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
}

func TestAnthropicGo(t *testing.T) { each(t, anthropicGo) }

func anthropicGo(t *testing.T, s *stack) {
	ctx := context.Background()

	t.Run("messages", func(t *testing.T) {
		for name, more := range map[string][]option.RequestOption{
			"x-api-key":   nil,
			"bearer":      {option.WithHeaderDel("x-api-key"), option.WithAuthToken(s.key)},
			"both":        {option.WithAuthToken(s.key)},
			"with a path": {option.WithBaseURL(s.url + "/anthropic")},
		} {
			c, a := anthropicClient(s, more...)
			got, err := c.Messages.New(ctx, say("hi there"))
			if err != nil || !strings.HasSuffix(got.Content[0].Text, "hi there") || got.Usage.OutputTokens == 0 {
				t.Fatalf("%s: %v %+v", name, err, got)
			}
			if a.last.Header.Get("Reeve-Receipt") == "" || a.last.Header.Get("Request-Id") == "" {
				t.Errorf("%s: %v", name, a.last.Header)
			}
		}
	})
	t.Run("stream", func(t *testing.T) {
		c, _ := anthropicClient(s)
		stream := c.Messages.NewStreaming(ctx, say("one two three"))
		var whole anthropic.Message
		events := 0
		for stream.Next() {
			events++
			if err := whole.Accumulate(stream.Current()); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.Err(); err != nil || len(whole.Content) == 0 || !strings.HasSuffix(whole.Content[0].Text, "one two three") || whole.Usage.OutputTokens == 0 || events < 6 {
			t.Errorf("%v %+v, %d events", err, whole, events)
		}
	})
	t.Run("count tokens", func(t *testing.T) {
		c, _ := anthropicClient(s)
		got, err := c.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: anthropicModel, Messages: say("a b c").Messages})
		if err != nil || got.InputTokens == 0 {
			t.Errorf("%v %+v", err, got)
		}
	})
	t.Run("models", func(t *testing.T) {
		c, _ := anthropicClient(s)
		pager := c.Models.ListAutoPaging(ctx, anthropic.ModelListParams{Limit: anthropic.Int(1)})
		var ids []string
		for pager.Next() {
			ids = append(ids, pager.Current().ID)
		}
		if got := strings.Join(ids, " "); pager.Err() != nil || got != "anthropic/demo-claude" {
			t.Errorf("%v %s", pager.Err(), got)
		}
		if m, err := c.Models.Get(ctx, "demo-claude", anthropic.ModelGetParams{}); err != nil || m.ID != "demo-claude" {
			t.Errorf("%v %+v", err, m)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, test := range []struct {
			name     string
			key      string
			change   func(*anthropic.MessageNewParams)
			header   [2]string
			status   int
			kind     string
			attempts int
		}{
			{name: "wrong key", key: "rv_wrong", status: 401, kind: "authentication_error", attempts: 1},
			{name: "policy", change: func(q *anthropic.MessageNewParams) { q.MaxTokens = 200_000 }, status: 403, kind: "permission_error", attempts: 1},
			{name: "unknown model", change: func(q *anthropic.MessageNewParams) { q.Model = "no-such-model" }, status: 404, kind: "not_found_error", attempts: 1},
			{name: "the upstream's own error", header: [2]string{"x-demo-status", "400"}, status: 400, kind: "invalid_request_error", attempts: 1},
			{name: "overloaded upstream", header: [2]string{"x-demo-status", "529"}, status: 529, kind: "overloaded_error", attempts: 3},
			{name: "a page instead of JSON", header: [2]string{"x-demo-html", "1"}, status: 502, kind: "api_error", attempts: 3},
		} {
			t.Run(test.name, func(t *testing.T) {
				more := []option.RequestOption{option.WithRequestTimeout(time.Minute)}
				if test.key != "" {
					more = append(more, option.WithAPIKey(test.key))
				}
				if test.header[0] != "" {
					more = append(more, option.WithHeader(test.header[0], test.header[1]))
				}
				c, a := anthropicClient(s, more...)
				q := say("hi")
				if test.change != nil {
					test.change(&q)
				}
				_, err := c.Messages.New(ctx, q)
				var e *anthropic.Error
				if !errors.As(err, &e) || e.StatusCode != test.status || !strings.Contains(e.RawJSON(), `"type":"`+test.kind+`"`) || e.RequestID == "" || a.n != test.attempts {
					t.Errorf("%v after %d attempts, want %d %s after %d", err, a.n, test.status, test.kind, test.attempts)
				}
			})
		}
	})
	t.Run("retry after", func(t *testing.T) {
		c, a := anthropicClient(s, option.WithHeader("x-demo-status", "429"), option.WithHeader("x-demo-retry-after", "1"), option.WithMaxRetries(1))
		began := time.Now()
		_, err := c.Messages.New(ctx, say("hi"))
		var e *anthropic.Error
		if took := time.Since(began); !errors.As(err, &e) || e.StatusCode != 429 || a.n != 2 || took < 900*time.Millisecond {
			t.Errorf("%v after %d attempts in %v", err, a.n, took)
		}
	})
	for _, how := range []string{"after=3", "after=3;how=clean", "after=3;how=error"} {
		t.Run("broken stream "+how, func(t *testing.T) {
			c, _ := anthropicClient(s, option.WithHeader("x-demo-break", how))
			stream := c.Messages.NewStreaming(ctx, say("a b c d e f"))
			n := 0
			for stream.Next() {
				n++
			}
			if stream.Err() == nil || n > 4 {
				t.Errorf("no error after %d events", n)
			}
		})
	}
	t.Run("a page instead of a stream", func(t *testing.T) {
		c, _ := anthropicClient(s, option.WithHeader("x-demo-html", "1"), option.WithMaxRetries(0))
		stream := c.Messages.NewStreaming(ctx, say("hi"))
		for stream.Next() {
		}
		if stream.Err() == nil {
			t.Error("no error")
		}
	})
	t.Run("abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		c, _ := anthropicClient(s, option.WithHeader("x-demo-break", "after=3;how=stall"))
		stream := c.Messages.NewStreaming(ctx, say("a b c"))
		if !stream.Next() {
			t.Fatal(stream.Err())
		}
		cancel()
		for stream.Next() {
		}
		eventually(t, "the upstream call is cancelled", func() bool { return s.live() == 0 })
	})
}
