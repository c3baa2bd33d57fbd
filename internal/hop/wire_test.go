package hop

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/reevehq/reeve/internal/workload"
)

const patience = 10 * time.Second // for what must happen; never waited for in full when it does

func frame(kind byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload))}, stream)
	return append(b, payload...)
}

func preface(version, status byte, window uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(magic), version, status, 0, 0), window)
}

// raw is one end that speaks byte by byte.
type raw struct {
	t testing.TB
	net.Conn
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// next returns the next frame, or ok false at the connection's end.
func (r *raw) next() (h header, payload []byte, ok bool) {
	r.t.Helper()
	r.SetReadDeadline(time.Now().Add(patience))
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			r.t.Fatal("neither a frame nor the end")
		}
		return header{}, nil, false
	}
	h = parseHeader(b[:])
	payload = make([]byte, h.size)
	if _, err := io.ReadFull(r, payload); err != nil {
		r.t.Fatal(err)
	}
	return h, payload, true
}

func (r *raw) expect(kind byte, stream uint32) []byte {
	r.t.Helper()
	h, p, ok := r.next()
	if !ok || h.kind != kind || h.stream != stream {
		r.t.Fatalf("got %+v %q %v, want type %d on stream %d", h, p, ok, kind, stream)
	}
	return p
}

// expectEnd wants the other end to have closed, whatever it sent before.
func (r *raw) expectEnd() {
	r.t.Helper()
	for {
		if _, _, ok := r.next(); !ok {
			return
		}
	}
}

// rawClient connects to a server and exchanges prefaces.
func rawClient(t testing.TB, path string) *raw {
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	r := &raw{t, nc}
	r.write(preface(Version, 0, 1<<16))
	b := make([]byte, prefaceSize)
	if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, preface(Version, statusReady, 0)) {
		t.Fatalf("preface %x, %v", b, err)
	}
	return r
}

// rawServer gives a client whose connections the test answers itself.
func rawServer(t testing.TB, limits Limits) (*Client, func() *raw) {
	path := socketPath(t)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	c := NewClient(ClientConfig{Dial: Unix(path), Conns: 1, Limits: limits})
	t.Cleanup(c.Close)
	return c, func() *raw {
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		r := &raw{t, nc}
		if _, err := io.ReadFull(r, make([]byte, prefaceSize)); err != nil {
			t.Fatal(err)
		}
		r.write(preface(Version, statusReady, 0))
		return r
	}
}

func openPayload(body int) []byte { return appendOpen(nil, request(make([]byte, body))) }

