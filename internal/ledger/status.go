package ledger

import (
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
)

// Status describes a running ledger.
type Status struct {
	Origin    string        `json:"origin"`
	ID        string        `json:"id"`
	Size      int64         `json:"size"`      // durable entries
	Published int64         `json:"published"` // in the newest signed checkpoint whose tiles were all written, or found right, since the start
	Cosigned  int64         `json:"cosigned"`  // in the newest cosigned checkpoint
	Oldest    time.Duration `json:"oldest_uncosigned_ns"`
	Free      float64       `json:"free"`             // share of the disk, 0 … 1
	Full      bool          `json:"full"`             // Append refuses
	Disputed  int           `json:"disputed"`         // witnesses that say they have seen more of this log, or another history: an alarm
	Reason    string        `json:"reason,omitempty"` // what is wrong, for a person
}

// Shares of the disk at which the ledger warns and at which Append stops.
const (
	warnFree = 0.15
	stopFree = 0.05
)

// Status reports sizes, room and what is wrong.
func (l *Log) Status() Status {
	v := l.volume()
	s := Status{Origin: v.origin, ID: v.id, Published: max(l.pub.published.Load(), 0), Cosigned: l.pub.cosigned.Load(), Size: l.size.Load(), Full: l.full.Load(), Disputed: int(l.pub.disputed.Load())}
	s.Oldest, _ = l.Uncosigned()
	s.Free, _ = l.free()
	if r := l.pub.reason.Load(); r != nil {
		s.Reason = *r
	}
	if err := l.Err(); err != nil {
		s.Reason = err.Error()
	}
	return s
}

// Uncosigned tells the age of the oldest durable entry that no cosigned checkpoint holds, and how many there are. The age
// may be up to 100 ms too high. Without witnesses an entry counts as cosigned when it is published.
func (l *Log) Uncosigned() (oldest time.Duration, count int64) {
	count = max(l.size.Load()-l.pub.cosigned.Load(), 0)
	if t := l.age.oldest(); !t.IsZero() {
		oldest = max(l.cfg.Clock().Sub(t), 0)
	}
	return oldest, count
}

// free is the share of the disk that is free.
func (l *Log) free() (float64, error) {
	free, total, err := l.volume().disk.space()
	if err != nil || total == 0 {
		return 0, err
	}
	return float64(free) / float64(total), nil
}

// checkSpace warns and stops Append in time.
func (l *Log) checkSpace() {
	share, err := l.free()
	if err != nil {
		l.cfg.Logger.Error("free disk space is unknown", "err", err)
		return
	}
	full := share < stopFree
	if full != l.full.Swap(full) || share < warnFree {
		l.cfg.Logger.Warn("ledger disk", "free_percent", int(share*100), "append_stopped", full)
	}
}

// beat queues a heartbeat, unless the disk is full.
func (l *Log) beat() {
	if l.full.Load() {
		return
	}
	if err := l.Enqueue(&entry.Entry{Type: entry.Heartbeat}, false); err != nil {
		l.cfg.Logger.Warn("no heartbeat entry", "err", err)
	}
}

// marks remember when entries were written, so that the age of the oldest one without cosignature is known.
type marks struct {
	mu   sync.Mutex
	list []mark
	end  int64 // after the newest entry
}

type mark struct {
	seq  int64
	time time.Time // monotonic for entries of this run: a clock that is set back hides nothing
}

func unixNano(ns int64) time.Time { return time.Unix(0, ns) }

const (
	markEvery = 100 * time.Millisecond
	maxMarks  = 4096 // beyond, the last mark speaks for all later entries: too old is safe
)

// add notes a group before it is durable.
func (m *marks) add(first, end int64, t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end = end
	if n := len(m.list); n == 0 || n < maxMarks && t.Sub(m.list[n-1].time) >= markEvery {
		m.list = append(m.list, mark{first, t})
	}
}

// drop forgets entries below size.
func (m *marks) drop(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size >= m.end {
		m.list = nil
	}
	for len(m.list) > 1 && m.list[1].seq <= size {
		m.list = m.list[1:]
	}
}

// oldest is the time of the first mark, or zero.
func (m *marks) oldest() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) == 0 {
		return time.Time{}
	}
	return m.list[0].time
}

// reset begins a new volume.
func (m *marks) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list, m.end = nil, 0
}
