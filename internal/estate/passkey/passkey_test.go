package passkey

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// browser is the person's browser: it reads the address that the page prints.
type browser struct {
	t    *testing.T
	url  string // of the page
	host string
}

// open starts f, which serves a page, and waits for the page's address. The error of f comes on the channel.
func open(t *testing.T, f func(*Page) error) (*browser, <-chan error) {
	t.Helper()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- f(&Page{Out: w, Life: time.Hour}) }()
	buf := make([]byte, 4096)
	n, err := r.Read(buf)
	must(t, err)
	_, url, ok := strings.Cut(strings.TrimSpace(string(buf[:n])), "\n  ")
	if !ok {
		t.Fatalf("no address: %s", buf[:n])
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return &browser{t, url, host}, ended
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do makes a request as the page's own script would, but for what edit changes.
func (b *browser) do(method, url string, body []byte, edit func(*http.Request)) (int, string, http.Header) {
	b.t.Helper()
	req, err := http.NewRequest(method, strings.Replace(url, "localhost", "127.0.0.1", 1), bytes.NewReader(body))
	must(b.t, err)
	req.Host = b.host
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		req.Header.Set("Origin", "http://"+b.host)
		req.Header.Set("Content-Type", "application/json")
	}
	if edit != nil {
		edit(req)
	}
	res, err := http.DefaultClient.Do(req)
	must(b.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(b.t, err)
	return res.StatusCode, string(text), res.Header
}

func (b *browser) answer(a *answer, edit func(*http.Request)) (int, string) {
	b.t.Helper()
	body, err := json.Marshal(a)
	must(b.t, err)
	status, text, _ := b.do(http.MethodPost, b.url+"answer", body, edit)
	return status, text
}

// asks is what a passkey answers over the message.
func asks(t *testing.T, p *estatetest.Passkey, m *estate.Message, edit func(*estatetest.Ceremony)) *answer {
	t.Helper()
	c := estatetest.NewCeremony(statement.Challenge(m.PayloadType, m.Payload))
	if edit != nil {
		edit(c)
	}
	s := p.Sign(t, "", c)
	return &answer{ID: p.ID, AuthenticatorData: s.WebAuthn.AuthenticatorData, ClientData: s.WebAuthn.ClientData, Signature: s.Sig}
}

// policyChange is a second version of a policy.
func policyChange(t *testing.T) *estate.Message {
	t.Helper()
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	payload, err := statement.Canonical(statement.Manifest{Estate: "demo", Statement: "policy-research", Version: 2, Author: "bea", Created: now, Expires: now.AddDate(1, 0, 0)})
	must(t, err)
	return &estate.Message{PayloadType: statement.PayloadType, Payload: payload, Effect: func() *estate.Effect {
		return &estate.Effect{Closes: []string{"research-agent may use research-openai"}}
	},
		Before: map[string][]byte{"use.cedar": []byte("permit (principal, action, resource);\n"), "policy.yaml": []byte("unit: research\n")},
		Files:  map[string][]byte{"use.cedar": []byte("forbid (principal, action, resource); // <script>\u202e\n"), "policy.yaml": []byte("unit: research\n")}}
}

func TestSign(t *testing.T) {
	p, other, m := estatetest.NewPasskey(t, false), estatetest.NewPasskey(t, true), policyChange(t)
	keys := []statement.Key{other.Key(t, "ada-2"), p.Key(t, "ada-1")}
	signer, err := Signer("ada", append(keys, statement.Key{ID: "ada-3", Type: "ssh"}), nil)
	must(t, err)
	var sig statement.Signature
	b, ended := open(t, func(page *Page) (err error) {
		signer.Hand = hand{"ada", keys, page}
		sig, err = signer.Sign(m)
		return err
	})

	status, html, header := b.do(http.MethodGet, b.url, nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") })
	if status != http.StatusOK || header.Get("Content-Security-Policy") != policy || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", status, header)
	}
	challenge := statement.Challenge(m.PayloadType, m.Payload)
	for _, want := range []string{
		"Version 2 of policy-research", "as <strong>ada</strong>", "bea", "2027-11-23T09:00:00Z", fmt.Sprintf("%x", challenge), fmt.Sprintf("%x", p.ID), fmt.Sprintf("%x", other.ID),
		`<span class="goes">- permit (principal, action, resource);`, `<span class="comes">&#43; forbid (principal, action, resource); // &lt;script&gt;&lt;U&#43;202E&gt;`, "policy.yaml (unchanged)",
		"opens nothing", `<li class="goes">closes: research-agent may use research-openai</li>`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q:\n%s", want, html)
		}
	}
	for _, name := range []string{"page.js", "page.css"} {
		if status, text, _ := b.do(http.MethodGet, b.url+name, nil, nil); status != http.StatusOK || !strings.Contains(html, name) || len(text) == 0 {
			t.Errorf("%s: %d", name, status)
		}
	}

	good := asks(t, p, m, nil)
	for name, c := range map[string]struct {
		status int
		want   string
		a      *answer
		edit   func(*http.Request)
	}{
		"another host":          {http.StatusMisdirectedRequest, "localhost", good, func(r *http.Request) { r.Host = "reeve.example" }},
		"the address as host":   {http.StatusMisdirectedRequest, "localhost", good, func(r *http.Request) { r.Host = strings.Replace(b.host, "localhost", "127.0.0.1", 1) }},
		"another port's origin": {http.StatusForbidden, "only the page itself", good, func(r *http.Request) { r.Header.Set("Origin", "http://localhost:1") }},
		"no origin":             {http.StatusForbidden, "only the page itself", good, func(r *http.Request) { r.Header.Del("Origin") }},
		"a null origin":         {http.StatusForbidden, "only the page itself", good, func(r *http.Request) { r.Header.Set("Origin", "null") }},
		"another site":          {http.StatusForbidden, "no other page", good, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		"another page here":     {http.StatusForbidden, "no other page", good, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }},
		"a form":                {http.StatusForbidden, "only the page itself", good, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		"another token":         {http.StatusNotFound, "that reeve printed", good, func(r *http.Request) { r.URL.Path = "/guess/answer" }},
		"no token":              {http.StatusNotFound, "that reeve printed", good, func(r *http.Request) { r.URL.Path = "/answer" }},
		"another method":        {http.StatusMethodNotAllowed, "", good, func(r *http.Request) { r.Method = http.MethodPut }},
		"a stranger's passkey":  {http.StatusUnprocessableEntity, "ada-1", asks(t, estatetest.NewPasskey(t, false), m, nil), nil},
		"no verification":       {http.StatusUnprocessableEntity, "did not verify", asks(t, p, m, func(c *estatetest.Ceremony) { c.Flags = 1 }), nil},
		"something else":        {http.StatusUnprocessableEntity, "something else", asks(t, p, &estate.Message{PayloadType: "t"}, nil), nil},
		"nothing":               {http.StatusUnprocessableEntity, "does not hold", &answer{}, nil},
	} {
		if status, text := b.answer(c.a, c.edit); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	for name, body := range map[string]string{"no JSON": "x", "an unknown member": `{"key":1}`, "two answers": "{} {}", "too much": `{"id":"` + strings.Repeat("A", maxAnswer) + `"}`} {
		if status, text, _ := b.do(http.MethodPost, b.url+"answer", []byte(body), nil); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("ended before anybody signed: %v", err)
	default:
	}

	if status, text := b.answer(good, nil); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
	must(t, <-ended)
	if _, err := keys[1].Verify(m.PayloadType, m.Payload, &sig); err != nil || sig.KeyID != "ada-1" {
		t.Errorf("%s: %v", sig.KeyID, err)
	}
	if c, err := net.Dial("tcp", strings.Replace(b.host, "localhost", "127.0.0.1", 1)); err == nil {
		c.Close()
		t.Error("the page is still served")
	}
}

// Two answers at once: one signs.
func TestOneSignature(t *testing.T) {
	s := &server{take: func(*answer) error { return nil }, done: make(chan struct{}), over: true}
	req, err := http.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	must(t, err)
	req.Header.Set("Origin", "http://")
	req.Header.Set("Content-Type", "application/json")
	w := &recorder{}
	s.answer(w, req)
	if w.status != http.StatusGone {
		t.Errorf("status %d", w.status)
	}
}

type recorder struct{ status int }

func (*recorder) Header() http.Header         { return http.Header{} }
func (*recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(status int)    { r.status = status }

func TestNobodySigns(t *testing.T) {
	p := estatetest.NewPasskey(t, true)
	signer, err := Signer("ada", []statement.Key{p.Key(t, "ada-1")}, &Page{Out: io.Discard, Life: time.Millisecond})
	must(t, err)
	if _, err := signer.Sign(policyChange(t)); err == nil || !strings.Contains(err.Error(), "nothing was signed") {
		t.Error(err)
	}
	if _, err := Signer("ada", []statement.Key{{ID: "ada-1", Type: "ed25519"}}, nil); err == nil || !strings.Contains(err.Error(), "reeve key add ada --passkey") {
		t.Error(err)
	}
}

func TestRegister(t *testing.T) {
	for name, c := range map[string]struct {
		flags    byte
		accepted bool
		want     error
		synced   string
	}{
		"of a device":           {0x05, false, nil, ""},
		"of a device, accepted": {0x05, true, nil, ""},
		"synced":                {0x1d, false, ErrSynced, ""},
		"synced, accepted":      {0x1d, true, nil, "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			p := estatetest.NewPasskey(t, false)
			var k statement.Key
			known := estatetest.NewPasskey(t, false)
			b, ended := open(t, func(page *Page) (err error) {
				k, err = page.Register("ada", "ada-2", []statement.Key{known.Key(t, "ada-1")}, c.accepted)
				return err
			})
			_, html, _ := b.do(http.MethodGet, b.url, nil, nil)
			_, challenge, _ := strings.Cut(html, `data-challenge="`)
			challenge, _, _ = strings.Cut(challenge, `"`)
			raw, err := hex.DecodeString(challenge)
			must(t, err)
			if !strings.Contains(html, `data-create="true"`) || !strings.Contains(html, fmt.Sprintf("%x", known.ID)) || !strings.Contains(html, "A new passkey for ada") {
				t.Errorf("the page: %s", html)
			}
			ceremony := estatetest.NewCeremony([32]byte(raw))
			ceremony.Flags = c.flags
			s := p.Sign(t, "", ceremony)
			a := &answer{ID: p.ID, AuthenticatorData: s.WebAuthn.AuthenticatorData, ClientData: s.WebAuthn.ClientData, Signature: s.Sig, Public: p.Public(t)}
			status, text := b.answer(a, nil)
			if c.want != nil {
				if status != http.StatusUnprocessableEntity || !strings.Contains(text, c.want.Error()) {
					t.Errorf("%d %s", status, text)
				}
				return // the page waits for another one
			}
			must(t, <-ended)
			want := p.Key(t, "ada-2")
			want.Synced = c.synced
			if d := cmp.Diff(want, k); status != http.StatusNoContent || d != "" {
				t.Errorf("%d %s", status, d)
			}
			entry, err := estate.Entry(k)
			must(t, err)
			if strings.Contains(string(entry), "require_user") {
				t.Errorf("the entry: %s", entry)
			}
		})
	}
}

// A port that somebody else has on one of this machine's addresses is not used on the other.
func TestListen(t *testing.T) {
	list, port, err := listen()
	must(t, err)
	for _, l := range list {
		defer l.Close()
		if addr := l.Addr().(*net.TCPAddr); addr.Port != port || !addr.IP.IsLoopback() {
			t.Errorf("listens at %s", addr)
		}
	}
	if six, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		six.Close()
		if len(list) != 2 {
			t.Errorf("%d listeners on a machine with IPv6", len(list))
		}
	}
}

// What a comparison keeps and adds is the new text, what it keeps and takes away the old one.
func TestCompare(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	text := func() (list []string) {
		for range r.IntN(12) {
			list = append(list, string(rune('a'+r.IntN(4))))
		}
		return list
	}
	for range 2000 {
		a, b := text(), text()
		var before, after []string
		for _, l := range middle(a, b) {
			if l.Sign != "+" {
				before = append(before, l.Text)
			}
			if l.Sign != "-" {
				after = append(after, l.Text)
			}
		}
		if d := cmp.Diff(a, before) + cmp.Diff(b, after); d != "" {
			t.Fatalf("%v, %v: %s", a, b, d)
		}
	}
	got := ""
	for _, l := range compare("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\nsix\n7\n8\n9\n") {
		got += l.Sign + l.Text + " "
	}
	if want := "…  3  4  5 -6 +six  7  8  9 "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if list := compare("a\n", "a\n"); len(list) != 0 {
		t.Errorf("the same text: %v", list)
	}
	if list := middle(make([]string, 3000), make([]string, 3000)); len(list) != 6000 {
		t.Errorf("a long text: %d lines", len(list))
	}
}

func TestPlain(t *testing.T) {
	if got := plain("a\u202eb\u200b\x00\tc é"); got != "a<U+202E>b<U+200B><U+0000>\tc é" {
		t.Errorf("%q", got)
	}
}
