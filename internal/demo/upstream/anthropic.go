package upstream

import (
	"encoding/json"
	"net/http"
	"strings"
)

type messageRequest struct {
	Model      string           `json:"model"`
	MaxTokens  *int             `json:"max_tokens"`
	System     content          `json:"system"`
	Messages   []messageTurn    `json:"messages"`
	Stream     bool             `json:"stream"`
	Tools      []chatTool       `json:"tools"`
	ToolChoice json.RawMessage  `json:"tool_choice"`
	Thinking   *messageThinking `json:"thinking"`
}

type messageThinking struct {
	Type string `json:"type"` // enabled, adaptive or disabled
}

type messageTurn struct {
	Role       string
	Content    content
	ToolResult bool // the content is a tool's result
}

func (t *messageTurn) UnmarshalJSON(b []byte) error {
	var plain struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &plain); err != nil {
		return err
	}
	var blocks []struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(plain.Content, &blocks) == nil {
		for _, block := range blocks {
			t.ToolResult = t.ToolResult || block.Type == "tool_result"
		}
	}
	t.Role = plain.Role
	return json.Unmarshal(plain.Content, &t.Content)
}

type message struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []messageBlock `json:"content"`
	StopReason   *string        `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        messageUsage   `json:"usage"`
}

// messageBlock is a text, thinking or tool_use block; members of the other kinds stay out.
type messageBlock struct {
	Type      string          `json:"type"`
	Text      *string         `json:"text,omitempty"`
	Thinking  *string         `json:"thinking,omitempty"`
	Signature *string         `json:"signature,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
}

type messageUsage struct {
	InputTokens              int    `json:"input_tokens"`
	CacheCreationInputTokens int    `json:"cache_creation_input_tokens"`
	CacheReadInputTokens     int    `json:"cache_read_input_tokens"`
	OutputTokens             int    `json:"output_tokens"`
	ServiceTier              string `json:"service_tier,omitempty"`
}

type messageEvent struct {
	Type         string         `json:"type"`
	Message      *message       `json:"message,omitempty"`
	Index        *int           `json:"index,omitempty"`
	ContentBlock *messageBlock  `json:"content_block,omitempty"`
	Delta        *messageDelta  `json:"delta,omitempty"`
	Usage        *messageTotals `json:"usage,omitempty"`
}

// messageDelta is a content block's delta, or the message's own (StopReason).
type messageDelta struct {
	Type         string             `json:"type,omitempty"`
	Text         *string            `json:"text,omitempty"`
	Thinking     *string            `json:"thinking,omitempty"`
	Signature    *string            `json:"signature,omitempty"`
	PartialJSON  *string            `json:"partial_json,omitempty"`
	StopReason   *string            `json:"stop_reason,omitempty"`
	StopSequence *optional[*string] `json:"stop_sequence,omitempty"`
}

type messageTotals struct {
	OutputTokens int `json:"output_tokens"`
}

// check answers the errors that come before the model is asked; false means answered.
func (c *call) check(q *messageRequest) bool {
	if c.r.Header.Get("Anthropic-Version") == "" {
		c.fail(http.StatusBadRequest, "anthropic-version: header is required")
		return false
	}
	if err := json.Unmarshal(c.body, q); err != nil {
		c.fail(http.StatusBadRequest, "The request body is not valid JSON: "+err.Error())
		return false
	}
	switch {
	case q.Model == "":
		c.fail(http.StatusBadRequest, "model: Field required")
	case len(q.Messages) == 0:
		c.fail(http.StatusBadRequest, "messages: at least one message is required")
	default:
		return true
	}
	return false
}

// messages answers POST /v1/messages.
func (c *call) messages() {
	var q messageRequest
	if !c.check(&q) {
		return
	}
	if q.MaxTokens == nil {
		c.fail(http.StatusBadRequest, "max_tokens: Field required")
		return
	}
	r := c.reply(q.question())
	if q.Thinking != nil && q.Thinking.Type != "disabled" {
		r.thinking = "The answer is an echo."
	}
	if q.Stream {
		c.streamMessage(&q, r)
		return
	}
	m := c.message(&q, r)
	m.Content, m.StopReason, m.Usage.OutputTokens = r.blocks(), r.stop(), r.out
	c.json(http.StatusOK, m)
}

func (q *messageRequest) question() question {
	out := question{words: words(string(q.System))}
	if q.MaxTokens != nil {
		out.maxTokens = *q.MaxTokens
	}
	for _, m := range q.Messages {
		out.words += words(string(m.Content))
		if m.Role == "user" && !m.ToolResult {
			out.user = string(m.Content)
		}
	}
	if last := q.Messages[len(q.Messages)-1]; last.ToolResult {
		out.toolResult = string(last.Content)
	}
	for _, t := range q.Tools {
		out.tools = append(out.tools, t.name())
	}
	out.choose(q.ToolChoice)
	return out
}

