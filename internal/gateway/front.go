package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// front serves clients on one listener, by the limits of the set in force. Those on headers and idle connections are fixed in a
// server of net/http, so other limits mean another server: it takes the connections that come from then on, and the one before
// closes its idle connections at once and the others with their request.
type front struct {
	listener net.Listener
	server   func() *http.Server // without limits

	conns  chan net.Conn
	closed chan struct{} // no connections come any more
	done   chan struct{} // no connections are taken any more
	err    error         // why; read after closed

	mu      sync.Mutex // guards what follows
	limits  connLimits
	now     *share
	old     []*share // that take no connections any more
	servers map[*http.Server]struct{}
	ending  bool
}

// connLimits are those that a server has from its start.
type connLimits struct {
	headerTimeout, idleTimeout time.Duration
	headerBytes                int
}

func newFront(l net.Listener, server func() *http.Server) *front {
	f := &front{listener: l, server: server, conns: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{}), servers: map[*http.Server]struct{}{}}
	go f.accept()
	return f
}

// passing are the errors of accept(2) after which the next call may succeed: no file descriptor or memory is left, or the client
// went away before it was served.
func passing() []syscall.Errno {
	return []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}
}

// accept hands connections to whichever server serves, until the listener is closed.
func (f *front) accept() {
	defer close(f.closed)
	for {
		c, err := f.listener.Accept()
		if slices.ContainsFunc(passing(), func(e syscall.Errno) bool { return errors.Is(err, e) }) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			f.err = err
			return
		}
		select {
		case f.conns <- c:
		case <-f.done:
			c.Close()
		}
	}
}

// limit puts limits into force.
func (f *front) limit(l *statement.GatewayLimits) {
	limits := connLimits{time.Duration(l.HeaderTimeout), time.Duration(l.IdleTimeout), int(l.HeaderBytes)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending || f.now != nil && limits == f.limits {
		return
	}
	s, old := f.server(), f.now
	s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes = limits.headerTimeout, limits.idleTimeout, limits.headerBytes
	now := &share{front: f, server: s, over: make(chan struct{})}
	f.limits, f.now, f.servers[s] = limits, now, struct{}{}
	count := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		count(c, state)
		switch state {
		case http.StateNew:
			now.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			now.conns.Add(-1)
			f.forget()
		}
	}
	go s.Serve(now) // ends when now is closed
	if old != nil {
		old.Close()
		go func() { // not Shutdown: it drops requests that have just been read
			old.server.SetKeepAlivesEnabled(false)
			f.forget()
		}()
		f.old = append(f.old, old)
	}
}

// forget lets go of servers that take no connections any more and have none.
func (f *front) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.old = slices.DeleteFunc(f.old, func(s *share) bool {
		if s.conns.Load() > 0 {
			return false
		}
		delete(f.servers, s.server)
		return true
	})
}

// shutdown takes no new connections and waits for the requests in flight until ctx ends.
func (f *front) shutdown(ctx context.Context) error {
	f.listener.Close()
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for _, s := range f.end() {
		all.Go(func() {
			err := s.Shutdown(ctx)
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	return failed
}

// close ends every connection.
func (f *front) close() {
	f.listener.Close()
	for _, s := range f.end() {
		s.Close()
	}
}

func (f *front) end() (all []*http.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ending {
		f.ending = true
		close(f.done)
	}
	for s := range f.servers {
		all = append(all, s)
	}
	return all
}

// share is one server's part of the listener.
type share struct {
	front  *front
	server *http.Server
	conns  atomic.Int64
	once   sync.Once
	over   chan struct{}
}

// Accept implements net.Listener.
func (s *share) Accept() (net.Conn, error) {
	select {
	case c := <-s.front.conns:
		return c, nil
	case <-s.over:
		return nil, net.ErrClosed
	case <-s.front.closed:
		return nil, s.front.err
	}
}

// Close implements net.Listener: the front's listener stays open.
func (s *share) Close() error {
	s.once.Do(func() { close(s.over) })
	return nil
}

// Addr implements net.Listener.
func (s *share) Addr() net.Addr { return s.front.listener.Addr() }
