package canary

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/demo/vendor"
	"github.com/reevehq/reeve/internal/secret"
)

// rig is a gateway in front of the canary upstream.
type rig struct {
	plan  Plan
	up    *Upstream
	to    string // the upstream's URL
	gates *httptest.Server
}

// newRig makes one around what a gateway does with a request.
func newRig(t *testing.T, plan Plan, gateway func(upstream string) http.Handler) *rig {
	t.Helper()
	plan.Sent, plan.Wait = NewCanary(), 10*time.Millisecond
	r := &rig{plan: plan, up: NewUpstream(plan.Known()...)}
	srv := httptest.NewServer(r.up)
	t.Cleanup(srv.Close)
	r.to = srv.URL
	r.gates = httptest.NewServer(gateway(srv.URL))
	t.Cleanup(r.gates.Close)
	r.plan.URL = r.gates.URL
	return r
}

func habit(h, key string) func(string) http.Handler {
	return func(to string) http.Handler {
		return &vendor.Gateway{Habit: h, Key: key, Upstream: func() (string, error) { return to, nil }}
	}
}

// turning is a gateway that takes its credential from the list, one after the other.
func turning(keys ...string) func(string) http.Handler {
	return func(to string) http.Handler {
		n := 0
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, err := http.NewRequest(http.MethodPost, to+r.URL.Path, r.Body)
			if err != nil {
				panic(err)
			}
			req.Header.Set("X-Api-Key", keys[n%len(keys)])
			n++
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
}

// first is a gateway that sends on so many requests, and answers the others itself.
func first(n int) func(string) http.Handler {
	return func(to string) http.Handler {
		g, came := habit("forward", "")(to), 0
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if came++; came <= n {
				g.ServeHTTP(w, r)
			}
		})
	}
}

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// Each habit is recognised, and what cannot be told apart is said.
func TestHabits(t *testing.T) {
	const stored = "reeve-bait-stored"
	for _, c := range []struct {
		name    string
		plan    Plan
		gateway func(string) http.Handler
		want    []register.Flag
		unseen  []register.Flag
		cannot  string // beside what is said of all
	}{
		{"transport", Plan{Stored: []string{stored}}, habit("transport", ""), []register.Flag{register.Transport}, nil, ""},
		{"forward", Plan{Stored: []string{stored}}, habit("forward", ""), []register.Flag{register.Transport, register.Forward}, nil, ""},
		{"cache", Plan{Stored: []string{stored}}, habit("cache", ""), []register.Flag{register.Transport, register.Forward, register.Cache}, nil, ""},
		{"retrieve", Plan{Stored: []string{stored}}, habit("retrieve", stored), []register.Flag{register.Transport, register.Retrieve}, nil, ""},
		{"retrieve, what nobody stored for it", Plan{}, habit("retrieve", "of-its-own"), []register.Flag{register.Transport, register.Retrieve}, nil, "made once and kept"},
		{"mint", Plan{Stored: []string{stored}}, habit("mint", ""), []register.Flag{register.Transport, register.Mint}, nil, ""},
		{"one with an end", Plan{}, turning(jwt(`{"exp":1900000000}`)), []register.Flag{register.Transport, register.Retrieve, register.Mint}, nil, "made a while ago, or read"},
		{"several without an end", Plan{}, turning("a", "b", jwt(`{"sub":"x"}`)), []register.Flag{register.Transport, register.Retrieve, register.Mint}, nil, "taken in turn"},
		{"a login that is passed on", Plan{Login: secret.New([]byte("login"))}, func(to string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				turning(r.Header.Get("X-Gateway-Key"))(to).ServeHTTP(w, r)
			})
		}, []register.Flag{register.Transport, register.Forward}, []register.Flag{register.Retrieve}, "No canary credential was stored"},
		{"what an earlier probe sent", Plan{Stored: []string{stored}}, turning(NewCanary()), []register.Flag{register.Transport, register.Cache}, nil, ""},
		{"only with a credential", Plan{Stored: []string{stored}}, func(to string) http.Handler {
			g := habit("cache", "")(to)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					http.Error(w, "who are you", http.StatusUnauthorized)
					return
				}
				g.ServeHTTP(w, r)
			})
		}, []register.Flag{register.Transport, register.Forward}, []register.Flag{register.Cache, register.Retrieve, register.Mint}, "None of its requests without the canary credential arrived (401"},
		{"again, by itself and later", Plan{Stored: []string{stored}}, func(to string) http.Handler {
			g := habit("forward", "")(to)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if key := r.Header.Get("Authorization"); key != "" {
					req, err := http.NewRequest(http.MethodGet, to+"/v1/models?key="+strings.TrimPrefix(key, "Bearer "), nil)
					if err != nil {
						panic(err)
					}
					if resp, err := http.DefaultClient.Do(req); err == nil {
						resp.Body.Close()
					}
				}
				g.ServeHTTP(w, r)
			})
		}, []register.Flag{register.Transport, register.Forward, register.Cache}, nil, ""},
		{"only what comes before the credential", Plan{Stored: []string{stored}}, first(3 + 1), []register.Flag{register.Transport, register.Forward}, []register.Flag{register.Cache}, "after the one with the canary credential arrived"},
		{"nothing with a credential", Plan{Stored: []string{stored}}, func(to string) http.Handler {
			g := habit("forward", "")(to)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					g.ServeHTTP(w, r)
				}
			})
		}, []register.Flag{register.Transport}, []register.Flag{register.Forward, register.Cache}, "sends on or keeps what it is sent was not seen"},
		{"one request, with a credential of its own", Plan{Stored: []string{stored}}, func(to string) http.Handler {
			g, n := turning("a")(to), 0
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n++; n == 1 {
					g.ServeHTTP(w, r)
				}
			})
		}, []register.Flag{register.Transport, register.Retrieve}, []register.Flag{register.Forward, register.Cache, register.Mint}, "did not arrive"},
		{"nothing stored", Plan{}, habit("transport", ""), []register.Flag{register.Transport}, []register.Flag{register.Retrieve}, "No canary credential was stored"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.plan, c.gateway)
			v, err := Run(t.Context(), r.plan, r.up)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, Flags(v)); d != "" {
				t.Errorf("(-want +got) %s\n%+v", d, v.Found)
			}
			if d := cmp.Diff(c.unseen, v.Unseen); d != "" {
				t.Errorf("unseen (-want +got) %s", d)
			}
			said := strings.Join(v.Cannot, "\n")
			if !strings.Contains(said, c.cannot) || !strings.Contains(said, "keeps a credential and does not send it") || c.cannot == "" && len(v.Cannot) != 4 {
				t.Errorf("cannot be told: %s", said)
			}
			if text := fmt.Sprintf("%+v %+v", v, r.plan.Login); strings.Contains(text, r.plan.Sent) || strings.Contains(text, stored) || strings.Contains(text, "{login}") {
				t.Errorf("the verdict has a credential in it: %s", text)
			}
		})
	}
}

