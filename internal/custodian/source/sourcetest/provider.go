package sourcetest

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/custodian/source"
)

// hostname is the provider's. The certificate of httptest is for it.
const hostname = "example.com"

// canary is in every answer that is not honest. Who quotes an answer prints it.
const canary = "canary-that-no-error-may-quote"

// provider is a Double behind TLS that can be made to fail.
type provider struct {
	origin, ca string
	double     Double
	server     *httptest.Server
	elsewhere  *httptest.Server // where nothing may be sent

	mu      sync.Mutex
	calls   int
	from    int // the first call, from 0, that fails
	until   int // the first that does not any more
	failure *failure
	uris    []string
	broken  []error
	answers []answer
	ended   chan struct{}
}

// answer is what the double said.
type answer struct {
	header http.Header
	status int
	body   []byte
}

// failure is one way not to answer. want is the error that it means; nil for none.
type failure struct {
	name string
	want error
	// instead answers without asking the double.
	instead func(p *provider, w http.ResponseWriter, r *http.Request)
	// spoil answers with what is left of the double's answer.
	spoil func(w http.ResponseWriter, a answer)
}

func newProvider(h *Harness) *provider {
	p := &provider{ended: make(chan struct{})}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	p.elsewhere = httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		p.fault("a request went to where a redirect pointed")
	}))
	p.origin = strings.Replace(p.server.URL, "127.0.0.1", hostname, 1)
	p.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}))
	p.double = h.Double(p.origin)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	n := p.calls
	p.calls++
	p.uris = append(p.uris, r.RequestURI)
	f := p.failure
	if n < p.from || n >= p.until {
		f = nil
	}
	p.mu.Unlock()
	if want := strings.TrimPrefix(p.origin, "https://"); r.Host != want {
		p.fault("a request names the host " + r.Host + ", not " + want)
	}
	if f != nil && f.instead != nil {
		f.instead(p, w, r)
		return
	}
	rec := httptest.NewRecorder()
	p.double.Handler.ServeHTTP(rec, r)
	a := answer{rec.Header().Clone(), rec.Code, rec.Body.Bytes()}
	p.mu.Lock()
	p.answers = append(p.answers, a)
	p.mu.Unlock()
	if f == nil {
		f = &failure{spoil: func(w http.ResponseWriter, a answer) { a.write(w, a.body) }}
	}
	f.spoil(w, a)
}

// write answers with another body.
func (a answer) write(w http.ResponseWriter, body []byte) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	w.Write(body)
}

// fail makes every call fail from the nth on, counted from now.
func (p *provider) fail(from int, f *failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.until, p.failure = p.calls+from, math.MaxInt, f
}

// failOnce makes the nth call fail, counted from 0.
func (p *provider) failOnce(n int, f *failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.until, p.failure = n, n+1, f
}

// hang makes the provider take calls and say nothing. The channel is closed at the first.
func (p *provider) hang() <-chan struct{} {
	reached := make(chan struct{})
	var once sync.Once
	p.fail(0, &failure{instead: func(p *provider, _ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(reached) })
		select {
		case <-r.Context().Done():
		case <-p.ended:
		}
	}})
	return reached
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func (p *provider) answered() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]answer(nil), p.answers...)
}

func (p *provider) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.uris...)
}

func (p *provider) fault(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = append(p.broken, fmt.Errorf("%s", text))
}

func (p *provider) faults() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

func (p *provider) close() {
	close(p.ended)
	p.server.CloseClientConnections()
	p.server.Close()
	p.elsewhere.Close()
}

// status answers with a status, and throws back all that it was sent.
func status(code int, want error) *failure {
	return &failure{name: fmt.Sprint(code), want: want, instead: func(p *provider, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var all bytes.Buffer
		r.Header.Write(&all)
		all.Write(body)
		if code/100 == 3 {
			w.Header().Set("Location", p.elsewhere.URL+r.RequestURI)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":%q,"error_description":%q,"errors":[%q],"message":%q}`, canary, canary+all.String(), all.String(), all.String())
	}}
}

// instead answers 200 with a body of its own.
func instead(name, contentType, body string) *failure {
	return &failure{name: name, want: source.ErrMalformed, spoil: func(w http.ResponseWriter, _ answer) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	}}
}

// failures are the ways in which a provider fails whatever it is.
func failures() []*failure {
	list := []*failure{
		{name: "hangs up", want: source.ErrDown, instead: func(_ *provider, w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "breaks off", want: source.ErrDown, spoil: func(w http.ResponseWriter, a answer) {
			w.Header().Set("Content-Length", fmt.Sprint(len(a.body)+1))
			a.write(w, a.body)
			panic(http.ErrAbortHandler)
		}},
		{name: "pieces", spoil: func(w http.ResponseWriter, a answer) {
			flush := w.(http.Flusher)
			for name, values := range a.header {
				w.Header()[name] = values
			}
			w.WriteHeader(a.status)
			for i := range a.body {
				w.Write(a.body[i : i+1])
				flush.Flush()
			}
		}},
		{name: "huge", want: source.ErrMalformed, spoil: func(w http.ResponseWriter, a answer) {
			a.write(w, append(bytes.Clone(a.body), bytes.Repeat([]byte(" "), 256<<10)...))
		}},
		{name: "endless", want: source.ErrMalformed, spoil: func(w http.ResponseWriter, a answer) {
			a.write(w, a.body)
			for range 64 { // 4 MiB: a source that reads to the end is seen, and a machine stays up
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					panic(http.ErrAbortHandler)
				}
			}
		}},
		{name: "gzip", want: source.ErrMalformed, spoil: func(w http.ResponseWriter, a answer) {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(a.body)
			z.Close()
			w.Header().Set("Content-Encoding", "gzip")
			a.write(w, b.Bytes())
		}},
		{name: "a tail", want: source.ErrMalformed, spoil: func(w http.ResponseWriter, a answer) {
			a.write(w, append(bytes.Clone(a.body), `{"a":"`+canary+`"}`...))
		}},
		instead("a page", "text/html", "<!doctype html><title>Log in "+canary+"</title>"),
		instead("nothing", "application/json", ""),
		instead("null", "application/json", "null"),
		instead("a list", "application/json", `["`+canary+`"]`),
		instead("a string", "application/json", `"`+canary+`"`),
		instead("half an object", "application/json", `{"`+canary),
		instead("no UTF-8", "application/json", "{\"\xff\xfe\":\""+canary+"\xff\"}"),
	}
	for _, code := range []int{429, 500, 502, 503, 504} {
		list = append(list, status(code, source.ErrDown))
	}
	for _, code := range []int{301, 302, 303, 307, 308, 400, 401, 403} {
		list = append(list, status(code, source.ErrRefused))
	}
	return list
}
