package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
)

func TestSidecar(t *testing.T) {
	s := start(t)
	t.Run("node", func(t *testing.T) { nodeSDKs(s.on(t)) })
	t.Run("go", func(t *testing.T) { goSDKs(s.on(t)) })
	t.Run("level", func(t *testing.T) { level(s.on(t)) })
	t.Run("ends", func(t *testing.T) { ends(s.on(t)) })
	t.Run("captured", func(t *testing.T) { captured(s.on(t)) })
	t.Run("exchange", func(t *testing.T) { exchange(s.on(t)) })
	t.Run("spiffe", func(t *testing.T) { spiffe(s.on(t)) })
}

// said is the end of what the demo upstream answers.
const said = "You said: one two"

// mustBeProven wants one line for each call, with its text and the entry of a proven use.
func (s *site) mustBeProven(out []byte, calls int) {
	s.Helper()
	n := 0
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); n++ {
		var line struct{ Name, Text, Receipt string }
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil || !strings.HasSuffix(line.Text, said) {
			s.Fatalf("%v %s", err, scan.Text())
		}
		s.mustProve(line.Name, line.Receipt)
	}
	if n != calls {
		s.Errorf("%d calls, want %d", n, calls)
	}
}

func (s *site) output(cmd *exec.Cmd) []byte {
	s.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%v: %v\n%s\n%s", cmd.Args, err, lines(out), &stderr)
	}
	return out
}

// nodeSDKs: the SDKs of Node, unmodified, JSON and streamed.
func nodeSDKs(s *site) {
	need.Part(s.T, "node")
	if _, err := os.Stat("../sdk/node/node_modules/openai"); err != nil {
		if list := "," + os.Getenv("REEVE_REQUIRE") + ","; strings.Contains(list, ",node,") || list == ",all," {
			s.Fatal("the Node packages are missing: run npm ci in e2e/sdk/node")
		}
		s.Skip("the Node packages are missing: run npm ci in e2e/sdk/node")
	}
	cmd := s.reeve("exec", "--", "node", "proven.mjs")
	cmd.Dir = "../sdk/node"
	cmd.Env = append(cmd.Env, "ANTHROPIC_API_KEY=of-the-provider", "OPENAI_API_KEY=of-the-provider")
	s.mustBeProven(s.output(cmd), 4)
}

// goSDKs: the SDKs of Go, unmodified, in this program as the child.
func goSDKs(s *site) {
	self, err := os.Executable()
	must(s.T, err)
	cmd := s.reeve("exec", "--", self)
	cmd.Env = append(cmd.Env, asChild+"=1", "ANTHROPIC_API_KEY=of-the-provider")
	s.mustBeProven(s.output(cmd), 4)
}

// child is the program that goSDKs runs: all it knows is its environment.
func child() int {
	ctx := context.Background()
	print := func(name, text string, resp *http.Response, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		json.NewEncoder(os.Stdout).Encode(map[string]string{"name": name, "text": text, "receipt": resp.Header.Get("Reeve-Receipt")})
	}
	var resp *http.Response
	o := openai.NewClient(openaioption.WithResponseInto(&resp))
	chat := openai.ChatCompletionNewParams{Model: "openai/demo-large", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("one two")}}
	got, err := o.Chat.Completions.New(ctx, chat)
	text := ""
	if err == nil {
		text = got.Choices[0].Message.Content
	}
	print("go openai", text, resp, err)
	stream := o.Chat.Completions.NewStreaming(ctx, chat)
	for text = ""; stream.Next(); {
		for _, c := range stream.Current().Choices {
			text += c.Delta.Content
		}
	}
	print("go openai stream", text, resp, stream.Err())

	a := anthropic.NewClient(anthropicoption.WithResponseInto(&resp))
	message := anthropic.MessageNewParams{Model: "anthropic/demo-claude", MaxTokens: 50, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("one two"))}}
	m, err := a.Messages.New(ctx, message)
	if text = ""; err == nil {
		text = m.Content[0].Text
	}
	print("go anthropic", text, resp, err)
	events := a.Messages.NewStreaming(ctx, message)
	var whole anthropic.Message
	for events.Next() {
		if err := whole.Accumulate(events.Current()); err != nil {
			print("go anthropic stream", "", nil, err)
		}
	}
	if text = ""; len(whole.Content) > 0 {
		text = whole.Content[0].Text
	}
	print("go anthropic stream", text, resp, events.Err())
	return 0
}

// level: policy wants level 2 for a model: the plain key is refused, the sidecar is let through.
func level(s *site) {
	url, key := s.bearer()
	status, receipt, refusal, err := post(url, key, large)
	must(s.T, err)
	if e := s.entry(receipt); status != http.StatusForbidden || refusal != "policy_denied" || e.Type != "deny" || e.Level != "W0" {
		s.Errorf("W0: %d %s %+v", status, refusal, e)
	}
	c := s.sidecar(filepath.Join(s.dir.Path, "sidecar.yaml"))
	status, receipt, refusal = c.post(large)
	if status != http.StatusOK {
		s.Fatalf("W2: %d %s", status, refusal)
	}
	s.mustProve("W2", receipt)
	if status, _, _, err := post(url, c.key, large); err != nil || status != http.StatusUnauthorized {
		s.Errorf("the key of the run opens the gateway: %d %v", status, err)
	}
	if status, _, _, err := post(c.url, key, large); err != nil || status != http.StatusUnauthorized {
		s.Errorf("the workload's own key opens the sidecar: %d %v", status, err)
	}
}

