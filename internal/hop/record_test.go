package hop

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
)

// TestRecords: a gateway passes signed records on beside its streams; a flood of them is dropped and hurts no stream.
func TestRecords(t *testing.T) {
	var mu sync.Mutex
	var got [][]byte
	p := newPair(t, echo, func(s *ServerConfig, c *ClientConfig) {
		c.Conns = 1
		s.Record = func(peer Peer, file []byte) {
			mu.Lock()
			defer mu.Unlock()
			if peer.Name != "g1" {
				t.Errorf("from %q", peer.Name)
			}
			got = append(got, bytes.Clone(file))
		}
	})
	for _, file := range [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), maxRecord)} {
		if err := p.Record(context.Background(), file); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Record(context.Background(), make([]byte, maxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a record that is too large: %v", err)
	}
	for range 1000 {
		if err := p.Record(context.Background(), []byte("flood")); err != nil {
			t.Fatal(err)
		}
	}
	r, err := p.Do(context.Background(), request([]byte("{}"))) // on the same connection: what was sent before has come
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(got) < 2 || string(got[0]) != "one" || len(got[1]) != maxRecord {
		t.Fatalf("%d came", len(got))
	}
	if len(got) > 2*recordBurst {
		t.Errorf("%d of 1000 came: the flood was not bounded", len(got))
	}
}
