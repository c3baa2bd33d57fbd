package upstream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/http"
	"strings"
)

// created is the time in every answer, Unix seconds: the same question gets the same bytes.
const created = 1767225600 // 2026-01-01

type chatRequest struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
	Tools               []chatTool      `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	N                   int             `json:"n"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type chatMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

type chatTool struct {
	Type     string `json:"type"`
	Name     string `json:"name"` // Responses has it here
	Function struct {
		Name string `json:"name"`
	} `json:"function"`
}

func (t chatTool) name() string { return t.Name + t.Function.Name }

type chatCompletion struct {
	ID                string       `json:"id"`
	Object            string       `json:"object"`
	Created           int64        `json:"created"`
	Model             string       `json:"model"`
	Choices           []chatChoice `json:"choices"`
	Usage             *chatUsage   `json:"usage"`
	ServiceTier       string       `json:"service_tier"`
	SystemFingerprint string       `json:"system_fingerprint"`
}

type chatChoice struct {
	Index        int        `json:"index"`
	Message      chatAnswer `json:"message"`
	Logprobs     *struct{}  `json:"logprobs"`
	FinishReason string     `json:"finish_reason"`
}

type chatAnswer struct {
	Role        string     `json:"role"`
	Content     *string    `json:"content"`
	ToolCalls   []toolCall `json:"tool_calls,omitempty"`
	Refusal     *string    `json:"refusal"`
	Annotations []struct{} `json:"annotations"`
}

