package upstream

import (
	"encoding/json"
	"fmt"
	"strings"
)

// reply is the model's deterministic answer: text in pieces, or a call of one of the client's tools.
type reply struct {
	thinking string
	pieces   []string
	tool     string // name of the tool that is called; empty for a text
	args     string // its arguments, JSON
	cut      bool   // the token limit was reached
	in, out  int    // tokens: words, here
}

func (r *reply) text() string { return strings.Join(r.pieces, "") }

// question is what a request boils down to in every dialect.
type question struct {
	words      int    // of the whole request
	user       string // the last thing the user said
	toolResult string // the last message is the result of a tool
	tools      []string
	forced     string // a tool that must be called; "*" for any
	noTools    bool
	maxTokens  int // 0 for no limit
}

// answer follows one rule: a tool is called when the request forces one or the user names one; a tool's result is repeated;
// everything else is echoed.
func (c *call) reply(q question) *reply {
	r := &reply{in: max(q.words, 1)}
	if name := q.wanted(); name != "" {
		args, err := json.Marshal(map[string]string{"echo": q.user})
		if err != nil {
			panic(err) // strings always encode
		}
		r.tool, r.args, r.out = name, string(args), 1+words(q.user)
		return r
	}
	text := "Hello from the demo upstream. You said: " + q.user
	if q.toolResult != "" {
		text = "The tool said: " + q.toolResult
	}
	if n := c.control.size; n > 0 {
		text = filler(n)
	}
	r.pieces = pieces(text, c.control.events)
	if q.maxTokens > 0 && len(r.pieces) > q.maxTokens {
		r.pieces, r.cut = r.pieces[:q.maxTokens], true
	}
	r.out = len(r.pieces)
	return r
}

// wanted is the tool to call, or empty.
func (q *question) wanted() string {
	if len(q.tools) == 0 || q.noTools || q.toolResult != "" {
		return ""
	}
	if q.forced == "*" {
		return q.tools[0]
	}
	if q.forced != "" {
		return q.forced
	}
	for _, name := range q.tools {
		if name != "" && strings.Contains(q.user, name) {
			return name
		}
	}
	return ""
}

// filler is text of exactly n bytes.
func filler(n int) string {
	const line = "All the king's horses and all the king's men kept their accounts in the reeve's own hand. "
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// pieces cuts text into n pieces of about equal length, or into its words for n = 0. Pieces joined are the text.
func pieces(text string, n int) []string {
	if n == 0 {
		return strings.SplitAfter(text, " ")
	}
	out := make([]string, 0, n)
	for i := range n {
		if piece := text[len(text)*i/n : len(text)*(i+1)/n]; piece != "" {
			out = append(out, piece)
		}
	}
	return out
}

func words(s string) int { return len(strings.Fields(s)) }

// content is a message's content: a string, or parts of which the text counts.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*c = content(s)
		return nil
	}
	var parts []struct {
		Type    string  `json:"type"`
		Text    string  `json:"text"`
		Content content `json:"content"` // of a tool_result
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	var texts []string
	for _, p := range parts {
		if t := p.Text + string(p.Content); t != "" {
			texts = append(texts, t)
		}
	}
	*c = content(strings.Join(texts, " "))
	return nil
}
