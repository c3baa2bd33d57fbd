package sdk

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

// attempts counts what an SDK sends.
type attempts struct {
	n    int
	last *http.Response
}

func (a *attempts) middleware(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	a.n++
	resp, err := next(r)
	a.last = resp
	return resp, err
}

func openaiClient(s *stack, more ...option.RequestOption) (*openai.Client, *attempts) {
	a := new(attempts)
	c := openai.NewClient(append([]option.RequestOption{option.WithBaseURL(s.url + "/v1"), option.WithAPIKey(s.key), option.WithMiddleware(a.middleware)}, more...)...)
	return &c, a
}

func ask(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: openaiModel, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

func TestOpenAIGo(t *testing.T) { each(t, openaiGo) }

func openaiGo(t *testing.T, s *stack) {
	ctx := context.Background()

	t.Run("chat", func(t *testing.T) {
		for _, base := range []string{"/v1", "/openai/v1"} {
			c, a := openaiClient(s, option.WithBaseURL(s.url+base))
			got, err := c.Chat.Completions.New(ctx, ask("hi there"))
			if err != nil || !strings.HasSuffix(got.Choices[0].Message.Content, "hi there") || got.Usage.TotalTokens == 0 {
				t.Fatalf("%v %+v", err, got)
			}
			if a.last.Header.Get("Reeve-Receipt") == "" || a.last.Header.Get("X-Request-Id") == "" {
				t.Errorf("%v", a.last.Header)
			}
		}
	})
	t.Run("chat by provider, alias and bare name", func(t *testing.T) {
		// The custodian maps names; the scripted one does not, and the demo upstream takes every name.
		for _, model := range []string{"openai/demo-small", "fast", "demo-large"} {
			c, _ := openaiClient(s)
			q := ask("hi")
			q.Model = model
			got, err := c.Chat.Completions.New(ctx, q)
			if err != nil || s.maps && !slices.Contains([]string{"demo-small", "demo-large"}, got.Model) {
				t.Errorf("%s: %v %+v", model, err, got)
			}
		}
	})
	t.Run("chat stream", func(t *testing.T) {
		c, _ := openaiClient(s)
		q := ask("one two three")
		q.StreamOptions.IncludeUsage = openai.Bool(true)
		stream := c.Chat.Completions.NewStreaming(ctx, q)
		text, chunks, usage := "", 0, int64(0)
		for stream.Next() {
			chunk := stream.Current()
			chunks++
			for _, choice := range chunk.Choices {
				text += choice.Delta.Content
			}
			if len(chunk.Choices) == 0 {
				usage = chunk.Usage.TotalTokens // the last chunk has usage and no choices
			}
		}
		if err := stream.Err(); err != nil || !strings.HasSuffix(text, "one two three") || chunks < 3 || usage == 0 {
			t.Errorf("%v %q, %d chunks, usage %d", err, text, chunks, usage)
		}
	})
	t.Run("responses", func(t *testing.T) {
		c, _ := openaiClient(s)
		q := responses.ResponseNewParams{Model: openaiModel, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("four five")}}
		made, err := c.Responses.New(ctx, q)
		if err != nil || !strings.HasSuffix(made.OutputText(), "four five") {
			t.Fatalf("create: %v %+v", err, made)
		}
		got, err := c.Responses.Get(ctx, made.ID, responses.ResponseGetParams{})
		if err != nil || got.OutputText() != made.OutputText() {
			t.Errorf("get: %v %+v", err, got)
		}
		if err := c.Responses.Delete(ctx, made.ID); err != nil {
			t.Errorf("delete: %v", err)
		}
		var e *openai.Error
		if _, err := c.Responses.Get(ctx, made.ID, responses.ResponseGetParams{}); !errors.As(err, &e) || e.StatusCode != 404 {
			t.Errorf("get after delete: %v", err)
		}
	})
	t.Run("responses stream", func(t *testing.T) {
		c, _ := openaiClient(s)
		stream := c.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: openaiModel, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("six seven")}})
		text, last := "", ""
		for stream.Next() {
			last = stream.Current().Type
			if last == "response.output_text.delta" {
				text += stream.Current().Delta
			}
		}
		if err := stream.Err(); err != nil || last != "response.completed" || !strings.HasSuffix(text, "six seven") {
			t.Errorf("%v %q, last %q", err, text, last)
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		c, _ := openaiClient(s)
		got, err := c.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: embedModel, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
		if err != nil || len(got.Data) != 1 || len(got.Data[0].Embedding) == 0 {
			t.Errorf("%v %+v", err, got)
		}
	})
	t.Run("models", func(t *testing.T) {
		c, _ := openaiClient(s)
		page, err := c.Models.List(ctx)
		var ids []string
		if err == nil {
			for _, m := range page.Data {
				ids = append(ids, m.ID)
			}
		}
		if got := strings.Join(ids, " "); err != nil || got != "fast openai/demo-embed openai/demo-large openai/demo-small" {
			t.Errorf("%v %s", err, got)
		}
		if m, err := c.Models.Get(ctx, "openai/demo-small"); err != nil || m.ID != "openai/demo-small" {
			t.Errorf("%v %+v", err, m)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, test := range []struct {
			name     string
			key      string
			change   func(*openai.ChatCompletionNewParams)
			header   [2]string
			status   int
			code     string
			attempts int
		}{
			{name: "wrong key", key: "rv_wrong", status: 401, code: "invalid_api_key", attempts: 1},
			{name: "policy", change: func(q *openai.ChatCompletionNewParams) { q.MaxTokens = openai.Int(200_000) }, status: 403, code: "policy_denied", attempts: 1},
			{name: "unknown model", change: func(q *openai.ChatCompletionNewParams) { q.Model = "no-such-model" }, status: 404, code: "model_not_found", attempts: 1},
			{name: "the upstream's own error", header: [2]string{"x-demo-status", "400"}, status: 400, attempts: 1},
			{name: "overloaded upstream", header: [2]string{"x-demo-status", "503"}, status: 503, attempts: 3},
			{name: "a page instead of JSON", header: [2]string{"x-demo-html", "1"}, status: 502, code: "upstream_content_type", attempts: 3},
		} {
			t.Run(test.name, func(t *testing.T) {
				more := []option.RequestOption{}
				if test.key != "" {
					more = append(more, option.WithAPIKey(test.key))
				}
				if test.header[0] != "" {
					more = append(more, option.WithHeader(test.header[0], test.header[1]))
				}
				c, a := openaiClient(s, more...)
				q := ask("hi")
				if test.change != nil {
					test.change(&q)
				}
				_, err := c.Chat.Completions.New(ctx, q)
				var e *openai.Error
				if !errors.As(err, &e) || e.StatusCode != test.status || test.code != "" && e.Code != test.code || e.Message == "" || a.n != test.attempts {
					t.Errorf("%v after %d attempts, want %d %s after %d", err, a.n, test.status, test.code, test.attempts)
				}
			})
		}
	})
	t.Run("retry after", func(t *testing.T) {
		c, a := openaiClient(s, option.WithHeader("x-demo-status", "429"), option.WithHeader("x-demo-retry-after", "1"), option.WithMaxRetries(1))
		began := time.Now()
		_, err := c.Chat.Completions.New(ctx, ask("hi"))
		var e *openai.Error
		if took := time.Since(began); !errors.As(err, &e) || e.StatusCode != 429 || a.n != 2 || took < 900*time.Millisecond {
			t.Errorf("%v after %d attempts in %v", err, a.n, took)
		}
	})
	for _, how := range []string{"after=2", "after=2;how=clean", "after=2;how=error"} {
		t.Run("broken stream "+how, func(t *testing.T) {
			c, _ := openaiClient(s, option.WithHeader("x-demo-break", how))
			stream := c.Chat.Completions.NewStreaming(ctx, ask("a b c d e f"))
			n := 0
			for stream.Next() {
				n++
			}
			if stream.Err() == nil || n > 2 {
				t.Errorf("chat: no error after %d chunks", n)
			}
			events := c.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: openaiModel, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("a b c d")}})
			last := ""
			for events.Next() {
				last = events.Current().Type
			}
			if events.Err() == nil && last != "error" {
				t.Errorf("responses: no error after %q", last)
			}
		})
	}
	t.Run("a page instead of a stream", func(t *testing.T) {
		c, _ := openaiClient(s, option.WithHeader("x-demo-html", "1"), option.WithMaxRetries(0))
		stream := c.Chat.Completions.NewStreaming(ctx, ask("hi"))
		for stream.Next() {
		}
		if stream.Err() == nil {
			t.Error("no error")
		}
	})
	t.Run("abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		c, _ := openaiClient(s, option.WithHeader("x-demo-break", "after=2;how=stall"))
		stream := c.Chat.Completions.NewStreaming(ctx, ask("a b c"))
		if !stream.Next() {
			t.Fatal(stream.Err())
		}
		if s.live() == 0 {
			t.Error("nothing is at the custodian")
		}
		cancel()
		for stream.Next() {
		}
		eventually(t, "the upstream call is cancelled", func() bool { return s.live() == 0 })
	})
}
