package gateway

import (
	"bytes"
	"io"
	"testing"
)

// Who announces much and sends little takes little: the memory that all workloads share is lent for what has come.
func TestAnnouncedIsNotLent(t *testing.T) {
	var p buffers
	p.most.Store(64 << 20)
	const announced, many = 32 << 20, 100
	for range many {
		sent, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _, err := p.read(sent, announced, announced)
			sent.CloseWithError(err) // what is refused is not waited for
		}()
		w.Write([]byte("{")) // it has been taken, and more is waited for
		defer func() { w.CloseWithError(io.ErrUnexpectedEOF); <-done }()
	}
	body := bytes.Repeat([]byte("x"), 8<<20)
	b, n, err := p.read(bytes.NewReader(body), int64(len(body)), announced)
	if err != nil || !bytes.Equal(b[:n], body) {
		t.Fatalf("beside %d that announced %d bytes each, one of %d: %d, %v", many, announced, len(body), n, err)
	}
	p.give(b)
}
