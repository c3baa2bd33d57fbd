package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/statement"
)

// limiter counts what each workload does at this gateway. Only workloads of the charter get an entry, so that it is bounded.
type limiter struct {
	mu    sync.Mutex
	tally map[string]*tally
}

type tally struct {
	flight int64     // requests in flight
	window time.Time // start of the running minute
	count  int64     // requests in it

	bodies atomic.Int64 // bytes lent for bodies; not under the limiter's mu
}

// enter counts a request in, or refuses it. Whoever entered must leave.
func (l *limiter) enter(workload string, lim *statement.GatewayLimits, now time.Time) (*tally, *dialect.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tally[workload]
	if t == nil {
		t = &tally{}
		l.tally[workload] = t
	}
	if now.Sub(t.window) >= time.Minute || now.Before(t.window) {
		t.window, t.count = now, 0
	}
	if lim.ConcurrentEach > 0 && t.flight >= lim.ConcurrentEach {
		return nil, &dialect.Fault{Status: http.StatusTooManyRequests, Code: "rate_limited", RetryAfter: 1,
			Message: "This workload has as many requests in flight as this gateway allows it. Wait for one to end, or ask the operations owners to raise concurrent_each."}
	}
	if lim.PerMinuteEach > 0 && t.count >= lim.PerMinuteEach {
		return nil, &dialect.Fault{Status: http.StatusTooManyRequests, Code: "rate_limited", RetryAfter: seconds(t.window.Add(time.Minute).Sub(now)),
			Message: "This workload has made as many requests in this minute as this gateway allows it. Wait, or ask the operations owners to raise per_minute_each."}
	}
	t.flight++
	t.count++
	return t, nil
}

func (l *limiter) leave(t *tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.flight--
}

// seconds rounds up, and is at least 1.
func seconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}
