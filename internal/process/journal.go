package process

import (
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"
)

// Lines of requests wait for one another: at most so long, and at most so many bytes.
const (
	journalLinger = 100 * time.Millisecond
	journalBatch  = 32 << 10
)

// Journal is where a process writes its log as lines of JSON. What comes through Write goes out at once. Lines that Begin
// began, one for each request, go out together, in order with the rest: a process that is killed may lose those of the last
// 100 ms.
type Journal struct {
	w       io.Writer
	process string // as JSON

	mu      sync.Mutex // spans what follows, and writing
	buf     []byte     // lines that wait
	waiting bool       // a flush is due

	lines sync.Pool // of *Line
}

// NewJournal returns the journal of a process.
func NewJournal(w io.Writer, process string) *Journal {
	return &Journal{w: w, process: string(appendText(nil, process))}
}

// Write implements io.Writer for a slog.Handler.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = append(j.buf, p...)
	return len(p), j.flush()
}

// Flush writes what waits.
func (j *Journal) Flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = false
	return j.flush()
}

func (j *Journal) flush() error {
	if len(j.buf) == 0 {
		return nil
	}
	_, err := j.w.Write(j.buf)
	j.buf = j.buf[:0]
	return err
}

func (j *Journal) add(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = append(j.buf, line...)
	switch {
	case len(j.buf) >= journalBatch:
		j.flush() // as with every log: nobody can be told that it cannot be written
	case !j.waiting:
		j.waiting = true
		time.AfterFunc(journalLinger, func() { j.Flush() })
	}
}

// Line is a line in the making. Names are the caller's constants and are written as they are.
type Line struct {
	j *Journal
	b []byte
}

// Begin begins a line. The caller adds its members and calls End.
func (j *Journal) Begin(msg string) *Line {
	l, ok := j.lines.Get().(*Line)
	if !ok {
		l = &Line{j: j}
	}
	l.b = append(time.Now().AppendFormat(append(l.b[:0], `{"time":"`...), time.RFC3339Nano), `","level":"INFO","msg":"`...)
	l.b = append(append(append(l.b, msg...), `","process":`...), j.process...)
	return l
}

// End hands the line over.
func (l *Line) End() {
	l.b = append(l.b, "}\n"...)
	l.j.add(l.b)
	l.j.lines.Put(l)
}

// Text adds a string.
func (l *Line) Text(name, value string) *Line {
	l.name(name)
	l.b = appendText(l.b, value)
	return l
}

// Int adds a number.
func (l *Line) Int(name string, n int64) *Line {
	l.name(name)
	l.b = strconv.AppendInt(l.b, n, 10)
	return l
}

// Bool adds a truth value.
func (l *Line) Bool(name string, v bool) *Line {
	l.name(name)
	l.b = strconv.AppendBool(l.b, v)
	return l
}

func (l *Line) name(s string) { l.b = append(append(append(l.b, `,"`...), s...), `":`...) }

// appendText appends s as a JSON string.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			q, _ := json.Marshal(s) // a string always marshals
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
