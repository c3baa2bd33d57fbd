package serve

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/lend"
)

// neighbours is who counts as one on the network: an IPv4 address, or the 64 bits of an IPv6 address that one site has (RFC 4291,
// section 2.5.4). The zero Prefix is who has no such address, or one of this machine.
func neighbours(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.IsLoopback() {
		return netip.Prefix{}
	}
	p, _ := addr.Prefix(min(addr.BitLen(), 64))
	return p
}

// Seats are so many places for who comes from the network. Of them each address gets its share, as of lend.Fair: a stranger that takes all
// that it can leaves some for others. Who is on this machine is bounded with all others alone.
type Seats struct {
	most int64

	mu   sync.Mutex // guards what follows
	all  int64
	each map[netip.Prefix]int64 // those that have one
}

// NewSeats returns so many seats.
func NewSeats(most int) *Seats { return &Seats{most: int64(most), each: map[netip.Prefix]int64{}} }

// Take gives a seat to a client at remote, as http.Request.RemoteAddr has it, or reports that there is none for it.
func (s *Seats) Take(remote string) bool {
	from := neighbours(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.each[from] + 1
	if s.all >= s.most || from.IsValid() && !lend.Fair(own, s.all+1, 1, s.most) {
		return false
	}
	s.all++
	s.each[from] = own
	return true
}

// Leave gives back what Take gave.
func (s *Seats) Leave(remote string) {
	from := neighbours(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.each[from]--; s.each[from] == 0 {
		delete(s.each, from)
	}
}

// Share returns a listener that keeps at most so many connections from the network, and from each address its share of them. What is
// beyond is closed unread. Connections from this machine pass.
func Share(l net.Listener, most int) net.Listener { return &shared{l, NewSeats(most)} }

type shared struct {
	net.Listener
	seats *Seats
}

// Accept implements net.Listener.
func (s *shared) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		remote := c.RemoteAddr().String()
		if !neighbours(remote).IsValid() {
			return c, nil
		}
		if s.seats.Take(remote) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { s.seats.Leave(remote) })}, nil
		}
		c.Close()
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before the request's rest is read, as with a connection of its own.
func (c *counted) CloseWrite() error {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Pace bounds how often something is done that anybody may ask for: so many at once, and one in each step after that; from each address
// of the network its share of what may be done at once, as of lend.Fair. So who asks without end keeps out himself before others. Who asks
// from this machine is bounded with all others alone.
type Pace struct {
	step  time.Duration
	burst int64

	mu   sync.Mutex // guards what follows
	all  time.Time  // when all that was done has had its step
	each map[netip.Prefix]time.Time
}

// NewPace returns a pace of so many at once, and one in each step after that.
func NewPace(step time.Duration, burst int) *Pace {
	return &Pace{step: step, burst: int64(burst), each: map[netip.Prefix]time.Time{}}
}

// Allows reports whether it may be done once more, for a client at remote: http.Request.RemoteAddr.
func (p *Pace) Allows(remote string, now time.Time) bool {
	from := neighbours(remote)
	p.mu.Lock()
	defer p.mu.Unlock()
	for who, until := range p.each { // at most as many as burst
		if !until.After(now) {
			delete(p.each, who)
		}
	}
	all, own := later(p.all, now).Add(p.step), later(p.each[from], now).Add(p.step)
	steps := func(t time.Time) int64 { return int64((t.Sub(now) + p.step - 1) / p.step) }
	if steps(all) > p.burst || from.IsValid() && !lend.Fair(steps(own), steps(all), 1, p.burst) {
		return false
	}
	p.all, p.each[from] = all, own
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Bounded gives every request so long to bring its body, and its answer so long to be read, unless the handler sets deadlines of its
// own: net/http waits for what was announced, and a stranger may announce and send nothing.
func Bounded(body, answer time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, now := http.NewResponseController(w), time.Now()
		if r.Body != http.NoBody {
			_ = c.SetReadDeadline(now.Add(body)) // not every test writer has deadlines
		}
		_ = c.SetWriteDeadline(now.Add(answer))
		next.ServeHTTP(w, r)
	})
}
