package oauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// site is an endpoint, and what its owner handed over.
type site struct {
	*double
	t      testing.TB
	server *httptest.Server
	d      ledger.Durable
	root   string
	home   string
	begun  time.Time
	late   atomic.Int64 // seconds that the custodians' clock has gone since

	hooks   sync.Mutex
	arrived func() bool              // at each call, before it is looked at: false breaks off; nil for nothing
	instead func(body []byte) []byte // changes an answer before it leaves
}

// on sets what is done at each call.
func (s *site) on(arrived func() bool, instead func([]byte) []byte) {
	s.hooks.Lock()
	defer s.hooks.Unlock()
	s.arrived, s.instead = arrived, instead
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.hooks.Lock()
	arrived, instead := s.arrived, s.instead
	s.hooks.Unlock()
	if arrived != nil && !arrived() {
		panic(http.ErrAbortHandler)
	}
	rec := httptest.NewRecorder()
	s.double.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	if instead != nil {
		body = instead(body)
	}
	w.WriteHeader(rec.Code)
	w.Write(body)
}

// handover is what the owner hands over for a custodian.
func handover(token, home string) string {
	return object(map[string]string{"client_secret": clientSecret, "refresh_token": token, "home": home})
}

func newSite(t testing.TB, words map[string]string, edit ...func(*site)) *site {
	if words == nil {
		words = map[string]string{"grant": "refresh_token", "revocation": "/oauth/revoke"}
	}
	s := &site{double: newDouble(words), t: t, d: sourcetest.Durable(t), root: handover(seed, "c1"), home: "c1", begun: time.Now().Truncate(time.Second)}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range edit {
		f(s)
	}
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	s.origin = s.server.URL
	return s
}

// custodian is one that serves the credential, with its State.
type custodian struct {
	*site
	source.Source
	state *file
}

func (s *site) custodian(id string) *custodian {
	c := &custodian{site: s, state: &file{path: filepath.Join(s.t.TempDir(), "state")}}
	c.start(id)
	return c
}

// start is a start of the process: nothing but State is left of the one before.
func (c *custodian) start(id string) {
	c.t.Helper()
	if c.Source != nil {
		c.Source.Close()
	}
	var err error
	c.Source, err = New(c.config(id, c.state))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.Source.Close)
}

func (s *site) config(id string, state source.State) source.Config {
	r := record(s.server.URL, s.words)
	r.From.Networks, r.From.Home = []string{"127.0.0.1/32"}, s.home
	r.From.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw}))
	if s.words["grant"] != "refresh_token" {
		r.From.Home = ""
	}
	return source.Config{Custodian: id, Record: r, State: state, Clock: func() time.Time { return s.begun.Add(time.Duration(s.late.Load()) * time.Second) },
		Root: func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(s.root)), nil }}
}

// fetch gets a token, which the endpoint takes.
func (c *custodian) fetch() *source.Secret {
	c.t.Helper()
	got, err := c.Fetch(context.Background(), c.d, source.Ask{})
	if err != nil {
		c.t.Fatal(err)
	}
	if !c.takes(string(got.Value.Reveal())) {
		c.t.Error("the endpoint does not take the token that it gave")
	}
	return got
}

// refused is a fetch that fails so.
func (c *custodian) refused(want error, words ...string) {
	c.t.Helper()
	_, err := c.Fetch(context.Background(), c.d, source.Ask{})
	if !errors.Is(err, want) {
		c.t.Errorf("%v, want %v", err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			c.t.Errorf("%v does not say %q", err, w)
		}
	}
}

func (e *double) takes(token string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.alive[token]
}

// whole fails when a refresh token was spent twice.
func (e *double) whole(t testing.TB, given int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reused > 0 || e.given != given {
		t.Errorf("%d refresh tokens came twice, %d access tokens were given, want %d", e.reused, e.given, given)
	}
}

// file is a State on disk.
type file struct {
	path string
	mu   sync.Mutex
	fail int                      // the Save that fails, counted from 1
	seen func(n int, stored bool) // before and after the nth Save; nil for nothing
	n    int
}

