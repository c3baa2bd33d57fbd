package upstream

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// stream writes server-sent events, each in one flushed write, and breaks off where the control says.
type stream struct {
	c    *call
	rc   *http.ResponseController
	sent int
	buf  bytes.Buffer
	over bool // the client is gone, or the break is done: nothing more is written
}

func (c *call) stream() *stream {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	c.w.WriteHeader(http.StatusOK)
	return &stream{c: c, rc: http.NewResponseController(c.w)}
}

// send writes one event; event is empty where the API has no event lines.
func (s *stream) send(event string, v any) {
	if s.over {
		return
	}
	if s.c.control.how != "" && s.sent >= s.c.control.after {
		s.snap()
		return
	}
	if s.sent > 0 && !pause(s.c.r.Context(), s.c.control.pace) {
		s.over = true
		return
	}
	s.sent++
	s.write(event, v)
}

func (s *stream) write(event string, v any) {
	s.buf.Reset()
	if event != "" {
		s.buf.WriteString("event: " + event + "\n")
	}
	s.buf.WriteString("data: ")
	enc := json.NewEncoder(&s.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // ends with the first of the two newlines
		panic(err)
	}
	s.buf.WriteByte('\n')
	s.flush(s.buf.Bytes())
}

// done writes OpenAI's last line.
func (s *stream) done() {
	if s.c.control.how != "" && !s.over {
		s.snap()
	}
	if !s.over {
		s.flush([]byte("data: [DONE]\n\n"))
	}
}

func (s *stream) flush(b []byte) {
	if _, err := s.c.w.Write(b); err != nil {
		s.over = true
		return
	}
	s.over = s.rc.Flush() != nil
}

// snap breaks the stream off in the way asked for.
func (s *stream) snap() {
	s.over = true
	switch s.c.control.how {
	case "error":
		event, v := s.c.streamError(s.sent)
		s.write(event, v)
		s.over = true
	case "clean":
	case "stall":
		pause(s.c.r.Context(), 10*time.Minute)
		s.c.cut()
	default:
		s.c.cut()
	}
}
