package hop

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

func cpu() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// browserHeader is about what an SDK sends.
var sdkHeader = []Field{{"Content-Type", "application/json"}, {"Accept", "application/json"}, {"User-Agent", "OpenAI/Go 3.0.0"},
	{"X-Stainless-Lang", "go"}, {"X-Stainless-Os", "Linux"}, {"X-Stainless-Arch", "x64"}, {"X-Stainless-Runtime", "go"}, {"Accept-Encoding", "identity"}}

func benchHop(b *testing.B, size, parallel int) {
	answer := bytes.Repeat([]byte("a"), 200)
	p := newPair(b, func(ctx context.Context, _ Peer, o *Open, w *Writer) {
		w.Head(200, sdkHeader)
		w.Write(answer)
		w.End(nil)
	})
	body := bytes.Repeat([]byte("a"), size)
	b.ReportAllocs()
	b.SetParallelism(parallel)
	start := cpu()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 4096)
		for pb.Next() {
			o := request(body)
			o.Header = sdkHeader
			r, err := p.Do(context.Background(), o)
			if err != nil {
				b.Error(err)
				return
			}
			for err == nil {
				_, err = r.Body.Read(buf)
			}
			r.Body.Close()
		}
	})
	b.ReportMetric(float64(cpu()-start)/1e3/float64(b.N), "cpu-µs/op")
}

func benchHTTP(b *testing.B, size, parallel int) {
	ln, err := net.Listen("unix", socketPath(b))
	if err != nil {
		b.Fatal(err)
	}
	answer := bytes.Repeat([]byte("a"), 200)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for _, f := range sdkHeader {
			w.Header().Set(f.Name, f.Value)
		}
		w.Write(answer)
	})}
	go s.Serve(ln)
	b.Cleanup(func() { s.Close() })
	t := &http.Transport{MaxIdleConnsPerHost: 1024, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return Unix(ln.Addr().String())(ctx)
	}}
	b.Cleanup(t.CloseIdleConnections)
	body := bytes.Repeat([]byte("a"), size)
	b.ReportAllocs()
	b.SetParallelism(parallel)
	start := cpu()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequest("POST", "http://x/v1/chat/completions", bytes.NewReader(body))
			for _, f := range sdkHeader {
				r.Header.Set(f.Name, f.Value)
			}
			resp, err := t.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(cpu()-start)/1e3/float64(b.N), "cpu-µs/op")
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, parallel := range []int{1, 16} {
		for _, size := range []int{200, 64 << 10} {
			name := map[int]string{200: "200B", 64 << 10: "64KiB"}[size] + map[int]string{1: "/2", 16: "/32"}[parallel]
			b.Run("hop/"+name, func(b *testing.B) { benchHop(b, size, parallel) })
			b.Run("http/"+name, func(b *testing.B) { benchHTTP(b, size, parallel) })
		}
	}
}