// The bytes of docs/formats/hop.md.
func TestVectors(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats/hop.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{limits: new(Limits{}.withDefaults())}
	c.work.L = &c.mu
	o := &Open{RequestID: "r1", Credential: "c", Method: "GET", Path: "/v1/models", URL: "u", Header: []Field{{"A", "b"}},
		Proof: workload.Proof{Kind: "bearer", Value: []byte("tok")}}
	r := &Refusal{Code: "frozen", Status: 403, Message: "no", Receipt: "v1", RetryAfter: 300, Sent: true}
	for _, v := range []struct {
		name string
		kind byte
		on   uint32
		fill func([]byte) []byte
		want string
	}{
		{"OPEN", frameOpen, 1, func(b []byte) []byte { return appendOpen(b, o) },
			"01 000028 00000001 03 746f6b 00 06 626561726572 02 7231 01 63 03 474554 0a 2f76312f6d6f64656c73 01 75 01 01 41 01 62 00"},
		{"CANCEL", frameCancel, 1, nil, "02 000000 00000001"},
		{"WINDOW", frameWindow, 1, func(b []byte) []byte { return binary.AppendUvarint(b, 131072) }, "03 000003 00000001 808008"},
		{"HEAD", frameHead, 1, func(b []byte) []byte { return appendHead(b, 200, o.Header) }, "04 000007 00000001 c801 01 01 41 01 62"},
		{"TRAILER", frameTrailer, 1, func(b []byte) []byte { return appendFields(b, o.Header) }, "05 000005 00000001 01 01 41 01 62"},
		{"ERROR", frameError, 1, func(b []byte) []byte { return appendRefusal(b, r) },
			"06 000013 00000001 01 9303 ac02 06 66726f7a656e 02 6e6f 02 7631 00"},
		{"GOAWAY", frameGoaway, 0, func(b []byte) []byte { return binary.AppendUvarint(b, 300) }, "07 000002 00000000 ac02"},
		{"BODY", frameBody, 1, func(b []byte) []byte { return append(b, "{}"...) }, "08 000002 00000001 7b7d"},
		{"END", frameEnd, 1, nil, "09 000000 00000001"},
	} {
		c.out = nil
		if err := c.put(v.kind, v.on, 0, v.fill); err != nil {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(v.want, " ", ""); hex.EncodeToString(c.out) != want {
			t.Errorf("%s is\n%x, want\n%s", v.name, c.out, want)
		}
		if !bytes.Contains(doc, []byte("`"+v.want+"`")) {
			t.Errorf("%s is not in the document as %s", v.name, v.want)
		}
		h := parseHeader(c.out)
		if err := h.check(c.limits, h.kind != frameHead && h.kind != frameTrailer && h.kind != frameError && h.kind != frameGoaway); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	var got Open
	if n, err := decodeOpen(appendOpen(nil, o), &got, c.limits); n != 0 || err != nil || cmp.Diff(o, &got) != "" {
		t.Errorf("decoded %d, %v, %s", n, err, cmp.Diff(o, &got))
	}
	if got, err := decodeRefusal(appendRefusal(nil, r)); err != nil || cmp.Diff(r, got) != "" {
		t.Errorf("decoded %v, %s", err, cmp.Diff(r, got))
	}
}

// What a client may not send: the server ends the connection, and does not run the handler.
func TestServerRefusesViolations(t *testing.T) {
	window := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	valid := func(body int) []byte { return frame(frameOpen, 1, openPayload(body)) }
	for name, b := range map[string][]byte{
		"type 0":                    frame(0, 1, nil),
		"unknown type":              frame(10, 1, nil),
		"type 255":                  frame(255, 1, nil),
		"server's type":             frame(frameHead, 1, appendHead(nil, 200, nil)),
		"server's GOAWAY":           frame(frameGoaway, 0, window(1)),
		"stream 0":                  frame(frameOpen, 0, openPayload(0)),
		"stream too high":           frame(frameOpen, maxNumber+1, openPayload(0)),
		"forged stream":             frame(frameEnd, 7, nil),
		"forged cancel":             append(valid(0), frame(frameCancel, 2, nil)...),
		"stream opened twice":       append(valid(1), valid(1)...),
		"stream opened backwards":   append(frame(frameOpen, 5, openPayload(1)), frame(frameOpen, 4, openPayload(1))...),
		"empty OPEN":                frame(frameOpen, 1, nil),
		"OPEN cut short":            frame(frameOpen, 1, openPayload(0)[:20]),
		"OPEN with more":            frame(frameOpen, 1, append(openPayload(0), 0)),
		"OPEN too large":            frame(frameOpen, 1, make([]byte, 128<<10+1)),
		"OPEN that claims 2 MiB":    []byte{frameOpen, 0x20, 0, 0, 0, 0, 0, 1},
		"line break in a field":     frame(frameOpen, 1, appendOpen(nil, &Open{Header: []Field{{"A", "b\r\nC: d"}}})),
		"NUL in a name":             frame(frameOpen, 1, appendOpen(nil, &Open{Header: []Field{{"A\x00", "b"}}})),
		"too many fields":           frame(frameOpen, 1, appendOpen(nil, &Open{Header: make([]Field, 257)})),
		"more body than announced":  append(valid(1), frame(frameBody, 1, []byte("ab"))...),
		"less body than announced":  append(append(valid(2), frame(frameBody, 1, []byte("a"))...), frame(frameEnd, 1, nil)...),
		"BODY frame too large":      append(valid(maxBody+1), frame(frameBody, 1, make([]byte, maxBody+1))...),
		"empty BODY":                append(valid(1), frame(frameBody, 1, nil)...),
		"END with payload":          append(valid(0), frame(frameEnd, 1, []byte("a"))...),
		"CANCEL with payload":       append(valid(0), frame(frameCancel, 1, []byte("a"))...),
		"window of nothing":         append(valid(0), frame(frameWindow, 1, window(0))...),
		"window without number":     append(valid(0), frame(frameWindow, 1, nil)...),
		"window in a long form":     append(valid(0), frame(frameWindow, 1, []byte{0x81, 0x00})...),
		"window beyond the highest": append(valid(0), frame(frameWindow, 1, window(maxNumber))...),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, func(context.Context, Peer, *Open, *Writer) { t.Error("the handler ran") })
			r := rawClient(t, p.path)
			r.write(b)
			r.expectEnd()
			waitFor(t, "the server has freed the streams", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
		})
	}
}

