package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Readiness is what a process waits for, by name. A process without a name in it is not ready: it has not said anything yet.
// The zero Readiness is one that waits for nothing named yet.
type Readiness struct {
	mu      sync.Mutex
	reasons map[string]string // name to what is missing and the command that helps; empty when ready
	notes   map[string]string // name to what people should know, ready or not
}

func newReadiness() *Readiness { return &Readiness{reasons: map[string]string{}} }

// Set says why name is not ready, or with an empty reason that it is. It reports whether that is news for a log: a reason in which
// only a number is another, such as an age, is not.
func (r *Readiness) Set(name, reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reasons == nil {
		r.reasons = map[string]string{}
	}
	old, known := r.reasons[name]
	r.reasons[name] = reason
	return !known || wordsOf(old) != wordsOf(reason)
}

// wordsOf is a reason without its numbers.
func wordsOf(reason string) string {
	return strings.Join(strings.FieldsFunc(reason, func(r rune) bool { return '0' <= r && r <= '9' || r == '.' }), "")
}

// Note says something about name that does not keep the process from being ready; an empty text takes it back.
func (r *Readiness) Note(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes == nil {
		r.notes = map[string]string{}
	}
	if r.notes[name] = text; text == "" {
		delete(r.notes, name)
	}
}

// State returns whether all is ready, and each name with its reason.
func (r *Readiness) State() (bool, map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := len(r.reasons) > 0
	all := make(map[string]string, len(r.reasons))
	for name, reason := range r.reasons {
		all[name] = reason
		ready = ready && reason == ""
	}
	return ready, all
}

// Listen opens "unix:/path" (mode 0600, an old socket is replaced) or "host:port".
func Listen(addr string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", addr, err)
		}
		return l, nil
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("replacing the socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the socket %s to others: %w", path, err)
	}
	return l, nil
}

// serveOps serves /healthz, /readyz and /metrics. Nothing there changes anything.
func serveOps(addr string, rt *Runtime) (*http.Server, error) {
	l, err := Listen(addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", rt.Ready.serve)
	mux.Handle("GET /metrics", rt.Metrics)
	s := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10}
	go s.Serve(l) // ends with Close
	return s, nil
}

func (r *Readiness) serve(w http.ResponseWriter, _ *http.Request) {
	ready, reasons := r.State()
	r.mu.Lock()
	notes := maps.Clone(r.notes)
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(struct {
		Ready   bool              `json:"ready"`
		Reasons map[string]string `json:"reasons"`
		Notes   map[string]string `json:"notes,omitempty"`
	}{ready, reasons, notes})
}
