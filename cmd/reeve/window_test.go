package main

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		window         window
		from, to, asOf string // empty from: an error
	}{
		{window{"3h", "0s", "0s"}, "2026-11-23T09:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z"},
		{window{"2026-11-22T05:50:00Z", "2026-11-22T08:00:00+01:00", "1h"}, "2026-11-22T05:50:00Z", "2026-11-22T07:00:00Z", "2026-11-23T11:00:00Z"},
		{window{"1h", "2h", "0s"}, "", "", ""},
		{window{"1h", "1h", "0s"}, "", "", ""},
		{window{"yesterday", "0s", "0s"}, "", "", ""},
		{window{"-3h", "0s", "0s"}, "", "", ""},
		{window{"3h", "0s", "2026-11-22"}, "", "", ""},
	} {
		from, to, asOf, err := c.window.times(now)
		switch {
		case c.from == "" && err == nil:
			t.Errorf("%v: taken", c.window)
		case c.from != "" && (err != nil || !from.Equal(at(c.from)) || !to.Equal(at(c.to)) || !asOf.Equal(at(c.asOf))):
			t.Errorf("%v: %v %v %v, %v", c.window, from, to, asOf, err)
		}
	}
	asOf := window{asOf: "2h"}
	if _, _, got, err := asOf.times(now); err != nil || !got.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("%v, %v", got, err)
	}
}
