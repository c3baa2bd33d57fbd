package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
)

// A TLS record is longer than what it carries by a fixed number of bytes, and a call whose request fits into one record leaves
// in one write. So calls whose bodies all differ in length are told apart by the lengths of the writes to the upstream.
const (
	shortest = 200 // bytes of a call's body
	longest  = 700
	alert    = 24 // bytes of an encrypted TLS alert: the end of a connection
)

// sized is a chat of exactly n bytes.
func (s *site) sized(n int) answer {
	const frame = `{"model":"openai/demo-small","messages":[{"role":"user","content":""}]}`
	body := strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1)
	return s.call(s.key, http.MethodPost, "/v1/chat/completions", body)
}

// order holds a trace of the custodian against the rule that no byte of a request goes to the upstream before an fdatasync has
// returned that began after the request's intent was written. port is the upstream's; intents has the number of each call's
// intent by the length of the write that carries the call. It returns how many requests it judged.
func order(trace []byte, port int, intents map[int]int64) (judged int, wrong []string, err error) {
	all, err := events(trace)
	if err != nil {
		return 0, nil, err
	}
	var (
		written  = map[int64]bool{} // intents whose write returned
		covered  = map[string][]int64{}
		durable  = map[int64]bool{}
		upstream = map[string]bool{} // descriptors
		met      = map[int]bool{}
		target   = fmt.Sprintf("sin_port=htons(%d)", port)
	)
	for _, e := range all {
		number, _, _ := strings.Cut(e.fd, "<")
		wal := strings.Contains(e.fd, "/wal/wal-")
		switch {
		case e.call == "pwrite64" && wal && e.ends && !strings.HasPrefix(e.result, "-"):
			for _, m := range seqPattern.FindAllStringSubmatch(e.args, -1) {
				n, err := strconv.ParseInt(m[1], 10, 64)
				if err != nil {
					return 0, nil, err
				}
				written[n] = true
			}
		case e.call == "fdatasync" && wal && !e.ends:
			covered[e.thread] = nil
			for n := range written {
				covered[e.thread] = append(covered[e.thread], n)
			}
		case e.call == "fdatasync" && wal && e.result == "0":
			for _, n := range covered[e.thread] {
				durable[n] = true
			}
		case e.call == "connect" && !e.ends && strings.Contains(e.args, target):
			upstream[number] = true
		case e.call == "close" && !e.ends:
			delete(upstream, number)
		case (e.call == "write" || strings.HasPrefix(e.call, "send")) && !e.ends && upstream[number]:
			size, data := writeSize(e.args), strings.Contains(e.args, `"\27\3\3`)
			seq, known := intents[size]
			switch {
			case !data || size <= alert: // TLS handshake or the connection's end
			case !known:
				wrong = append(wrong, fmt.Sprintf("a write of %d bytes to the upstream belongs to no call", size))
			case met[size]:
				wrong = append(wrong, fmt.Sprintf("the call of intent %d was sent twice", seq))
			case !durable[seq]:
				wrong = append(wrong, fmt.Sprintf("the call of intent %d was sent before its intent was durable (written: %v)", seq, written[seq]))
			}
			if known && data {
				met[size] = true
			}
		}
	}
	return len(met), wrong, nil
}

var (
	seqPattern  = regexp.MustCompile(`\\"seq\\":(\d+)`)
	sizePattern = regexp.MustCompile(`^, "(?:[^"\\]|\\.)*"(?:\.\.\.)?, (\d+)`)
)

// writeSize is the length argument of a write whose arguments these are.
func writeSize(args string) int {
	m := sizePattern.FindStringSubmatch(args)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// traceOrder calls through a custodian that is traced and returns what order finds.
func traceOrder(t *testing.T, s *site) (judged int, wrong []string) {
	t.Helper()
	end := s.strace(s.pid(host.Custodian), "pwrite64,fdatasync,connect,close,write,writev,sendto,sendmsg", "")
	const callers = 16
	var mu sync.Mutex
	intents := map[int]int64{} // by body length
	call := func(n int) {
		a := s.sized(n)
		r, err := entry.ParseReceipt(a.receipt)
		if err != nil || !a.used() {
			t.Errorf("a call of %d bytes: %v", n, a)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		intents[n] = r.Seq
	}
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := shortest + c; n <= longest; n += callers {
				call(n)
			}
		})
	}
	all.Wait()
	trace := end()

	// The smallest write of application data carries the shortest body.
	smallest := 0
	evs, err := events(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range evs {
		size := writeSize(e.args)
		if e.call == "write" && !e.ends && strings.Contains(e.args, `"\27\3\3`) && size > alert && (smallest == 0 || size < smallest) {
			smallest = size
		}
	}
	bySize := map[int]int64{}
	for n, seq := range intents {
		bySize[n-shortest+smallest] = seq
	}
	judged, wrong, err = order(trace, s.dir.Run.Ports.Upstream, bySize)
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() || os.Getenv("REEVE_KEEP_TRACE") != "" {
		os.WriteFile(filepath.Join(os.TempDir(), "reeve-trace"), trace, 0o600)
	}
	return judged, wrong
}

