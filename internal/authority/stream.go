package authority

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	// backlog is how many frames a follower may be behind before it loses its stream: half a minute of heartbeats.
	backlog = 128
	// writeTimeout bounds one write to a follower.
	writeTimeout = 5 * time.Second
)

// follower is one open stream.
type follower struct {
	lines   chan []byte
	process string // of the charter: handovers to it are its own
	key     statement.ServiceKey
	bare    bool // it held no set when it came
	cancel  context.CancelFunc
}

// broadcast queues a line for every follower, or, if custodian is not empty, for that custodian's. Who is too far
// behind is dropped: it comes back and catches up. Callers hold mu.
func (a *Authority) broadcast(line []byte, custodian string) {
	for f := range a.followers {
		if custodian != "" && custodian != f.process {
			continue
		}
		a.queue(f, line)
	}
}

// queue gives a follower a line. Callers hold mu.
func (a *Authority) queue(f *follower, line []byte) {
	select {
	case f.lines <- line:
	default:
		a.count.dropped.Inc()
		a.drop(f)
	}
}

// drop ends a stream. Callers hold mu.
func (a *Authority) drop(f *follower) {
	delete(a.followers, f)
	f.cancel()
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

// asks is how many requests for the stream are remembered as used, an eighth of them of one process. A request is taken for twice feed.AskLife at most, which is
// less than they are remembered for.
const asks = 1 << 15

// unused refuses an Ask that was used before.
func (a *Authority) unused(ask *feed.Ask, now time.Time) error {
	err := a.replay.Spend(ask.Process, ask.Nonce, now)
	if errors.Is(err, replay.ErrReplayed) {
		err = fmt.Errorf("%w: %w", feed.ErrAsk, err)
	}
	return err
}

// room makes place for one more stream of a process: when there is none left, one who has the most streams, and several, loses one. So
// whoever took a process keeps no other from its news. Callers hold mu.
func (a *Authority) room(process string) bool {
	if len(a.followers) < a.limit {
		return true
	}
	count, last := map[string]int{}, map[string]*follower{}
	most := process
	for f := range a.followers {
		count[f.process]++
		if last[f.process] = f; count[f.process] > count[most] {
			most = f.process
		}
	}
	if most == process || count[most] < 2 {
		a.count.busy.Inc()
		return false
	}
	a.drop(last[most])
	return true
}

// soon waits for an authority that has just started, which is shorter than coming again: until it publishes or knows who does and, for who holds
// no set, until the set's lock is in a cosigned log. When ctx ends, who asks is told how things are.
func (a *Authority) soon(ctx context.Context, bare bool) {
	for {
		a.mu.Lock()
		there, changed := a.other != "" || a.leading && !(bare && a.unproven(a.set)), a.changed
		a.mu.Unlock()
		if there {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// join opens a stream for who asks with a key of the charter, and returns what it has to begin with.
func (a *Authority) join(ask *feed.Ask, key statement.ServiceKey, cancel context.CancelFunc) (*follower, [][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.leading {
		return nil, nil, ErrStandby
	}
	if err := a.unused(ask, a.clock()); err != nil {
		return nil, nil, err
	}
	if !slices.Contains(a.set.ServiceKeys("log", a.clock()), key) { // another set came meanwhile
		return nil, nil, feed.ErrAsk
	}
	if !a.room(ask.Process) {
		return nil, nil, errBusy
	}
	f := &follower{lines: make(chan []byte, backlog), process: ask.Process, key: key, bare: ask.Lock == "", cancel: cancel}
	var first [][]byte
	if ask.Lock != hex.EncodeToString(a.set.LockHash[:]) {
		first = append(first, a.set.line)
	}
	behind := ask.Records != a.sums.Sum()
	for _, r := range a.records {
		if r.line == nil {
			continue
		}
		if r.custodian == "" && behind || r.custodian != "" && r.custodian == f.process {
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

// expel ends the streams of those whose key the set in force does not have any more. Callers hold mu.
func (a *Authority) expel() {
	keys := a.set.ServiceKeys("log", a.clock())
	for f := range a.followers {
		if !slices.Contains(keys, f.key) {
			a.drop(f)
		}
	}
}

// stream serves one process of the charter until it goes, is too slow, its key is over, or the authority stops.
func (a *Authority) stream(w http.ResponseWriter, r *http.Request) {
	set := a.Set()
	if set == nil {
		away(w, ErrNoSet)
		return
	}
	if a.standsBy() {
		away(w, ErrStandby)
		return
	}
	header := r.Header.Get(feed.AskHeader)
	if header == "" {
		a.challenge(w)
		return
	}
	ask, key, err := feed.OpenAsk(header, set, a.clock())
	switch {
	case err != nil:
		fault(w, http.StatusForbidden, "no stream", err)
		return
	case !a.replay.Fresh(ask.Challenge, a.clock()): // it was made to another authority, or to this one before its start
		a.challenge(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), key.NotAfter.Sub(a.clock()))
	defer cancel()
	soon, over := context.WithTimeout(ctx, feed.Interval)
	a.soon(soon, ask.Lock == "")
	over()
	f, lines, err := a.join(ask, key, cancel)
	switch {
	case errors.Is(err, feed.ErrAsk):
		fault(w, http.StatusForbidden, "no stream", err)
		return
	case err != nil:
		away(w, err)
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

// challenge says what a request for the stream has to name here and now.
func (a *Authority) challenge(w http.ResponseWriter) {
	w.Header().Set(feed.ChallengeHeader, a.replay.Nonce(a.clock()))
	fault(w, http.StatusUnauthorized, "no stream", fmt.Errorf("%w: sign a request with the challenge in %s", feed.ErrAsk, feed.ChallengeHeader))
}

// standsBy reports whether another authority is known to publish.
func (a *Authority) standsBy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.other != ""
}

// away says why there is no stream now.
func away(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "1")
	fault(w, http.StatusServiceUnavailable, "no stream", err)
}
