package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/hop"
)

// TestMain lets the benchmark and the memory test run their upstream in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("EGRESS_TEST_UPSTREAM") == "" {
		os.Exit(m.Run())
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/idle" {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: hello\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		w.Write(bytes.Repeat([]byte("a"), 200))
	}))
	s.StartTLS()
	fmt.Printf("%s\n%s.\n", s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	io.Copy(io.Discard, os.Stdin)
}

// elsewhere starts an upstream in another process.
func elsewhere(tb testing.TB) *upstream {
	peer := exec.Command(os.Args[0])
	peer.Env = append(os.Environ(), "EGRESS_TEST_UPSTREAM=1")
	stdin, _ := peer.StdinPipe()
	stdout, _ := peer.StdoutPipe()
	if err := peer.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stdin.Close(); peer.Wait() })
	var said []byte
	for b := make([]byte, 4096); !bytes.HasSuffix(said, []byte("\n.\n")); {
		n, err := stdout.Read(b)
		if err != nil {
			tb.Fatal(err)
		}
		said = append(said, b[:n]...)
	}
	origin, ca, _ := strings.Cut(string(said), "\n")
	return &upstream{origin: origin, ca: ca}
}

// 1,000 idle streams: what the pool, TLS and the answer's body hold for each, without the caller's goroutine.
func TestIdleMemory(t *testing.T) {
	const streams, most = 1000, 24 << 10
	p := pool(t, elsewhere(t))
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	request := post(strings.Repeat("x", 2000))
	request.Target = []byte("/idle")
	send := func() *Response {
		r, err := p.Send(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Body.Read(make([]byte, 64)); err != nil || n != 13 {
			t.Fatal(n, err)
		}
		return r
	}
	responses := []*Response{send()} // what the first one costs is not a stream's
	before := used()
	for range streams {
		responses = append(responses, send())
	}
	each := (used() - before) / streams
	t.Logf("%d bytes for each of %d idle streams", each, streams)
	if !race && each > most {
		t.Errorf("more than %d bytes for an idle stream", most)
	}
	for _, r := range responses {
		r.Body.Close()
	}
}

// BenchmarkSend compares Send with http.Transport, the upstream in another process, in turns of a tenth of the run. CPU is
// this process's alone.
func BenchmarkSend(b *testing.B) {
	u := elsewhere(b)
	p := pool(b, u, func(c *Config) { c.IdleConns = 128 })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(u.ca))
	tr := &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	b.Cleanup(tr.CloseIdleConnections)
	header := []hop.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json"},
		{Name: "User-Agent", Value: "OpenAI/Go 3.0.0"}, {Name: "X-Stainless-Lang", Value: "go"}, {Name: "Accept-Encoding", Value: "identity"}}
	own := func(ctx context.Context, body []byte) error {
		r, err := p.Send(ctx, &Request{Method: "POST", Target: []byte("/v1"), Header: header, Secrets: [2]Secret{{"Authorization", []byte("Bearer demo-upstream-key-1")}}, Body: body})
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	standard := func(ctx context.Context, body []byte) error {
		q, _ := http.NewRequestWithContext(ctx, "POST", u.origin+"/v1", bytes.NewReader(body))
		for _, f := range header {
			q.Header.Set(f.Name, f.Value)
		}
		q.Header.Set("Authorization", "Bearer demo-upstream-key-1")
		r, err := tr.RoundTrip(q)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	cpu := func() time.Duration {
		var r syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &r)
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	for _, size := range []int{200, 64 << 10} {
		for _, callers := range []int{1, 32} {
			b.Run(fmt.Sprintf("%dB/%d", size, callers), func(b *testing.B) {
				body := bytes.Repeat([]byte("a"), size)
				var used [2]time.Duration
				var allocs [2]uint64
				const turns = 10
				each := max(b.N/turns, 1)
				for range turns {
					for i, do := range []func(context.Context, []byte) error{own, standard} {
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						before, mallocs := cpu(), m.Mallocs
						var left atomic.Int64
						left.Store(int64(each))
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() {
								ctx, cancel := context.WithCancel(context.Background())
								defer cancel()
								for left.Add(-1) >= 0 {
									if err := do(ctx, body); err != nil {
										b.Error(err)
										return
									}
								}
							})
						}
						wg.Wait()
						used[i] += cpu() - before
						runtime.ReadMemStats(&m)
						allocs[i] += m.Mallocs - mallocs
					}
				}
				for i, name := range []string{"egress", "transport"} {
					b.ReportMetric(float64(used[i].Microseconds())/float64(each*turns), name+"-cpu-µs/op")
					b.ReportMetric(float64(allocs[i])/float64(each*turns), name+"-allocs/op")
				}
			})
		}
	}
}
