package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/drills"
)

// What fails is told and done again; the end of ctx ends it.
func TestEvery(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, told := 0, 0
	err := every(ctx, time.Millisecond, func(error) { told++ }, func(context.Context) error {
		if done++; done == 3 {
			cancel()
		}
		return errors.New("it did not hold")
	})
	if err != nil || done != 3 || told != 2 {
		t.Errorf("done %d times, told %d times, %v", done, told, err)
	}
}

func TestStanding(t *testing.T) {
	one := func(state string, fresh bool) listedDrill {
		return listedDrill{Standing: drills.Standing{State: state}, Fresh: fresh}
	}
	for name, c := range map[string]struct {
		list []listedDrill
		want int
	}{
		"all held":  {[]listedDrill{one(drills.Held, true), one(drills.Held, true)}, exitHolds},
		"one old":   {[]listedDrill{one(drills.Held, true), one(drills.Held, false)}, exitUndecided},
		"one never": {[]listedDrill{one(drills.Held, true), one(drills.Never, false)}, exitUndecided},
		"undecided": {[]listedDrill{one(drills.Undecided, true)}, exitUndecided},
		"not held":  {[]listedDrill{one(drills.Never, false), one(drills.NotHeld, true)}, exitNot},
	} {
		got := exitHolds
		var e *exitError
		if errors.As(standing(c.list), &e) {
			got = e.status
		}
		if got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
}
