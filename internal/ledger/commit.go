package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/reevehq/reeve/entry"
)

// write is the writer: one goroutine that makes groups durable, one sync each. What queues while a sync runs is the next
// group, so the running sync is the window and there is no timer.
func (l *Log) write() {
	defer func() { l.vol.stopPreparing() }()
	for {
		select {
		case reply := <-l.rotate:
			reply <- l.turn()
		default:
		}
		if l.failed() {
			l.abandon()
			return
		}
		runtime.Gosched() // under load others append first: fewer syncs, and nothing lost when idle
		g, closed := l.take()
		if g == nil && closed {
			return
		}
		if g == nil {
			select {
			case <-l.wake:
			case reply := <-l.rotate:
				reply <- l.turn()
			}
			continue
		}
		if err := l.commit(g); err != nil {
			l.halt(err)
			g.err = l.Err()
		}
		for i := range g.items {
			if err := g.items[i].err; err != nil {
				l.cfg.Logger.Error("entry not written", "type", g.items[i].e.Type, "err", err)
			}
			g.items[i].e, g.items[i].payload = nil, nil // a Durable keeps its group, not what was written
		}
		close(g.done)
	}
}

// abandon fails whatever is queued when the log has closed with a failure.
func (l *Log) abandon() {
	for {
		g, _ := l.take()
		if g == nil {
			return
		}
		g.err = l.Err()
		close(g.done)
	}
}

// commit writes a group's entries and syncs. An error is fatal: what the disk holds is not known any more.
func (l *Log) commit(g *group) error {
	v := l.vol
	buf := l.buf[:0]
	now := l.cfg.Clock()
	g.vol, g.first, g.timeNS = v, v.Tree.Size, now.UnixNano()
	g.leaves = make([][sha256.Size]byte, 0, len(g.items))
	for i := range g.items {
		it := &g.items[i]
		if it.err = l.encode(it, g.timeNS); it.err != nil {
			continue
		}
		body := l.scratch[1:]
		var err error
		if buf, err = l.makeRoom(buf, recordLen(len(body), len(it.payload)), it.closing); errors.Is(err, ErrFull) {
			it.err = err
			continue
		} else if err != nil {
			return err
		}
		leaf := leafHash(l.scratch)
		r := record{seq: it.e.Seq, acked: l.size.Load(), chain: nextChain(v.Chain, it.e.Seq, leaf), body: body, payload: it.payload}
		buf = appendRecord(buf, &r)
		v.take(it.e, leaf, r.chain)
		it.seq = r.seq
		g.leaves = append(g.leaves, leaf)
	}
	if len(g.leaves) > 0 {
		l.age.add(g.first, v.Tree.Size, now)
	}
	if err := l.flush(buf); err != nil {
		return err
	}
	if cap(buf) <= 1<<20 {
		l.buf = buf
	}
	return nil
}

// encode numbers the entry and puts its JSON after the zero byte that begins l.scratch. The numbers are taken only when
// the entry is accepted: see commit.
func (l *Log) encode(it *item, timeNS int64) error {
	v, e := l.vol, it.e
	e.V, e.Seq, e.TimeNS, e.Log, e.TenantSeq = 1, v.Tree.Size, timeNS, v.id, 0
	if e.IntentLog == v.id {
		e.IntentLog = ""
	}
	if e.Type == entry.Heartbeat && e.Commit == "" {
		payload, commit := heartbeat(v.Tenants)
		if err := l.seal(it, payload, commit); err != nil {
			return err
		}
	}
	if e.Tenant != "" {
		e.TenantSeq = v.Tenants[e.Tenant]
	}
	if err := e.Validate(); err != nil {
		return err
	}
	l.scratch = e.AppendJSON(l.scratch[:1])
	if n := len(l.scratch) - 1; n > maxBody || int64(recordLen(n, len(it.payload))) > l.cfg.SegmentSize/2 {
		return fmt.Errorf("entry of %d bytes with a payload of %d is too long", n, len(it.payload))
	}
	return nil
}

// flush writes buf at the end of the active segment and syncs it: all entries so far are durable when it returns.
func (l *Log) flush(buf []byte) error {
	v := l.vol
	if len(buf) == 0 {
		return nil
	}
	if _, err := v.file.WriteAt(buf, v.off); err != nil {
		return fmt.Errorf("writing %s: %w", segmentName(v.Number), err)
	}
	if err := v.file.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", segmentName(v.Number), err)
	}
	v.off += int64(len(buf))
	l.size.Store(v.Tree.Size)
	l.began.Store(v.Began)
	return nil
}

