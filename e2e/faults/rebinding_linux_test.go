package faults

import (
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/up"
)

// resolver is a name server (RFC 1035) that has one answer after another for addresses of version 4, each good for no time, and none of version 6.
type resolver struct {
	net.PacketConn
	mu      sync.Mutex
	answers [][]netip.Addr
	asked   int
}

// newResolver listens where a resolv.conf can name it: at the port of DNS, on an address of the loopback network that is this process's own.
func newResolver(t testing.TB, answers [][]netip.Addr) *resolver {
	t.Helper()
	n := os.Getpid()
	c, err := net.ListenPacket("udp", fmt.Sprintf("127.53.%d.%d:53", n>>8&255, n&255|1))
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{PacketConn: c, answers: answers}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for b := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(r.answer(b[:n]), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-over })
	return r
}

func (r *resolver) answer(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the name's end, type, class
	if len(query) < end {
		return nil
	}
	out := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if binary.BigEndian.Uint16(query[end-4:]) != 1 {
		return out
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := r.answers[r.asked%len(r.answers)]
	r.asked++
	for _, a := range addrs {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, a.AsSlice()...)
	}
	out[7] = byte(len(addrs))
	return out
}

// TestRebinding has a name's owner change it under the real custodian, between any two look-ups: the first answer is an address that the record permits, the next
// one inside, and so on. What was looked up and checked is what is dialled, once for each connection: nothing inside is ever dialled.
func TestRebinding(t *testing.T) {
	need.Part(t, "root", "linux", "unshare", "mount", "setpriv")
	var outside, inside atomic.Int64
	permitted := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, completion)
	}))
	permitted.Config.SetKeepAlivesEnabled(false) // each call needs a connection of its own
	permitted.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			outside.Add(1)
		}
	}
	permitted.StartTLS()
	defer permitted.Close()
	_, port, err := net.SplitHostPort(permitted.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trap, err := net.Listen("tcp", "127.0.0.2:"+port) // no record permits it
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			inside.Add(1)
			c.Close()
		}
	}()
	good, bad := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	names := newResolver(t, [][]netip.Addr{{good}, {bad}, {good}, {good, bad}, {bad, good}})

	s := makeSite(t, demo.RandomKey, func(p *estate.Plan) {
		d := &p.Custody["research"].Credentials[0].Destination
		d.Origin = "https://example.com:" + port // whose name the certificate has
		d.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: permitted.Certificate().Raw}))
	})
	conf := filepath.Join(filepath.Dir(s.path), "resolv.conf")
	server, _, _ := net.SplitHostPort(names.LocalAddr().String())
	if err := os.WriteFile(conf, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(conf, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	s.changed(func(spec up.Spec) up.Spec {
		if spec.Name == host.Custodian { // only it sees another resolv.conf
			script := fmt.Sprintf(`mount --bind %s /etc/resolv.conf && exec setpriv --reuid %d --regid %[2]d --clear-groups "$@"`, conf, spec.UID)
			spec.Args = append([]string{"--mount", "/bin/sh", "-c", script, "sh", spec.Path}, spec.Args...)
			spec.Path, spec.UID = "unshare", -1
		}
		return spec
	})
	s.mustUp()

	used, refused := 0, 0
	for range 25 {
		switch a := s.chat("rebinding"); {
		case a.used() && a.status == http.StatusOK:
			used++
		case a.refusal == "upstream_unreachable" && strings.Contains(a.message, "Nothing was sent"):
			refused++
		default:
			t.Errorf("%v", a)
		}
	}
	names.mu.Lock()
	defer names.mu.Unlock()
	t.Logf("%d look-ups, %d calls went out, %d were refused", names.asked, used, refused)
	if n := inside.Load(); n != 0 {
		t.Errorf("%d connections came to the address inside", n)
	}
	if used != 10 || refused != 15 || outside.Load() != 10 || names.asked != 25 {
		t.Errorf("%d calls went out over %d connections, %d were refused, after %d look-ups; want 10, 10, 15, 25: one look-up for each connection", used, outside.Load(), refused, names.asked)
	}
}
