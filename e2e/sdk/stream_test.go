package sdk

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestNoStreamIsCut is the regression test for golang/go#40747: an upstream that answers before it has read the request makes
// a proxy that streams request bodies cut about one answer in a hundred when the machine is busy.
func TestNoStreamIsCut(t *testing.T) {
	t.Run("handler", func(t *testing.T) {
		upstream := httptest.NewTLSServer(http.HandlerFunc(early))
		defer upstream.Close()
		uncut(t, wire(t, upstream.URL, upstream.Client()))
	})
	t.Run("processes", func(t *testing.T) { uncut(t, processes(t)) }) // the demo upstream reads the request first
}

func uncut(t *testing.T, s *stack) {
	const streams, clients = 600, 32
	filler := strings.Repeat("all the king's horses ", 12000) // 256 KiB
	body := `{"model":"` + openaiModel + `","stream":true,"messages":[{"role":"user","content":"hi"}],"metadata":{"x":"` + filler + `"}}`
	busy := make(chan struct{})
	defer close(busy)
	for range runtime.NumCPU() {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-busy:
					return
				default:
					if n%1000 == 0 {
						runtime.Gosched()
					}
				}
			}
		}()
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var cut, next atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for next.Add(1) <= streams {
				if err := s.whole(client, body); err != nil {
					cut.Add(1)
					t.Log(err)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d of %d streams cut", cut.Load(), streams)
	if cut.Load() > 0 {
		t.Errorf("%d of %d streams were cut", cut.Load(), streams)
	}
}

// early is an upstream that answers before it has read the request.
func early(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	ctl.EnableFullDuplex()
	w.Header().Set("Content-Type", "text/event-stream")
	for n := range 20 {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d\"}}]}\n\n", n)
		ctl.Flush()
		if n == 10 {
			io.Copy(io.Discard, r.Body)
		}
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// whole reads one stream to its end.
func (s *stack) whole(client *http.Client, body string) error {
	req, err := http.NewRequest("POST", s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("X-Demo-Events", "20")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(bufio.NewReader(resp.Body))
	if events := strings.Count(string(text), "\n\n"); err != nil || resp.StatusCode != 200 || events < 21 || !strings.HasSuffix(string(text), "data: [DONE]\n\n") {
		return fmt.Errorf("%s, %d bytes, ends with %q: %v", resp.Status, len(text), text[max(0, len(text)-80):], err)
	}
	return nil
}

// TestClaudeCodeRequest: a request as Claude Code makes it arrives at the upstream byte for byte.
func TestClaudeCodeRequest(t *testing.T) { each(t, claudeCode) }

func claudeCode(t *testing.T, s *stack) {
	body := "{\n  \"model\": \"" + anthropicModel + "\",\n  \"max_tokens\": 32000, \"temperature\": 1.0,\n" +
		"  \"system\": [ {\"type\":\"text\",\"text\":\"You are Claude Code\\u2026 \\/\",\"cache_control\":{\"type\":\"ephemeral\"}} ],\n" +
		"  \"thinking\": {\"type\":\"adaptive\"}, \"context_management\": {\"edits\":[{\"type\":\"clear_thinking_20251015\",\"keep\":\"all\"}]},\n" +
		"  \"never_heard_of\": {\"b\":1e2,\"a\":[1.50,null]}, \"metadata\": {\"user_id\":\"user_1_account__session_2\"},\n" +
		"  \"messages\": [{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}], \"stream\": true\n}\n"
	_, before := s.seen(0)
	req, err := http.NewRequest("POST", s.url+"/v1/messages?beta=true", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + s.key, "X-Api-Key": s.key, "Content-Type": "application/json", "Anthropic-Version": "2023-06-01",
		"Anthropic-Beta": "claude-code-20250219,interleaved-thinking-2025-05-14,never-heard-of-2031-01-01", "User-Agent": "claude-cli/2.0.1 (external, cli)",
		"X-App": "cli", "Anthropic-Dangerous-Direct-Browser-Access": "true", "X-Claude-Code-Session-Id": "1", "X-Stainless-Retry-Count": "0",
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(text), "event: message_stop\n") {
		t.Fatalf("%s %q %v", resp.Status, text, err)
	}
	sum := sha256.Sum256([]byte(body))
	seen, _ := s.seen(before)
	if len(seen) != 1 || seen[0].BodySHA256 != hex.EncodeToString(sum[:]) || seen[0].Path != "/v1/messages?beta=true" {
		t.Errorf("the upstream saw %+v", seen)
	}
	for _, path := range []string{"/", "/api/hello"} {
		if resp, err := http.Head(s.url + path); err != nil || resp.StatusCode != 200 {
			t.Errorf("HEAD %s: %v %v", path, resp, err)
		}
	}
}
