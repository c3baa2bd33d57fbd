package feed

// queue runs what may wait for a disk one after the other, beside what must not wait. The follower's mu guards it.
type queue struct {
	jobs    []func()
	running bool
}

// later has a queue run a job after those before it, without mu. Callers hold mu.
func (f *Follower) later(q *queue, job func()) {
	q.jobs = append(q.jobs, job)
	if q.running {
		return
	}
	q.running = true
	go func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for len(q.jobs) > 0 {
			next := q.jobs[0]
			q.jobs = q.jobs[1:]
			f.mu.Unlock()
			next()
			f.mu.Lock()
		}
		q.running = false
		f.idle.Broadcast()
	}()
}

// underway is a record that is verified and whose callback is not done.
type underway struct {
	done chan struct{} // closed when it is
	err  error         // why it was not taken; set before
}

// waits reports whether the callback of a kind of record may wait for a disk.
func waits(kind string) bool {
	return kind == "handover" || kind == "break-glass" || kind == "break-glass-review" || kind == "extension"
}
