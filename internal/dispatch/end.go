package dispatch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
)

// The states of a version that a source was asked to end, as entries have them.
const (
	unproven = "revoked-unproven"
	proven   = "revoked-proven"
	refused  = "refused" // of a probe's outcome
)

// End is how one custodian ended a credential's secrets, by its own entries since it took the record.
type End struct {
	Custodian string    `json:"custodian"`
	Log       string    `json:"log"`    // id of its log
	Seq       int64     `json:"seq"`    // of the record's entry
	Frozen    time.Time `json:"frozen"` // the record's entry: nothing was used from then on
	Versions  []Ended   `json:"versions"`
	Error     string    `json:"error,omitempty"` // why its log could not be read further
}

// Ended is one version. Times are those of the entries; a zero one means not yet.
type Ended struct {
	Lease    string    `json:"lease"`
	Workload string    `json:"workload,omitempty"`
	Seq      int64     `json:"seq"` // of the newest entry that says its state, or of the one that it is proven dead by
	State    string    `json:"state"`
	Reason   string    `json:"reason,omitempty"`
	Provider time.Time `json:"provider,omitzero"` // its source had been asked to end it, or could not be
	Refused  time.Time `json:"refused,omitzero"`  // the first of the probes that failed, and nothing but failed after it
	Proven   time.Time `json:"proven,omitzero"`   // its probe had failed twice
	Expires  time.Time `json:"expires,omitzero"`  // its own end, as its source says
}

// Proved reports whether every version is proven dead.
func (e *End) Proved() bool {
	return len(e.Versions) > 0 && !slices.ContainsFunc(e.Versions, func(v Ended) bool { return v.Proven.IsZero() })
}

// Provider is when the last version had been ended at its source; zero while one has not.
func (e *End) Provider() (last time.Time) {
	for _, v := range e.Versions {
		if v.Provider.IsZero() {
			return time.Time{}
		}
		last = later(last, v.Provider)
	}
	return last
}

// LastUse is until when one of the versions may still have worked at the provider: until the first probe of those that proved it dead, or
// its own end. ok is false
// when nothing says.
func (e *End) LastUse() (last time.Time, ok bool) {
	for _, v := range e.Versions {
		until := v.Refused
		if v.Proven.IsZero() || until.IsZero() || !v.Expires.IsZero() && v.Expires.Before(until) {
			until = v.Expires
		}
		if until.IsZero() {
			return time.Time{}, false
		}
		last = later(last, until)
	}
	return last, len(e.Versions) > 0
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Ends reads on in the logs of the custodians that Run found the record in, and says what they wrote of the credential's versions, until
// enough says so for all or ctx ends. It is called after Run.
func (d *Dispatch) Ends(ctx context.Context, credential string, enough func(*End) bool) []*End {
	var all []*End
	var read []func() bool
	for _, s := range d.seekers {
		if !s.found.Known {
			continue
		}
		e, next := &End{Custodian: s.found.ID, Log: s.found.Log, Seq: s.found.Seq, Frozen: s.found.At, Versions: []Ended{}}, s.first
		all = append(all, e)
		read = append(read, func() bool {
			n, err := s.follow(next, func(x *entry.Entry) { e.Take(x, credential, s.record) })
			next = n
			if e.Error = ""; err != nil {
				e.Error = err.Error()
			}
			return enough(e)
		})
	}
	for pause := look; ; pause = min(2*pause, idle) {
		waiting := false
		for _, f := range read {
			waiting = !f() || waiting
		}
		if !waiting {
			return all
		}
		select {
		case <-ctx.Done():
			return all
		case <-time.After(pause):
		}
	}
}

// follow reads the entries of the log in which the record was found, from next on, in the first place that has them.
func (s *seeker) follow(next int64, each func(*entry.Entry)) (int64, error) {
	var failed error
	for _, p := range s.places {
		heads, err := s.trust.Heads(p.dir)
		if err != nil {
			failed = fmt.Errorf("its log cannot be read: %w", err)
			continue
		}
		for _, h := range heads {
			if h.ID != s.found.Log || h.Signed.N <= next {
				continue
			}
			entries, err := h.Signed.Entries(p.dir, next, batch)
			for _, raw := range entries {
				if e, err := entry.Parse([]byte(raw)); err == nil {
					each(e)
				}
			}
			next += int64(len(entries))
			return next, err
		}
	}
	return next, failed
}

// Take adds what an entry of the custodian's log says of a version of the credential that the record ends. Entries come in order.
func (e *End) Take(x *entry.Entry, credential, record string) {
	if x.Credential != credential || x.Type == entry.Version && x.Record != record || x.Type != entry.Version && (x.Type != entry.Outcome || x.Lease == "") {
		return
	}
	i := slices.IndexFunc(e.Versions, func(v Ended) bool { return v.Lease == x.Lease && v.Workload == x.Workload })
	at := time.Unix(0, x.TimeNS).UTC()
	if x.Type == entry.Outcome { // of a probe; what a mint brought is told of by other means
		switch {
		case i < 0 || x.State == "active":
		case x.Reason != refused:
			e.Versions[i].Refused = time.Time{}
		case e.Versions[i].Refused.IsZero():
			e.Versions[i].Refused = at
		}
		return
	}
	if i < 0 {
		e.Versions = append(e.Versions, Ended{Lease: x.Lease, Workload: x.Workload})
		i = len(e.Versions) - 1
	}
	v := &e.Versions[i]
	v.State, v.Reason = x.State, x.Reason
	if v.Proven.IsZero() {
		v.Seq = x.Seq
	}
	if x.Expires != 0 {
		v.Expires = time.Unix(x.Expires, 0).UTC()
	}
	switch x.State {
	case proven:
		v.Proven = at
	case unproven:
		v.Provider = at
	}
}
