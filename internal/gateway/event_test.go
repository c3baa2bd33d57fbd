package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/gateway/anthropic"
	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/gateway/openai"
)

func TestEvents(t *testing.T) {
	long := strings.Repeat("x", 200)
	tests := []struct {
		stream      string
		event, data string
		between     bool
	}{
		{"", "", "", true},
		{": comment\n", "", "", true},
		{"data: a\n\n", "", "a", true},
		{"data: a\n", "", "a", false},
		{"data: a", "", "", false},
		{"event: e\ndata: a\n\nevent: f\n", "f", "", false},
		{"event: e\ndata: a\n\ndata: b\n\n", "", "b", true},
		{"event:e\rdata:a\r\r", "e", "a", true},
		{"event: e\r\ndata: a\r\n\r\n", "e", "a", true},
		{"event: e\r\ndata: a\r\n", "e", "a", false},
		{"data: a\n\n: comment\n", "", "a", true},
		{"data: a\n\n: comm", "", "a", false},
		{"data: {\ndata: }\n\n", "", "{", true},
		{"id: 1\ndata\nretry: 5\n\n", "", "", true},
		{"data: " + long + "\n\n", "", long[:dialect.Head], true},
		{"data: " + long, "", "", false},
		{long + "\n\n", "", "", true},
	}
	for _, test := range tests {
		for step := 1; step <= len(test.stream)+1; step++ {
			var e events
			for rest := test.stream; rest != ""; {
				n := min(step, len(rest))
				e.write([]byte(rest[:n]))
				rest = rest[n:]
			}
			event, data := e.last()
			if got, want := fmt.Sprintf("%q %q %v", event, data, e.between()), fmt.Sprintf("%q %q %v", test.event, test.data, test.between); got != want {
				t.Errorf("%q in steps of %d: %s, want %s", test.stream, step, got, want)
				break
			}
		}
	}
}

// FuzzEvents: how a stream is cut into pieces changes nothing.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: a\r\ndata: b\n\n: c\r\rdata"), 3)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		if step < 1 {
			step = 1
		}
		var whole, cut events
		whole.write(stream)
		for rest := stream; len(rest) > 0; {
			n := min(step, len(rest))
			cut.write(rest[:n])
			rest = rest[n:]
		}
		e1, d1 := whole.last()
		e2, d2 := cut.last()
		if !bytes.Equal(e1, e2) || !bytes.Equal(d1, d2) || whole.between() != cut.between() {
			t.Errorf("%q in steps of %d: %q %q %v, whole %q %q %v", stream, step, e2, d2, cut.between(), e1, d1, whole.between())
		}
	})
}

// FuzzRoute: a path that is served begins with its route's name, byte for byte, and nothing comes of any other.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{"/v1/responses/a/cancel", "/v1/models/a%2Fb", "/v1/messages", "/v1/models/%zz", "/v1/responses//", "/v1/responses/../models"} {
		f.Add("GET", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		for _, d := range []dialect.Dialect{openai.Dialect{}, anthropic.Dialect{}} {
			r, allow := d.Route(method, path)
			if r == nil {
				continue
			}
			prefix, _, _ := strings.Cut(r.Name, "{id}")
			if allow != "" || !strings.HasPrefix(path, prefix) || strings.Count(path, "/") < strings.Count(r.Name, "/") {
				t.Errorf("%s %q is served as %s", method, path, r.Name)
			}
		}
	})
}
