package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/authority/store/postgrestest"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
)

// replica is one of several authorities over one database.
type replica struct {
	testing.TB
	id     string
	dir    string
	config map[string]any
	url    string

	mu  sync.Mutex
	cmd *exec.Cmd
	log strings.Builder
}

// pair starts an estate with two authorities over one PostgreSQL.
func pair(t testing.TB, server *postgrestest.Server) (*estatetest.Estate, []*replica) {
	t.Helper()
	e := estatetest.New(t, estatetest.Service("log", "a2"), estatetest.Service("feed", "a2"))
	connection := server.Database(t, "reeve")
	var all []*replica
	for _, id := range []string{"a1", "a2"} {
		r := &replica{TB: t, id: id, dir: t.TempDir()}
		r.config = map[string]any{
			"id": id, "listen": "127.0.0.1:0", "state_dir": filepath.Join(r.dir, "state"), "tiles_dir": filepath.Join(r.dir, "tiles"),
			"database": map[string]string{"connection": connection}, "estate": e.Dir.Signed(),
			"estate_trust": map[string]any{"estate": e.Pin.Estate, "charter_sha256": e.Pin.CharterSHA256, "root_keys": e.Pin.RootKeys},
			"feed_key":     r.file("feed.key", e.Signer("feed", id)), "log_key": r.file("log.key", e.Signer("log", id)),
			"witnesses": []map[string]string{{"id": "w1", "url": "http://127.0.0.1:1"}}, // nobody: the fuse is the custodians' business
		}
		for _, d := range []string{"state", "tiles"} {
			if err := os.Mkdir(filepath.Join(r.dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		r.start()
		all = append(all, r)
	}
	return e, all
}

func (r *replica) file(name, content string) string {
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		r.Fatal(err)
	}
	return path
}

// start starts the process, which keeps the port that it got the first time.
func (r *replica) start() {
	r.Helper()
	config, err := json.Marshal(r.config) // JSON is YAML
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "reeve-authority"), "--demo", "--config", r.file("authority.yaml", string(config)))
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.Fatal(err)
	}
	r.mu.Lock()
	r.cmd = cmd
	r.mu.Unlock()
	listening := make(chan string, 1)
	go func() {
		defer close(listening)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			r.mu.Lock()
			fmt.Fprintln(&r.log, lines.Text())
			r.mu.Unlock()
			var said struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &said) == nil && said.Msg == "listening" {
				listening <- said.Address
			}
		}
	}()
	r.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.Failed() {
			r.Logf("%s said:\n%s", r.id, r.log.String())
			r.log.Reset()
		}
	})
	address, ok := <-listening
	if !ok {
		r.Fatalf("%s did not start", r.id)
	}
	r.config["listen"], r.url = address, "http://"+address
}

func (r *replica) signal(s os.Signal) {
	r.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.Fatal(err)
	}
	if s == syscall.SIGKILL {
		r.cmd.Wait()
	}
}

// status is what the authority says of itself; nil when it does not answer.
func (r *replica) status() (s *struct {
	Leading bool
	Holder  string
	Epoch   int64
	Records int
}) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+"/v1/status", nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&s) != nil {
		return nil
	}
	return s
}

// until waits for a condition, for a minute at most.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// leader waits for the one that publishes.
func leader(t testing.TB, all []*replica) (leads, stands *replica) {
	t.Helper()
	until(t, "one authority publishes", func() bool {
		for i, r := range all {
			if s := r.status(); s != nil && s.Leading {
				leads, stands = r, all[1-i]
				return true
			}
		}
		return false
	})
	return leads, stands
}