// Of what does not come nothing is said, and plans that could tell nothing are refused.
func TestSilent(t *testing.T) {
	r := newRig(t, Plan{}, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) })
	})
	if _, err := Run(t.Context(), r.plan, r.up); !errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
	// Others knock too, and a gateway can send something else: that says nothing of what it does with the probe's requests.
	var up *Upstream
	r = newRig(t, Plan{}, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			up.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/robots.txt", nil))
			w.Write([]byte("{}"))
		})
	})
	up = r.up
	if v, err := Run(t.Context(), r.plan, r.up); !errors.Is(err, ErrSilent) {
		t.Errorf("of somebody else's requests: %v, %+v", err, v)
	}
	for name, p := range map[string]Plan{
		"no URL":                    {URL: "ai.example", Sent: "a"},
		"nothing to send":           {URL: "https://ai.example"},
		"sent and stored":           {URL: "https://ai.example", Sent: "a", Stored: []string{"a"}},
		"one call":                  {URL: "https://ai.example", Sent: "a", Calls: 1},
		"two in one header":         {URL: "https://ai.example", Sent: "a", Login: secret.New([]byte("b")), LoginHeader: "authorization"},
		"the login as the canary":   {URL: "https://ai.example", Sent: "a", Login: secret.New([]byte("a"))},
		"a password in the URL":     {URL: "https://a:b@ai.example", Sent: "a"},
		"a URL of no such protocol": {URL: "ftp://ai.example", Sent: "a"},
	} {
		if _, err := Run(t.Context(), p, r.up); err == nil || errors.Is(err, ErrSilent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Credentials are found where providers take them, and those of the probe anywhere.
func TestPlaced(t *testing.T) {
	up := NewUpstream("bait")
	for _, c := range []struct {
		name, header, value, url string
		want                     []string
	}{
		{"bearer", "Authorization", "Bearer one", "/", []string{"one"}},
		{"basic", "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("user:two")), "/", []string{"two"}},
		{"basic, of something else", "Authorization", "Basic three", "/", []string{"three"}},
		{"no scheme", "Authorization", "four", "/", []string{"four"}},
		{"header", "X-Api-Key", "five", "/", []string{"five"}},
		{"query", "", "", "/?key=six", []string{"six"}},
		{"anywhere", "X-Other", "v=bait;", "/", []string{"bait"}},
		{"nothing", "X-Other", "seven", "/", nil},
	} {
		r := httptest.NewRequest(http.MethodPost, c.url, strings.NewReader("{}"))
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		up.ServeHTTP(httptest.NewRecorder(), r)
		all := up.seen()
		if got := all[len(all)-1].credentials; !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
