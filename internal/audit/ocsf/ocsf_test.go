package ocsf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
)

var golden = flag.Bool("update", false, "write the golden file")

// entries is one of every type, and those whose event depends on more.
func entries() (list []*entry.Entry) {
	const id = "0123456789abcdef"
	sum := strings.Repeat("ab", 32)
	for _, e := range []entry.Entry{
		{Type: entry.Intent, Tenant: "t", Unit: "research", Workload: "agent", Credential: "research-openai", CredFP: "fp1", Lease: "1", Gateway: "g1", Dest: "https://api.example", Method: "POST", PathHash: sum,
			Estate: sum, Policies: []string{"p0", "p1"}, Decision: "allow", Level: "W2", Proof: "pop", Actor: []string{"token:0011223344556677"}, FeedAgeMS: 120},
		{Type: entry.Outcome, HasIntent: true, Status: 200, Bytes: 1024, Credential: "research-openai"},
		{Type: entry.Deny, Tenant: "t", Unit: "research", Workload: "agent", Credential: "lab-key", Gateway: "g1", Decision: "deny", Reason: "policy", FeedAgeMS: -1},
		{Type: entry.Deny, Decision: "deny", Reason: "unauthenticated", Count: 40, Gateway: "g1"},
		{Type: entry.Mint, Credential: "research-openai", Reason: "fetch"},
		{Type: entry.Outcome, HasIntent: true, IntentSeq: 4, Credential: "research-openai", State: "active", Lease: "2", CredFP: "fp2", Expires: 1790000000},
		{Type: entry.Outcome, HasIntent: true, Reason: "timeout"},
		{Type: entry.Exchange, Tenant: "t", Unit: "research", Workload: "agent", Actor: []string{"issuer:kube"}, Expires: 1790000000},
		{Type: entry.Issue, Workload: "agent", Reason: "workload-key", Actor: []string{"person:ada"}},
		{Type: entry.Publish, Estate: sum, Actor: []string{"ada", "bob"}},
		{Type: entry.Publish, Credential: "research-openai", Lease: "2", Reason: "handover", Record: sum, Actor: []string{"ada"}},
		{Type: entry.Revoke, Credential: "research-openai", Record: sum, Actor: []string{"ada"}, Proof: "feed"},
		{Type: entry.Freeze, Workload: "agent", Reason: "ceiling"},
		{Type: entry.Unfreeze, Unit: "research"},
		{Type: entry.Version, Credential: "research-openai", Lease: "1", State: "destroyed"},
		{Type: entry.Version, Credential: "research-openai", Lease: "1", State: "overlapping"},
		{Type: entry.Probe, Credential: "research-openai", Lease: "1", Method: "GET", Dest: "https://api.example"},
		{Type: entry.Alarm, Reason: "honey", Credential: "bait"},
		{Type: entry.BreakGlass, Actor: []string{"ada", "bob"}, Credential: "root", Expires: 1790000000},
		{Type: entry.Attest, Actor: []string{"ada"}},
		{Type: entry.Erasure, Tenant: "t", Record: sum},
		{Type: entry.Retire, PrevLog: "reeve.example/e/c0", PrevSize: 7, PrevRoot: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
		{Type: entry.Heartbeat, Commit: sum},
		{Type: entry.Intent, Tenant: "t", Unit: "research", Workload: "agent", Credential: "research-openai", Gateway: "g1", Dest: "https://api.example", Method: "POST", Decision: "allow", Level: "W1", Proof: "bearer",
			Actor: []string{"token:8899aabbccddeeff", "issuer:kube", "act:planner", "act:scheduler"}, FeedAgeMS: 120},
	} {
		e.V, e.Log, e.Seq, e.TimeNS = 1, id, int64(len(list)), 1785585600000000000+int64(len(list))
		list = append(list, &e)
	}
	return list
}

func TestGolden(t *testing.T) {
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	types := map[entry.Type]bool{}
	for _, e := range entries() {
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		types[e.Type] = true
		v, err := From(e, e.AppendJSON(nil), "reeve.example/e/c1", "custodian")
		if err != nil {
			t.Fatal(err)
		}
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if len(types) != 18 {
		t.Errorf("%d of 18 types", len(types))
	}
	path := filepath.Join("testdata", "events.jsonl")
	if *golden {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Fatal(d)
	}
}

// The leaf is in the event byte for byte, and the id is the entry's.
func TestEventKeepsTheLeaf(t *testing.T) {
	for _, e := range entries() {
		v, err := From(e, e.AppendJSON(nil), "o", "custodian")
		if err != nil {
			t.Fatal(err)
		}
		if a := v.Attestation; a.Chain != e.Log || (a.Previous == nil) != (e.Seq == 0) {
			t.Errorf("entry %d: %+v", e.Seq, a)
		}
		back, err := entry.Parse([]byte(v.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, back); d != "" {
			t.Error(d)
		}
		if v.Metadata.UID != fmt.Sprintf("%s.%d", e.Log, e.Seq) || v.Type != v.Class*100+v.Activity {
			t.Errorf("%+v", v)
		}
	}
}

// What is hashed is RFC 8785's: sorted, the shortest escapes, and the separators of lines as they are.
func TestCanonical(t *testing.T) {
	v := &Event{Message: "<a&b>\u2028 \\u2028 \u2029\x01\n\"\u00e9", Raw: "{}"}
	got, err := v.canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"activity_id":0,"category_uid":0,"class_uid":0,"message":"<a&b>` + "\u2028" + ` \\u2028 ` + "\u2029" + `\u0001\n\"é","metadata":{"event_code":"","log_name":"","log_provider":"","original_time":"","product":{"name":"","vendor_name":""},` +
		`"sequence":0,"uid":"","version":""},"raw_data":"{}","severity_id":0,"status_id":0,"time":0,"type_uid":0}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

// A token is a delegation when somebody acts by it for its workload.
func TestDelegation(t *testing.T) {
	for text, want := range map[string]*Delegation{
		"token:ab issuer:kube act:planner": {UID: "ab", Issuer: "kube"},
		"token:ab act:planner":             {UID: "ab"},
		"token:ab issuer:kube":             nil,
		"key:ab issuer:kube act:planner":   nil,
		"ada bob":                          nil,
	} {
		if d := cmp.Diff(want, delegation(&entry.Entry{Actor: strings.Fields(text)})); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
}

// A file that has something else in it is left as it is.
func TestFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("somebody's notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := OpenFile(path); err == nil {
		t.Error("taken", f.Close())
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "somebody's notes" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFileMendsItsLastLine(t *testing.T) {
	for text, want := range map[string]string{"": "", "a\nb\n": "a\nb\n", "a\nb": "a\n", "{torn": "", "a\n" + strings.Repeat("x", 200<<10): "a\n", strings.Repeat("y", 200<<10) + "\nz": strings.Repeat("y", 200<<10) + "\n"} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Send(t.Context(), Batch{Lines: []byte("new\n")}), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want+"new\n" {
			t.Errorf("%.20q gives %.40q", text, got)
		}
	}
}

func TestWebhook(t *testing.T) {
	answers := []int{503, 429, 200, 400, 302}
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, r.Header.Get("Idempotency-Key")+" "+r.Header.Get("Authorization")+" "+string(b))
		if answers[0] == 429 {
			w.Header().Set("Retry-After", "7")
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer s.Close()
	w, err := NewWebhook(s.URL, http.Header{"Authorization": {"Bearer x"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var waits []time.Duration
	w.sleep = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	if err := w.Send(t.Context(), Batch{"l.1", "l.2", []byte("{}\n{}\n")}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"l.1-l.2 Bearer x {}\n{}\n", "l.1-l.2 Bearer x {}\n{}\n", "l.1-l.2 Bearer x {}\n{}\n"}, got); d != "" {
		t.Error(d)
	}
	if len(waits) != 2 || waits[0] < firstWait/2 || waits[0] > firstWait || waits[1] != 7*time.Second {
		t.Errorf("waited %v", waits)
	}
	for range 2 { // a refusal, a redirect
		if err := w.Send(t.Context(), Batch{}); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	}
	w.sleep = sleep
	ctx, cancel := context.WithCancel(t.Context())
	s.Close()
	w.notice = func(error, time.Duration) { cancel() }
	if err := w.Send(ctx, Batch{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWebhookElsewhere(t *testing.T) {
	if _, err := NewWebhook("http://siem.example/", nil, nil); err == nil {
		t.Error("events go over the network in the clear")
	}
}
