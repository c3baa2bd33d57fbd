package serve

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// from is a listener whose connections come from where the test says.
type from struct {
	net.Listener
	next chan string
}

func (l *from) Accept() (net.Conn, error) {
	addr, ok := <-l.next
	if !ok {
		return nil, net.ErrClosed
	}
	return &remote{addr: addr}, nil
}

type remote struct {
	net.Conn
	addr   string
	closed bool
}

func (c *remote) RemoteAddr() net.Addr { return name(c.addr) }
func (c *remote) Close() error         { c.closed = true; return nil }

type name string

func (name) Network() string  { return "tcp" }
func (n name) String() string { return string(n) }

// One address that opens all that it can leaves room for others; this machine is not bounded, and who closes makes room.
func TestShare(t *testing.T) {
	l := &from{next: make(chan string, 1000)}
	s := Share(l, 100)
	accept := func(addr string, n int) (kept []net.Conn) {
		for range n {
			l.next <- addr
		}
		l.next <- "127.0.0.1:1" // is always taken: it ends the round
		for {
			c, err := s.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if c.RemoteAddr().String() == "127.0.0.1:1" {
				return kept
			}
			kept = append(kept, c)
		}
	}
	greedy := accept("[2001:db8:1:2::1]:9", 100)
	if n := len(greedy); n < 70 || n > 76 {
		t.Errorf("one address keeps %d connections of 100", n)
	}
	if n := len(accept("[2001:db8:1:2:ffff::2]:9", 10)); n != 0 {
		t.Errorf("its neighbour in the same network keeps %d more", n)
	}
	if n := len(accept("192.0.2.1:9", 10)); n != 10 {
		t.Errorf("another address keeps %d of 10", n)
	}
	if n := len(accept("[::1]:9", 200)); n != 200 {
		t.Errorf("this machine keeps %d of 200", n)
	}
	for _, c := range greedy {
		c.Close()
		c.Close() // counts down once
	}
	if seats := s.(*shared).seats; seats.all != 10 || len(seats.each) != 1 {
		t.Errorf("%d are counted of %d addresses", seats.all, len(seats.each))
	}
}

// Who asks without end is told to wait, while others are let through.
func TestPace(t *testing.T) {
	p, now := NewPace(20*time.Millisecond, 100), time.Unix(1000, 0)
	ask := func(remote string, n int) (allowed int) {
		for range n {
			if p.Allows(remote, now) {
				allowed++
			}
		}
		return allowed
	}
	if n := ask("192.0.2.1:1", 1000); n < 70 || n > 76 {
		t.Errorf("one address was allowed %d at once", n)
	}
	if n := ask("192.0.2.2:1", 5); n != 5 {
		t.Errorf("another one was allowed %d of 5", n)
	}
	for i := range 1000 {
		ask(fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), 1)
	}
	if n := len(p.each); n > 100 {
		t.Errorf("%d addresses are kept", n)
	}
	if ask("203.0.113.1:1", 1) != 0 {
		t.Error("all together are not bounded")
	}
	if now = now.Add(time.Second); ask("192.0.2.1:1", 100) < 10 || len(p.each) > 100 {
		t.Error("after a second the pace does not go on")
	}
	if now = now.Add(time.Hour); ask("192.0.2.1:1", 1) != 1 || len(p.each) != 1 {
		t.Errorf("%d addresses are kept after an hour", len(p.each))
	}
}
