// Package server is a relay: whoever has a signed record posts it, the relay keeps the newest in memory and sends each to everyone
// who listens. It verifies nothing: who listens does. The auditor is one.
package server

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/relay"
	"github.com/reevehq/reeve/internal/serve"
)

const (
	kept  = 1024                  // records; the oldest makes room
	pace  = 20 * time.Millisecond // between two records from posts, once burst is used up
	burst = 200                   // records
	slow  = 5 * time.Second       // for one write to a listener
	most  = 1024                  // listeners
)

// Relay keeps records and passes them on. Of posts and of listeners each address of the network has its share, as of serve.Pace and
// serve.Seats. Safe for concurrent use.
type Relay struct {
	posts *serve.Pace
	seats *serve.Seats

	mu        sync.Mutex // guards what follows
	records   [][]byte   // oldest first
	listeners map[chan []byte]bool
}

// New returns an empty relay.
func New() *Relay {
	return &Relay{posts: serve.NewPace(pace, burst), seats: serve.NewSeats(most), listeners: map[chan []byte]bool{}}
}

// Take keeps a record's file and passes it on. One that is known changes nothing. What is not shaped like a record, or comes faster
// than a flood from remote should, is refused.
func (r *Relay) Take(file []byte, remote string, now time.Time) error {
	if _, _, err := feed.ParseRecord(file); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.records, func(b []byte) bool { return bytes.Equal(b, file) }) {
		return nil
	}
	if !r.posts.Allows(remote, now) {
		return errBusy
	}
	if r.records = append(r.records, file); len(r.records) > kept {
		r.records = slices.Clone(r.records[1:])
	}
	for l := range r.listeners {
		select {
		case l <- file:
		default: // too slow: it dials again and gets what is kept
			delete(r.listeners, l)
			close(l)
		}
	}
	return nil
}

var errBusy = errors.New("more records come than are taken: try again in a second")

// ServeHTTP implements http.Handler for relay.Path.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodPost:
		r.post(w, req)
	case http.MethodGet:
		r.stream(w, req)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "GET listens, POST sends a record", http.StatusMethodNotAllowed)
	}
}

func (r *Relay) post(w http.ResponseWriter, req *http.Request) {
	file, err := io.ReadAll(http.MaxBytesReader(w, req.Body, feed.MaxRecord))
	if err == nil {
		err = r.Take(file, req.RemoteAddr, time.Now())
	}
	switch {
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		env, _, err := feed.ParseRecord(file)
		if err != nil { // Take has parsed it
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sum := env.ID()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "{\"id\":%q}\n", hex.EncodeToString(sum[:]))
	}
}

// join adds a listener and returns what is kept.
func (r *Relay) join() (chan []byte, [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := make(chan []byte, 256)
	r.listeners[l] = true
	return l, slices.Clone(r.records)
}

func (r *Relay) leave(l chan []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, l)
}

// Close ends every stream, for a process that stops.
func (r *Relay) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.listeners {
		delete(r.listeners, l)
		close(l)
	}
}

func (r *Relay) stream(w http.ResponseWriter, req *http.Request) {
	if !r.seats.Take(req.RemoteAddr) {
		http.Error(w, "too many listen", http.StatusServiceUnavailable)
		return
	}
	defer r.seats.Leave(req.RemoteAddr)
	l, lines := r.join()
	defer r.leave(l)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // a server's own would end the stream; a listener sends nothing
	beat := time.NewTicker(relay.Pulse)
	defer beat.Stop()
	for lines = append(lines, nil); ; {
		for _, line := range lines { // one by one: what is kept is not copied for each who listens
			if control.SetWriteDeadline(time.Now().Add(slow)) != nil {
				return
			}
			if _, err := w.Write(append(slices.Clip(line), '\n')); err != nil {
				return
			}
		}
		if control.Flush() != nil {
			return
		}
		select {
		case line, ok := <-l:
			if !ok {
				return
			}
			lines = [][]byte{line}
		case <-beat.C:
			lines = [][]byte{nil}
		case <-req.Context().Done():
			return
		}
	}
}
