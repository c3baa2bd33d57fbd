// Package relay is a second way for signed records to a custodian: whoever has one posts it, the relay keeps the newest in memory
// and sends each to everyone who listens. It verifies nothing: who listens does. The auditor is one.
//
// Both ends speak HTTP/1.1 at Path. A POST carries a record's file. A GET is answered with one response that lasts until either
// side ends it: each line is a record's file, an empty line says only that the relay is there.
package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/feed"
)

const (
	// Path of a relay below its URL.
	Path = "/v1/records"

	kept     = 1024                   // records; the oldest makes room
	pace     = 20 * time.Millisecond  // between two records from posts, once burst is used up
	burst    = 200                    // records
	pulse    = 2 * time.Second        // between two empty lines
	patience = 3 * pulse              // without a line, after which a listener dials again
	backoff  = 500 * time.Millisecond // before it does
	slow     = 5 * time.Second        // for one write to a listener
	most     = 1024                   // listeners
)

// Relay keeps records and passes them on. The zero Relay is empty. Safe for concurrent use.
type Relay struct {
	mu        sync.Mutex // guards what follows
	records   [][]byte   // oldest first
	listeners map[chan []byte]bool
	credit    float64 // records that may come at once
	last      time.Time
}

// Take keeps a record's file and passes it on. One that is known changes nothing. What is not shaped like a record, or comes faster
// than a flood should, is refused.
func (r *Relay) Take(file []byte, now time.Time) error {
	if _, _, err := feed.ParseRecord(file); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.records, func(b []byte) bool { return bytes.Equal(b, file) }) {
		return nil
	}
	if r.last.IsZero() {
		r.credit, r.last = burst, now
	}
	r.credit = min(burst, r.credit+float64(now.Sub(r.last))/float64(pace))
	if r.last = now; r.credit < 1 {
		return errBusy
	}
	r.credit--
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

// ServeHTTP implements http.Handler for Path.
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
		err = r.Take(file, time.Now())
	}
	switch {
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		sum := sha256.Sum256(file)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "{\"id\":%q}\n", hex.EncodeToString(sum[:]))
	}
}

// join adds a listener and returns what is kept, or false when there are too many.
func (r *Relay) join() (chan []byte, [][]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.listeners) >= most {
		return nil, nil, false
	}
	if r.listeners == nil {
		r.listeners = map[chan []byte]bool{}
	}
	l := make(chan []byte, 256)
	r.listeners[l] = true
	return l, slices.Clone(r.records), true
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
	l, lines, ok := r.join()
	if !ok {
		http.Error(w, "too many listen", http.StatusServiceUnavailable)
		return
	}
	defer r.leave(l)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // a server's own would end the stream; a listener sends nothing
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for lines = append(lines, nil); ; {
		if control.SetWriteDeadline(time.Now().Add(slow)) != nil {
			return
		}
		if _, err := w.Write(append(bytes.Join(lines, []byte("\n")), '\n')); err != nil || control.Flush() != nil {
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

// Listen dials a relay, and again whenever the connection ends, until ctx ends. It calls take with each record's file, one at a
// time, and tell when the relay is lost (with the reason) or there again (nil).
func Listen(ctx context.Context, url string, config *tls.Config, take func(file []byte), tell func(error)) {
	for ctx.Err() == nil {
		err := listen(ctx, url, config, take, func() { tell(nil) })
		if ctx.Err() == nil {
			tell(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

func listen(ctx context.Context, url string, config *tls.Config, take func([]byte), there func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(errors.New("nothing came from it in time")) })
	defer silence.Stop()
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: patience}).DialContext, TLSClientConfig: config, Protocols: http1,
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+Path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req) // no redirects
	if err != nil {
		return fmt.Errorf("the relay %s cannot be reached: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the relay %s answered %s", url, resp.Status)
	}
	there()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), feed.MaxRecord+1)
	for lines.Scan() {
		silence.Reset(patience)
		if len(lines.Bytes()) > 0 {
			take(bytes.Clone(lines.Bytes()))
		}
	}
	return fmt.Errorf("the relay %s ended its stream: %w", url, errors.Join(lines.Err(), context.Cause(ctx)))
}