// makeRoom makes sure that n more bytes fit behind buf, in the next segment if need be, for which it flushes buf. What does not
// close anything also needs a zeroed segment ahead, and gets ErrFull on a disk that has no room for one: closing can go on there.
func (l *Log) makeRoom(buf []byte, n int, closing bool) ([]byte, error) {
	v := l.vol
	if v.file == nil || v.off+int64(len(buf)+n) > v.room {
		if err := l.flush(buf); err != nil {
			return nil, err
		}
		var err error
		if buf, err = l.advance(buf[:0]); err != nil {
			return buf, err
		}
	}
	if closing {
		return buf, nil
	}
	return buf, l.look()
}

// look waits for the segment ahead, if it is being made.
func (l *Log) look() error {
	v := l.vol
	if v.ahead != nil {
		return nil
	}
	v.urgent.Store(true)
	s := <-v.spares
	v.urgent.Store(false)
	if s.err != nil {
		l.cfg.Logger.Error("no next write-ahead log segment", "err", s.err)
	}
	v.ahead = s.file
	return s.err
}

// advance makes the segment ahead the active one and appends its header to buf.
func (l *Log) advance(buf []byte) ([]byte, error) {
	v := l.vol
	if err := l.look(); err != nil {
		return buf, err
	}
	if v.file != nil {
		if err := v.file.Close(); err != nil {
			return buf, err
		}
	}
	v.Number, v.file, v.ahead, v.off = v.Number+1, v.ahead, nil, 0
	var err error
	if v.room, err = v.file.Size(); err != nil {
		return buf, err
	}
	if buf, err = appendHeader(buf, &v.state); err == nil && int64(len(buf)) > v.room/2 {
		err = fmt.Errorf("segment header of %d bytes for %d tenants: use larger segments", len(buf), len(v.Tenants))
	}
	return buf, err
}

// spare is a zeroed segment made ahead, or why there is none.
type spare struct {
	file file
	err  error
}

// prepare keeps one zeroed segment ready for the writer, beside the one that the writer keeps ahead, until stopPreparing.
func (v *volume) prepare(size int64) {
	for next := v.Number + 1; ; {
		s := v.makeSpare(next, size)
		var again <-chan time.Time
		if s.err != nil {
			again = time.After(time.Second)
		}
		select {
		case v.spares <- s:
			if s.err == nil {
				next++
			}
		case <-again:
		case <-v.stop:
			if s.file != nil {
				s.file.Close()
			}
			return
		}
	}
}

// prepare makes segments for the current volume until its stopPreparing. Calling it again does nothing.
func (l *Log) prepare() {
	v := l.vol
	v.starting.Do(func() { v.preparing.Go(func() { v.prepare(l.cfg.SegmentSize) }) })
}

// stopPreparing ends prepare and waits for it.
func (v *volume) stopPreparing() {
	v.stopping.Do(func() { v.urgent.Store(true); close(v.stop) })
	v.preparing.Wait()
}

// makeSpare makes segment n, unless it was made before a restart and never written. A log's first segments are of 4, 8 and 12 MiB at most:
// whoever starts anew waits until they are zeroed and synced.
func (v *volume) makeSpare(n, size int64) spare {
	f, err := v.disk.open(segmentName(n))
	if err != nil {
		f, err = createSegment(v.disk, segmentName(n), min(size, n<<22), v.urgent.Load)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return spare{f, err}
}

// probe makes the first segment, or syncs the one that is there: a ledger whose disk fails does not open.
func (l *Log) probe() error {
	err := l.keys.sync()
	if err == nil && l.vol.file != nil {
		err = l.vol.file.Sync()
	} else if err == nil {
		var header []byte
		if header, err = l.advance(nil); err == nil {
			err = l.flush(header)
		} else if errors.Is(err, ErrFull) {
			err = nil // closing works as soon as there is room for one segment
		}
	}
	if err != nil {
		return fmt.Errorf("the disk fails: %w. Nothing that is written there is sure to stay, so nothing is started. See the kernel's log, and move %s to a disk that works", err, l.cfg.Dir)
	}
	return nil
}
