// Package vendor plays other people's gateways, each with one habit with credentials, so that what a probe says of them can be seen.
package vendor

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Habits are what a gateway does with credentials.
var Habits = []string{"transport", "forward", "cache", "retrieve", "mint"}

// Gateway passes requests on to a provider.
type Gateway struct {
	Habit    string
	Upstream func() (url string, err error) // asked at each request
	Key      string                         // that retrieve reads from its store

	mu   sync.Mutex
	kept string // by cache
	made int    // by mint
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, err := g.Upstream()
	if err == nil {
		err = g.pass(w, r, strings.TrimSuffix(to, "/")+r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func (g *Gateway) pass(w http.ResponseWriter, r *http.Request, to string) error {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, to, r.Body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	if c := g.credential(r.Header.Get("Authorization")); c != "" {
		req.Header.Set("Authorization", c)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, resp.Body)
	return err
}

// credential is what goes to the provider when came came.
func (g *Gateway) credential(came string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.Habit {
	case "forward":
		return came
	case "cache":
		if came != "" {
			g.kept = came
		}
		return g.kept
	case "retrieve":
		return "Bearer " + g.Key
	case "mint":
		g.made++
		claims := fmt.Sprintf(`{"sub":"vendor","jti":"%d","exp":%d}`, g.made, time.Now().Add(time.Minute).Unix())
		part := base64.RawURLEncoding.EncodeToString
		return "Bearer " + part([]byte(`{"alg":"none"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
	}
	return "" // transport: what came stays here
}