// What is a violation only once the request is whole.
func TestServerRefusesMoreRequest(t *testing.T) {
	for name, b := range map[string][]byte{
		"BODY": frame(frameBody, 1, []byte("a")), "empty BODY": frame(frameBody, 1, nil), "END": frame(frameEnd, 1, nil), "OPEN": frame(frameOpen, 1, openPayload(0)),
	} {
		t.Run(name, func(t *testing.T) {
			cancelled := make(chan struct{})
			p := newPair(t, func(ctx context.Context, _ Peer, o *Open, w *Writer) {
				o.Body = nil // the handler's own: the connection must not look at it any more
				w.Head(200, nil)
				<-ctx.Done()
				close(cancelled)
			})
			r := rawClient(t, p.path)
			r.write(bytes.Join([][]byte{frame(frameOpen, 1, openPayload(1)), frame(frameBody, 1, []byte("a")), frame(frameEnd, 1, nil)}, nil))
			r.expect(frameHead, 1)
			r.write(b)
			r.expectEnd()
			<-cancelled
		})
	}
}

// What a client opens after GOAWAY is neither taken up nor refused: GOAWAY's number has told it so.
func TestOpenAfterGoaway(t *testing.T) {
	release := make(chan struct{})
	var ran atomic.Int64
	p := newPair(t, func(_ context.Context, _ Peer, _ *Open, w *Writer) {
		ran.Add(1)
		w.Head(200, nil)
		<-release
		w.End(nil)
	})
	r := rawClient(t, p.path)
	both := func(id uint32) []byte {
		return append(frame(frameOpen, id, openPayload(0)), frame(frameEnd, id, nil)...)
	}
	r.write(both(3))
	r.expect(frameHead, 3)
	done := make(chan error)
	go func() { done <- p.server.Shutdown(context.Background()) }()
	if last := r.expect(frameGoaway, 0); !bytes.Equal(last, []byte{3}) {
		t.Errorf("GOAWAY says %x", last)
	}
	r.write(append(both(4), frame(frameBody, 4, []byte("a"))...))
	close(release)
	r.expect(frameEnd, 3)
	r.Close()
	if err := <-done; err != nil || ran.Load() != 1 {
		t.Errorf("%v, %d handlers ran", err, ran.Load())
	}
}

func TestPrefaces(t *testing.T) {
	p := newPair(t, echo)
	for name, c := range map[string]struct{ send, want []byte }{
		"other version":  {preface(2, 0, 1), preface(Version, statusVersion, 0)},
		"other protocol": {[]byte("GET / HTTP/1.1\r\n\r\n"), nil},
		"window":         {preface(Version, 0, maxNumber+1), nil},
	} {
		nc, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(patience))
		nc.Write(c.send)
		if got, _ := io.ReadAll(nc); !bytes.Equal(got, c.want) {
			t.Errorf("%s: answered %x, want %x", name, got, c.want)
		}
		nc.Close()
	}
	for name, answer := range map[string][]byte{
		"speaks hop version 9":            preface(9, statusVersion, 0),
		"does not know this gateway":      preface(Version, statusPeer, 0),
		"does not speak":                  []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"custodian closed the connection": nil,
	} {
		path := socketPath(t)
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(ClientConfig{Dial: Unix(path)})
		go func() {
			if nc, err := ln.Accept(); err == nil {
				io.ReadFull(nc, make([]byte, prefaceSize))
				nc.Write(answer)
				nc.Close()
			}
		}()
		if _, err := c.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		c.Close()
		ln.Close()
	}
}

