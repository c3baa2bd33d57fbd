package passkey

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed page.html page.js page.css
var files embed.FS

const (
	maxAnswer = 64 << 10 // bytes
	// policy lets the page load its own script and style, talk to its own origin, and nothing else.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// serve serves the page until take accepts an answer. Its refusals are shown on the page, where the person can try again.
func (p *Page) serve(v *view, take func(*answer) error) error {
	listeners, port, err := listen()
	if err != nil {
		return fmt.Errorf("serving the page on this machine: %w", err)
	}
	html, err := render(v)
	if err != nil {
		return err
	}
	s := &server{host: "localhost:" + strconv.Itoa(port), token: rand.Text(), html: html, take: take, done: make(chan struct{})}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 10}
	for _, l := range listeners {
		go func() { _ = web.Serve(l) }() // ends with Shutdown
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the page reads the last answer
		defer cancel()
		_ = web.Shutdown(ctx)
		_ = web.Close()
	}()
	fmt.Fprintf(p.Out, "Open this page in a browser on this machine, within %s, to read what you sign and to sign it:\n  http://%s/%s/\n", p.Life, s.host, s.token)
	timer := time.NewTimer(p.Life)
	defer timer.Stop()
	select {
	case <-s.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("nobody signed within %s; nothing was signed", p.Life)
	}
}

// listen takes one port on both of this machine's own addresses. A browser may go to either of them for "localhost": if somebody else
// listens on the other one, another port is tried.
func listen() ([]net.Listener, int, error) {
	for range 20 {
		four, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, 0, err
		}
		port := four.Addr().(*net.TCPAddr).Port
		six, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(port)))
		if err == nil {
			return []net.Listener{four, six}, port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return []net.Listener{four}, port, nil // a machine without IPv6
		}
		four.Close()
	}
	return nil, 0, errors.New("no port is free on both 127.0.0.1 and ::1")
}

func render(v *view) ([]byte, error) {
	t, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, v)
	return b.Bytes(), err
}

// server is one page. It answers to its own name and to its own origin only, and takes one answer.
type server struct {
	host  string // localhost:port
	token string // first segment of every path
	html  []byte
	take  func(*answer) error

	mu   sync.Mutex // held while an answer is judged
	over bool
	done chan struct{} // closed when over
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	token, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	site := r.Header.Get("Sec-Fetch-Site")
	switch {
	case r.Host != s.host:
		http.Error(w, "this page is "+s.host, http.StatusMisdirectedRequest) // a name that was made to point here
	case subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1:
		http.Error(w, "open the page that reeve printed", http.StatusNotFound)
	case site != "" && site != "none" && site != "same-origin":
		http.Error(w, "open the page yourself, from no other page", http.StatusForbidden)
	case name == "answer" && r.Method == http.MethodPost:
		s.answer(w, r)
	case r.Method != http.MethodGet:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case name == "":
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(s.html)
	case name == "page.js" || name == "page.css":
		http.ServeFileFS(w, r, files, name)
	default:
		http.NotFound(w, r)
	}
}

// answer judges what the page's script sends.
func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Header.Get("Origin") != "http://"+s.host || kind != "application/json" {
		http.Error(w, "only the page itself answers", http.StatusForbidden)
		return
	}
	a := new(answer)
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAnswer))
	dec.DisallowUnknownFields()
	err := dec.Decode(a)
	if _, end := dec.Token(); err == nil && end != io.EOF {
		err = errors.New("something follows the answer")
	}
	if err != nil {
		http.Error(w, "the answer cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		http.Error(w, "this was signed already", http.StatusGone)
		return
	}
	if err := s.take(a); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.over = true
	w.WriteHeader(http.StatusNoContent)
	close(s.done)
}
