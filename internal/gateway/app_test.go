package gateway

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/process"
)

// proc is the gateway's Run with an estate in a folder and a scripted custodian.
type proc struct {
	t      *testing.T
	rig    *rig
	estate *estatetest.Estate
	cfg    Config
	rt     *process.Runtime
	reload chan *Config
	url    string
	stop   context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // of Run
}

func start(t *testing.T, script hop.Handler, change func(*Config)) *proc {
	t.Helper()
	p := &proc{t: t, rig: &rig{t: t, script: script}, estate: estatetest.New(t, estatetest.Edit(plan)), reload: make(chan *Config, 1), done: make(chan struct{})}
	dir := t.TempDir()
	p.cfg = defaults()
	p.cfg.ID, p.cfg.Listen, p.cfg.StateDir, p.cfg.TilesDir = "g1", "127.0.0.1:0", filepath.Join(dir, "state"), filepath.Join(dir, "tiles")
	p.cfg.EstateTrust = Trust{Estate: p.estate.Pin.Estate, CharterSHA256: p.estate.Pin.CharterSHA256, RootKeys: p.estate.Pin.RootKeys}
	p.cfg.Authority, p.cfg.LogKey = []string{p.estate.Dir.Signed()}, filepath.Join(dir, "log.key")
	p.cfg.Hop.Custodians = []HopCustodian{{ID: "c1", Socket: p.rig.listen()}}
	if err := os.WriteFile(p.cfg.LogKey, []byte(p.estate.Signer("log", "g1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&p.cfg)
	}
	if err := p.cfg.check(); err != nil {
		t.Fatal(err)
	}
	p.rt = &process.Runtime{
		Log: slog.New(slog.NewJSONHandler(&p.rig.logs, nil)), Journal: process.NewJournal(&p.rig.logs, "reeve-gateway"), Ready: new(process.Readiness), Metrics: new(metrics.Registry),
		Demo:     true,
		Restrict: func([]string) (confine.Report, error) { return confine.Report{}, nil },
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.done)
		p.err = run(ctx, p.rt, &p.cfg, p.reload)
	}()
	t.Cleanup(func() {
		stop()
		<-p.done
	})
	return p
}

// serving waits until clients can connect.
func (p *proc) serving() *proc {
	p.t.Helper()
	at := regexp.MustCompile(`"msg":"serving","listen":"([^"]+)"`)
	eventually(p.t, "it serves", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("it stopped: %v\n%s", p.err, p.rig.logs.String())
		default:
		}
		m := at.FindStringSubmatch(p.rig.logs.String())
		if m == nil {
			return false
		}
		p.url = "http://" + m[1]
		return true
	})
	return p
}

func (p *proc) ended() error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(20 * time.Second):
		p.t.Fatal("it does not stop")
		return nil
	}
}

// post asks as the research agent, with a real key.
func (p *proc) post(path, body string) *http.Response {
	p.t.Helper()
	req, _ := http.NewRequest("POST", p.url+path, strings.NewReader(body))
	req.Header.Set("x-api-key", string(p.estate.Keys["research-agent"].Reveal()))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (p *proc) reason(name string) string {
	_, reasons := p.rt.Ready.State()
	r, known := reasons[name]
	if !known {
		return "not named"
	}
	return r
}

func TestRunServesAndAccounts(t *testing.T) {
	p := start(t, answerJSON, nil).serving()
	resp := p.post("/v1/chat/completions", chat)
	if got := text(t, resp); resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, got)
	}
	if o := p.rig.open(); o.Credential != "research-openai" || string(o.Proof.Value) != string(p.estate.Keys["research-agent"].Reveal()) {
		t.Errorf("%+v", o)
	}
	if resp := p.post("/v1/chat/completions", `{"model":"none"}`); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	for _, name := range []string{"statements", "ledger", "custodian", "feed"} {
		eventually(t, name+" is ready", func() bool { return p.reason(name) == "" })
	}
	p.reload <- &p.cfg
	eventually(t, "the reload is logged", func() bool { return strings.Contains(p.rig.logs.String(), `"msg":"reloaded"`) })
	p.stop()
	if err := p.ended(); err != nil {
		t.Fatal(err)
	}
	if n := countEntries(t, p.cfg.TilesDir, `"reason":"model_not_found"`); n != 1 {
		t.Errorf("%d entries of the refusal, want 1", n)
	}
}

// countEntries counts in the published entry bundles.
func countEntries(t *testing.T, tiles, want string) (n int) {
	t.Helper()
	err := filepath.WalkDir(tiles, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "entries") {
			return err
		}
		b, err := os.ReadFile(path)
		n = max(n, strings.Count(string(b), want)) // partial bundles repeat what came before
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRunRefusesALogKeyThatTheCharterDoesNotHave(t *testing.T) {
	p := start(t, answerJSON, nil)
	p.stop()
	p.ended()
	other := estatetest.New(t)
	p = start(t, answerJSON, func(c *Config) { os.WriteFile(c.LogKey, []byte(other.Signer("log", "g1")), 0o600) })
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "no live log key") {
		t.Error(err)
	}
}