var errDisk = errors.New("no space left on device")

func (f *file) Load() (secret.Value, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return secret.New(b), err
}

func (f *file) Save(v secret.Value) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail--; f.fail == 0 {
		return errDisk
	}
	if f.n++; f.seen != nil {
		f.seen(f.n, false)
		defer f.seen(f.n, true)
	}
	if err := os.WriteFile(f.path+".new", v.Reveal(), 0o600); err != nil {
		return err
	}
	return os.Rename(f.path+".new", f.path)
}

func TestEachRefreshTokenIsSpentOnce(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	seen := map[string]bool{}
	for i := range 6 {
		if i%2 == 1 {
			c.start("c1")
		}
		seen[string(c.fetch().Value.Reveal())] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d tokens", len(seen))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { c.fetch() })
	}
	wg.Wait()
	s.whole(t, 14)
}

func TestARefreshTokenThatStays(t *testing.T) {
	s := newSite(t, nil)
	s.keeps = true
	c := s.custodian("c1")
	c.fetch()
	c.start("c1")
	c.fetch()
	s.whole(t, 2)
}

// TestFullDisk: nothing is sent that could not be marked, nothing is used that could not be stored, and nothing is lost.
func TestFullDisk(t *testing.T) {
	for fail, sent := range map[int]int{1: 0, 2: 1} {
		s := newSite(t, nil)
		c := s.custodian("c1")
		c.state.fail = fail
		c.refused(errDisk, "nothing is fetched")
		s.whole(t, sent)
		c.state.fail = 1
		c.refused(errDisk)
		s.whole(t, sent)
		c.fetch()
		c.start("c1")
		c.fetch()
		s.whole(t, sent+2)
	}
}

// TestRefusedAnswersAreNotLost: the next refresh token is stored though its access token is of no use.
func TestRefusedAnswersAreNotLost(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	s.on(nil, func(b []byte) []byte { return bytes.Replace(b, []byte(`"Bearer"`), []byte(`"DPoP"`), 1) })
	c.refused(source.ErrMalformed)
	s.on(nil, nil)
	c.start("c1")
	c.fetch()
	s.whole(t, 2)
}

