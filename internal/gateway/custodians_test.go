package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// second enrols c2 beside c1 for both units.
func second(t *testing.T) estatetest.Option {
	t.Helper()
	_, vkey, err := note.GenerateKey(nil, "reeve/demo/c2")
	if err != nil {
		t.Fatal(err)
	}
	return estatetest.Edit(func(p *estate.Plan) {
		log := p.Charter.ServiceKeys[0]
		log.Process, log.Key = "c2", vkey
		p.Charter.ServiceKeys = append(p.Charter.ServiceKeys, log)
		for _, c := range p.Custody {
			c.Custodians = append(c.Custodians, statement.Custodian{ID: "c2", Recipient: c.Custodians[0].Recipient, Log: vkey})
		}
		p.Operations.Gateways[0].Custodians = []string{"c1", "c2"}
	})
}

// custodian serves the hop and says its name in every answer, until stop.
func custodian(t *testing.T, name string, l net.Listener) (stop func()) {
	t.Helper()
	s := hop.NewServer(hop.ServerConfig{Peers: func(hop.Peer) string { return "g1" }, Handler: func(_ context.Context, _ hop.Peer, o *hop.Open, w *hop.Writer) {
		if o.Path == "/refuse" {
			w.Refuse(&hop.Refusal{Code: name, Status: 403})
			return
		}
		w.Head(200, []hop.Field{{Name: "Custodian", Value: name}})
		w.End(nil)
	}})
	go s.Serve(l)
	stop = func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
	}
	t.Cleanup(stop)
	return stop
}

func unix(t *testing.T) (string, net.Listener) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return path, l
}

func asked(c *custodians, credential, path string) (string, error) {
	resp, err := c.Do(context.Background(), &hop.Open{Credential: credential, Method: "GET", Path: path})
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return resp.Header[0].Value, nil
}

// TestSeveralCustodians: a credential goes to the first that serves it, to the next only when nothing was sent, and never to one
// that does not serve it.
func TestSeveralCustodians(t *testing.T) {
	e := estatetest.New(t, second(t), estatetest.Edit(func(p *estate.Plan) { p.Custody["support"].Credentials[0].Custodians = []string{"c2"} }))
	only := e.Plan.Custody["support"].Credentials[0].ID
	p1, l1 := unix(t)
	p2, l2 := unix(t)
	stop1, stop2 := custodian(t, "c1", l1), custodian(t, "c2", l2)
	c, err := newCustodians(&Config{ID: "g1", Hop: Hop{Custodians: []HopCustodian{{ID: "c1", Socket: p1}, {ID: "c2", Socket: p2}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := asked(c, "research-openai", "/"); !errors.Is(err, hop.ErrUnavailable) {
		t.Errorf("before the first set: %v", err)
	}
	c.use(e.Set)
	want := func(name, credential string) {
		t.Helper()
		if got, err := asked(c, credential, "/"); got != name || err != nil {
			t.Errorf("%s was asked for %s, not %s: %v", got, credential, name, err)
		}
	}
	want("c1", "research-openai")
	want("c2", only)
	var refused *hop.Refusal
	if _, err := asked(c, "research-openai", "/refuse"); !errors.As(err, &refused) || refused.Code != "c1" {
		t.Errorf("a refusal was taken to another custodian: %v", err)
	}
	if note, err := c.ready(t.Context()); note != "" || err != nil {
		t.Errorf("ready: %q, %v", note, err)
	}
	stop1()
	eventually(t, "it is noted that c1 is away", func() bool {
		note, err := c.ready(t.Context())
		return strings.HasPrefix(note, "c1: ") && err == nil
	})
	want("c2", "research-openai")
	stop2()
	eventually(t, "it is not ready with both away", func() bool {
		_, err := c.ready(t.Context())
		return err != nil
	})
	if _, err := asked(c, only, "/"); !errors.Is(err, hop.ErrUnavailable) {
		t.Errorf("with both away: %v", err)
	}
}

// TestCustodianIsBelievedByItsKey: over the network a custodian is who holds the key that custody names, and a set that names another
// ends that.
func TestCustodianIsBelievedByItsKey(t *testing.T) {
	dir := t.TempDir()
	key := func(name string) *hop.Key {
		_, text, err := hop.NewKey()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		k, err := hop.ReadKey(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	right, other := key("right"), key("other")
	key("gateway")
	l, err := tls.Listen("tcp", "127.0.0.1:0", hop.ServerTLS(right))
	if err != nil {
		t.Fatal(err)
	}
	custodian(t, "c1", l)
	e := estatetest.New(t)
	c, err := newCustodians(&Config{ID: "g1", Hop: Hop{Key: filepath.Join(dir, "gateway"), Custodians: []HopCustodian{{ID: "c1", Address: l.Addr().String()}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, step := range []struct {
		name, peer, want string
	}{
		{"no key named", "", "gives c1 no peer key"},
		{"the right key", right.Peer(), ""},
		{"another key", other.Peer(), "the custody statement has"},
		{"the right key again", right.Peer(), ""},
	} {
		e.Republish(t, func(p *estate.Plan) {
			for _, custody := range p.Custody {
				custody.Custodians[0].Peer = step.peer
			}
		}, "custody-research", "custody-support")
		c.use(e.Set)
		got, err := asked(c, "research-openai", "/")
		if step.want == "" && (got != "c1" || err != nil) || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%s: %q, %v", step.name, got, err)
		}
	}
}
