// Package upstream is the demo's model provider: it speaks the OpenAI and the Anthropic API over TLS with a CA of its own, refuses
// a wrong key as the real ones do, answers the same question with the same bytes, and keeps a record of every request that
// reached it, to compare with the ledger. Requests can ask it to misbehave; Controls says how.
//
// Sources of the wire formats: platform.openai.com/docs/api-reference and docs.anthropic.com/en/api.
package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 20

// Config is what a Server needs.
type Config struct {
	// State is the folder that holds demo-ca/, keys.json, federation.json and seen.jsonl. It is created with mode 0700.
	State string
	// Log receives one line per refused request. nil means none.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server is the demo upstream. It is an http.Handler; Serve adds the TLS.
type Server struct {
	log   *slog.Logger
	now   func() time.Time
	ca    *CA
	keys  *keyring
	mint  *mint
	seen  *Seen
	store responseStore
	next  atomic.Int64 // number of the next request id
}

// New opens or creates the state folder.
func New(cfg Config) (*Server, error) {
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("creating the demo upstream's state: %w", err)
	}
	ca, err := OpenCA(filepath.Join(cfg.State, "demo-ca"))
	if err != nil {
		return nil, err
	}
	seen, err := openSeen(filepath.Join(cfg.State, "seen.jsonl"))
	if err != nil {
		return nil, err
	}
	mint, err := openMint(cfg.State)
	if err != nil {
		return nil, err
	}
	s := &Server{mint: mint, log: cfg.Log, now: cfg.Now, ca: ca, seen: seen}
	s.keys = &keyring{path: filepath.Join(cfg.State, keysFile)}
	s.store.init()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// CA returns the certificate authority that signs the server's certificate.
func (s *Server) CA() *CA { return s.ca }

// Seen returns the record of requests.
func (s *Server) Seen() *Seen { return s.seen }

// Close closes the record's file.
func (s *Server) Close() error { return s.seen.close() }

// Serve answers HTTP/1.1 over TLS on l until ctx ends, then gives running answers a second to finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	cert, err := s.ca.Leaf(s.now())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(tls.NewListener(l, conf)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// dialect is a provider's API.
type dialect string

const (
	openAI    dialect = "openai"
	anthropic dialect = "anthropic"
)

// call is one request on its way through the server.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	dialect dialect
	account string // name of the key that was accepted
	key     string // as presented
	id      string // request id in the provider's form
	body    []byte
	control control
	now     time.Time
}

// ServeHTTP records the request, checks its key and answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		io.WriteString(w, "ok\n")
		return
	case "/_demo/seen":
		s.seen.ServeHTTP(w, r)
		return
	case "/oauth/token":
		s.exchange(openAI, w, r)
		return
	case "/v1/oauth/token":
		s.exchange(anthropic, w, r)
		return
	}
	c := &call{w: w, r: r, now: s.now(), dialect: dialectOf(r)}
	c.id = fmt.Sprintf("req_demo%08d", s.next.Add(1))
	c.key = presentedKey(r)
	var ok bool
	if c.account, ok = s.mint.find(c.dialect, c.key, c.now); !ok {
		if c.account, ok = s.keys.find(c.dialect, c.key); !ok {
			c.account = ""
		}
	}
	early := r.Header.Get("X-Demo-Early") != ""
	if early {
		http.NewResponseController(w).EnableFullDuplex()
	} else if err := c.read(); err != nil {
		s.record(c, false)
		c.fail(http.StatusRequestEntityTooLarge, "The request's body could not be read.")
		return
	}
	s.record(c, !early)
	c.heads()
	if !ok {
		s.log.Info("wrong key", "dialect", string(c.dialect), "path", r.URL.Path, "request", c.id)
		c.unauthenticated()
		return
	}
	s.answer(c)
}

// read takes the whole body into memory.
func (c *call) read() error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	c.body = body
	return err
}

// record writes what the upstream saw of the request.
func (s *Server) record(c *call, whole bool) {
	e := Request{
		TimeNS: c.now.UnixNano(), Method: c.r.Method, Path: c.r.RequestURI, Account: c.account,
		Key: Fingerprint(c.key), RequestID: c.r.Header.Get("X-Request-Id"), Nonce: c.r.Header.Get("X-Demo-Nonce"),
		BodyBytes: int64(len(c.body)),
	}
	if whole {
		sum := sha256.Sum256(c.body)
		e.BodySHA256 = hex.EncodeToString(sum[:])
	}
	if err := s.seen.add(&e); err != nil {
		s.log.Error("the record could not be written", "error", err)
	}
}

