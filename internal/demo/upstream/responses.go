package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// storeKept bounds the stored responses; the oldest goes first.
const storeKept = 10_000

type responseRequest struct {
	Model           string          `json:"model"`
	Input           json.RawMessage `json:"input"`
	Instructions    *string         `json:"instructions"`
	Stream          bool            `json:"stream"`
	Store           *bool           `json:"store"`
	Tools           json.RawMessage `json:"tools"`
	ToolChoice      json.RawMessage `json:"tool_choice"`
	MaxOutputTokens *int            `json:"max_output_tokens"`
	Previous        *string         `json:"previous_response_id"`
	Metadata        json.RawMessage `json:"metadata"`
}

type response struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	CreatedAt         int64              `json:"created_at"`
	Status            string             `json:"status"`
	Background        bool               `json:"background"`
	Error             *struct{}          `json:"error"`
	IncompleteDetails *incompleteDetails `json:"incomplete_details"`
	Instructions      *string            `json:"instructions"`
	MaxOutputTokens   *int               `json:"max_output_tokens"`
	MaxToolCalls      *int               `json:"max_tool_calls"`
	Model             string             `json:"model"`
	Output            []responseItem     `json:"output"`
	ParallelToolCalls bool               `json:"parallel_tool_calls"`
	Previous          *string            `json:"previous_response_id"`
	PromptCacheKey    *string            `json:"prompt_cache_key"`
	Reasoning         responseReasoning  `json:"reasoning"`
	SafetyIdentifier  *string            `json:"safety_identifier"`
	ServiceTier       string             `json:"service_tier"`
	Store             bool               `json:"store"`
	Temperature       float64            `json:"temperature"`
	Text              json.RawMessage    `json:"text"`
	ToolChoice        json.RawMessage    `json:"tool_choice"`
	Tools             json.RawMessage    `json:"tools"`
	TopLogprobs       int                `json:"top_logprobs"`
	TopP              float64            `json:"top_p"`
	Truncation        string             `json:"truncation"`
	Usage             *responseUsage     `json:"usage"`
	User              *string            `json:"user"`
	Metadata          json.RawMessage    `json:"metadata"`
}

type incompleteDetails struct {
	Reason string `json:"reason"`
}

type responseReasoning struct {
	Effort  *string `json:"effort"`
	Summary *string `json:"summary"`
}

type responseUsage struct {
	InputTokens         int                 `json:"input_tokens"`
	InputTokensDetails  responseCached      `json:"input_tokens_details"`
	OutputTokens        int                 `json:"output_tokens"`
	OutputTokensDetails responseReasonCount `json:"output_tokens_details"`
	TotalTokens         int                 `json:"total_tokens"`
}

type responseCached struct {
	CachedTokens int `json:"cached_tokens"`
}

type responseReasonCount struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

// responseItem is a message or a function_call.
type responseItem struct {
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	Status    string         `json:"status"`
	Content   []responsePart `json:"content,omitzero"`
	Role      string         `json:"role,omitempty"`
	Arguments *string        `json:"arguments,omitempty"`
	CallID    string         `json:"call_id,omitempty"`
	Name      string         `json:"name,omitempty"`
}

type responsePart struct {
	Type        string     `json:"type"`
	Annotations []struct{} `json:"annotations"`
	Logprobs    []struct{} `json:"logprobs"`
	Text        string     `json:"text"`
}

// responseEvent is every event of a stream; members that an event does not have stay out.
type responseEvent struct {
	Type           string        `json:"type"`
	SequenceNumber int           `json:"sequence_number"`
	Response       *response     `json:"response,omitempty"`
	ItemID         string        `json:"item_id,omitempty"`
	OutputIndex    *int          `json:"output_index,omitempty"`
	ContentIndex   *int          `json:"content_index,omitempty"`
	Item           *responseItem `json:"item,omitempty"`
	Part           *responsePart `json:"part,omitempty"`
	Delta          *string       `json:"delta,omitempty"`
	Text           *string       `json:"text,omitempty"`
	Name           string        `json:"name,omitempty"`
	Arguments      *string       `json:"arguments,omitempty"`
	Logprobs       []struct{}    `json:"logprobs,omitzero"`
}