// ends: exec ends as its child does, passes signals on, and starts nothing when the gateway does not take its proof.
func ends(s *site) {
	for _, c := range []struct {
		args []string
		want int
		text string
	}{
		{[]string{"exec", "--", "true"}, 0, ""},
		{[]string{"exec", "--", "sh", "-c", "exit 42"}, 42, ""},
		{[]string{"exec", "--", "sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"exec", "--", "/no/such/program"}, 1, "starting the program"},
		{[]string{"exec"}, 2, "requires at least 1 arg"},
		{[]string{"exec", "--config", s.config("reeve:demo", "reeve:other"), "--", "echo", "ran"}, 1, "does not take this sidecar's proof (401)"},
		{[]string{"exec", "--config", s.config("key: research-agent.key", "key: none.key"), "--", "echo", "ran"}, 1, "opening the workload's key"},
	} {
		cmd := s.reeve(c.args...)
		out, err := cmd.CombinedOutput()
		var e *exec.ExitError
		if err != nil && !errors.As(err, &e) {
			s.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != c.want || !strings.Contains(string(out), c.text) || strings.Contains(string(out), "ran\n") {
			s.Errorf("%v: status %d\n%s", c.args, got, out)
		}
		if c.text == "" && len(out) > 0 {
			s.Errorf("%v says: %s", c.args, out)
		}
	}
	cmd := s.reeve("exec", "--", "sh", "-c", `trap 'echo ended; exit 43' TERM; echo began; while :; do sleep 0.05; done`)
	out, err := cmd.StdoutPipe()
	must(s.T, err)
	must(s.T, cmd.Start())
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "began\n" {
		s.Errorf("%q %v", line, err)
	}
	must(s.T, cmd.Process.Signal(syscall.SIGTERM))
	if line, err := r.ReadString('\n'); err != nil || line != "ended\n" {
		s.Errorf("%q %v", line, err)
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 43 {
		s.Errorf("status %d", cmd.ProcessState.ExitCode())
	}
}

// captured: a proxy stands for a gateway that was taken over: it sees all and sends on what it likes.
func captured(s *site) {
	gateway := "http://" + host.Local(s.dir.Run.Ports.Gateway)
	var mu sync.Mutex
	var treat func(req *http.Request, body []byte) (times int, changed []byte)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		u, err := url.Parse(gateway + r.RequestURI)
		if err != nil {
			return
		}
		mu.Lock()
		does := treat
		mu.Unlock()
		out := &http.Request{Method: r.Method, URL: u, Host: r.Host, Header: r.Header.Clone()}
		times := 1
		if does != nil && r.Method == http.MethodPost {
			times, body = does(out, body)
		}
		for n := range times {
			again := out.Clone(r.Context())
			again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			resp, err := http.DefaultTransport.RoundTrip(again)
			if err != nil {
				return
			}
			if n == times-1 {
				for name, values := range resp.Header {
					w.Header()[name] = values
				}
				w.WriteHeader(resp.StatusCode)
				io.Copy(w, resp.Body)
			}
			resp.Body.Close()
		}
	}))
	defer proxy.Close()
	c := s.sidecar(s.config("key:", "connect: "+strings.TrimPrefix(proxy.URL, "http://")+"\nkey:"))
	for _, x := range []struct {
		name   string
		treat  func(*http.Request, []byte) (int, []byte)
		status int
		entry  string // reason of the custodian's refusal; empty when the gateway refuses it already, or nothing is refused
	}{
		{"nothing", nil, http.StatusOK, ""},
		{"a byte of the body", func(_ *http.Request, b []byte) (int, []byte) { b[len(b)-5] ^= 1; return 1, b }, http.StatusUnauthorized, "pop_digest"},
		{"the same again", func(_ *http.Request, b []byte) (int, []byte) { return 2, b }, http.StatusUnauthorized, "replayed"},
		{"the path", func(r *http.Request, b []byte) (int, []byte) { r.URL.RawQuery = "x=1"; return 1, b }, http.StatusUnauthorized, ""},
		{"the token alone", func(r *http.Request, b []byte) (int, []byte) {
			for _, name := range []string{"Signature", "Signature-Input"} {
				r.Header.Del(name)
			}
			return 1, b
		}, http.StatusUnauthorized, ""},
		{"nothing any more", nil, http.StatusOK, ""},
	} {
		mu.Lock()
		treat = x.treat
		mu.Unlock()
		status, receipt, refusal := c.post(large)
		if status != x.status {
			s.Errorf("%s: %d %s", x.name, status, refusal)
			continue
		}
		if status == http.StatusOK {
			s.mustProve(x.name, receipt)
		}
		if x.entry == "" {
			continue
		}
		if e := s.entry(receipt); e.Type != "deny" || e.Reason != x.entry || e.Workload != "research-agent" {
			s.Errorf("%s: %+v", x.name, e)
		}
	}
}

// exchange: the workload's assertion becomes an access token of the authority, bound to the workload's key.
func exchange(s *site) {
	authority := "http://" + host.Local(s.dir.Run.Ports.Authority)
	c := s.sidecar(s.config("key:", "authority:\n  url: "+authority+"\nkey:", "    audience: reeve:demo\n", ""))
	status, receipt, refusal := c.post(large)
	if status != http.StatusOK {
		s.Fatalf("%d %s", status, refusal)
	}
	s.mustProve("exchanged", receipt)
	out := s.output(s.reeve("ledger", "show", "--process", "authority", "--count", "50"))
	if !strings.Contains(string(out), `"type":"issue"`) {
		s.Errorf("the authority has no entry of the token: %s", lines(out))
	}
}