// TestAnswersThatNobodyWaitsFor are kept for who asks next, and stored in any case.
func TestAnswersThatNobodyWaitsFor(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	arrived, release := make(chan struct{}), make(chan struct{})
	s.on(func() bool { close(arrived); <-release; return true }, nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	if _, err := c.Fetch(ctx, c.d, source.Ask{}); !errors.Is(err, source.ErrDown) {
		t.Errorf("%v", err)
	}
	s.on(nil, nil)
	close(release)
	c.fetch()
	s.whole(t, 1)
	c.start("c1")
	c.fetch()
	s.whole(t, 2)
}

// TestFailuresThatNobodyWaitsFor are not told to who asks next.
func TestFailuresThatNobodyWaitsFor(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	arrived, release := make(chan struct{}), make(chan struct{})
	s.on(func() bool { close(arrived); <-release; return false }, nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	c.Fetch(ctx, c.d, source.Ask{})
	s.on(nil, nil)
	close(release)
	turn := c.Source.(*Source).lineage.turn
	turn <- struct{}{} // the exchange is over
	<-turn
	c.fetch()
	s.whole(t, 1)
}

// TestCloseWaits: a source that is closed while it waits for an answer stores it.
func TestCloseWaits(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	arrived, release := make(chan struct{}), make(chan struct{})
	s.on(func() bool { close(arrived); <-release; return true }, nil)
	failed := make(chan error)
	go func() {
		_, err := c.Fetch(context.Background(), c.d, source.Ask{})
		failed <- err
	}()
	<-arrived
	closed := make(chan struct{})
	go func() { c.Source.Close(); close(closed) }()
	if err := <-failed; !errors.Is(err, source.ErrDown) {
		t.Errorf("%v", err)
	}
	select {
	case <-closed:
		t.Error("closed before the answer was there")
	default:
	}
	s.on(nil, nil)
	close(release)
	<-closed
	c.start("c1")
	c.fetch()
	s.whole(t, 2)
}

// TestReload: the record changes while its endpoint is slow. Who has the next record waits until the exchange is over.
func TestReload(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	arrived, release := make(chan struct{}), make(chan struct{})
	s.on(func() bool { close(arrived); <-release; return true }, nil)
	go c.Source.Fetch(context.Background(), c.d, source.Ask{})
	<-arrived
	s.on(nil, nil)
	old := c.Source.(*Source)
	c.start("c1")
	c.refused(source.ErrDown, "may still be answered")
	s.late.Store(14)
	c.refused(source.ErrDown, "may still be answered")
	s.whole(t, 0)
	close(release)
	old.lineage.turn <- struct{}{} // the exchange is over
	<-old.lineage.turn
	c.fetch()
	s.whole(t, 2)
}

// TestState: a mark from a clock that was ahead keeps nobody away, and what cannot be read is not taken for a beginning.
func TestState(t *testing.T) {
	sum := sha256.Sum256([]byte(seed))
	head := hex.EncodeToString(sum[:]) + "\n"
	for text, want := range map[string]string{
		head + fmt.Sprint(time.Now().Add(time.Hour).Unix()) + "\n" + seed: "",
		head + "0\n" + seed:              "",
		head + "0":                       "cannot be read",
		head + "soon\n" + seed:           "cannot be read",
		head + "0\ndemo-refresh\n-token": "cannot be read",
	} {
		s := newSite(t, nil)
		c := s.custodian("c1")
		if err := os.WriteFile(c.state.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Fetch(context.Background(), c.d, source.Ask{})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "demo-")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestTokensThatAreHeldNoMore cannot be revoked by their lease.
func TestTokensThatAreHeldNoMore(t *testing.T) {
	s := newSite(t, nil)
	if err := s.custodian("c1").Revoke(context.Background(), s.d, &source.Secret{Lease: "of-before-a-restart"}); !errors.Is(err, source.ErrCannotRevoke) {
		t.Errorf("%v", err)
	}
}

// TestMovingHome is docs/procedures/refresh-token.md, "Moving home". At no time do two custodians spend, and no use waits.
func TestMovingHome(t *testing.T) {
	s := newSite(t, nil)
	one, two := s.custodian("c1"), s.custodian("c2")
	one.fetch()
	two.refused(source.ErrHome, "c1")
	s.whole(t, 1)

	// The statement alone, out of order: nobody spends.
	s.home = "c2"
	one.start("c1")
	two.start("c2")
	one.refused(source.ErrHome, "c2")
	two.refused(source.ErrHome, "with home c2", "credential put")
	s.whole(t, 1)
	s.home = "c1" // taken back
	one.start("c1")
	two.start("c2")
	one.fetch()
	s.whole(t, 2)

	// 1: authorized anew and handed over for c2. c1 goes on with what it has.
	other := newDouble(s.words)
	other.next = "demo-refresh-token-of-the-next-grant"
	s.root = handover(other.next, "c2")
	one.fetch()
	two.refused(source.ErrHome)
	s.whole(t, 3)

	// 2: the change of home is published. c2 begins.
	s.home = "c2"
	one.start("c1")
	two.start("c2")
	one.refused(source.ErrHome, "c2")
	first := s.double
	s.double = other
	two.site = s
	two.fetch()
	one.refused(source.ErrHome)
	two.start("c2")
	two.fetch()
	first.whole(t, 3)
	other.whole(t, 2)
}

func TestHandedOverAnew(t *testing.T) {
	s := newSite(t, nil)
	c := s.custodian("c1")
	c.fetch()
	s.next = "demo-refresh-token-of-the-next-grant"
	s.root = handover(s.next, "c1")
	c.fetch()
	c.fetch()
	s.whole(t, 3)
	for _, root := range []string{clientSecret, handover("", "c1"), handover(seed, ""), handover("a\nb", "c1"), `{"refresh_token":7}`, "{"} {
		s.root = root
		c.refused(source.ErrNoRoot)
	}
	s.whole(t, 3)
}

func TestEnd(t *testing.T) {
	for _, words := range []map[string]string{nil, {"grant": "refresh_token", "provider": "slack", "revocation": "/api/auth.revoke"}} {
		s := newSite(t, words)
		c := s.custodian("c1")
		got := c.fetch()
		if err := c.Revoke(context.Background(), s.d, got); !errors.Is(err, source.ErrCannotRevoke) || !s.takes(string(got.Value.Reveal())) {
			t.Errorf("revoked alone: %v", err)
		}
		e := c.Source.(source.Ender)
		if err := e.End(context.Background(), ledger.Durable{}); !errors.Is(err, source.ErrNotDurable) {
			t.Errorf("%v", err)
		}
		for range 2 { // it is as ended as it was
			if err := e.End(context.Background(), s.d); err != nil || words == nil && s.next != "" {
				t.Errorf("%v, and the endpoint takes %q", err, s.next)
			}
			if err := c.Revoke(context.Background(), s.d, got); err != nil || s.takes(string(got.Value.Reveal())) {
				t.Errorf("revoked after the end: %v", err)
			}
			c.refused(source.ErrRefused, "revoked here", "credential put")
			c.start("c1")
			e = c.Source.(source.Ender)
		}
		s.next = "demo-refresh-token-of-the-next-grant"
		s.root = handover(s.next, "c1")
		c.fetch()
		s.whole(t, 2)
	}
	s := newSite(t, map[string]string{"grant": "refresh_token"})
	c := s.custodian("c1")
	if err := c.Source.(source.Ender).End(context.Background(), s.d); !errors.Is(err, source.ErrCannotRevoke) {
		t.Errorf("without an endpoint: %v", err)
	}
	c.fetch()
}

// TestRefusals say what to do and quote nothing.
func TestRefusals(t *testing.T) {
	for word, want := range map[string]string{
		"invalid_grant": "authorize the client anew", "invalid_client": "reeve credential put", "unauthorized_client": "from.parameters.grant",
		"invalid_scope": "from.parameters.scope", "invalid_target": "from.parameters.resource", "invalid_request": "from.parameters", "words of theirs": "status 400",
	} {
		s := newSite(t, nil)
		c := s.custodian("c1")
		s.words["grant"] = "another" // every call is refused
		s.instead = func([]byte) []byte {
			return fmt.Appendf(nil, `{"error":%q,"error_description":"demo-description"}`, word)
		}
		c.refused(source.ErrRefused, want, "research-crm")
		if _, err := c.Fetch(context.Background(), s.d, source.Ask{}); strings.Contains(err.Error(), "demo-description") || strings.Contains(err.Error(), "words of theirs") || strings.Contains(err.Error(), "cut off") {
			t.Errorf("%v", err)
		}
	}
}

// TestCertificate: TLS shows the client (RFC 8705, section 2), and the certificate is the one that was handed over.
func TestCertificate(t *testing.T) {
	key, text := keyPair(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s := newSite(t, map[string]string{"grant": "client_credentials", "authentication": "tls_client_auth", "revocation": "/oauth/revoke"}, func(s *site) {
		s.server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		s.public = &key.PublicKey
	})
	s.root = object(map[string]string{"private_key": text, "certificate": cert})
	c := s.custodian("c1")
	got := c.fetch()
	if err := c.Revoke(context.Background(), s.d, got); err != nil || s.takes(string(got.Value.Reveal())) {
		t.Errorf("revoked: %v", err)
	}
	s.root = cert + text // as files are put together
	c.fetch()
	_, other := keyPair(t)
	for _, root := range []string{object(map[string]string{"private_key": other, "certificate": cert}), object(map[string]string{"private_key": text}), text, cert} {
		s.root = root
		c.refused(source.ErrNoRoot, "certificate")
	}
}
