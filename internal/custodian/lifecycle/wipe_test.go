package lifecycle

import (
	"bytes"
	"testing"
	"time"
)

// TestWiped: what a version was made of is gone from memory once its time is over and its last use has gone, and not before. The collector
// has no part in it.
func TestWiped(t *testing.T) {
	b := newBench(t, nil)
	long, err := b.hold("")
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := long.Fetch(b.durable)
	if err != nil {
		t.Fatal(err)
	}
	bytesOf := s.Value.Reveal()
	empty := func() bool { return bytes.Equal(bytesOf, make([]byte, len(bytesOf))) }
	for range 4 {
		b.after(9 * time.Minute)
		b.use()
	}
	if empty() {
		t.Fatal("wiped under a use that has not ended")
	}
	long.Leave()
	b.after(time.Second)
	if !empty() {
		t.Errorf("still in memory: %d bytes", len(bytesOf))
	}
}
