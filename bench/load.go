package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Target is one way to the upstream.
type Target struct {
	Name string
	Addr string      // host:port, or the path of a socket
	TLS  *tls.Config // nil for plain HTTP
	PIDs []int       // the processes between client and upstream, whose CPU and memory are counted

	Key    string  // what the client sends as bearer token
	Prover *prover // makes what it sends instead, if not nil
}

// Call is one kind of request.
type Call struct {
	Name string
	Body []byte
	SSE  bool
}

// calls are the workloads: a short prompt, a 64 KiB one, a stream.
func calls() []Call {
	return []Call{
		{Name: "json 0.2 KB", Body: body("json", 200, false)},
		{Name: "json 64 KiB", Body: body("json", 64<<10, false)},
		{Name: "sse 20 events", Body: body("sse", 200, true), SSE: true},
	}
}

// body is a chat request of size bytes; user tells the upstream how to answer.
func body(user string, size int, stream bool) []byte {
	head := fmt.Sprintf(`{"user":"%s","model":"demo-small","stream":%v,"messages":[{"role":"user","content":"`, user, stream)
	tail := `"}]}`
	return append(append([]byte(head), bytes.Repeat([]byte("word "), max(size-len(head)-len(tail), 0)/5)...), tail...)
}

// path of every request.
const path = "/v1/chat/completions"

// client is one keep-alive connection that makes one request at a time.
type client struct {
	target  *Target
	conn    net.Conn
	r       *bufio.Reader
	body    []byte
	request []byte // with the body
}

func (t *Target) dial(c Call) (*client, error) {
	conn, err := net.DialTimeout(network(t.Addr), t.Addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if t.TLS != nil {
		conn = tls.Client(conn, t.TLS)
	}
	cl := &client{target: t, conn: conn, r: bufio.NewReaderSize(conn, 8<<10), body: c.Body}
	if err := cl.prepare(); err != nil {
		conn.Close()
		return nil, err
	}
	return cl, nil
}

// network of an address: sockets have a path.
func network(addr string) string {
	if filepath.IsAbs(addr) {
		return "unix"
	}
	return "tcp"
}

// prepare writes the request, with what proves it.
func (c *client) prepare() error {
	t := c.target
	proof := "Content-Type: application/json\r\n"
	if t.Key != "" {
		proof += "Authorization: Bearer " + t.Key + "\r\n"
	}
	if t.Prover != nil {
		var err error
		if proof, err = t.Prover.prove(c.body); err != nil {
			return err
		}
	}
	to := t.Addr
	if filepath.IsAbs(to) {
		to = "localhost"
	}
	c.request = fmt.Appendf(c.request[:0], "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n", path, to, proof, len(c.body))
	c.request = append(c.request, c.body...)
	return nil
}

var errStatus = errors.New("status")

// do makes one request. first is the time to the first byte of the body.
func (c *client) do() (first, total time.Duration, err error) {
	if p := c.target.Prover; p != nil && p.signer != nil { // each is another
		if err := c.prepare(); err != nil {
			return 0, 0, err
		}
	}
	start := time.Now()
	c.conn.SetDeadline(start.Add(20 * time.Second))
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, 0, err
	}
	if c.target.Prover != nil {
		c.target.Prover.learn(resp.Header)
	}
	var one [1]byte
	if _, err := io.ReadFull(resp.Body, one[:]); err != nil {
		return 0, 0, err
	}
	first = time.Since(start)
	if resp.StatusCode != http.StatusOK {
		rest, _ := io.ReadAll(resp.Body)
		return 0, 0, fmt.Errorf("%w %d: %s%s", errStatus, resp.StatusCode, one[:], rest)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, 0, err
	}
	return first, time.Since(start), nil
}

// Result is what one run saw.
type Result struct {
	Requests int
	Failed   int // cut streams and refusals
	Err      error
	Elapsed  time.Duration
	CPU      []time.Duration // of the target's processes, in the order of its PIDs
	First    []time.Duration
	Total    []time.Duration
}

// PerSecond is the throughput.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// CPUEach is the CPU a request took, over the target's processes and in each of them.
func (r *Result) CPUEach() (all time.Duration, each []time.Duration) {
	for _, d := range r.CPU {
		d /= time.Duration(max(r.Requests, 1))
		all, each = all+d, append(each, d)
	}
	return all, each
}

// quantile sorts d.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

func (r *Result) merge(o *Result) {
	r.Requests += o.Requests
	r.Failed += o.Failed
	if r.Err == nil {
		r.Err = o.Err
	}
	r.Elapsed += o.Elapsed
	for i, d := range o.CPU {
		if i == len(r.CPU) {
			r.CPU = append(r.CPU, 0)
		}
		r.CPU[i] += d
	}
	r.First = append(r.First, o.First...)
	r.Total = append(r.Total, o.Total...)
}

// saturate keeps conns requests in flight for d.
func saturate(t *Target, c Call, conns int, d time.Duration) *Result {
	return measure(t, func(r *Result, mu *sync.Mutex) {
		var stop atomic.Bool
		time.AfterFunc(d, func() { stop.Store(true) })
		var wg sync.WaitGroup
		for range conns {
			wg.Go(func() {
				one := &Result{}
				one.loop(t, c, func() bool { return !stop.Load() })
				mu.Lock()
				defer mu.Unlock()
				r.merge(one)
			})
		}
		wg.Wait()
	})
}

// atRate starts requests at a fixed rate for d, whatever the answers take; latency counts from the moment it was due.
func atRate(t *Target, c Call, rate int, d time.Duration) *Result {
	return measure(t, func(r *Result, mu *sync.Mutex) {
		due := make(chan time.Time, 4*rate)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				one := &Result{}
				one.follow(t, c, due)
				mu.Lock()
				defer mu.Unlock()
				r.merge(one)
			})
		}
		start := time.Now()
		for i := range int(float64(rate) * d.Seconds()) {
			at := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(at))
			due <- at
		}
		close(due)
		wg.Wait()
	})
}

func measure(t *Target, run func(*Result, *sync.Mutex)) *Result {
	r := &Result{}
	var mu sync.Mutex
	before, start := cpuOf(t.PIDs), time.Now()
	run(r, &mu)
	r.Elapsed, r.CPU = time.Since(start), cpuOf(t.PIDs)
	for i := range before {
		r.CPU[i] -= before[i]
	}
	return r
}

func (r *Result) loop(t *Target, c Call, more func() bool) {
	cl, err := t.dial(c)
	for more() {
		if err != nil {
			r.fail(err)
			time.Sleep(time.Millisecond)
			cl, err = t.dial(c)
			continue
		}
		var first, total time.Duration
		if first, total, err = cl.do(); err == nil {
			r.count(first, total)
			continue
		}
		cl.conn.Close()
	}
	if cl != nil {
		cl.conn.Close()
	}
}

func (r *Result) follow(t *Target, c Call, due <-chan time.Time) {
	cl, err := t.dial(c)
	for at := range due {
		if err != nil {
			r.fail(err)
			cl, err = t.dial(c)
		}
		if err != nil {
			continue
		}
		late := time.Since(at)
		var first, total time.Duration
		if first, total, err = cl.do(); err == nil {
			r.count(late+first, late+total)
		} else {
			cl.conn.Close()
		}
	}
	if err != nil {
		r.fail(err)
	}
	if cl != nil {
		cl.conn.Close()
	}
}

func (r *Result) count(first, total time.Duration) {
	r.Requests++
	r.First = append(r.First, first)
	r.Total = append(r.Total, total)
}

func (r *Result) fail(err error) {
	r.Failed++
	r.Err = err
}