type toolCall struct {
	Index    *int         `json:"index,omitempty"` // in streams only
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type chatUsage struct {
	PromptTokens            int               `json:"prompt_tokens"`
	CompletionTokens        int               `json:"completion_tokens"`
	TotalTokens             int               `json:"total_tokens"`
	PromptTokensDetails     promptDetails     `json:"prompt_tokens_details"`
	CompletionTokensDetails completionDetails `json:"completion_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
	AudioTokens  int `json:"audio_tokens"`
}

type completionDetails struct {
	ReasoningTokens          int `json:"reasoning_tokens"`
	AudioTokens              int `json:"audio_tokens"`
	AcceptedPredictionTokens int `json:"accepted_prediction_tokens"`
	RejectedPredictionTokens int `json:"rejected_prediction_tokens"`
}

type chatChunk struct {
	ID                string            `json:"id"`
	Object            string            `json:"object"`
	Created           int64             `json:"created"`
	Model             string            `json:"model"`
	ServiceTier       string            `json:"service_tier"`
	SystemFingerprint string            `json:"system_fingerprint"`
	Choices           []chunkChoice     `json:"choices"`
	Usage             *optional[*usage] `json:"usage,omitempty"`
}

// usage is chatUsage in a stream.
type usage = chatUsage

// optional is a member that is either absent (a nil *optional) or present and possibly null.
type optional[T any] struct{ value T }

func (o *optional[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.value) }

type chunkChoice struct {
	Index        int       `json:"index"`
	Delta        delta     `json:"delta"`
	Logprobs     *struct{} `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

type delta struct {
	Role      string             `json:"role,omitempty"`
	Content   *optional[*string] `json:"content,omitempty"`
	ToolCalls []toolCall         `json:"tool_calls,omitempty"`
	Refusal   *optional[*string] `json:"refusal,omitempty"`
}

// decode reads the body into v; false means that the error is answered.
func (c *call) decode(v any) bool {
	if err := json.Unmarshal(c.body, v); err != nil {
		c.fail(http.StatusBadRequest, "We could not parse the JSON body of your request: "+err.Error())
		return false
	}
	return true
}

// digest is the deterministic part of an id: n hex digits of the account and the body.
func (c *call) digest(n int) string {
	sum := sha256.Sum256(append([]byte(c.account+"\x00"), c.body...))
	return hex.EncodeToString(sum[:])[:n]
}

// chat answers POST /v1/chat/completions.
func (c *call) chat() {
	var q chatRequest
	if !c.decode(&q) {
		return
	}
	switch {
	case q.Model == "":
		c.fail(http.StatusBadRequest, "you must provide a model parameter")
		return
	case len(q.Messages) == 0:
		c.failParam("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
		return
	case q.N < 0 || q.N > 8:
		c.failParam("n", "integer_above_max_value", "Invalid 'n': integer above maximum value. Expected a value <= 8.")
		return
	}
	replies := make([]*reply, max(q.N, 1))
	for i := range replies {
		replies[i] = c.reply(q.question())
	}
	if q.Stream {
		c.streamChat(&q, replies)
		return
	}
	answer := chatCompletion{ID: "chatcmpl-demo" + c.digest(24), Object: "chat.completion", Created: created, Model: q.Model,
		Usage: usageOf(replies), ServiceTier: "default", SystemFingerprint: "fp_demo"}
	for i, r := range replies {
		answer.Choices = append(answer.Choices, r.choice(i))
	}
	c.json(http.StatusOK, &answer)
}

func (q *chatRequest) question() question {
	out := question{maxTokens: max(q.MaxTokens, q.MaxCompletionTokens)}
	for _, m := range q.Messages {
		out.words += words(string(m.Content))
		if m.Role == "user" {
			out.user = string(m.Content)
		}
	}
	if last := q.Messages[len(q.Messages)-1]; last.Role == "tool" {
		out.toolResult = string(last.Content)
	}
	for _, t := range q.Tools {
		out.tools = append(out.tools, t.name())
	}
	out.choose(q.ToolChoice)
	return out
}

// choose reads tool_choice in the forms of all dialects: a word, or an object that names the tool.
func (q *question) choose(raw json.RawMessage) {
	var word string
	var named chatTool
	if json.Unmarshal(raw, &word) != nil && json.Unmarshal(raw, &named) == nil {
		word = named.Type
		if name := named.name(); name != "" {
			q.forced = name
			return
		}
	}
	switch word {
	case "none":
		q.noTools = true
	case "required", "any":
		q.forced = "*"
	}
}

func usageOf(replies []*reply) *chatUsage {
	u := &chatUsage{PromptTokens: replies[0].in}
	for _, r := range replies {
		u.CompletionTokens += r.out
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

func (r *reply) finish() string {
	switch {
	case r.tool != "":
		return "tool_calls"
	case r.cut:
		return "length"
	}
	return "stop"
}

func (r *reply) choice(i int) chatChoice {
	answer := chatAnswer{Role: "assistant", Annotations: []struct{}{}}
	if r.tool != "" {
		answer.ToolCalls = []toolCall{{ID: "call_demo_" + r.tool, Type: "function", Function: toolFunction{r.tool, r.args}}}
	} else {
		text := r.text()
		answer.Content = &text
	}
	return chatChoice{Index: i, Message: answer, FinishReason: r.finish()}
}

// streamChat sends the chunks of every choice in turn, then the usage where asked for, then [DONE].
func (c *call) streamChat(q *chatRequest, replies []*reply) {
	s := c.stream()
	chunk := chatChunk{ID: "chatcmpl-demo" + c.digest(24), Object: "chat.completion.chunk", Created: created, Model: q.Model,
		ServiceTier: "default", SystemFingerprint: "fp_demo"}
	if q.StreamOptions.IncludeUsage {
		chunk.Usage = &optional[*usage]{}
	}
	send := func(i int, d delta, finish *string) {
		chunk.Choices = []chunkChoice{{Index: i, Delta: d, FinishReason: finish}}
		s.send("", &chunk)
	}
	for i, r := range replies {
		for _, d := range r.deltas() {
			send(i, d, nil)
		}
		finish := r.finish()
		send(i, delta{}, &finish)
	}
	if q.StreamOptions.IncludeUsage {
		chunk.Choices, chunk.Usage.value = []chunkChoice{}, usageOf(replies)
		s.send("", &chunk)
	}
	s.done()
}

// deltas are the pieces of a streamed answer; the first has the role.
func (r *reply) deltas() []delta {
	null := &optional[*string]{}
	text := func(s string) *optional[*string] { return &optional[*string]{&s} }
	if r.tool == "" {
		out := []delta{{Role: "assistant", Content: text(""), Refusal: null}}
		for _, p := range r.pieces {
			out = append(out, delta{Content: text(p)})
		}
		return out
	}
	zero := 0
	head := toolCall{Index: &zero, ID: "call_demo_" + r.tool, Type: "function", Function: toolFunction{Name: r.tool}}
	out := []delta{{Role: "assistant", Content: null, ToolCalls: []toolCall{head}, Refusal: null}}
	for _, p := range pieces(r.args, 4) {
		out = append(out, delta{ToolCalls: []toolCall{{Index: &zero, Function: toolFunction{Arguments: p}}}})
	}
	return out
}

type embeddingRequest struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     int             `json:"dimensions"`
}

type embeddingList struct {
	Object string         `json:"object"`
	Data   []embedding    `json:"data"`
	Model  string         `json:"model"`
	Usage  embeddingUsage `json:"usage"`
}

type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or base64 of little-endian float32s
}

type embeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// embeddings answers POST /v1/embeddings: a unit vector that depends on the text alone.
func (c *call) embeddings() {
	var q embeddingRequest
	if !c.decode(&q) {
		return
	}
	var one string
	var inputs []string
	if json.Unmarshal(q.Input, &one) == nil && one != "" {
		inputs = []string{one}
	} else if json.Unmarshal(q.Input, &inputs) != nil || len(inputs) == 0 {
		c.failParam("input", "", "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.")
		return
	}
	if q.Dimensions <= 0 || q.Dimensions > 3072 {
		q.Dimensions = 1536
	}
	list := embeddingList{Object: "list", Model: q.Model}
	for i, text := range inputs {
		v := vector(text, q.Dimensions)
		e := embedding{Object: "embedding", Index: i, Embedding: v}
		if q.EncodingFormat == "base64" {
			e.Embedding = packed(v)
		}
		list.Data = append(list.Data, e)
		list.Usage.PromptTokens += words(text)
	}
	list.Usage.TotalTokens = list.Usage.PromptTokens
	c.json(http.StatusOK, &list)
}

// vector draws n floats from the text's SHA-256 in counter mode and scales them to length 1.
func vector(text string, n int) []float32 {
	v := make([]float32, n)
	var sum [sha256.Size]byte
	var square float64
	for i := range v {
		if i%8 == 0 {
			sum = sha256.Sum256(binary.BigEndian.AppendUint32([]byte(text), uint32(i)))
		}
		x := float64(int32(binary.BigEndian.Uint32(sum[i%8*4:]))) / math.MaxInt32
		v[i], square = float32(x), square+float64(x*x) // the conversion forbids a fused multiply-add: the same bits everywhere
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(square))
	}
	return v
}

func packed(v []float32) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type openAIModels struct {
	Object string        `json:"object"`
	Data   []openAIModel `json:"data"`
}

// Models that each API lists. The upstream answers to every other name too.
var (
	OpenAIModels    = []string{"demo-small", "demo-large", "demo-embed"}
	AnthropicModels = []string{"demo-claude"}
)

// models answers GET /v1/models and /v1/models/{id} of both APIs.
func (c *call) models(id string) {
	if c.dialect == anthropic {
		c.anthropicModels(id)
		return
	}
	list := openAIModels{Object: "list"}
	for _, name := range OpenAIModels {
		m := openAIModel{ID: name, Object: "model", Created: created, OwnedBy: "demo"}
		if name == id {
			c.json(http.StatusOK, &m)
			return
		}
		list.Data = append(list.Data, m)
	}
	if id != "" {
		code := "model_not_found"
		c.json(http.StatusNotFound, &openAIFailure{openAIError{Type: "invalid_request_error", Code: &code,
			Message: "The model '" + strings.TrimSpace(id) + "' does not exist"}})
		return
	}
	c.json(http.StatusOK, &list)
}
