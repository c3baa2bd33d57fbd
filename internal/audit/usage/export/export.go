// Package export reads what providers say of the use of their keys: usage reports, audit files, trails. Providers add members to their answers;
// those that are not known are passed over, those that are needed have to be there.
package export

import (
	"errors"
	"fmt"
	"io"
	"time"
)

var (
	// ErrFormat is wrapped by every refusal of an export.
	ErrFormat = errors.New("this is no export of that provider")
	// ErrGrouping means that a report says how much was used and not by which key.
	ErrGrouping = fmt.Errorf("%w that says which key was used", ErrFormat)
)

// Kind is what was done.
type Kind string

// The kinds.
const (
	Use  Kind = "use"  // requests were made with the credential
	Read Kind = "read" // its secret was read from where it is kept, or made there
)

// Count is what a provider counted for one key in one bucket of time.
type Count struct {
	Keys     []string  // the provider's ids of what was used, the narrowest first: the key, then its project; empty for none
	Kind     Kind      // use or read
	From, To time.Time // [From, To); equal for a single event
	Requests int64     // at least so many; 0 says that there were none
	Who      string    // for people, of an event: name and address
}

// Export is what one provider says.
type Export struct {
	Provider string
	AtLeast  bool // requests were not counted: there is at least one in a bucket that has any usage
	From, To time.Time
	Counts   []Count
	Unproven []string // why it may not be whole or not be what the provider wrote, a sentence each
}

// Most of everything: a report of a year by the minute has half a million buckets.
const (
	MaxFile   = 256 << 20 // bytes, unpacked
	maxCounts = 4 << 20
	maxText   = 2048 // bytes of an id, a path or a name
)

// read takes a whole file.
func read(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = no("it has more than %d MiB; export less at a time", MaxFile>>20)
	}
	return b, err
}

func no(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}

// add takes a count, and holds it against the bounds.
func (x *Export) add(c Count) error {
	for _, k := range append([]string{c.Who}, c.Keys...) {
		if len(k) > maxText {
			return no("a name of %d bytes", len(k))
		}
	}
	switch {
	case c.Requests < 0:
		return no("%d requests", c.Requests)
	case c.To.Before(c.From) || c.To.Sub(c.From) > 366*24*time.Hour:
		return no("a bucket from %s to %s", c.From.Format(time.RFC3339), c.To.Format(time.RFC3339))
	case len(x.Counts) == maxCounts:
		return no("more than %d counts; export less at a time", maxCounts)
	}
	x.cover(c.From, c.To)
	x.Counts = append(x.Counts, c)
	return nil
}

// cover widens the time that the export is about.
func (x *Export) cover(from, to time.Time) {
	if x.From.IsZero() || from.Before(x.From) {
		x.From = from
	}
	if to.After(x.To) {
		x.To = to
	}
}

// grouped refuses a report none of whose counts names a key.
func (x *Export) grouped(ask string) error {
	for _, c := range x.Counts {
		if len(c.Keys) > 0 {
			return nil
		}
	}
	if len(x.Counts) > 0 {
		return fmt.Errorf("%w: ask for it with %s", ErrGrouping, ask)
	}
	return nil
}

// ids leaves out what is not there.
func ids(all ...*string) (list []string) {
	for _, s := range all {
		if s != nil && *s != "" {
			list = append(list, *s)
		}
	}
	return list
}
