package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

const (
	seenKept  = 100_000  // requests that are kept in memory, newest first to stay
	seenBytes = 64 << 20 // size at which the file is set aside as seen.jsonl.1, in bytes
)

// Request is what the upstream saw of one request: enough to match it with the ledger, nothing secret.
type Request struct {
	N          int64  `json:"n"`       // 0, 1, 2 … since the start
	TimeNS     int64  `json:"time_ns"` // Unix time at which the head had arrived, in nanoseconds
	Method     string `json:"method"`
	Path       string `json:"path"` // as it was sent, with the query
	Account    string `json:"account,omitempty"`
	Key        string `json:"key,omitempty"` // Fingerprint of the key presented
	RequestID  string `json:"request_id,omitempty"`
	Nonce      string `json:"nonce,omitempty"` // X-Demo-Nonce
	BodyBytes  int64  `json:"body_bytes"`
	BodySHA256 string `json:"body_sha256,omitempty"` // empty when the body was not read to its end
}

// Seen is the record of requests since the start: all of them in a file, the newest in memory. Safe for concurrent use.
type Seen struct {
	path string

	mu    sync.Mutex
	file  *os.File
	size  int64
	total int64
	ring  []Request // ring[n % seenKept] is request n
}

func openSeen(path string) (*Seen, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the demo upstream's record: %w", err)
	}
	return &Seen{path: path, file: f}, nil
}

func (s *Seen) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Close()
}

func (s *Seen) add(e *Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.N = s.total
	s.total++
	if len(s.ring) < seenKept {
		s.ring = append(s.ring, *e)
	} else {
		s.ring[e.N%seenKept] = *e
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if s.size > seenBytes {
		if err := s.turn(); err != nil {
			return err
		}
	}
	n, err := s.file.Write(append(line, '\n'))
	s.size += int64(n)
	return err
}

// turn sets the full file aside, over the one set aside before.
func (s *Seen) turn() error {
	if err := os.Rename(s.path, s.path+".1"); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.file.Close()
	s.file, s.size = f, 0
	return nil
}

// Count is the number of requests since the start.
func (s *Seen) Count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Since returns the requests from number n on that are still in memory, oldest first.
func (s *Seen) Since(n int64) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(n, s.total-int64(len(s.ring)), 0)
	var out []Request
	for ; n < s.total; n++ {
		out = append(out, s.ring[n%seenKept])
	}
	return out
}

// ServeHTTP answers GET /_demo/seen?since=N with {"count":…,"requests":[…]}.
func (s *Seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	answer := struct {
		Count    int64     `json:"count"`
		Requests []Request `json:"requests"`
	}{s.Count(), s.Since(since)}
	w.Header().Set("Content-Type", "application/json")
	b, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(b)
	io.WriteString(w, "\n")
}
