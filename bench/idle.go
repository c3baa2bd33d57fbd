package main

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Idle is what open streams that say nothing cost.
type Idle struct {
	Streams int
	Opened  int
	Each    int64 // bytes a stream over all of the target's processes
	Err     error
}

// idle opens n streams, waits until each has its first event, and weighs the processes.
func idle(t *Target, n int) Idle {
	c := Call{Body: body("idle", 200, true), SSE: true}
	result := Idle{Streams: n}
	before := settled(t.PIDs)
	var (
		mu    sync.Mutex
		open  []*client
		count atomic.Int64
		wg    sync.WaitGroup
	)
	for range 32 {
		wg.Go(func() {
			for count.Add(1) <= int64(n) {
				cl, err := t.dial(c)
				if err == nil {
					err = cl.begin()
				}
				mu.Lock()
				if err != nil {
					result.Err = err
				} else {
					open = append(open, cl)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	result.Opened = len(open)
	if result.Opened > 0 {
		result.Each = (settled(t.PIDs) - before) / int64(result.Opened)
	}
	for _, cl := range open {
		cl.conn.Close()
	}
	time.Sleep(2 * time.Second) // until every process has let go
	return result
}

// begin sends the request and returns when the first event is there. It keeps no buffer that the weighing could count: the
// client is another process.
func (c *client) begin() error {
	c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("data: ")) {
			return nil
		}
		if bytes.HasPrefix(line, []byte("HTTP/1.1 ")) && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("%w: %s", errStatus, line)
		}
	}
}

// settled weighs the processes until two seconds bring no more than a percent.
func settled(pids []int) int64 {
	last := memoryOf(pids)
	for range 10 {
		time.Sleep(2 * time.Second)
		now := memoryOf(pids)
		if now-last < last/100 {
			return now
		}
		last = now
	}
	return last
}
