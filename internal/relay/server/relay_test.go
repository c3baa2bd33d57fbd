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
	r := new(Relay)
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
	r, now, refused := new(Relay), time.Unix(1000, 0), 0
	for n := range 3000 {
		if err := r.Take(record(n), now); errors.Is(err, errBusy) {
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
		if err := r.Take(record(10_000+n), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.records) != kept || !bytes.Equal(r.records[kept-1], record(12_999)) {
		t.Errorf("%d are kept, the newest %s", len(r.records), r.records[len(r.records)-1])
	}
}