func TestRunWaitsForASet(t *testing.T) {
	p := start(t, answerJSON, func(c *Config) { c.Authority = []string{filepath.Join(t.TempDir(), "nothing")} })
	eventually(t, "it says why", func() bool { return strings.Contains(p.reason("statements"), "lock") })
	p.stop()
	if err := p.ended(); err != nil && err != context.Canceled {
		t.Error(err)
	}
}

func TestANewSetTakesEffectAndARefusedOneDoesNot(t *testing.T) {
	p := start(t, answerJSON, nil).serving()
	p.estate.Republish(t, func(e *estate.Plan) { e.Operations.Aliases["quick"] = "openai/small" }, "operations")
	eventually(t, "the new alias is served", func() bool { return p.post("/v1/chat/completions", `{"model":"quick"}`).StatusCode == 200 })
	p.estate.Republish(t, func(e *estate.Plan) { e.Operations.Gateways[0].ID = "g2" }, "operations")
	eventually(t, "the refusal shows", func() bool {
		var b strings.Builder
		p.rt.Metrics.WriteTo(&b)
		return !strings.Contains(b.String(), "reeve_gateway_sets_refused_total 0") && strings.Contains(b.String(), "reeve_gateway_lock_version 2")
	})
	if resp := p.post("/v1/chat/completions", `{"model":"quick"}`); resp.StatusCode != 200 {
		t.Errorf("under the old set: %s", resp.Status)
	}
	eventually(t, "the log says why", func() bool { return strings.Contains(p.rig.logs.String(), `names no gateway`) })
}

func TestDrainFinishesStreams(t *testing.T) {
	next := make(chan string)
	p := start(t, func(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
		w.Head(200, eventStream)
		for s := range next {
			io.WriteString(w, s)
		}
		w.End(nil)
	}, nil).serving()
	resp := p.post("/v1/chat/completions", chatStream)
	in := bufio.NewReader(resp.Body)
	next <- chunk
	line(t, in)
	p.stop()
	eventually(t, "nobody can connect any more", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	next <- chunk
	next <- done
	close(next)
	if rest, err := io.ReadAll(in); err != nil || !strings.HasSuffix(string(rest), chunk+done) {
		t.Errorf("%q %v", rest, err)
	}
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

func TestDrainGivesUpWhatOutlastsIt(t *testing.T) {
	ended := make(chan bool, 2)
	p := start(t, func(ctx context.Context, _ hop.Peer, o *hop.Open, w *hop.Writer) {
		if strings.Contains(string(o.Body), `"stream":true`) {
			w.Head(200, eventStream)
			io.WriteString(w, chunk)
		}
		<-ctx.Done()
		ended <- true
	}, func(c *Config) { c.Drain = 50 * time.Millisecond }).serving()
	resp := p.post("/v1/chat/completions", chatStream)
	waiting := make(chan *http.Response, 1)
	go func() { waiting <- p.post("/v1/messages", message) }()
	eventually(t, "both are at the custodian", func() bool { p.rig.mu.Lock(); defer p.rig.mu.Unlock(); return len(p.rig.opens) == 2 })
	p.stop()
	if b, err := io.ReadAll(resp.Body); err == nil || !strings.Contains(string(b), "The answer broke off: the gateway is closing") {
		t.Errorf("%q %v", b, err)
	}
	if resp := <-waiting; resp.StatusCode != 503 || resp.Header.Get("Reeve-Refusal") != "draining" {
		t.Errorf("a request without an answer: %s", resp.Status)
	}
	<-ended
	<-ended
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := defaults()
	good.ID, good.StateDir, good.TilesDir, good.Authority, good.LogKey = "g1", "/s", "/t", []string{"http://127.0.0.1:7801"}, "/k"
	good.EstateTrust, good.Hop.Custodians = Trust{Estate: "demo", CharterSHA256: "x"}, []HopCustodian{{ID: "c1", Socket: "/h"}}
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.ID = "" }, "id is missing"},
		{func(c *Config) { c.Hop.Custodians = nil }, "hop.custodians is empty"},
		{func(c *Config) { c.Hop.Custodians = []HopCustodian{{ID: "c1"}} }, "exactly one of socket and address"},
		{func(c *Config) { c.Hop.Custodians = []HopCustodian{{ID: "c1", Socket: "/h"}, {ID: "c1", Socket: "/i"}} }, "stands twice"},
		{func(c *Config) { c.Hop.Custodians = []HopCustodian{{ID: "c1", Address: "h:1"}} }, "hop.key is missing"},
		{func(c *Config) { c.Hop.Custodians, c.Hop.Key = []HopCustodian{{ID: "c1", Address: "h"}}, "/k" }, "missing port"},
		{func(c *Config) { c.EstateTrust.CharterSHA256 = "" }, "any estate would be believed"},
		{func(c *Config) { c.KeepAlive = 1 }, "too small"},
	} {
		c := good
		test.change(&c)
		err := c.check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	good.Witnesses = []Witness{{URL: "http://127.0.0.1:7802"}, {URL: "https://witness.example/x"}}
	p := good.confine()
	if len(p.Connect) != 3 || p.Connect[0] != 7801 || p.Connect[1] != 7802 || p.Connect[2] != 443 || !p.Datagrams || len(p.Bind) != 0 || len(p.ReadWrite) != 2 {
		t.Errorf("%+v", p)
	}
}