// answer applies the controls and routes the call.
func (s *Server) answer(c *call) {
	ctl, err := parseControl(c.r.Header, c.model())
	if err != nil {
		c.fail(http.StatusBadRequest, err.Error())
		return
	}
	c.control = ctl
	if !pause(c.r.Context(), ctl.delay) {
		return
	}
	switch {
	case ctl.reflect != nil:
		c.reflect()
	case ctl.code >= 300:
		c.status()
	case ctl.html:
		c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(c.w, "<!doctype html><title>demo</title><p>This is not the API.</p>\n")
	default:
		s.route(c)
	}
}

// route is the table of the two APIs' paths.
func (s *Server) route(c *call) {
	path, found := strings.CutPrefix(c.r.URL.Path, "/v1/")
	head, rest, _ := strings.Cut(path, "/")
	post := c.r.Method == http.MethodPost
	get := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	switch {
	case !found:
		c.notFound()
	case path == "chat/completions" && post:
		c.chat()
	case path == "embeddings" && post:
		c.embeddings()
	case path == "responses" && post:
		s.createResponse(c)
	case head == "responses" && rest != "" && get:
		s.getResponse(c, rest)
	case head == "responses" && rest != "" && c.r.Method == http.MethodDelete:
		s.deleteResponse(c, rest)
	case path == "messages" && post:
		c.messages()
	case path == "messages/count_tokens" && post:
		c.countTokens()
	case head == "models" && get:
		c.models(rest)
	default:
		c.notFound()
	}
}

// dialectOf tells the API by its path; /v1/models, which both have, by the headers that only Anthropic uses.
func dialectOf(r *http.Request) dialect {
	if strings.HasPrefix(r.URL.Path, "/v1/messages") {
		return anthropic
	}
	both := !strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/v1/models")
	if both && (r.Header.Get("Anthropic-Version") != "" || r.Header.Get("X-Api-Key") != "") {
		return anthropic
	}
	return openAI
}

// presentedKey is the key where its provider looks for it.
func presentedKey(r *http.Request) string {
	if key := r.Header.Get("X-Api-Key"); dialectOf(r) == anthropic && key != "" {
		return key
	}
	scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || dialectOf(r) == anthropic && !strings.HasPrefix(key, tokenPrefix) { // its keys have a header of their own
		return ""
	}
	return key
}

// Fingerprint names a key without giving it away: the first 16 hex digits of its SHA-256; empty for no key.
func Fingerprint(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// model is the body's model, or empty.
func (c *call) model() string {
	var m struct {
		Model string `json:"model"`
	}
	json.Unmarshal(c.body, &m)
	return m.Model
}

// heads sets the header fields that every answer of the provider carries.
func (c *call) heads() {
	h := c.w.Header()
	if c.dialect == anthropic {
		h.Set("request-id", c.id)
		h.Set("anthropic-organization-id", "demo-"+c.account)
		h.Set("anthropic-ratelimit-requests-limit", "4000")
		h.Set("anthropic-ratelimit-requests-remaining", "3999")
		return
	}
	h.Set("x-request-id", c.id)
	h.Set("openai-version", "2020-10-01")
	h.Set("openai-organization", "demo-"+c.account)
	h.Set("openai-processing-ms", "1")
	h.Set("x-ratelimit-limit-requests", "10000")
	h.Set("x-ratelimit-remaining-requests", "9999")
}

// json answers with v: OpenAI's two-space layout, Anthropic's compact one.
func (c *call) json(status int, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if c.dialect == openAI {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		panic(err) // every v is a struct of this package
	}
	body := bytes.TrimRight(buf.Bytes(), "\n")
	if c.control.breaks() && status == http.StatusOK {
		c.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		body = body[:len(body)/2]
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	c.w.Write(body)
	if c.control.breaks() && status == http.StatusOK {
		c.cut()
	}
}

// cut sends what was written and drops the connection.
func (c *call) cut() {
	http.NewResponseController(c.w).Flush()
	panic(http.ErrAbortHandler)
}

// pause waits; false means that the client went away.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
