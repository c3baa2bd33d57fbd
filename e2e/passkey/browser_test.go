package passkey

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// browser is a headless Chromium, driven over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t    *testing.T
	conn *websocket.Conn

	mu    sync.Mutex // held while a command is sent and answered: one at a time
	calls int
}

// chromium starts a browser that ends with the test.
func chromium(t *testing.T) *browser {
	t.Helper()
	profile, err := os.MkdirTemp("", "reeve-passkey-")
	must(t, err)
	t.Cleanup(func() { // the last of its processes may write a moment longer
		for end := time.Now().Add(20 * time.Second); os.RemoveAll(profile) != nil && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	})
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--user-data-dir="+profile, "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its processes too
		_ = cmd.Wait()
	})
	var url string
	lines := bufio.NewScanner(stderr)
	for url == "" && lines.Scan() {
		_, url, _ = strings.Cut(lines.Text(), "DevTools listening on ")
	}
	if url == "" {
		t.Fatal("chromium does not listen")
	}
	go func() { // it writes on
		for lines.Scan() {
		}
	}()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	must(t, err)
	conn.SetReadLimit(16 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &browser{t: t, conn: conn}
}

// do sends a command to a session, or to the browser when that is empty, and decodes its result.
func (b *browser) do(session, method string, params, result any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	id := b.calls
	m := map[string]any{"id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := b.conn.Write(ctx, websocket.MessageText, raw); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		_, raw, err := b.conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var got struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			return err
		}
		switch {
		case got.ID != id: // an event
			continue
		case got.Error != nil:
			return fmt.Errorf("%s: %s", method, got.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(got.Result, result)
	}
}

// person is somebody with an authenticator and a browser of his own.
type person struct {
	b             *browser
	name          string
	session       string // of his page
	authenticator string
}

// person opens a page for somebody, with an authenticator that verifies him.
func (b *browser) person(name string, synced bool) *person {
	b.t.Helper()
	p := &person{b: b, name: name}
	var made struct{ BrowserContextID, TargetID, SessionID, AuthenticatorID string }
	must(b.t, b.do("", "Target.createBrowserContext", nil, &made))
	must(b.t, b.do("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": made.BrowserContextID}, &made))
	must(b.t, b.do("", "Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true}, &made))
	p.session = made.SessionID
	must(b.t, b.do(p.session, "WebAuthn.enable", nil, nil))
	must(b.t, b.do(p.session, "WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
		"automaticPresenceSimulation": true, "defaultBackupEligibility": synced, "defaultBackupState": synced,
	}}, &made))
	p.authenticator = made.AuthenticatorID
	return p
}

// eval evaluates an expression on the page, as if the person had just touched it.
func (p *person) eval(expression string) string {
	p.b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}
	must(p.b.t, p.b.do(p.session, "Runtime.evaluate", map[string]any{"expression": expression, "userGesture": true, "awaitPromise": true, "returnByValue": true}, &got))
	if got.ExceptionDetails != nil {
		p.b.t.Fatalf("%s: %s", expression, got.ExceptionDetails.Text)
	}
	return fmt.Sprint(got.Result.Value)
}

// open opens a page and waits until it is there, then returns its text.
func (p *person) open(url string) string {
	p.b.t.Helper()
	var gone struct{ ErrorText string }
	must(p.b.t, p.b.do(p.session, "Page.navigate", map[string]any{"url": url}, &gone))
	if gone.ErrorText != "" {
		p.b.t.Fatalf("%s: %s", url, gone.ErrorText)
	}
	p.until(`document.readyState === "complete" && location.href === ` + fmt.Sprintf("%q", url))
	return p.eval("document.body.innerText")
}

// press presses the page's button and returns what the page says when it is done.
func (p *person) press() string {
	p.b.t.Helper()
	p.eval(`document.querySelector("button").click()`)
	p.until(`/^(Done|Not signed)/.test(document.getElementById("state").textContent)`)
	return p.eval(`document.getElementById("state").textContent`)
}

// until waits for a condition on the page.
func (p *person) until(condition string) {
	p.b.t.Helper()
	for range 600 {
		if p.eval(condition) == "true" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.b.t.Fatalf("never: %s; the page says: %s", condition, p.eval("document.body.innerText"))
}

// verified sets whether the authenticator recognises its user.
func (p *person) verified(is bool) {
	p.b.t.Helper()
	must(p.b.t, p.b.do(p.session, "WebAuthn.setUserVerified", map[string]any{"authenticatorId": p.authenticator, "isUserVerified": is}, nil))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
