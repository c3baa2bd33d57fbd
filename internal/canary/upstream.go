// Package canary finds out what a gateway of somebody else does with credentials: it plays the provider behind it, and looks which credentials arrive
// there that were sent, that were not sent again, and that never were.
package canary

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Upstream is a model provider that answers every request alike and remembers which credentials came with it. They are in memory only.
type Upstream struct {
	known []string // credentials that are looked for everywhere in a request

	mu       sync.Mutex
	arrivals []arrival
}

// arrival is a request that came.
type arrival struct {
	at          time.Time
	marker      string   // of the probe's own request that it belongs to; empty for none
	credentials []string // each once
}

// NewUpstream looks for the known credentials in everything that arrives, and for whatever else stands where providers take credentials.
func NewUpstream(known ...string) *Upstream { return &Upstream{known: known} }

const (
	maxBody     = 4 << 20
	maxArrivals = 10_000
)

// ServeHTTP implements http.Handler.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	text := r.URL.String() + "\n" + string(body)
	a := arrival{at: time.Now(), credentials: placed(r)}
	for _, values := range r.Header {
		text += "\n" + strings.Join(values, "\n")
	}
	for _, k := range u.known {
		if k != "" && strings.Contains(text, k) {
			a.credentials = append(a.credentials, k)
		}
	}
	slices.Sort(a.credentials)
	a.credentials = slices.Compact(a.credentials)
	if i := strings.Index(text, markerPrefix); i >= 0 {
		a.marker = text[i:min(i+markerLength, len(text))]
	}
	u.mu.Lock()
	if len(u.arrivals) < maxArrivals {
		u.arrivals = append(u.arrivals, a)
	}
	u.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply(r.URL.Path))
}

// placed are the credentials that stand where providers take them, whatever they are. Those of Basic are its password, and the whole.
func placed(r *http.Request) (list []string) {
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case !ok:
		add(scheme)
	case strings.EqualFold(scheme, "basic"):
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		_, password, has := strings.Cut(string(b), ":")
		if err != nil || !has {
			password = value
		}
		add(password)
	default:
		add(value)
	}
	for _, name := range []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Auth-Token"} {
		add(r.Header.Get(name))
	}
	for _, name := range []string{"key", "api_key", "api-key", "access_token", "token"} {
		add(r.URL.Query().Get(name))
	}
	return list
}

// reply is a shortest answer in the form that the path is known for.
func reply(path string) any {
	if strings.HasSuffix(path, "/messages") {
		return map[string]any{"id": "msg_canary", "type": "message", "role": "assistant", "model": "canary", "stop_reason": "end_turn",
			"content": []any{map[string]string{"type": "text", "text": "ok"}}, "usage": map[string]int{"input_tokens": 1, "output_tokens": 1}}
	}
	return map[string]any{"id": "chatcmpl-canary", "object": "chat.completion", "created": time.Now().Unix(), "model": "canary",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]string{"role": "assistant", "content": "ok"}}},
		"usage":   map[string]int{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
}

// seen is what has arrived so far, in order.
func (u *Upstream) seen() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.arrivals)
}

// Markers stand in the text of each request of a probe, so that what arrives can be told to belong to it.
const (
	markerPrefix = "reeve-canary-"
	markerLength = len(markerPrefix) + 26
)

// body is a request in the form that the path is known for.
func body(path, model, marker string) []byte {
	m := map[string]any{"model": model, "messages": []any{map[string]string{"role": "user", "content": fmt.Sprintf("Say ok. %s", marker)}}, "max_tokens": 8}
	b, err := json.Marshal(m)
	if err != nil { // of strings and numbers
		panic("canary: " + err.Error())
	}
	return b
}
