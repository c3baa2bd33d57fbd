package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/process"
)

// instant is a custodian without a hop.
type instant struct{ header []hop.Field }

func (i *instant) Do(context.Context, *hop.Open) (*hop.Response, error) {
	return &hop.Response{Status: 200, Header: i.header, Body: io.NopCloser(strings.NewReader(`{"ok":true}`)), Trailer: func() []hop.Field { return nil }}, nil
}

// discard is a client's connection.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

// BenchmarkForward is what a request costs in the gateway's own code, without net/http's server and without the hop.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(http.StatusText(200)+" "+byteSize(size), func(b *testing.B) {
			r := newRig(b, nil, func(r *rig) {
				r.parts.Custodian = &instant{[]hop.Field{field("Content-Type", "application/json"), field("Content-Length", "11"), field("Reeve-Receipt", "v1.0.1.x.y")}}
				r.parts.Journal = process.NewJournal(io.Discard, "bench")
			})
			body := []byte(`{"model":"large","messages":[{"role":"user","content":"` + strings.Repeat("x", size-70) + `"}]}`)
			reader := bytes.NewReader(body)
			req := httptest.NewRequest("POST", "/v1/chat/completions", nil)
			req.Header.Set("Authorization", "Bearer rv_research")
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("User-Agent", "bench")
			req.Header.Set("Accept", "application/json")
			req.ContentLength = int64(len(body))
			w := &discard{}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Seek(0, io.SeekStart)
				req.Body = io.NopCloser(reader)
				w.h = http.Header{}
				r.gateway.ServeHTTP(w, req)
			}
		})
	}
}

func byteSize(n int) string {
	if n < 1024 {
		return "0.2 KB"
	}
	return "64 KiB"
}

// BenchmarkServe is a request from a client over TCP through net/http and the real hop to a custodian that answers at once, all
// in this process.
func BenchmarkServe(b *testing.B) {
	r := newRig(b, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, []hop.Field{field("Content-Type", "application/json"), field("Reeve-Receipt", "v1.0.1.x.y")})
		io.WriteString(w, `{"ok":true}`)
		w.End(nil)
	}, func(r *rig) { r.parts.Journal = process.NewJournal(io.Discard, "bench") })
	request := []byte("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rv_research\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(chat)) + "\r\n\r\n" + chat)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		piece := make([]byte, 4096)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			for n := 0; !bytes.HasSuffix(piece[:n], []byte(`{"ok":true}`)); {
				m, err := conn.Read(piece[n:])
				if err != nil {
					b.Error(err)
					return
				}
				n += m
			}
		}
	})
}