// What a custodian may not send: every stream of the connection breaks, and none ends cleanly.
func TestClientRefusesViolations(t *testing.T) {
	head := frame(frameHead, 1, appendHead(nil, 200, nil))
	for name, b := range map[string][]byte{
		"unknown type":               frame(10, 1, nil),
		"client's type":              frame(frameOpen, 1, nil),
		"forged stream":              frame(frameHead, 9, appendHead(nil, 200, nil)),
		"body before head":           frame(frameBody, 1, []byte("a")),
		"empty body":                 append(bytes.Clone(head), frame(frameBody, 1, nil)...),
		"end before head":            frame(frameEnd, 1, nil),
		"trailer before head":        frame(frameTrailer, 1, []byte{0}),
		"two heads":                  append(bytes.Clone(head), head...),
		"status 100":                 frame(frameHead, 1, appendHead(nil, 100, nil)),
		"status 1000":                frame(frameHead, 1, appendHead(nil, 1000, nil)),
		"empty head":                 frame(frameHead, 1, nil),
		"head with more":             frame(frameHead, 1, append(appendHead(nil, 200, nil), 1)),
		"field count beyond payload": frame(frameHead, 1, []byte{0xc8, 1, 200, 1}),
		"two trailers":               bytes.Join([][]byte{head, frame(frameTrailer, 1, []byte{0}), frame(frameTrailer, 1, []byte{0})}, nil),
		"body after trailer":         bytes.Join([][]byte{head, frame(frameTrailer, 1, []byte{0}), frame(frameBody, 1, []byte("a"))}, nil),
		"body beyond the window":     bytes.Join([][]byte{head, frame(frameBody, 1, make([]byte, 600)), frame(frameBody, 1, make([]byte, 600))}, nil),
		"refusal with status 200":    frame(frameError, 1, appendRefusal(nil, &Refusal{Status: 200})),
		"refusal cut short":          frame(frameError, 1, []byte{0, 1}),
		"goaway without number":      frame(frameGoaway, 0, nil),
	} {
		t.Run(name, func(t *testing.T) {
			c, accept := rawServer(t, Limits{Window: 1024})
			go func() {
				r := accept()
				r.expect(frameOpen, 1)
				r.expect(frameEnd, 1)
				r.write(b)
				r.expectEnd()
			}()
			resp, err := c.Do(context.Background(), request(nil))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, ErrBroken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The connection is lost in every state of a stream: before the head, after it, within the body, after a trailer.
func TestConnectionLoss(t *testing.T) {
	head := frame(frameHead, 1, appendHead(nil, 200, nil))
	for name, sent := range map[string][]byte{
		"before head":      nil,
		"within head":      head[:len(head)-1],
		"after head":       head,
		"within body":      append(bytes.Clone(head), frame(frameBody, 1, []byte("abc"))...),
		"within a frame":   append(bytes.Clone(head), frame(frameBody, 1, []byte("abc"))[:9]...),
		"after trailer":    append(bytes.Clone(head), frame(frameTrailer, 1, []byte{0})...),
		"within END":       append(bytes.Clone(head), frame(frameEnd, 1, nil)[:7]...),
		"after the client": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c, accept := rawServer(t, Limits{})
			go func() {
				r := accept()
				if r.expect(frameOpen, 1); name != "after the client" {
					r.expect(frameEnd, 1)
				}
				r.write(sent)
				r.Close()
			}()
			resp, err := c.Do(context.Background(), request(nil))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				if _, again := resp.Body.Read(make([]byte, 1)); !errors.Is(again, ErrBroken) {
					t.Errorf("read again: %v", again)
				}
			}
			if !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A stream above GOAWAY's number was not taken up: it goes over a new connection, once. One below it finishes on the old one.
func TestGoaway(t *testing.T) {
	c, accept := rawServer(t, Limits{})
	taken := make(chan *Response)
	done := make(chan struct{})
	go func() {
		defer close(done)
		first := accept()
		first.expect(frameOpen, 1)
		first.expect(frameEnd, 1)
		first.write(frame(frameHead, 1, appendHead(nil, 200, nil)))
		<-taken
		first.expect(frameOpen, 2)
		first.expect(frameEnd, 2)
		first.write(frame(frameGoaway, 0, []byte{1}))
		second := accept()
		second.expect(frameOpen, 1)
		second.expect(frameEnd, 1)
		second.write(append(frame(frameHead, 1, appendHead(nil, 201, nil)), frame(frameEnd, 1, nil)...))
		first.write(append(frame(frameBody, 1, []byte("old")), frame(frameEnd, 1, nil)...))
		first.expectEnd() // the client ends the drained connection after its last stream
	}()
	old, err := c.Do(context.Background(), request(nil))
	if err != nil {
		t.Fatal(err)
	}
	taken <- old
	r, err := c.Do(context.Background(), request(nil))
	if err != nil || r.Status != 201 {
		t.Fatalf("%+v, %v", r, err)
	}
	if b, err := io.ReadAll(old.Body); string(b) != "old" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	<-done
}

// What comes for a stream that the client gave up is dropped.
func TestLateFramesAreDropped(t *testing.T) {
	c, accept := rawServer(t, Limits{})
	server := make(chan *raw, 1)
	go func() {
		r := accept()
		r.expect(frameOpen, 1)
		r.expect(frameEnd, 1)
		r.expect(frameCancel, 1)
		r.write(append(frame(frameHead, 1, appendHead(nil, 200, nil)), frame(frameBody, 1, []byte("late"))...))
		r.write(frame(frameEnd, 1, nil))
		server <- r
	}()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := c.Do(ctx, request(nil)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r := <-server
	go func() {
		r.expect(frameOpen, 2)
		r.expect(frameEnd, 2)
		r.write(append(frame(frameHead, 2, appendHead(nil, 200, nil)), frame(frameEnd, 2, nil)...))
	}()
	if _, err := c.Do(context.Background(), request(nil)); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// FuzzServer feeds a server whatever a captured gateway could send after the preface. Each body that reaches the handler is what was
// sent for its stream, though its memory carried others before.
func FuzzServer(f *testing.F) {
	f.Add(append(frame(frameOpen, 1, openPayload(2)), append(frame(frameBody, 1, []byte("{}")), frame(frameEnd, 1, nil)...)...))
	f.Add(frame(frameOpen, 1, openPayload(0)))
	f.Add(append(append(frame(frameOpen, 1, openPayload(0)), frame(frameWindow, 1, []byte{1})...), frame(frameCancel, 1, nil)...))
	half := bytes.Repeat([]byte("ab"), 5<<10) // longer than what is read ahead
	long := bytes.Join([][]byte{frame(frameOpen, 1, openPayload(20<<10)), frame(frameBody, 1, half), frame(frameOpen, 2, openPayload(20<<10)),
		frame(frameBody, 2, half), frame(frameCancel, 1, nil), frame(frameBody, 1, half), frame(frameBody, 2, half), frame(frameEnd, 2, nil)}, nil)
	f.Add(long)
	f.Add(long[:len(long)-2*headerSize])
	f.Add(append(append(frame(frameOpen, 1, openPayload(10<<10)), frame(frameBody, 1, half)...), frame(frameBody, 1, half)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewServer(ServerConfig{Peers: anyone, Limits: Limits{Body: 1 << 16, Memory: 1 << 18, Header: 1 << 12}, Handler: func(ctx context.Context, peer Peer, o *Open, w *Writer) {
			if want := sentTo(b, w.id); !bytes.Equal(o.Body, want) {
				t.Errorf("stream %d has a body of %d bytes that were not sent so; %d were", w.id, len(o.Body), len(want))
			}
			if o.Free != nil {
				o.Free()
			}
			echo(ctx, peer, o, w)
		}})
		c := &serverConn{server: s, streams: map[uint32]*Writer{}, window: 1 << 16, own: s.of("g1")}
		near, far := net.Pipe()
		c.init(near, &s.cfg.Limits)
		go io.Copy(io.Discard, far)
		go c.write()
		go func() { far.Write(b); far.Close() }()
		c.read(true, c.place, c.take)
		c.mu.Lock()
		c.fail(io.EOF)
		for _, w := range c.streams {
			c.abandon(w)
		}
		c.mu.Unlock()
		waitFor(t, "every stream is freed", func() bool { return s.Streams() == 0 && s.memory.Load() == 0 && c.own.memory.Load() == 0 })
		s.Shutdown(context.Background())
	})
}

// sentTo is what the BODY frames in b hold for a stream, up to its END.
func sentTo(b []byte, stream uint32) (body []byte) {
	for len(b) >= headerSize {
		h := parseHeader(b)
		if b = b[headerSize:]; h.stream == stream && h.kind == frameBody {
			body = append(body, b[:min(h.size, len(b))]...)
		} else if h.stream == stream && h.kind == frameEnd {
			break
		}
		b = b[min(h.size, len(b)):]
	}
	return body
}

// FuzzClient feeds a client whatever a custodian could send; the stream never ends cleanly without END after HEAD.
func FuzzClient(f *testing.F) {
	f.Add(append(frame(frameHead, 1, appendHead(nil, 200, nil)), append(frame(frameBody, 1, []byte("{}")), frame(frameEnd, 1, nil)...)...))
	f.Add(frame(frameError, 1, appendRefusal(nil, &Refusal{Code: "x", Status: 403})))
	f.Add(append(frame(frameGoaway, 0, []byte{0}), frame(frameTrailer, 1, []byte{0})...))
	limits := Limits{Window: 1 << 12, Header: 1 << 12}.withDefaults()
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &clientConn{streams: map[uint32]*stream{}, last: 1}
		near, far := net.Pipe()
		c.init(near, &limits)
		s := &stream{c: c, id: 1, ctx: context.Background(), wake: make(chan struct{}, 1)}
		c.streams[1] = s
		go func() { far.Write(b); far.Close() }()
		c.serve()
		if s.err == nil {
			t.Error("the stream outlived its connection")
		}
		if s.err == io.EOF && (!s.headed || !bytes.Contains(b, frame(frameEnd, 1, nil))) {
			t.Error("a clean end without END")
		}
		if cap(s.buf) > 2*limits.Window {
			t.Errorf("%d bytes held beyond the window of %d", cap(s.buf), limits.Window)
		}
	})
}

// FuzzPayloads: every payload that decodes encodes to the same bytes, so there is one form of each, and none panics.
func FuzzPayloads(f *testing.F) {
	f.Add(openPayload(3))
	f.Add(appendHead(nil, 200, sdkHeader))
	f.Add(appendFields(nil, sdkHeader))
	f.Add(appendRefusal(nil, &Refusal{Code: "x", Status: 403, Message: "m"}))
	l := Limits{}.withDefaults()
	f.Fuzz(func(t *testing.T, p []byte) {
		same := func(what string, b []byte, err error) {
			if err == nil && !bytes.Equal(b, p) {
				t.Errorf("%s %x encodes again as %x", what, p, b)
			}
		}
		var o Open
		n, err := decodeOpen(p, &o, &l)
		if n > 1<<20 {
			return // the length is checked by the server before anything is allocated
		}
		o.Body = make([]byte, n)
		same("OPEN", appendOpen(nil, &o), err)
		status, fields, err := decodeHead(p, &l)
		same("HEAD", appendHead(nil, status, fields), err)
		fields, err = decodeTrailer(p, &l)
		same("TRAILER", appendFields(nil, fields), err)
		r, err := decodeRefusal(p)
		same("ERROR", appendRefusal(nil, r), err)
	})
}
