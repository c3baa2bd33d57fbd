package hop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// sdkHeader is about what an SDK sends.
var sdkHeader = []Field{
	{"Content-Type", "application/json"}, {"Accept", "application/json"}, {"User-Agent", "OpenAI/Go 3.0.0"}, {"X-Stainless-Lang", "go"},
	{"X-Stainless-Os", "Linux"}, {"X-Stainless-Arch", "x64"}, {"X-Stainless-Runtime", "go"}, {"Accept-Encoding", "identity"},
}

var benchAnswer = bytes.Repeat([]byte("a"), 200)

// TestMain lets the benchmark run the listening ends in a process of their own: HOP_BENCH_PEER names their two sockets.
func TestMain(m *testing.M) {
	if at := os.Getenv("HOP_BENCH_PEER"); at != "" {
		benchPeer(strings.Fields(at))
		return
	}
	os.Exit(m.Run())
}

func benchPeer(sockets []string) {
	var ln [2]net.Listener
	for i := range ln {
		var err error
		if ln[i], err = net.Listen("unix", sockets[i]); err != nil {
			panic(err)
		}
	}
	go NewServer(ServerConfig{Peers: anyone, Handler: func(_ context.Context, _ Peer, o *Open, w *Writer) {
		w.Head(200, sdkHeader)
		w.Write(benchAnswer)
		w.End(nil)
	}}).Serve(ln[0])
	go http.Serve(ln[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		for _, f := range sdkHeader {
			w.Header().Set(f.Name, f.Value)
		}
		w.Write(benchAnswer)
	}))
	fmt.Println("listening")
	io.Copy(io.Discard, os.Stdin)
}

// cpu is what this process and pid have used; pid's in steps of 10 ms.
func cpu(tb testing.TB, pid int) time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Skip(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(u.Utime.Nano()+u.Stime.Nano()) + time.Duration(user+system)*10*time.Millisecond
}

// BenchmarkRoundTrip compares the hop with net/http on both sides of a Unix socket, two processes, in turns of a tenth of the run.
func BenchmarkRoundTrip(b *testing.B) {
	dir := socketPath(b)
	sockets := []string{dir + "1", dir + "2"}
	peer := exec.Command(os.Args[0])
	peer.Env = append(os.Environ(), "HOP_BENCH_PEER="+strings.Join(sockets, " "))
	stdin, _ := peer.StdinPipe()
	stdout, _ := peer.StdoutPipe()
	if err := peer.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); peer.Wait() })
	stdout.Read(make([]byte, 16))
	c := NewClient(ClientConfig{Dial: Unix(sockets[0])})
	b.Cleanup(c.Close)
	tr := &http.Transport{MaxIdleConnsPerHost: 1024, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Unix(sockets[1])(ctx) }}
	b.Cleanup(tr.CloseIdleConnections)
	overHop := func(body []byte) error {
		o := request(body)
		o.Header = sdkHeader
		r, err := c.Do(context.Background(), o)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	overHTTP := func(body []byte) error {
		q, _ := http.NewRequest("POST", "http://x/v1/chat/completions", bytes.NewReader(body))
		for _, f := range sdkHeader {
			q.Header.Set(f.Name, f.Value)
		}
		r, err := tr.RoundTrip(q)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	for _, size := range []int{200, 64 << 10} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%dB/%d", size, callers), func(b *testing.B) {
				body := bytes.Repeat([]byte("a"), size)
				var used, took [2]time.Duration
				turns := 10
				each := max(b.N/turns, 1)
				for range turns {
					for i, do := range []func([]byte) error{overHop, overHTTP} {
						before, begin := cpu(b, peer.Process.Pid), time.Now()
						var left atomic.Int64
						left.Store(int64(each))
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() {
								for left.Add(-1) >= 0 {
									if err := do(body); err != nil {
										b.Error(err)
										return
									}
								}
							})
						}
						wg.Wait()
						used[i] += cpu(b, peer.Process.Pid) - before
						took[i] += time.Since(begin)
					}
				}
				for i, name := range []string{"hop", "http"} {
					n := float64(each * turns)
					b.ReportMetric(float64(used[i].Microseconds())/n, name+"-cpu-µs/op")
					b.ReportMetric(n/took[i].Seconds(), name+"-op/s")
				}
			})
		}
	}
}

// BenchmarkAllocs counts what one small round trip allocates on both ends together.
func BenchmarkAllocs(b *testing.B) {
	p := newPair(b, func(_ context.Context, _ Peer, o *Open, w *Writer) {
		w.Head(200, sdkHeader)
		w.Write(benchAnswer)
		w.End(nil)
	})
	o := request(make([]byte, 200))
	o.Header = sdkHeader
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Do(context.Background(), o)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Body.Read(buf)
		}
	}
}