// message is the object as it begins.
func (c *call) message(q *messageRequest, r *reply) *message {
	return &message{ID: "msg_demo" + c.digest(20), Type: "message", Role: "assistant", Model: q.Model, Content: []messageBlock{},
		Usage: messageUsage{InputTokens: r.in, OutputTokens: 1, ServiceTier: "standard"}}
}

func (r *reply) stop() *string {
	reason := "end_turn"
	switch {
	case r.tool != "":
		reason = "tool_use"
	case r.cut:
		reason = "max_tokens"
	}
	return &reason
}

func (r *reply) blocks() []messageBlock {
	var out []messageBlock
	if r.thinking != "" {
		signature := "ZGVtbw=="
		out = append(out, messageBlock{Type: "thinking", Thinking: &r.thinking, Signature: &signature})
	}
	if r.tool != "" {
		return append(out, messageBlock{Type: "tool_use", ID: "toolu_demo_" + r.tool, Name: r.tool, Input: json.RawMessage(r.args)})
	}
	text := r.text()
	return append(out, messageBlock{Type: "text", Text: &text})
}

// streamMessage sends message_start, each block's start, deltas and stop with a ping after the first start, message_delta
// and message_stop.
func (c *call) streamMessage(q *messageRequest, r *reply) {
	s := c.stream()
	send := func(e messageEvent) { s.send(e.Type, &e) }
	send(messageEvent{Type: "message_start", Message: c.message(q, r)})
	for i, block := range r.blocks() {
		begun := block.begun()
		send(messageEvent{Type: "content_block_start", Index: &i, ContentBlock: &begun})
		if i == 0 {
			send(messageEvent{Type: "ping"})
		}
		for _, d := range r.blockDeltas(&block) {
			send(messageEvent{Type: "content_block_delta", Index: &i, Delta: &d})
		}
		send(messageEvent{Type: "content_block_stop", Index: &i})
	}
	send(messageEvent{Type: "message_delta", Delta: &messageDelta{StopReason: r.stop(), StopSequence: &optional[*string]{}},
		Usage: &messageTotals{r.out}})
	send(messageEvent{Type: "message_stop"})
	if c.control.how != "" && !s.over {
		s.snap()
	}
}

// begun is the block as content_block_start has it: empty.
func (b messageBlock) begun() messageBlock {
	none := ""
	switch b.Type {
	case "thinking":
		b.Thinking, b.Signature = &none, &none
	case "tool_use":
		b.Input = json.RawMessage(`{}`)
	default:
		b.Text = &none
	}
	return b
}

func (r *reply) blockDeltas(b *messageBlock) []messageDelta {
	var out []messageDelta
	switch b.Type {
	case "thinking":
		for p := range strings.SplitAfterSeq(r.thinking, " ") {
			out = append(out, messageDelta{Type: "thinking_delta", Thinking: &p})
		}
		return append(out, messageDelta{Type: "signature_delta", Signature: b.Signature})
	case "tool_use":
		none := ""
		out = append(out, messageDelta{Type: "input_json_delta", PartialJSON: &none})
		for _, p := range pieces(r.args, 4) {
			out = append(out, messageDelta{Type: "input_json_delta", PartialJSON: &p})
		}
		return out
	}
	for _, p := range r.pieces {
		out = append(out, messageDelta{Type: "text_delta", Text: &p})
	}
	return out
}

// countTokens answers POST /v1/messages/count_tokens.
func (c *call) countTokens() {
	var q messageRequest
	if !c.check(&q) {
		return
	}
	ask := q.question()
	c.json(http.StatusOK, &struct {
		InputTokens int `json:"input_tokens"`
	}{max(ask.words, 1)})
}

type anthropicModel struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"`
}

type anthropicModelList struct {
	Data    []anthropicModel `json:"data"`
	HasMore bool             `json:"has_more"`
	FirstID *string          `json:"first_id"`
	LastID  *string          `json:"last_id"`
}

func (c *call) anthropicModels(id string) {
	list := anthropicModelList{FirstID: &AnthropicModels[0], LastID: &AnthropicModels[len(AnthropicModels)-1]}
	for _, name := range AnthropicModels {
		m := anthropicModel{Type: "model", ID: name, DisplayName: "Demo " + name, CreatedAt: "2026-01-01T00:00:00Z"}
		if name == id {
			c.json(http.StatusOK, &m)
			return
		}
		list.Data = append(list.Data, m)
	}
	if id != "" {
		c.fail(http.StatusNotFound, "model: "+id)
		return
	}
	c.json(http.StatusOK, &list)
}
