package guard

import (
	"errors"
	"io"
	"strings"
)

// MaxEvent bounds one server-sent event, and with it what a stream withholds, in bytes.
const MaxEvent = 8 << 20

// ErrBounds means that an answer went over a bound of this package; the stream must be cut.
var ErrBounds = errors.New("the upstream's answer is over a bound of the response guard, so it cannot be searched and was cut")

// Stream passes one response body on to a writer and withholds exactly the longest suffix that could begin a match; of
// a row of events, whole events. It is used by one goroutine.
type Stream struct {
	dst    io.Writer
	next   *Stream // dst, where it searches for another secret
	raw    scanner
	events *events // nil unless the body is a row of events: text/event-stream, or JSON line by line
	held   []byte
	base   int64 // offset in the body of held[0]: so much has been released
	err    error
}

// Stream returns a Stream for a body of the given Content-Type. Each Write to it makes at most one Write to dst.
func (p *Patterns) Stream(dst io.Writer, contentType string) *Stream {
	s := &Stream{dst: dst, raw: scanner{p: p}}
	if p.next != nil {
		s.next = p.next.Stream(dst, contentType)
		s.dst = s.next
	}
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "text/event-stream":
		s.events = &events{p: p}
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		s.events = &events{p: p, lines: true}
	}
	return s
}

// Write searches b and releases what cannot begin a match. On ErrReflected and ErrBounds nothing of b is released, and all
// further calls fail. It does not keep b.
func (s *Stream) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	end := s.base + int64(len(s.held))
	if !s.raw.feed(b, end, 1) {
		return 0, s.cut(ErrReflected)
	}
	if s.events == nil && len(s.held) == 0 { // the usual case: pass b on without a copy
		free := len(b)
		if len(s.raw.threads) > 0 {
			free = int(s.raw.threads[0].start - end)
		}
		s.base += int64(free)
		s.held = append(s.held, b[free:]...)
		return s.emit(b[:free], len(b))
	}
	s.held = append(s.held, b...)
	keep := end + int64(len(b))
	if s.events != nil {
		if err := s.events.scan(s.held, s.base); err != nil {
			return 0, s.cut(err)
		}
		keep = s.events.keep(s.base)
	}
	if len(s.raw.threads) > 0 {
		keep = min(keep, s.raw.threads[0].start)
	}
	if int64(len(s.held))-(keep-s.base) > MaxEvent {
		return 0, s.cut(ErrBounds)
	}
	return s.release(keep, len(b))
}

// Flush releases what is withheld, at the end of the body: no match can be completed any more.
func (s *Stream) Flush() error {
	if s.err == nil && s.events != nil {
		if err := s.events.finish(s.held, s.base); err != nil {
			s.cut(err)
		}
	}
	if s.err == nil {
		s.release(s.base+int64(len(s.held)), 0)
	}
	if s.err == nil && s.next != nil {
		s.err = s.next.Flush()
	}
	return s.err
}

// Withheld returns how many bytes are withheld now.
func (s *Stream) Withheld() (n int) {
	for ; s != nil; s = s.next {
		n += len(s.held)
	}
	return n
}

// release passes on what stands before offset keep.
func (s *Stream) release(keep int64, n int) (int, error) {
	free := int(keep - s.base)
	_, err := s.emit(s.held[:free], n)
	s.base = keep
	if rest := copy(s.held, s.held[free:]); rest > 0 || cap(s.held) <= 16<<10 {
		s.held = s.held[:rest]
	} else {
		s.held = nil // an idle stream keeps no large buffer
	}
	return n, err
}

func (s *Stream) emit(b []byte, n int) (int, error) {
	if len(b) > 0 {
		if _, s.err = s.dst.Write(b); s.err != nil {
			return 0, s.err
		}
	}
	return n, nil
}

func (s *Stream) cut(err error) error {
	clear(s.held[:cap(s.held)])
	s.held, s.err = nil, err
	return err
}
