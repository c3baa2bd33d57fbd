package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/relay"
)

// record is a file that is shaped like a record. Nobody signed it: a relay does not look.
func record(n int) []byte {
	return fmt.Appendf(nil, `{"payload":"e30=","payloadType":"application/vnd.reeve.revocation+json","signatures":[{"keyid":"k%d","sig":"AA=="}]}`, n)
}

// TestRecordsReachWhoListens: those that were kept, those that come, and after a break in the connection all of them again.
func TestRecordsReachWhoListens(t *testing.T) {
	r := New()
	server := httptest.NewServer(r)
	defer server.Close()
	post := func(file []byte) int {
		t.Helper()
		resp, err := http.Post(server.URL+relay.Path, "application/json", bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := post(record(1)); got != http.StatusAccepted {
		t.Fatalf("status %d", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	came, told := make(chan string, 100), make(chan error, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay.Listen(ctx, server.URL, nil, func(file []byte) { came <- string(file) }, func(err error) { told <- err })
	}()
	want := func(files ...[]byte) {
		t.Helper()
		for _, f := range files {
			if got := <-came; got != string(f) {
				t.Fatalf("came %s, want %s", got, f)
			}
		}
	}
	want(record(1))
	if err := <-told; err != nil {
		t.Errorf("the relay is there: %v", err)
	}
	post(record(2))
	post(record(2)) // known
	post(record(3))
	want(record(2), record(3))
	for _, bad := range []string{"", "{}", "no record", string(bytes.Repeat([]byte("a"), feed.MaxRecord+1))} {
		if got := post([]byte(bad)); got != http.StatusBadRequest {
			t.Errorf("%.20q: status %d", bad, got)
		}
	}
	server.CloseClientConnections()
	if err := <-told; err == nil {
		t.Error("the break was not told")
	}
	want(record(1), record(2), record(3))
	r.Close()
	want(record(1), record(2), record(3))
	cancel()
	<-done
}

// TestFloodIsBounded: what comes faster than it should is refused, and what is kept is bounded.
func TestFloodIsBounded(t *testing.T) {
	r, now, refused := New(), time.Unix(1000, 0), 0
	for n := range 3000 {
		if err := r.Take(record(n), "", now); errors.Is(err, errBusy) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused != 3000-burst {
		t.Errorf("%d of 3000 at once were refused, want all but %d", refused, burst)
	}
	for n := range 3000 {
		now = now.Add(pace)
		if err := r.Take(record(10_000+n), "", now); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.records) != kept || !bytes.Equal(r.records[kept-1], record(12_999)) {
		t.Errorf("%d are kept, the newest %s", len(r.records), r.records[len(r.records)-1])
	}
}

// sized notes the longest write, and ends the stream after the first flush.
type sized struct {
	*httptest.ResponseRecorder
	longest int
	end     context.CancelFunc
}

func (s *sized) Write(b []byte) (int, error) {
	s.longest = max(s.longest, len(b))
	return len(b), nil
}

func (s *sized) FlushError() error                { s.end(); return nil }
func (s *sized) SetReadDeadline(time.Time) error  { return nil }
func (s *sized) SetWriteDeadline(time.Time) error { return nil }

// TestListenersShare: what is kept is not copied whole for each who listens, and one address that takes all seats it can leaves some.
func TestListenersShare(t *testing.T) {
	r, now := New(), time.Unix(1000, 0)
	for n := range kept {
		now = now.Add(pace)
		if err := r.Take(record(n), "192.0.2.1:1", now); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &sized{ResponseRecorder: httptest.NewRecorder(), end: cancel}
	r.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", relay.Path, nil))
	if w.longest == 0 || w.longest > feed.MaxRecord+1 {
		t.Errorf("%d bytes are written at once", w.longest)
	}
	taken := 0
	for r.seats.Take("192.0.2.1:1") {
		taken++
	}
	if taken > most*4/5 || !r.seats.Take("192.0.2.2:1") {
		t.Errorf("one address takes %d of %d seats", taken, most)
	}
}
