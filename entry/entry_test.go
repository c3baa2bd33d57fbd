package entry

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample fills every member that its type allows.
func sample() *Entry {
	return &Entry{
		V: 1, Seq: 7, TimeNS: 1790000000000000001, Type: Intent, Log: "0123456789abcdef", Tenant: "acme", TenantSeq: 3, Unit: "research",
		Workload: "research-agent", Actor: []string{"a", "b"}, Level: "W0", Proof: "bearer", Gateway: "g1", Credential: "research-openai",
		CredFP: "fp", Lease: "1", State: "active", Expires: 1790000900, Dest: "https://127.0.0.1", Method: "POST", PathHash: strings.Repeat("ab", 32), ReqDigest: "d",
		Estate: strings.Repeat("cd", 32), Policies: []string{"p0"}, Decision: "allow", Reason: "tab\t\"quote\" \\ \x01 ü €", FeedAgeMS: 12,
		Commit: strings.Repeat("ef", 32),
	}
}

func TestRoundTrip(t *testing.T) {
	e := sample()
	b := e.AppendJSON(nil)
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, e) {
		t.Fatalf("got %+v\nwant %+v", got, e)
	}
	// encoding/json sorts map keys; with ASCII keys that is RFC 8785's order.
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	m["reason"] = "r"
	want, _ := json.Marshal(m)
	e.Reason = "r"
	if got := e.AppendJSON(nil); string(got) != string(want) {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(sample().AppendJSON(nil))
	for name, b := range map[string]string{
		"empty":               "",
		"trailing data":       good + " ",
		"white space":         strings.Replace(good, `"v":1`, `"v": 1`, 1),
		"unknown member":      strings.Replace(good, `"v":1`, `"v":1,"vv":1`, 1),
		"doubled member":      strings.Replace(good, `"v":1`, `"v":1,"v":1`, 1),
		"members in disorder": strings.Replace(strings.Replace(good, `"v":1,`, ``, 1), `{`, `{"v":1,`, 1),
		"other escape":        strings.Replace(good, `\t`, `\u0009`, 1),
		"upper-case escape":   strings.Replace(good, `\u0001`, `\u001F`, 1),
		"solidus escape":      strings.Replace(good, `https://`, `https:\/\/`, 1),
		"not UTF-8":           strings.Replace(good, `ü`, "\xff", 1),
		"float":               strings.Replace(good, `"seq":7`, `"seq":7.0`, 1),
		"leading zero":        strings.Replace(good, `"seq":7`, `"seq":07`, 1),
		"plus":                strings.Replace(good, `"seq":7`, `"seq":+7`, 1),
		"minus zero":          strings.Replace(good, `"seq":7`, `"seq":-0`, 1),
		"beyond 2^53":         strings.Replace(good, `"seq":7`, `"seq":9007199254740992`, 1),
		"negative":            strings.Replace(good, `"seq":7`, `"seq":-7`, 1),
		"time as a number":    strings.Replace(good, `"1790000000000000001"`, `1790000000000000001`, 1),
		"zero member":         strings.Replace(good, `"commit"`, `"bytes":0,"commit"`, 1),
		"empty string":        strings.Replace(good, `"lease":"1"`, `"lease":""`, 1),
		"empty list":          strings.Replace(good, `["p0"]`, `[]`, 1),
		"missing log":         strings.Replace(good, `"log":"0123456789abcdef",`, ``, 1),
		"other version":       strings.Replace(good, `"v":1`, `"v":2`, 1),
		"unknown type":        strings.Replace(good, `"intent"`, `"intend"`, 1),
		"too long":            strings.Replace(good, `"p0"`, `"`+strings.Repeat("p", MaxLen)+`"`, 1),
	} {
		if b == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if e, err := Parse([]byte(b)); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"intent without workload":    func(e *Entry) { e.Workload = "" },
		"intent that denies":         func(e *Entry) { e.Decision = "deny" },
		"deny without reason":        func(e *Entry) { e.Type, e.Decision, e.Reason = Deny, "deny", "" },
		"outcome without intent":     func(e *Entry) { e.Type = Outcome },
		"intent after its outcome":   func(e *Entry) { e.Type, e.HasIntent, e.IntentSeq = Outcome, true, 7 },
		"heartbeat without commit":   func(e *Entry) { e.Type, e.Commit = Heartbeat, "" },
		"retire without predecessor": func(e *Entry) { e.Type = Retire },
		"retire with a short root":   func(e *Entry) { e.Type, e.PrevLog, e.PrevRoot = Retire, "reeve/x/c", "AAAA" },
		"predecessor elsewhere":      func(e *Entry) { e.PrevLog = "reeve/x/c" },
		"tenant_seq without tenant":  func(e *Entry) { e.Type, e.Tenant = Mint, "" },
		"commit not a hash":          func(e *Entry) { e.Commit = "ABC" },
		"intent_log without intent":  func(e *Entry) { e.IntentLog = "0123456789abcdee" },
		"intent_log of this log":     func(e *Entry) { e.HasIntent, e.IntentSeq, e.IntentLog = true, 1, e.Log },
		"log not an id":              func(e *Entry) { e.Log = "x" },
		"feed age below unknown":     func(e *Entry) { e.FeedAgeMS = -2 },
		"too large":                  func(e *Entry) { e.Bytes = 1 << 53 },
	} {
		e := sample()
		change(e)
		if e.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestEveryMember sets each field by reflection, so that a field that the encoder or parser forgot is found.
func TestEveryMember(t *testing.T) {
	v := reflect.TypeFor[Entry]()
	for i := range v.NumField() {
		f := v.Field(i)
		e := &Entry{V: 1, Type: Publish, Log: "0123456789abcdef", Tenant: "t", HasIntent: true, Seq: 9, PrevLog: "reeve/x/c"}
		switch p := reflect.ValueOf(e).Elem().Field(i); f.Type.Kind() {
		case reflect.String:
			p.SetString("x-" + f.Name)
		case reflect.Slice:
			p.Set(reflect.ValueOf([]string{f.Name}))
		case reflect.Int, reflect.Int64:
			p.SetInt(77)
		}
		got := new(Entry)
		if err := (&reader{b: e.AppendJSON(nil)}).entry(got); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v, %v; want %+v", f.Name, got, err, e)
		}
	}
}

func TestAppendJSONAllocatesNothing(t *testing.T) {
	e, buf := sample(), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendJSON(buf[:0]) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestRandomStringsRoundTrip(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	for range 2000 {
		e := sample()
		s := make([]rune, r.Intn(20))
		for i := range s {
			s[i] = []rune{0, 1, 8, 9, 10, 12, 13, 31, ' ', '"', '\\', '/', 0x7f, 0x80, 0x2028, 0xfffd, 0x1f600, 'a'}[r.Intn(18)]
		}
		e.Reason = string(s)
		got, err := Parse(e.AppendJSON(nil))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%q: %v", e.Reason, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().AppendJSON(nil))
	f.Add([]byte(`{"log":"0123456789abcdef","seq":0,"time_ns":"0","type":"mint","v":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if got := e.AppendJSON(nil); string(got) != string(b) {
			t.Fatalf("parsed and encoded: %q, was %q", got, b)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	e, buf := sample(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}
