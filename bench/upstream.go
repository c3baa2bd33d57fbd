package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	demo "github.com/reevehq/reeve/internal/demo/upstream"
)

// upstream answers as little as a provider can: what is measured is what stands before it. It serves in a process of its own
// so that its CPU is not counted.
//
// The first member of a request says how it answers: user "json", 0.2 KB of JSON; "sse", 20 events, flushed one by one; "idle",
// one event, then nothing for as long as the client stays.
type upstream struct{}

const event = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"some words of an answer "}}]}` + "\n\n"

var jsonAnswer = fmt.Sprintf(`{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%s"}}]}`, strings.Repeat("a word ", 14))

func (upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := bufio.NewReaderSize(r.Body, 512)
	head, _ := body.Peek(16)
	io.Copy(io.Discard, body)
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := w.(http.Flusher)
	switch user := string(head); {
	case strings.HasPrefix(user, `{"user":"sse"`):
		for range 20 {
			io.WriteString(w, event)
			flusher.Flush()
		}
		io.WriteString(w, "data: [DONE]\n\n")
	case strings.HasPrefix(user, `{"user":"idle"`):
		io.WriteString(w, event)
		flusher.Flush()
		<-r.Context().Done()
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(jsonAnswer)))
		io.WriteString(w, jsonAnswer)
	}
}

// serveUpstream serves TLS on addr until the process ends, with a certificate of the demo CA in dir.
func serveUpstream(addr, dir string) error {
	ca, err := demo.OpenCA(dir)
	if err != nil {
		return err
	}
	cert, err := ca.Leaf(time.Now())
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: upstream{}, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}))
}