// TestRealOrder traces the custodian's system calls under load.
func TestRealOrder(t *testing.T) {
	need.Real(t, "linux", "root", "strace")
	judged, wrong := traceOrder(t, start(t))
	for _, w := range wrong {
		t.Error(w)
	}
	if want := longest - shortest + 1; judged != want {
		t.Errorf("judged %d requests of %d", judged, want)
	}
	t.Logf("%d requests, each sent after the fdatasync that covers its intent", judged)
}

// TestRealOrderIsRed traces a custodian that does not wait for its disk: the seeded fault that the check must find.
func TestRealOrderIsRed(t *testing.T) {
	need.Real(t, "linux", "root", "strace")
	s := newSite(t)
	s.seed("internal/ledger/commit.go", "if err := v.file.Sync(); err != nil {", "go v.file.Sync()\n\tif err := error(nil); err != nil {")
	s.mustUp()
	judged, wrong := traceOrder(t, s)
	if len(wrong) == 0 {
		t.Fatal("a custodian that sends without waiting for its disk was not noticed")
	}
	t.Logf("%d of %d requests found too early, such as: %s", len(wrong), judged, wrong[0])
}

// seed makes the site run a custodian with a fault: in one source file, each first text of a pair is replaced by the second.
func (s *site) seed(file string, pairs ...string) {
	s.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		s.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(string(source), pairs[i]) != 1 {
			s.Fatalf("the fault cannot be seeded: %s does not have %q once", file, pairs[i])
		}
	}
	dir, err := os.MkdirTemp("", "reeve-faults-seeded-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	faulty, overlay := filepath.Join(dir, "faulty.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(faulty, []byte(strings.NewReplacer(pairs...).Replace(string(source))), 0o600); err != nil {
		s.Fatal(err)
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, file): faulty}})
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		s.Fatal(err)
	}
	if err := binaries.Build(dir, overlay, "reeve-custodian"); err != nil {
		s.Fatal(err)
	}
	s.program(host.Custodian, filepath.Join(dir, "reeve-custodian"))
}

// TestOrderIsRed feeds the check with traces made by hand.
func TestOrderIsRed(t *testing.T) {
	const (
		wal     = `7</state/ledger/0/wal/wal-00000001>`
		intend  = `10 pwrite64(` + wal + `, "\0\0{\"log\":\"a\",\"seq\":5,\"tenant_seq\":9}", 64, 4096) = 64`
		sync    = `10 fdatasync(` + wal + `) = 0`
		connect = `11 connect(9<socket:[77]>, {sa_family=AF_INET, sin_port=htons(7809), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS (Operation now in progress)`
		hello   = `11 write(9<socket:[77]>, "\26\3\1\2", 1500) = 1500`
		send    = `11 write(9<socket:[77]>, "\27\3\3\1 \"secret\"", 300) = 300`
		bye     = `11 write(9<socket:[77]>, "\27\3\3\0\23", 24) = 24`
		closed  = `11 close(9<socket:[77]>) = 0`
		other   = `11 write(9<pipe:[78]>, "\27\3\3\1", 999) = 999`
	)
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"as it should be", []string{intend, sync, connect, hello, send, bye, closed, other}, ""},
		{"calls that overlap", []string{
			connect, intend, `10 fdatasync(` + wal + ` <unfinished ...>`, hello, `10 <... fdatasync resumed>) = 0`, send}, ""},
		{"sent before it is synced", []string{connect, intend, send, sync}, "before its intent was durable (written: true)"},
		{"sent while it is synced", []string{
			connect, intend, `10 fdatasync(` + wal + ` <unfinished ...>`, send, `10 <... fdatasync resumed>) = 0`}, "before its intent was durable"},
		{"synced while it is written", []string{
			connect, strings.Replace(intend, `) = 64`, ` <unfinished ...>`, 1), strings.Replace(sync, "10", "12", 1), `10 <... pwrite64 resumed>) = 64`, send},
			"before its intent was durable"},
		{"another file is synced", []string{connect, intend, `10 fdatasync(8</state/closed.json>) = 0`, send}, "before its intent was durable"},
		{"the sync failed", []string{connect, intend, `10 fdatasync(` + wal + `) = -1 EIO (Input/output error) (INJECTED)`, send}, "before its intent was durable"},
		{"never written", []string{connect, sync, send}, "before its intent was durable (written: false)"},
		{"sent twice", []string{intend, sync, connect, send, send}, "was sent twice"},
		{"a call that nobody made", []string{intend, sync, connect, strings.ReplaceAll(send, "300", "301")}, "belongs to no call"},
	} {
		t.Run(c.name, func(t *testing.T) {
			judged, wrong, err := order([]byte(strings.Join(c.lines, "\n")), 7809, map[int]int64{300: 5})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(wrong, "\n")
			if c.want == "" && (got != "" || judged != 1) || c.want != "" && !strings.Contains(got, c.want) {
				t.Errorf("judged %d, %q; want %q", judged, got, c.want)
			}
		})
	}
}
