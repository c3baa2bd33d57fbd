package process

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// sink keeps each write.
type sink struct {
	mu     sync.Mutex
	writes []string
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

func TestJournalLine(t *testing.T) {
	var out sink
	j := NewJournal(&out, "reeve-test")
	hostile := "a\"b\\c\nd\x00é\u2028\xff"
	j.Begin("request").Text("model", hostile).Int("status", -200).Bool("stream", true).End()
	j.Flush()
	var got map[string]any
	if err := json.Unmarshal([]byte(out.text()), &got); err != nil {
		t.Fatalf("%v: %s", err, out.text())
	}
	if at, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %v", got["time"])
	}
	delete(got, "time")
	want := map[string]any{"level": "INFO", "msg": "request", "process": "reeve-test", "model": strings.ToValidUTF8(hostile, "\ufffd"), "status": -200.0, "stream": true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if strings.Count(out.text(), "\n") != 1 || !utf8.ValidString(out.text()) {
		t.Errorf("not one line: %q", out.text())
	}
}

func TestJournalWritesRequestsTogetherAndInOrder(t *testing.T) {
	var out sink
	j := NewJournal(&out, "reeve-test")
	log := slog.New(slog.NewJSONHandler(j, nil))
	for range 10 {
		j.Begin("request").End()
	}
	log.Info("urgent")
	if len(out.writes) != 1 {
		t.Fatalf("%d writes before the urgent line is out, want 1", len(out.writes))
	}
	if got := out.text(); strings.Count(got, "\n") != 11 || !strings.Contains(got[strings.LastIndex(strings.TrimSpace(got), "\n"):], "urgent") {
		t.Errorf("%s", got)
	}
	j.Begin("request").Text("id", "last").End()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(out.text(), "last"); {
		if time.Now().After(end) {
			t.Fatal("a line that waits is never written")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestJournalIsBounded(t *testing.T) {
	var out sink
	j := NewJournal(&out, "reeve-test")
	for range 4 * journalBatch / 64 { // a line is longer than 64 bytes
		j.Begin("request").End()
		j.mu.Lock()
		if len(j.buf) > 2*journalBatch {
			t.Fatalf("%d bytes wait", len(j.buf))
		}
		j.mu.Unlock()
	}
	if len(out.writes) < 3 {
		t.Errorf("%d writes", len(out.writes))
	}
}

func TestJournalConcurrent(t *testing.T) {
	var out sink
	j := NewJournal(&out, "reeve-test")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				j.Begin("request").Text("a", "b").End()
			}
		})
	}
	wg.Wait()
	j.Flush()
	lines := strings.Split(strings.TrimSpace(out.text()), "\n")
	if len(lines) != 1600 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Fatalf("%s", l)
		}
	}
}

func BenchmarkJournal(b *testing.B) {
	j := NewJournal(discard{}, "reeve-test")
	b.ReportAllocs()
	for b.Loop() {
		j.Begin("request").Text("request_id", "req_0123456789abcdef").Text("client", "127.0.0.1").Text("method", "POST").Text("route", "/v1/chat/completions").
			Int("status", 200).Int("in", 200).Int("out", 210).Int("us", 1234).Text("workload", "research-agent").Text("receipt", strings.Repeat("x", 300)).End()
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
