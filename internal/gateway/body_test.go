package gateway

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
)

// Who announces much and sends little takes little: the memory that all workloads share is lent for what has come.
func TestAnnouncedIsNotLent(t *testing.T) {
	var p buffers
	var own atomic.Int64
	p.most.Store(64 << 20)
	const announced, many = 32 << 20, 100
	for range many {
		sent, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _, err := p.read(sent, announced, announced, &own)
			sent.CloseWithError(err) // what is refused is not waited for
		}()
		w.Write([]byte("{")) // it has been taken, and more is waited for
		defer func() { w.CloseWithError(io.ErrUnexpectedEOF); <-done }()
	}
	body := bytes.Repeat([]byte("x"), 8<<20)
	b, n, err := p.read(bytes.NewReader(body), int64(len(body)), announced, &own)
	if err != nil || !bytes.Equal(b[:n], body) {
		t.Fatalf("beside %d that announced %d bytes each, one of %d: %d, %v", many, announced, len(body), n, err)
	}
	p.give(b, &own)
}

// A workload that holds as many bodies as it can leaves another its share.
func TestBodiesAreShared(t *testing.T) {
	var p buffers
	p.most.Store(4 << 20)
	var greedy, other atomic.Int64
	var held [][]byte
	for b := p.take(atFirst, &greedy); b != nil; b = p.take(atFirst, &greedy) {
		held = append(held, b)
	}
	if n := len(held); n < 12 || n > 13 {
		t.Errorf("alone it takes %d of 16", n)
	}
	for range 3 {
		b := p.take(atFirst, &other)
		if b == nil {
			t.Fatal("nothing is left for another workload")
		}
		defer p.give(b, &other)
	}
	for _, b := range held {
		p.give(b, &greedy)
	}
	if n := greedy.Load(); n != 0 {
		t.Errorf("%d bytes stay counted", n)
	}
}
