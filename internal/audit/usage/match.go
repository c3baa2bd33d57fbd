package usage

import (
	"cmp"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/usage/export"
)

// Reach is how far apart a ledger and a provider may put the same use. An intent is durable before its request is sent, so that a provider that puts
// it earlier has another clock; it may count it when it ends.
type Reach struct{ Early, Late time.Duration }

// supply is uses in the ledgers that happened at some time in [first, last].
type supply struct {
	first, last time.Time
	count, left int64
}

// demand is one bucket of what a provider counted.
type demand struct {
	from, to time.Time
	count    int64 // counted
	open     int64 // not accounted for
	near     int64 // uses within reach, those inside not counted
	inside   int64 // uses in it
	who      []string
}

// may reports whether the provider may have counted a use of s in d.
func (r Reach) may(s *supply, d *demand) bool {
	return !s.last.Add(r.Late).Before(d.from) && (s.first.Add(-r.Early).Before(d.to) || s.first.Add(-r.Early).Equal(d.from))
}

// match accounts for as much of the demands as the supplies allow: each use once, in a bucket within its reach. All supplies have the same reach, so
// that taking the buckets in order, and for each the uses whose reach ends first, leaves the least open.
func (r Reach) match(supplies []supply, demands []demand) {
	slices.SortFunc(supplies, func(a, b supply) int { return cmp.Or(a.last.Compare(b.last), a.first.Compare(b.first)) })
	slices.SortFunc(demands, func(a, b demand) int { return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to)) })
	longest := time.Duration(0)
	for i := range supplies {
		supplies[i].left = supplies[i].count
		longest = max(longest, supplies[i].last.Sub(supplies[i].first))
	}
	low := 0
	for i := range demands {
		d := &demands[i]
		d.open = d.count
		for low < len(supplies) && supplies[low].last.Add(r.Late).Before(d.from) {
			low++ // out of reach for all that follow
		}
		for j := low; j < len(supplies) && !supplies[j].last.Add(-longest-r.Early).After(d.to); j++ {
			s := &supplies[j]
			if !r.may(s, d) {
				continue
			}
			if inside := !s.last.Before(d.from) && (s.first.Before(d.to) || s.first.Equal(d.from)); inside {
				d.inside += s.count
			} else {
				d.near += s.count
			}
			n := min(s.left, d.open)
			s.left, d.open = s.left-n, d.open-n
		}
	}
}

// demands gathers the counts of one credential by bucket.
func demandsOf(counts []export.Count) []demand {
	type bucket struct{ from, to int64 }
	at := map[bucket]int{}
	var list []demand
	for _, c := range counts {
		b := bucket{c.From.UnixNano(), c.To.UnixNano()}
		i, ok := at[b]
		if !ok {
			i, at[b] = len(list), len(list)
			list = append(list, demand{from: c.From, to: c.To})
		}
		list[i].count += c.Requests
		if c.Who != "" && !slices.Contains(list[i].who, c.Who) {
			list[i].who = append(list[i].who, c.Who)
		}
	}
	return list
}

// hourly gathers what is left open of single events by the hour; buckets stay as they are.
func hourly(demands []demand) (list []demand) {
	for _, d := range demands {
		if !d.to.After(d.from) {
			d.from = d.from.Truncate(time.Hour)
			d.to = d.from.Add(time.Hour)
			if n := len(list) - 1; n >= 0 && list[n].from.Equal(d.from) && list[n].to.Equal(d.to) {
				o := &list[n]
				o.count, o.open = o.count+d.count, o.open+d.open
				o.near, o.inside = max(o.near, d.near), o.inside+d.inside
				if d.open > 0 {
					o.addWho(d.who)
				}
				continue
			}
			if d.open == 0 {
				d.who = nil
			}
		}
		list = append(list, d)
	}
	return list
}

func (d *demand) addWho(who []string) {
	const most = 20
	for _, w := range who {
		if len(d.who) < most && !slices.Contains(d.who, w) {
			d.who = append(d.who, w)
		}
	}
}
