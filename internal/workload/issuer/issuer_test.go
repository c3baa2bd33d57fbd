package issuer

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// provider is an issuer that publishes what a test wants.
type provider struct {
	*httptest.Server
	mu    sync.Mutex
	doc   string // with %s for the provider's URL
	keys  string
	asked atomic.Int64
}

func newProvider(t *testing.T) *provider {
	p := &provider{doc: `{"issuer":"%s","jwks_uri":"%s/keys"}`, keys: estatetest.NewIssuer(t).JWKS()}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked.Add(1)
		switch r.URL.Path {
		case wellKnown:
			fmt.Fprint(w, strings.ReplaceAll(p.doc, "%s", p.URL))
		case "/keys":
			fmt.Fprint(w, p.keys)
		case "/moved":
			http.Redirect(w, r, "/keys", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *provider) set(doc, keys string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if doc != "" {
		p.doc = doc
	}
	if keys != "" {
		p.keys = keys
	}
}

// record is the provider as a charter names it.
func (p *provider) record() statement.Issuer {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	return statement.Issuer{ID: "idp", Issuer: p.URL, Discovery: true, CA: string(ca), Networks: []string{"127.0.0.0/8"}, Algorithms: []string{"ES256"}}
}

func setOf(issuers ...statement.Issuer) *statement.Set {
	return &statement.Set{Charter: statement.Charter{Issuers: issuers}}
}

// lines is a log that a test reads.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

func newBook(t *testing.T, now func() time.Time) (*Book, lines) {
	l := make(lines, 100)
	b := NewBook(Config{Log: slog.New(slog.NewTextHandler(l, nil)), Clock: now})
	t.Cleanup(b.Close)
	return b, l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestKeys(t *testing.T) {
	p := newProvider(t)
	var later atomic.Int64
	b, _ := newBook(t, func() time.Time { return time.Now().Add(time.Duration(later.Load())) })
	if b.Keys("idp", "") != nil {
		t.Fatal("keys of an issuer that nobody named")
	}
	if err := b.Use(setOf(p.record())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keys come", func() bool { return b.Keys("idp", "") != nil })
	first := b.Keys("idp", "ES256")
	if !first.Has("ES256") || len(first.Roots) != 1 {
		t.Errorf("%+v", first)
	}

	// A new key is fetched when a token names it, but not again and again.
	p.set("", strings.ReplaceAll(p.keys, `"kid":"ES256"`, `"kid":"next"`))
	if got := b.Keys("idp", "next"); got != first {
		t.Error("other keys without asking")
	}
	eventually(t, "the new key", func() bool { return b.Keys("idp", "").Has("next") })
	before := p.asked.Load()
	for range 100 {
		b.Keys("idp", "made-up")
	}
	if now := b.Keys("idp", ""); now == nil || p.asked.Load() > before+2 {
		t.Errorf("a made-up key has the issuer asked %d times", p.asked.Load()-before)
	}

	// The same record keeps its keys, the same keys keep their memory; too old they go.
	kept := b.Keys("idp", "")
	if err := b.Use(setOf(p.record())); err != nil {
		t.Fatal(err)
	}
	if b.Keys("idp", "") != kept {
		t.Error("a set that changes nothing has other keys")
	}
	later.Store(int64(stale - time.Minute))
	if b.Keys("idp", "") == nil {
		t.Error("gone too early")
	}
	later.Store(int64(stale + time.Minute))
	if b.Keys("idp", "") != nil {
		t.Error("still there")
	}
	later.Store(0)
	if err := b.Use(setOf()); err != nil || b.Keys("idp", "") != nil {
		t.Errorf("an issuer that the charter dropped has keys; %v", err)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		doc    string
		keys   string
		record func(*statement.Issuer)
		says   string
	}{
		{name: "another issuer", doc: `{"issuer":"https://other.example","jwks_uri":"%s/keys"}`, says: "calls itself"},
		{name: "a slash more", doc: `{"issuer":"%s/","jwks_uri":"%s/keys"}`, says: "calls itself"},
		{name: "keys in the clear", doc: `{"issuer":"%s","jwks_uri":"http://127.0.0.1/keys"}`, says: "not https"},
		{name: "keys elsewhere, inside", doc: `{"issuer":"%s","jwks_uri":"https://169.254.169.254/keys"}`, says: "metadata"},
		{name: "a redirect", doc: `{"issuer":"%s","jwks_uri":"%s/moved"}`, says: "redirects"},
		{name: "nothing there", doc: `{"issuer":"%s","jwks_uri":"%s/none"}`, says: "404"},
		{name: "no JSON", doc: `hello`, says: "configuration"},
		{name: "no keys", keys: `{"keys":[]}`, says: "no key"},
		{name: "a private key", keys: `{"keys":[{"kty":"EC","crv":"P-256","d":"AA"}]}`, says: "private"},
		{name: "endless", keys: strings.Repeat(" ", 300<<10), says: "more than"},
		{name: "a private network that the charter does not allow", record: func(i *statement.Issuer) { i.Networks = nil }, says: "not public"},
		{name: "a certificate of nobody", record: func(i *statement.Issuer) { i.CA = "" }, says: "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			p.set(c.doc, c.keys)
			record := p.record()
			if c.record != nil {
				c.record(&record)
			}
			b, log := newBook(t, nil)
			if err := b.Use(setOf(record)); err != nil {
				t.Fatal(err)
			}
			select {
			case line := <-log:
				if !strings.Contains(line, c.says) || b.Keys("idp", "x") != nil {
					t.Errorf("the log says %s", line)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("nothing was refused")
			}
		})
	}
}

// Close waits for a fetch that hangs, by ending it.
func TestClose(t *testing.T) {
	asked := make(chan bool, 1)
	b, _ := newBook(t, nil)
	b.cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		asked <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := b.Use(setOf(statement.Issuer{ID: "idp", Issuer: "https://hangs.example", Discovery: true})); err != nil {
		t.Fatal(err)
	}
	<-asked
	b.Close()
}
