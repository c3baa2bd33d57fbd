package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answer is what a caller of the gateway got. The zero status means that it got none.
type answer struct {
	path    string // as the upstream sees it
	status  int
	refusal string // the stable word of a refusal; empty for the upstream's own answer
	receipt string
	message string
	err     error
}

func (a answer) String() string {
	return fmt.Sprintf("%s: status %d, refusal %q, receipt %q, %s, %v", a.path, a.status, a.refusal, a.receipt, a.message, a.err)
}

// used reports whether the upstream answered.
func (a answer) used() bool { return a.status != 0 && a.refusal == "" && a.err == nil }

// chat makes an ordinary call with a text of its own.
func (s *site) chat(text string) answer {
	body := fmt.Sprintf(`{"model":"openai/demo-small","messages":[{"role":"user","content":%q}]}`, text)
	return s.call(s.key, http.MethodPost, "/v1/chat/completions", body)
}

// look asks for a response that does not exist. Its path is the call's own, and an intent has the path's hash: so call,
// intent and the upstream's record can be matched without anything that a crash could take.
func (s *site) look(id string) answer { return s.call(s.key, http.MethodGet, "/v1/responses/"+id, "") }

func (s *site) call(key, method, path, body string) answer {
	a := answer{path: path}
	req, err := http.NewRequest(method, s.url(path), strings.NewReader(body))
	if err != nil {
		s.Error(err)
		return a
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if path == "/v1/messages" {
		req.Header.Set("Anthropic-Version", "2023-06-01")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	a.status, a.err = resp.StatusCode, err
	a.refusal, a.receipt = resp.Header.Get("Reeve-Refusal"), resp.Header.Get("Reeve-Receipt")
	var e struct{ Error struct{ Message string } }
	if json.Unmarshal(text, &e) == nil {
		a.message = e.Error.Message
	}
	return a
}

// mustUse makes a call that the upstream has to answer.
func (s *site) mustUse(text string) answer {
	s.Helper()
	a := s.chat(text)
	if !a.used() || a.status != http.StatusOK || a.receipt == "" {
		s.Fatalf("a call that should work: %v", a)
	}
	return a
}

// mustRefuse makes a call that has to be refused with that word, by a message that has every part.
func (s *site) mustRefuse(word string, parts ...string) answer {
	s.Helper()
	a := s.chat("refused")
	status := http.StatusServiceUnavailable
	if word == "frozen" {
		status = http.StatusForbidden
	}
	if a.refusal != word || a.status != status {
		s.Fatalf("refused with %q (%d) instead of %q (%d): %v", a.refusal, a.status, word, status, a)
	}
	contains(s, "the refusal "+word, a.message, append(parts, "Nothing was sent.")...)
	return a
}

// usable waits until calls work, which they must within limit.
func (s *site) usable(limit time.Duration) answer {
	s.Helper()
	var a answer
	s.await("calls work", limit, func() bool { a = s.chat("again"); return a.used() })
	return a
}

// load is callers that call without end.
type load struct {
	stop    atomic.Bool
	done    sync.WaitGroup
	used    atomic.Int64 // calls that the upstream answered so far
	mu      sync.Mutex
	answers []answer
}

// load starts n callers. Every other call is a look of its own, the others are chats.
func (s *site) load(name string, n int, pause time.Duration) *load {
	l := &load{}
	for caller := range n {
		l.done.Go(func() {
			var mine []answer
			for i := 0; !l.stop.Load(); i++ {
				var a answer
				if i%2 == 0 {
					a = s.look(fmt.Sprintf("resp-%s-%d-%d", name, caller, i))
				} else {
					a = s.chat(fmt.Sprintf("%s %d %d", name, caller, i))
				}
				if a.used() {
					l.used.Add(1)
				}
				mine = append(mine, a)
				time.Sleep(pause)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.answers = append(l.answers, mine...)
		})
	}
	return l
}

// end stops the callers and returns what they got.
func (l *load) end() []answer {
	l.stop.Store(true)
	l.done.Wait()
	return l.answers
}