// followPair follows both authorities. Nobody cosigns here, so it has its first set from the folder.
func followPair(t testing.TB, e *estatetest.Estate, all []*replica) (*feed.Follower, <-chan string) {
	t.Helper()
	heard, dir := make(chan string, 100), t.TempDir()
	first, stop := context.WithCancel(t.Context())
	defer stop()
	f, err := feed.Follow(first, feed.Config{Folder: e.Dir.Signed(), Dir: dir, Pin: e.Pin})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the first set", func() bool { return f.Set() != nil })
	stop()
	f.Wait()
	f, err = feed.Follow(t.Context(), feed.Config{
		URLs: []string{all[0].url, all[1].url}, Dir: dir, Pin: e.Pin, Process: "c1", Sign: e.Endorse("c1"), Skew: time.Minute,
		OnRecord: func(r *statement.Record) error { heard <- r.Kind; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Wait) // it writes to dir until its context has ended
	until(t, "the first heartbeat", func() bool { return f.Age() != feed.Unknown })
	return f, heard
}

// gap breaks the holder and returns how old the news became before the other authority's heartbeat counted.
func gap(t testing.TB, f *feed.Follower, fault func()) (oldest time.Duration) {
	t.Helper()
	epoch := f.Status().Epoch
	fault()
	until(t, "a heartbeat of the next epoch", func() bool {
		oldest = max(oldest, f.Age())
		return f.Status().Epoch > epoch
	})
	return oldest
}

// TestFailover kills the authority that holds the lease, and stops one that comes back later: the other one takes over, nothing
// that was published is lost or entered twice, and an old holder is silent. The gaps are printed.
func TestFailover(t *testing.T) {
	e, all := pair(t, postgrestest.Start(t))
	f, heard := followPair(t, e, all)
	for range 2 { // the two keys
		<-heard
	}
	var killed []time.Duration
	for number := int64(1); number <= 5; number++ {
		leads, stands := leader(t, all)
		until(t, stands.id+" stands by for "+leads.id, func() bool {
			s := stands.status()
			return s != nil && !s.Leading && s.Holder == leads.id
		})
		seen := request(t, e, leads) // as somebody who sees it on the way has it
		killed = append(killed, gap(t, f, func() { leads.signal(syscall.SIGKILL) }))
		if s := stands.status(); s == nil || !s.Leading || s.Records != 2+int(number-1) {
			t.Fatalf("after the takeover: %+v", s)
		}
		for _, header := range []string{seen, request(t, e, stands)} {
			resp := ask(t, stands, header)
			if want := map[bool]int{true: 401, false: 200}[header == seen]; resp.StatusCode != want {
				t.Errorf("a request for the stream after the takeover: %s, want %d", resp.Status, want)
			}
		}
		revoke(t, e, stands, number)
		<-heard
		leads.start()
		until(t, "the killed one stands by with everything", func() bool {
			s := leads.status()
			return s != nil && !s.Leading && s.Holder == stands.id && s.Records == 2+int(number)
		})
	}
	slices.Sort(killed)
	t.Logf("kill -9 of the holder, %d times: the news was at most %v old", len(killed), killed)

	// A closing that comes to the one that stands by is the holder's to publish.
	leads, stands := leader(t, all)
	revoke(t, e, stands, 6)
	<-heard

	// One that is stopped and goes on later finds itself without the lease and says nothing.
	stopped := gap(t, f, func() { leads.signal(syscall.SIGSTOP) })
	t.Logf("SIGSTOP of the holder: the news was at most %v old", stopped)
	leads.signal(syscall.SIGCONT)
	until(t, "the old holder knows the new one", func() bool {
		s := leads.status()
		return s != nil && !s.Leading && s.Epoch == 0 && s.Holder == stands.id
	})
	if s := f.Status(); s.Records != 8 || s.Withheld != 0 || len(s.Gaps) != 0 {
		t.Errorf("the follower has %+v", s)
	}
	for _, g := range append(killed, stopped) {
		if g > 5*time.Second {
			t.Errorf("the news was %v old: the default bound is 5 s", g)
		}
	}
}

// request is the custodian's for the stream of an authority, signed for its challenge and not sent.
func request(t testing.TB, e *estatetest.Estate, to *replica) string {
	t.Helper()
	a := &feed.Ask{Challenge: ask(t, to, "").Header.Get(feed.ChallengeHeader), Estate: e.Pin.Estate, Process: "c1", Records: (&feed.Records{}).Sum(), Time: time.Now().UTC()}
	header, err := a.Header(e.Endorse("c1"))
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// ask asks an authority for the stream, and reads nothing of it.
func ask(t testing.TB, to *replica, header string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", to.url+feed.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		req.Header.Set(feed.AskHeader, header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestDatabaseAway takes PostgreSQL away from two authorities that run, and brings it back: nothing that opens is taken, a closing still reaches
// who follows, heartbeats stop before the smallest bound is over, and everything comes back by itself, the closing in the database too.
func TestDatabaseAway(t *testing.T) {
	server := postgrestest.Start(t)
	e, all := pair(t, server)
	f, heard := followPair(t, e, all)
	for range 2 { // the two keys
		<-heard
	}
	leads, _ := leader(t, all)
	server.Stop()
	last := f.Status()
	until(t, "no heartbeat counts any more", func() bool {
		if s := f.Status(); s.Number != last.Number || s.Epoch != last.Epoch {
			last = s
		}
		return f.Age() > 5*time.Second // the default bound of a credential of the high class
	})
	_, env, err := estate.NewKey("demo", "support-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	key, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := post(t, leads, key); status != http.StatusServiceUnavailable {
		t.Errorf("a new key without a database: %d %s", status, text)
	}
	revoke(t, e, leads, 1)
	if kind := <-heard; kind != "revocation" {
		t.Errorf("heard %s", kind)
	}
	if f.Age() < 5*time.Second {
		t.Errorf("the news is %v old, though no authority holds a lease", f.Age())
	}

	server.Resume(t)
	until(t, "heartbeats count again", func() bool { return f.Age() != feed.Unknown && f.Age() < time.Second })
	until(t, "both have the closing", func() bool {
		for _, r := range all {
			if s := r.status(); s == nil || s.Records != 3 {
				return false
			}
		}
		return true
	})
	leads, _ = leader(t, all)
	if status, text := post(t, leads, key); status != http.StatusOK {
		t.Errorf("a new key: %d %s", status, text)
	}
	if kind := <-heard; kind != "workload-key" {
		t.Errorf("heard %s", kind)
	}
	until(t, "nothing is withheld", func() bool { return f.Status().Withheld == 0 })
}

// post sends a record.
func post(t testing.TB, to *replica, record []byte) (int, string) {
	t.Helper()
	resp, err := http.Post(to.url+"/v1/records", "application/json", bytes.NewReader(record))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// revoke sends the number-th revocation of ada's.
func revoke(t testing.TB, e *estatetest.Estate, to *replica, number int64) {
	t.Helper()
	env, err := estate.Seal("revocation", statement.Revocation{
		Estate: e.Set.Charter.Estate, Signer: "ada", Number: number, Target: statement.Target{Kind: "token", ID: fmt.Sprint(number)}, Reason: "test", Time: e.Now,
	}, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	b, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := post(t, to, b); status != http.StatusOK {
		t.Fatalf("%s answered %d: %s", to.id, status, text)
	}
}