type responseError struct {
	Type           string  `json:"type"`
	SequenceNumber int     `json:"sequence_number"`
	Code           string  `json:"code"`
	Message        string  `json:"message"`
	Param          *string `json:"param"`
}

// responseStore keeps what was created, per account: another key does not see it.
type responseStore struct {
	mu    sync.Mutex
	next  int
	byID  map[string]*response // "<account>/<id>"
	order []string
}

func (s *responseStore) init() { s.byID = map[string]*response{} }

func (s *responseStore) put(account string, r *response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := account + "/" + r.ID
	s.byID[key] = r
	if s.order = append(s.order, key); len(s.order) > storeKept {
		delete(s.byID, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *responseStore) get(account, id string, remove bool) (*response, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byID[account+"/"+id]
	if remove {
		delete(s.byID, account+"/"+id)
	}
	return r, ok
}

func (s *responseStore) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next
}

// createResponse answers POST /v1/responses.
func (s *Server) createResponse(c *call) {
	var q responseRequest
	if !c.decode(&q) {
		return
	}
	if q.Model == "" {
		c.failParam("model", "missing_required_parameter", "Missing required parameter: 'model'.")
		return
	}
	ask, err := q.question()
	if err != nil {
		c.failParam("input", "invalid_type", "Invalid type for 'input': "+err.Error())
		return
	}
	r := c.reply(ask)
	id := fmt.Sprintf("demo%08d%s", s.store.number(), c.digest(24))
	answer := q.response(id, r)
	if answer.Store {
		s.store.put(c.account, answer)
	}
	if q.Stream {
		c.streamResponse(answer, r)
		return
	}
	c.json(http.StatusOK, answer)
}

// question reads input: a string, or a list of messages, function calls and their outputs.
func (q *responseRequest) question() (question, error) {
	var out question
	var text string
	var items []struct {
		Type    string  `json:"type"`
		Role    string  `json:"role"`
		Content content `json:"content"`
		Output  content `json:"output"`
	}
	if json.Unmarshal(q.Input, &text) == nil {
		out.user, out.words = text, words(text)
	} else if err := json.Unmarshal(q.Input, &items); err != nil {
		return out, err
	}
	for _, it := range items {
		out.words += words(string(it.Content + it.Output))
		out.toolResult = string(it.Output)
		if it.Role == "user" {
			out.user = string(it.Content)
		}
	}
	var tools []chatTool
	if len(q.Tools) > 0 {
		if err := json.Unmarshal(q.Tools, &tools); err != nil {
			return out, err
		}
	}
	for _, t := range tools {
		if t.Type == "function" {
			out.tools = append(out.tools, t.name())
		}
	}
	out.choose(q.ToolChoice)
	if q.MaxOutputTokens != nil {
		out.maxTokens = *q.MaxOutputTokens
	}
	return out, nil
}

// response is the finished object.
func (q *responseRequest) response(id string, r *reply) *response {
	or := func(raw json.RawMessage, otherwise string) json.RawMessage {
		if len(raw) == 0 {
			return json.RawMessage(otherwise)
		}
		return raw
	}
	out := &response{
		ID: "resp_" + id, Object: "response", CreatedAt: created, Status: "completed", Instructions: q.Instructions,
		MaxOutputTokens: q.MaxOutputTokens, Model: q.Model, Output: []responseItem{r.item(id)}, ParallelToolCalls: true,
		Previous: q.Previous, ServiceTier: "default", Store: q.Store == nil || *q.Store, Temperature: 1,
		Text:       json.RawMessage(`{"format":{"type":"text"},"verbosity":"medium"}`),
		ToolChoice: or(q.ToolChoice, `"auto"`), Tools: or(q.Tools, `[]`), TopP: 1, Truncation: "disabled",
		Usage:    &responseUsage{InputTokens: r.in, OutputTokens: r.out, TotalTokens: r.in + r.out},
		Metadata: or(q.Metadata, `{}`),
	}
	if r.cut {
		out.Status, out.IncompleteDetails = "incomplete", &incompleteDetails{"max_output_tokens"}
	}
	return out
}

func (r *reply) item(id string) responseItem {
	if r.tool != "" {
		return responseItem{ID: "fc_" + id, Type: "function_call", Status: "completed", Arguments: &r.args,
			CallID: "call_" + id, Name: r.tool}
	}
	return responseItem{ID: "msg_" + id, Type: "message", Status: "completed", Role: "assistant",
		Content: []responsePart{textPart(r.text())}}
}

func textPart(text string) responsePart {
	return responsePart{Type: "output_text", Annotations: []struct{}{}, Logprobs: []struct{}{}, Text: text}
}

// streamResponse sends the finished response as the events of its making.
func (c *call) streamResponse(final *response, r *reply) {
	s := c.stream()
	n := 0
	send := func(typ string, e responseEvent) {
		e.Type, e.SequenceNumber = typ, n
		n++
		s.send(typ, &e)
	}
	begun := *final
	begun.Status, begun.Output, begun.Usage, begun.IncompleteDetails = "in_progress", []responseItem{}, nil, nil
	send("response.created", responseEvent{Response: &begun})
	send("response.in_progress", responseEvent{Response: &begun})
	if r.tool != "" {
		streamCall(send, &final.Output[0])
	} else {
		streamText(send, &final.Output[0], r.pieces)
	}
	send("response."+final.Status, responseEvent{Response: final})
}

type sender func(typ string, e responseEvent)

func streamText(send sender, item *responseItem, pieces []string) {
	zero := 0
	at := responseEvent{ItemID: item.ID, OutputIndex: &zero, ContentIndex: &zero}
	begun := *item
	begun.Status, begun.Content = "in_progress", []responsePart{}
	send("response.output_item.added", responseEvent{OutputIndex: &zero, Item: &begun})
	empty, whole := textPart(""), item.Content[0]
	e := at
	e.Part = &empty
	send("response.content_part.added", e)
	for _, p := range pieces {
		e = at
		e.Delta, e.Logprobs = &p, []struct{}{}
		send("response.output_text.delta", e)
	}
	e = at
	e.Text, e.Logprobs = &whole.Text, []struct{}{}
	send("response.output_text.done", e)
	e = at
	e.Part = &whole
	send("response.content_part.done", e)
	send("response.output_item.done", responseEvent{OutputIndex: &zero, Item: item})
}

func streamCall(send sender, item *responseItem) {
	zero, none := 0, ""
	begun := *item
	begun.Status, begun.Arguments = "in_progress", &none
	send("response.output_item.added", responseEvent{OutputIndex: &zero, Item: &begun})
	for _, p := range pieces(*item.Arguments, 4) {
		send("response.function_call_arguments.delta", responseEvent{ItemID: item.ID, OutputIndex: &zero, Delta: &p})
	}
	send("response.function_call_arguments.done",
		responseEvent{ItemID: item.ID, OutputIndex: &zero, Name: item.Name, Arguments: item.Arguments})
	send("response.output_item.done", responseEvent{OutputIndex: &zero, Item: item})
}

// getResponse answers GET /v1/responses/{id}.
func (s *Server) getResponse(c *call, id string) {
	r, ok := s.store.get(c.account, id, false)
	if !ok {
		c.fail(http.StatusNotFound, "Response with id '"+id+"' not found.")
		return
	}
	c.json(http.StatusOK, r)
}

type responseDeleted struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// deleteResponse answers DELETE /v1/responses/{id}.
func (s *Server) deleteResponse(c *call, id string) {
	if _, ok := s.store.get(c.account, id, true); !ok {
		c.fail(http.StatusNotFound, "Response with id '"+id+"' not found.")
		return
	}
	c.json(http.StatusOK, &responseDeleted{ID: id, Object: "response", Deleted: true})
}
