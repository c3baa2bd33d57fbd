package detect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/detect"
)

// broken is a receiver that fails at first.
type broken struct {
	fails int
	got   []string
}

func (b *broken) Send(_ context.Context, f *detect.Finding) error {
	if b.fails > 0 {
		b.fails--
		return errors.New("down")
	}
	b.got = append(b.got, f.ID)
	return nil
}

// chained is a workload that uses 30 credentials in half a minute.
func chained() []*entry.Entry {
	w := &world{}
	for i := range 30 {
		w.add(time.Unix(1_000_000_000+int64(i), 0), entry.Intent, "agent", fmt.Sprintf("k%d", i), nil)
	}
	return w.list
}

// TestWatch: a finding reaches every receiver, once it can be reached, and those that have it do not get it again.
func TestWatch(t *testing.T) {
	a, b := &broken{}, &broken{fails: 2}
	w := &detect.Watch{Detector: detect.New(nil), Sinks: []detect.Sink{a, b}}
	list := chained()
	for n := 1; ; n++ {
		if err := w.Take(t.Context(), list); err == nil {
			if n != 3 {
				t.Errorf("taken after %d times", n)
			}
			break
		}
	}
	if len(a.got) != 1 || len(b.got) != 1 || a.got[0] != b.got[0] {
		t.Errorf("%q and %q", a.got, b.got)
	}
	if err := w.Take(t.Context(), list); err != nil || len(a.got) != 1 {
		t.Errorf("again: %q, %v", a.got, err)
	}
}

// One who takes nothing keeps a finding from nobody else.
func TestWatchBesideBroken(t *testing.T) {
	never, other := &broken{fails: 100}, &broken{}
	w := &detect.Watch{Detector: detect.New(nil), Sinks: []detect.Sink{never, other}}
	for range 2 {
		if err := w.Take(t.Context(), chained()); err == nil {
			t.Error("what is owed counts as sent")
		}
	}
	if len(other.got) != 1 {
		t.Errorf("the other has %q", other.got)
	}
}

// TestWebhook: a finding is posted as JSON, and only 2xx has taken it.
func TestWebhook(t *testing.T) {
	status, got := http.StatusServiceUnavailable, detect.Finding{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != "POST" || r.Header.Get("Idempotency-Key") != got.ID {
			t.Errorf("%s: %v", r.Method, err)
		}
		w.WriteHeader(status)
	}))
	defer s.Close()
	f := found(t)
	send := func(address string) error {
		w, err := detect.NewWebhook(address)
		if err != nil {
			t.Fatal(err)
		}
		return w.Send(t.Context(), f)
	}
	if err := send(s.URL); err == nil {
		t.Error("503 counts as taken")
	}
	status = http.StatusNoContent
	if err := send(s.URL); err != nil || got.ID != f.ID || got.Subject != "workload:agent" {
		t.Errorf("%+v, %v", got, err)
	}
	away := httptest.NewServer(http.RedirectHandler(s.URL, http.StatusTemporaryRedirect))
	defer away.Close()
	got = detect.Finding{}
	if err := send(away.URL); err == nil || got.ID != "" {
		t.Errorf("a redirect: %+v, %v", got, err)
	}
	if _, err := detect.NewWebhook("http://alerts.example/"); err == nil {
		t.Error("findings go over the network in the clear")
	}
}

// heard keeps what a receiver is sent.
type heard struct{ got []*detect.Finding }

func (h *heard) Send(_ context.Context, f *detect.Finding) error {
	h.got = append(h.got, f)
	return nil
}

// What entries name reaches receivers as text: it moves no cursor, begins no line, turns nothing around.
func TestWatchHostileNames(t *testing.T) {
	w, receiver := &world{}, &heard{}
	for i := range 30 {
		w.add(time.Unix(1_000_000_000+int64(i), 0), entry.Intent, "agent\x1b[2J\n<104>1 all is well", fmt.Sprintf("k%d\u202e", i), nil)
	}
	watch := &detect.Watch{Detector: detect.New(nil), Sinks: []detect.Sink{receiver}}
	if err := watch.Take(t.Context(), w.list); err != nil || len(receiver.got) == 0 {
		t.Fatal(receiver.got, err)
	}
	for _, f := range receiver.got {
		text := strings.Join(append([]string{f.What, f.Subject}, f.Names...), " ")
		if i := strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 {
			t.Errorf("%q has %q", text, text[i:])
		}
		if !strings.Contains(f.Subject, `\u001b[2J\u000a<104>`) {
			t.Errorf("subject %q", f.Subject)
		}
	}
}

func found(t *testing.T) *detect.Finding {
	d := detect.New(nil)
	for _, e := range chained() {
		d.Add(e)
	}
	list := d.Findings()
	if len(list) != 1 {
		t.Fatalf("%d findings", len(list))
	}
	list[0].Owners = []detect.Owner{{Person: `a"]\`, For: "operations of g1"}}
	return list[0]
}

// message is what RFC 5424, section 6, makes of a finding.
const message = `^<106>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ reeve-audit \d+ chaining \[finding@32473 id="[0-9a-f]{16}" subject="workload:agent" unit="research" count="30" owners="a\\"\\]\\\\ \(operations of g1\)"\] agent: 30 credentials that a workload used within 1m.*$`

// TestSyslog: over UDP and a Unix socket a message is a datagram, over TCP its length stands before it.
func TestSyslog(t *testing.T) {
	f := found(t)
	send := func(address string) {
		s, err := detect.NewSyslog(address)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what, text, form string) {
		if !regexp.MustCompile(form).MatchString(text) {
			t.Errorf("%s: %q", what, text)
		}
	}
	buffer := make([]byte, 65536)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	send("udp://" + udp.LocalAddr().String())
	n, _, err := udp.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	check("udp", string(buffer[:n]), message)

	path := filepath.Join(t.TempDir(), "log")
	unix, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	send("unix:" + path)
	n, _, err = unix.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	check("unix", string(buffer[:n]), message)

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	send("tcp://" + tcp.Addr().String())
	c, err := tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, _ = c.Read(buffer)
	var length int
	if _, err := fmt.Sscanf(string(buffer[:n]), "%d ", &length); err != nil || length+len(fmt.Sprint(length))+1 != n {
		t.Errorf("the length %d of %d: %v", length, n, err)
	}
	check("tcp", string(buffer[n-length:n]), message)

	for _, bad := range []string{"", "localhost", "udp://host", "tcp://host:1/x", "unix:", "http://host:80"} {
		if _, err := detect.NewSyslog(bad); err == nil {
			t.Errorf("%q is an address", bad)
		}
	}
}
