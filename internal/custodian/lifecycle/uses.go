package lifecycle

import (
	"time"

	"github.com/reevehq/reeve/internal/admin"
)

// Uses counts how often a credential was used in the last day, hour by hour. Its keeper's mu spans it.
type Uses struct {
	since time.Time
	last  time.Time
	hours [24]struct {
		hour int64 // Unix time in hours
		n    [4]int64
	}
}

func newUses(now time.Time) *Uses { return &Uses{since: now} }

// class is which of admin.Uses's a lifetime is.
func class(life time.Duration) int {
	switch {
	case life <= 0 || life >= 24*time.Hour:
		return 0
	case life >= time.Hour:
		return 1
	case life > 15*time.Minute:
		return 2
	}
	return 3
}

// count adds what a version was used for since the last time.
func (u *Uses) count(h *Held, now time.Time) {
	n := h.begun.Load()
	if n == h.counted {
		return
	}
	hour := now.Unix() / 3600
	b := &u.hours[hour%int64(len(u.hours))]
	if b.hour != hour {
		b.hour, b.n = hour, [4]int64{}
	}
	b.n[class(lifetime(h.Issued, h.Expires))] += n - h.counted
	h.counted, u.last = n, now
}

func (u *Uses) show(now time.Time) admin.Uses {
	var n [4]int64
	for _, b := range u.hours {
		if b.hour > now.Unix()/3600-int64(len(u.hours)) {
			for i := range n {
				n[i] += b.n[i]
			}
		}
	}
	return admin.Uses{Since: u.since, Static: n[0], Day: n[1], Hour: n[2], Quarters: n[3]}
}
