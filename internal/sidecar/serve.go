package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve serves the door until ctx ends; then requests in flight have the time of drain.
func (s *Sidecar) Serve(ctx context.Context, drain time.Duration) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // its lines may have header values
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.Door) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		server.Close()
		return errors.New("requests were still in flight at the end of the drain; they were cut")
	}
	return nil
}

// Health is what a sidecar says of itself to who runs it: whether the gateway took its proof when it was last asked.
type Health struct {
	mu    sync.Mutex // guards what follows
	asked bool
	err   error
}

// Tell notes how asking the gateway went, and reports whether that is new.
func (h *Health) Tell(err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = !h.asked || (h.err == nil) != (err == nil)
	h.asked, h.err = true, err
	return changed
}

// Serve serves /healthz and /readyz on l until it is closed.
func (h *Health) Serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", h.ready)
	s := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	s.Serve(l) // ends with l
}

func (h *Health) ready(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	asked, err := h.asked, h.err
	h.mu.Unlock()
	reason := ""
	switch {
	case !asked:
		reason = "the gateway was not asked yet"
	case err != nil:
		reason = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	if reason != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}{reason == "", reason})
}

// Environment is what SDKs read, for the door's clients: name and value.
func (d *Door) Environment() [][2]string {
	return [][2]string{
		{"REEVE_URL", d.URL()}, {"REEVE_KEY", d.key},
		{"OPENAI_BASE_URL", d.URL() + "/v1"}, {"OPENAI_API_KEY", d.key},
		{"ANTHROPIC_BASE_URL", d.URL()}, {"ANTHROPIC_AUTH_TOKEN", d.key},
	}
}
