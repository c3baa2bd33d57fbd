package authority

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/feed"
)

const (
	// queue is how many frames a follower may be behind before it loses its stream: half a minute of heartbeats.
	queue = 128
	// writeTimeout bounds one write to a follower.
	writeTimeout = 5 * time.Second
)

// follower is one open stream.
type follower struct {
	lines     chan []byte
	custodian string // whose handovers it wants
	cancel    context.CancelFunc
}

// broadcast queues a line for every follower, or, if custodian is not empty, for those of one custodian. Who is too far
// behind is dropped: it comes back and catches up. Callers hold mu.
func (a *Authority) broadcast(line []byte, custodian string) {
	for f := range a.followers {
		if custodian != "" && custodian != f.custodian {
			continue
		}
		select {
		case f.lines <- line:
		default:
			a.count.dropped.Inc()
			delete(a.followers, f)
			f.cancel()
		}
	}
}

// beat signs a heartbeat and sends it to every follower.
func (a *Authority) beat() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	line, err := a.heartbeat()
	if err == nil && line != nil {
		a.broadcast(line, "")
	}
	return err
}

// heartbeat signs the next one; nil while this authority does not publish. Callers hold mu until it is queued, so that no record overtakes it.
func (a *Authority) heartbeat() ([]byte, error) {
	if a.set == nil || !a.leading || !a.lease.Live(time.Now()) {
		return nil, nil
	}
	a.number++
	h := feed.Heartbeat{
		Authority: a.id, Epoch: a.lease.Epoch, Estate: a.set.Charter.Estate, Lock: a.set.Lock.Version, LockHash: hex.EncodeToString(a.set.LockHash[:]),
		Number: a.number, Records: a.sums.Len(), Sum: a.sums.Sum(), SetSum: a.set.sum, Time: a.clock().UTC(),
	}
	env, err := h.Sign(a.key.Load())
	if err != nil {
		return nil, err
	}
	a.count.heartbeats.Inc()
	return (&feed.Frame{Heartbeat: env}).Encode(), nil
}

// errBusy refuses a follower beyond the limit.
var errBusy = errors.New("the limit of followers is reached")

// join opens a stream and returns what it has to begin with.
func (a *Authority) join(r *http.Request, cancel context.CancelFunc) (*follower, [][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.leading {
		return nil, nil, ErrStandby
	}
	if len(a.followers) >= a.limit {
		a.count.busy.Inc()
		return nil, nil, errBusy
	}
	q := r.URL.Query()
	f := &follower{lines: make(chan []byte, queue), custodian: q.Get("custodian"), cancel: cancel}
	var first [][]byte
	if q.Get("lock") != hex.EncodeToString(a.set.LockHash[:]) {
		first = append(first, a.set.line)
	}
	behind := q.Get("records") != a.sums.Sum()
	for _, r := range a.records {
		if r.custodian == "" && behind || r.custodian != "" && r.custodian == f.custodian {
			first = append(first, r.line)
		}
	}
	beat, err := a.heartbeat()
	if err != nil {
		return nil, nil, err
	}
	if beat != nil {
		first = append(first, beat)
	}
	a.followers[f] = true
	return f, first, nil
}

func (a *Authority) leave(f *follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.followers, f)
}

// stream serves one follower until it goes, is too slow, or the authority stops.
func (a *Authority) stream(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f, lines, err := a.join(r, cancel)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		fault(w, http.StatusServiceUnavailable, "no stream", err)
		return
	}
	defer a.leave(f)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	for {
		for _, line := range lines {
			if control.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if _, err := w.Write(line); err != nil {
				return
			}
		}
		if control.Flush() != nil {
			return
		}
		select {
		case line := <-f.lines:
			lines = append(lines[:0], line)
		case <-ctx.Done():
			return
		}
	}
}
