// Package anthropic is the Anthropic client API as its SDKs and Claude Code expect it: https://docs.anthropic.com/en/api.
package anthropic

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// Dialect implements dialect.Dialect.
type Dialect struct{}

// Name is "anthropic".
func (Dialect) Name() string { return "anthropic" }

// Route knows messages, token counting and models.
func (Dialect) Route(method, path string) (*dialect.Route, string) {
	switch path {
	case "/v1/messages":
		return dialect.Only(method, "POST", &dialect.Route{Name: path, Named: true, Ends: ends})
	case "/v1/messages/count_tokens":
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
	return nil, ""
}

// ends: a stream of messages ends with message_stop; an error event ends it too.
func ends(event, _ []byte) bool {
	return string(event) == "message_stop" || string(event) == "error"
}

// Paths are where a request names a model.
func (Dialect) Paths() []string { return []string{"/v1/messages", "/v1/messages/count_tokens"} }

type errorBody struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	RequestID string `json:"request_id,omitempty"`
}

// Error is the body of https://docs.anthropic.com/en/api/errors.
func (Dialect) Error(f *dialect.Fault) []byte {
	b := errorBody{Type: "error", RequestID: f.RequestID}
	b.Error.Type, b.Error.Message = kind(f), f.Message
	return dialect.Encode(b)
}

// Frame is an error event; without its event line, SDKs see nothing.
func (d Dialect) Frame(f *dialect.Fault) []byte {
	return append(append([]byte("event: error\ndata: "), d.Error(f)...), "\n\n"...)
}

// kind is Anthropic's error type for a status.
func kind(f *dialect.Fault) string {
	switch f.Status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable, 529:
		return "overloaded_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if f.Status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

type model struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"` // RFC 3339; the epoch when it is not known
}

func describe(m dialect.Model) model {
	created := time.Unix(0, 0)
	if !m.Created.IsZero() {
		created = m.Created
	}
	return model{Type: "model", ID: m.ID, DisplayName: m.ID, CreatedAt: created.UTC().Format(time.RFC3339)}
}

// The page sizes of GET /v1/models: https://docs.anthropic.com/en/api/models-list.
const (
	pageDefault = 20
	pageMost    = 1000
)

// Models is one page of the list, as limit, after_id and before_id ask.
func (Dialect) Models(list []dialect.Model, query url.Values) []byte {
	limit := pageDefault
	if n, err := strconv.Atoi(query.Get("limit")); err == nil && n > 0 {
		limit = min(n, pageMost)
	}
	page, more := cut(list, query.Get("after_id"), query.Get("before_id"), limit)
	out := struct {
		Data    []model `json:"data"`
		HasMore bool    `json:"has_more"`
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
	}{Data: make([]model, len(page)), HasMore: more}
	for i, m := range page {
		out.Data[i] = describe(m)
	}
	if n := len(page); n > 0 {
		out.FirstID, out.LastID = &page[0].ID, &page[n-1].ID
	}
	return dialect.Encode(out)
}

// cut takes at most limit models after one id, or before another: then those nearest to it.
func cut(list []dialect.Model, after, before string, limit int) (page []dialect.Model, more bool) {
	if i := index(list, after); i >= 0 {
		list = list[i+1:]
	}
	if i := index(list, before); i >= 0 {
		list = list[:i]
		if len(list) > limit {
			return list[len(list)-limit:], true
		}
		return list, false
	}
	if len(list) > limit {
		return list[:limit], true
	}
	return list, false
}

func index(list []dialect.Model, id string) int {
	for i := range list {
		if id != "" && list[i].ID == id {
			return i
		}
	}
	return -1
}

// Model is the model object.
func (Dialect) Model(m dialect.Model) []byte { return dialect.Encode(describe(m)) }
