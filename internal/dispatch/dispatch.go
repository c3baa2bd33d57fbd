// Package dispatch sends a signed record by every channel there is, and finds out in the custodians' own ledgers what became of it.
package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/verify"
)

const (
	look      = 50 * time.Millisecond // between two looks at the published logs
	cosigning = 3 * time.Second       // for cosignatures
	resend    = time.Second           // after which a channel that failed is tried again
	each      = 3 * time.Second       // for one attempt
	recent    = 2048                  // entries that are searched in a log that could not be read before the record was sent
	batch     = 1 << 20               // entries read at one look
	idle      = time.Second           // between two looks for what takes minutes
)

// Channel is one way to a custodian.
type Channel struct {
	Name string // authority, auditor, gateway or admin
	To   string // URL or socket, for people
	Send func(ctx context.Context, record []byte) error
}

// Post is a channel that takes records by HTTP at a URL.
func Post(name, url string) Channel {
	return Channel{name, url, func(ctx context.Context, record []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(record))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultTransport.RoundTrip(req) // no redirects
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		if resp.StatusCode >= 300 {
			return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(answer))
		}
		return nil
	}}
}

// Order says where to send and where to look.
type Order struct {
	Channels   []Channel
	Custodians []string           // ids of all that the estate has
	Logs       map[string][]fs.FS // by custodian: where its published log can be read
	Trust      *verify.Trust
	Wait       time.Duration // for the custodians' entries
}

// Report is what became of a record.
type Report struct {
	Record     string      `json:"record"` // hex SHA-256
	Begun      time.Time   `json:"begun"`
	Sent       []Sent      `json:"sent"`
	Custodians []Custodian `json:"custodians"`
}

// Sent is what became of the record on one channel.
type Sent struct {
	Channel string `json:"channel"`
	To      string `json:"to"`
	MS      int64  `json:"ms"`              // until it was taken
	Error   string `json:"error,omitempty"` // why it was not
}

// Custodian is what one custodian wrote of the record.
type Custodian struct {
	ID    string `json:"id"`
	Known bool   `json:"known"` // its signed log has the entry

	At      time.Time `json:"at,omitzero"` // when its entry was written: the record was in force before that
	MS      int64     `json:"ms"`          // from the sending to At, by the two clocks
	Channel string    `json:"channel,omitempty"`
	Entry   string    `json:"entry,omitempty"` // revoke, unfreeze, break_glass …
	Log     string    `json:"log,omitempty"`   // log id
	Seq     int64     `json:"seq"`
	Level   string    `json:"level,omitempty"` // included, or cosigned
	Error   string    `json:"error,omitempty"` // why nothing is known
}

// All reports whether every custodian is known to have taken the record.
func (r *Report) All() bool {
	return len(r.Custodians) > 0 && !slices.ContainsFunc(r.Custodians, func(c Custodian) bool { return !c.Known })
}

// Dispatch is an order that knows how long each log was when it was made: entries of the record can only come after that.
type Dispatch struct {
	*Order
	seekers []*seeker
}

// New prepares an order. Call it before the record is signed: it may find its way by itself from then on.
func New(o *Order) *Dispatch {
	d := &Dispatch{Order: o}
	for _, id := range o.Custodians {
		s := &seeker{trust: o.Trust, first: -1, found: Custodian{ID: id}}
		for _, dir := range o.Logs[id] {
			s.places = append(s.places, s.open(dir))
		}
		d.seekers = append(d.seekers, s)
	}
	return d
}

// Only waits for those custodians alone whom the record concerns.
func (d *Dispatch) Only(concerns func(custodian string) bool) {
	d.seekers = slices.DeleteFunc(d.seekers, func(s *seeker) bool { return !concerns(s.found.ID) })
}

// Past has Run find what was written of the record before New, for one that was sent before: from the entry on that at names by the origin of its
// log and its number, and among the newest where it names none.
func (d *Dispatch) Past(at func(custodian string) (origin string, seq int64, ok bool)) {
	for _, s := range d.seekers {
		origin, seq, ok := at(s.found.ID)
		for _, p := range s.places {
			if p.log, p.next = "", -1; ok {
				p.log, p.next = origin, seq
			}
		}
	}
}

// Run sends a record's file by all channels at once, again where that fails, and reads the custodians' published logs until each has a
// cosigned entry of the record, by its statement.Envelope.ID, or the time is over. It is called once.
func (d *Dispatch) Run(ctx context.Context, id [sha256.Size]byte, record []byte) *Report {
	r := &Report{Record: hex.EncodeToString(id[:]), Begun: time.Now().UTC(), Sent: make([]Sent, len(d.Channels))}
	ctx, cancel := context.WithTimeout(ctx, d.Wait)
	defer cancel()
	sending, enough := context.WithCancel(ctx)
	var group sync.WaitGroup
	for i, c := range d.Channels {
		group.Go(func() { r.Sent[i] = send(sending, c, record, r.Begun) })
	}
	var patience <-chan time.Time // with witnesses, once every custodian is known to have it
	for waiting := true; waiting; {
		waiting = false
		r.Custodians = r.Custodians[:0]
		for _, s := range d.seekers {
			s.record = r.Record
			waiting = !s.look(r.Begun) || waiting
			r.Custodians = append(r.Custodians, s.found)
		}
		if patience == nil && r.All() {
			patience = time.After(cosigning)
		}
		select {
		case <-ctx.Done():
			waiting = false
		case <-patience:
			waiting = false
		case <-time.After(look):
		}
	}
	if !r.All() {
		enough()
	}
	time.AfterFunc(resend, enough) // a slow channel may still take it
	group.Wait()
	enough()
	return r
}

