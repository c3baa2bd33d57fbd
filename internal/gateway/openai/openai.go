// Package openai is the OpenAI client API as its SDKs expect it: https://platform.openai.com/docs/api-reference.
package openai

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// Dialect implements dialect.Dialect.
type Dialect struct{}

// Name is "openai".
func (Dialect) Name() string { return "openai" }

// Route knows chat completions, responses, embeddings and models.
func (Dialect) Route(method, path string) (*dialect.Route, string) {
	switch path {
	case "/v1/chat/completions":
		return dialect.Only(method, "POST", &dialect.Route{Name: path, Named: true, Ends: endsChat})
	case "/v1/responses":
		return dialect.Only(method, "POST", &dialect.Route{Name: path, Named: true, Ends: endsResponse})
	case "/v1/embeddings":
		return dialect.Only(method, "POST", &dialect.Route{Name: path, Named: true})
	case "/v1/models":
		return dialect.Only(method, "GET", &dialect.Route{Name: path, Serve: dialect.List})
	}
	if id, ok := strings.CutPrefix(path, "/v1/models/"); ok {
		model, err := url.PathUnescape(id)
		if err != nil || model == "" {
			return nil, ""
		}
		return dialect.Only(method, "GET", &dialect.Route{Name: "/v1/models/{id}", Serve: dialect.Get, Model: model})
	}
	if rest, ok := strings.CutPrefix(path, "/v1/responses/"); ok {
		return response(method, rest)
	}
	return nil, ""
}

// response routes what follows /v1/responses/: a stored response and its sub-resources.
func response(method, rest string) (*dialect.Route, string) {
	id, sub, nested := strings.Cut(rest, "/")
	if id == "" {
		return nil, ""
	}
	switch {
	case !nested && method == "DELETE":
		return &dialect.Route{Name: "/v1/responses/{id}"}, ""
	case !nested:
		return dialect.Only(method, "GET", &dialect.Route{Name: "/v1/responses/{id}", Ends: endsResponse}, "DELETE")
	case sub == "cancel":
		return dialect.Only(method, "POST", &dialect.Route{Name: "/v1/responses/{id}/cancel"})
	case sub == "input_items":
		return dialect.Only(method, "GET", &dialect.Route{Name: "/v1/responses/{id}/input_items"})
	}
	return nil, ""
}

// endsChat: a stream of chat completion chunks ends with "data: [DONE]"; an error object ends it too.
func endsChat(_, data []byte) bool {
	return bytes.HasPrefix(data, []byte("[DONE]")) || isError(data)
}

// endsResponse: a stream of response events ends with the response's final state. States that are not known to be passing
// count as final, so that a new one does not break streams; so does an event that does not begin with its type.
func endsResponse(event, data []byte) bool {
	if len(event) == 0 {
		rest, ok := bytes.CutPrefix(data, []byte(`{"type":"`))
		if !ok {
			return len(data) > 0
		}
		event, _, _ = bytes.Cut(rest, []byte(`"`))
	}
	state, ok := bytes.CutPrefix(event, []byte("response."))
	if !ok {
		return string(event) == "error"
	}
	switch string(state) {
	case "created", "queued", "in_progress":
		return false
	}
	return !bytes.ContainsRune(state, '.')
}

func isError(data []byte) bool {
	compact := bytes.ReplaceAll(data, []byte(" "), nil)
	return bytes.HasPrefix(compact, []byte(`{"error":`)) && !bytes.HasPrefix(compact, []byte(`{"error":null`))
}

// Paths are where a request names a model.
func (Dialect) Paths() []string {
	return []string{"/v1/chat/completions", "/v1/responses", "/v1/embeddings"}
}

// errorBody is {"error": {…}}: an object, never a string. Param and Code are null when empty.
type errorBody struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

// Error is the body of https://platform.openai.com/docs/guides/error-codes.
func (Dialect) Error(f *dialect.Fault) []byte {
	var b errorBody
	b.Error.Message, b.Error.Type = f.Message, kind(f)
	if f.Param != "" {
		b.Error.Param = &f.Param
	}
	if code := word(f.Code); code != "" {
		b.Error.Code = &code
	}
	return dialect.Encode(b)
}

// Frame is a data frame that holds the error object; SDKs raise it.
func (d Dialect) Frame(f *dialect.Fault) []byte {
	return append(append([]byte("data: "), d.Error(f)...), "\n\n"...)
}

// kind is OpenAI's error type for a status.
func kind(f *dialect.Fault) string {
	switch f.Status {
	case http.StatusPaymentRequired:
		return "insufficient_quota"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	if f.Status >= 500 {
		return "server_error"
	}
	return "invalid_request_error"
}

// word is OpenAI's own code where it has one for what happened.
func word(code string) string {
	switch code {
	case "unauthenticated":
		return "invalid_api_key"
	case "rate_limited", "ceiling":
		return "rate_limit_exceeded"
	case "not_found", "method_not_allowed":
		return ""
	}
	return code
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func describe(m dialect.Model) model {
	out := model{ID: m.ID, Object: "model", OwnedBy: m.Provider}
	if !m.Created.IsZero() {
		out.Created = m.Created.Unix()
	}
	return out
}

// Models is the list object. OpenAI does not page it.
func (Dialect) Models(list []dialect.Model, _ url.Values) []byte {
	data := make([]model, len(list))
	for i, m := range list {
		data[i] = describe(m)
	}
	return dialect.Encode(struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", data})
}

// Model is the model object.
func (Dialect) Model(m dialect.Model) []byte { return dialect.Encode(describe(m)) }