// send sends until the channel takes the record or ctx ends.
func send(ctx context.Context, c Channel, record []byte, begun time.Time) Sent {
	s := Sent{Channel: c.Name, To: c.To}
	for {
		attempt, cancel := context.WithTimeout(ctx, each)
		err := c.Send(attempt, record)
		cancel()
		if s.MS = time.Since(begun).Milliseconds(); err == nil {
			s.Error = ""
			return s
		}
		if s.Error == "" || ctx.Err() == nil {
			s.Error = err.Error()
		}
		select {
		case <-ctx.Done():
			return s
		case <-time.After(resend):
		}
	}
}

// seeker looks for the record in one custodian's log.
type seeker struct {
	trust  *verify.Trust
	record string
	first  int64  // number of the first entry that names the record; negative until there is one
	log    string // in which that is
	places []*place
	found  Custodian
}

// place is where a log is published.
type place struct {
	dir  fs.FS
	log  string // origin of the log that was read last
	next int64  // the first entry that has not been looked at; -1 when nothing could be read yet
}

func (s *seeker) open(dir fs.FS) *place {
	p := &place{dir: dir, next: -1}
	if heads, err := s.trust.Heads(dir); err == nil {
		h := heads[len(heads)-1]
		p.log, p.next = h.Log.Origin, h.Signed.N
	}
	return p
}

// look reports whether the entry has been found and cosigned, or there is nowhere to look.
func (s *seeker) look(begun time.Time) bool {
	if s.found.Known {
		return s.cosigned()
	}
	var failed error
	for _, p := range s.places {
		err := s.read(p, begun)
		if s.found.Known {
			s.found.Error = ""
			return s.cosigned()
		}
		failed = cmp.Or(failed, err)
	}
	switch {
	case len(s.places) == 0:
		s.found.Error = "nothing says where its log can be read"
	case failed != nil:
		s.found.Error = failed.Error()
	default:
		s.found.Error = "its log has no entry of the record yet"
	}
	return false
}

// read looks at what is new in a place.
func (s *seeker) read(p *place, begun time.Time) error {
	heads, err := s.trust.Heads(p.dir)
	if err != nil {
		return fmt.Errorf("its log cannot be read: %w", err)
	}
	for i, h := range heads {
		if h.Log.Process != s.found.ID {
			return fmt.Errorf("the log read in its place is that of %s", h.Log.Process)
		}
		from := int64(0)
		switch last := i == len(heads)-1; {
		case h.Log.Origin == p.log:
			from = p.next
		case p.next < 0 && last:
			from = max(h.Signed.N-recent, 0)
		case p.next < 0 || !last:
			continue
		}
		entries, err := h.Signed.Entries(p.dir, from, batch)
		for n, raw := range entries {
			e, err := entry.Parse([]byte(raw))
			if err != nil || e.Record != s.record {
				continue
			}
			if s.first < 0 || s.log != h.ID {
				s.first, s.log = from+int64(n), h.ID
			}
			if e.Type != entry.Version && e.Type != entry.Probe { // of what it ends; its own entry is another
				at := time.Unix(0, e.TimeNS).UTC()
				s.found = Custodian{ID: s.found.ID, Known: true, At: at, MS: at.Sub(begun).Milliseconds(), Channel: e.Proof, Entry: string(e.Type),
					Log: h.ID, Seq: from + int64(n), Level: verify.Included.String()}
				return nil
			}
		}
		p.log, p.next = h.Log.Origin, from+int64(len(entries))
		if err != nil {
			return fmt.Errorf("its log cannot be read: %w", err)
		}
	}
	return nil
}

// cosigned reports whether a witness has seen the entry.
func (s *seeker) cosigned() bool {
	for _, p := range s.places {
		heads, err := s.trust.Heads(p.dir)
		if err != nil {
			continue
		}
		for _, h := range heads {
			if h.ID == s.found.Log && h.Cosigned != nil && h.Cosigned.N > s.found.Seq {
				s.found.Level = verify.Cosigned.String()
				return true
			}
		}
	}
	return false
}

// Remote is a log that an auditor serves: url is that of the log's folder.
func Remote(url string) fs.FS { return remote(strings.TrimSuffix(url, "/") + "/") }

type remote string

// Open implements fs.FS for files.
func (r remote) Open(name string) (fs.File, error) {
	fault := func(err error) error { return &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return nil, fault(fs.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), each)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(r)+name, nil)
	if err != nil {
		return nil, fault(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, fault(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fault(fs.ErrNotExist)
	default:
		return nil, fault(errors.New(resp.Status))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return nil, fault(err)
	}
	return &file{bytes.NewReader(b), name}, nil
}

// file is a file that was fetched whole.
type file struct {
	*bytes.Reader
	name string
}

func (f *file) Close() error               { return nil }
func (f *file) Stat() (fs.FileInfo, error) { return f, nil }
func (f *file) Name() string               { return f.name }
func (f *file) Mode() fs.FileMode          { return 0o444 }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }
