package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// vectors are those that AWS published; the file names where.
type vectors struct {
	ID, Secret, Region, Time string
	Vectors                  []struct {
		Name, Service, Host, Method, Target, Body, Signature string
		Fields                                               map[string]string
	}
}

func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all vectors
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(Time, all.Time)
	if err != nil || len(all.Vectors) < 14 {
		t.Fatal(err, len(all.Vectors))
	}
	for _, v := range all.Vectors {
		host, service := v.Host, v.Service
		if host == "" {
			host, service = "example.amazonaws.com", "service"
		}
		r := &Request{Method: v.Method, Target: v.Target, Body: sha256.Sum256([]byte(v.Body)),
			Fields: []Field{{"x-amz-date", []byte(all.Time)}, {"host", []byte(host)}}}
		names := []string{"host", "x-amz-date"}
		for name, value := range v.Fields {
			name = strings.ToLower(name)
			r.Fields, names = append(r.Fields, Field{name, []byte(value)}), append(names, name)
		}
		slices.Sort(names)
		want := "AWS4-HMAC-SHA256 Credential=" + all.ID + "/20150830/us-east-1/" + service + "/aws4_request, SignedHeaders=" + strings.Join(names, ";") + ", Signature=" + v.Signature
		if got := string((Scope{all.Region, service}).Authorization(r, all.ID, []byte(all.Secret), at)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got, want)
		}
	}
}

// The example of the AWS General Reference, "Examples of how to derive a signing key".
func TestKey(t *testing.T) {
	got := Scope{"us-east-1", "iam"}.key([]byte("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "20150830")
	if want := "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"; hex.EncodeToString(got) != want {
		t.Errorf("%x", got)
	}
}

// Every part of what is sent is signed: a change of any changes the signature.
func TestEverythingIsSigned(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sign := func(edit func(s *Scope, r *Request, key *string, at *time.Time)) string {
		s, key, at := Scope{"eu-central-1", "bedrock"}, "demo-secret-access-key-0001", at
		r := &Request{Method: "POST", Target: "/model/a.b-v1%3A0/invoke?a=1&b=2", Body: sha256.Sum256([]byte("{}")),
			Fields: []Field{{"host", []byte("bedrock-runtime.eu-central-1.amazonaws.com")}, {"x-amz-date", []byte(at.Format(Time))}, {"content-type", []byte("application/json")}}}
		edit(&s, r, &key, &at)
		auth := string(s.Authorization(r, "AKIDEXAMPLE", []byte(key), at))
		return auth[strings.LastIndex(auth, "=")+1:]
	}
	same := sign(func(*Scope, *Request, *string, *time.Time) {})
	if again := sign(func(_ *Scope, r *Request, _ *string, _ *time.Time) { slices.Reverse(r.Fields) }); again != same {
		t.Error("the order of the fields matters")
	}
	seen := map[string]string{same: "nothing"}
	for name, edit := range map[string]func(*Scope, *Request, *string, *time.Time){
		"region":      func(s *Scope, _ *Request, _ *string, _ *time.Time) { s.Region = "us-east-1" },
		"service":     func(s *Scope, _ *Request, _ *string, _ *time.Time) { s.Service = "sts" },
		"method":      func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Method = "PUT" },
		"path":        func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Target = "/model/a.b-v1%3A1/invoke?a=1&b=2" },
		"encoding":    func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Target = "/model/a.b-v1:0/invoke?a=1&b=2" },
		"query":       func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Target = "/model/a.b-v1%3A0/invoke?a=1&b=3" },
		"no query":    func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Target = "/model/a.b-v1%3A0/invoke" },
		"body":        func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Body[31]++ },
		"host":        func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Fields[0].Value = []byte("a") },
		"field":       func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Fields[2].Value = []byte("application/jsonx") },
		"field gone":  func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Fields = r.Fields[:2] },
		"field joint": func(_ *Scope, r *Request, _ *string, _ *time.Time) { r.Fields[2].Value = []byte("application/ json") },
		"key":         func(_ *Scope, _ *Request, k *string, _ *time.Time) { *k += "x" },
		"time":        func(_ *Scope, _ *Request, _ *string, at *time.Time) { *at = at.Add(time.Second) },
		"day":         func(_ *Scope, _ *Request, _ *string, at *time.Time) { *at = at.Add(24 * time.Hour) },
	} {
		got := sign(edit)
		if before, ok := seen[got]; ok {
			t.Errorf("%s signs as %s", name, before)
		}
		seen[got] = name
	}
	if sign(func(_ *Scope, _ *Request, _ *string, at *time.Time) { *at = at.In(time.FixedZone("", 3600)) }) != same {
		t.Error("the zone of the time matters")
	}
}

// What is sorted and encoded is what the standard library makes of the same parameters.
func TestQuery(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	word := func() string {
		b := make([]byte, r.Intn(6))
		for i := range b {
			b[i] = "ab1=-~.%/ é:@"[r.Intn(13)]
		}
		return string(b)
	}
	for range 2000 {
		var parts, want []string
		for range r.Intn(5) {
			name, value := word(), word()
			part := url.QueryEscape(name) + "=" + url.QueryEscape(value)
			part = strings.ReplaceAll(part, "+", "%20")
			if part == "=" {
				continue
			}
			parts, want = append(parts, part), append(want, name+"\x00"+value)
		}
		slices.SortFunc(want, func(a, b string) int {
			an, av, _ := strings.Cut(a, "\x00")
			bn, bv, _ := strings.Cut(b, "\x00")
			enc := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
			if c := strings.Compare(enc(an), enc(bn)); c != 0 {
				return c
			}
			return strings.Compare(enc(av), enc(bv))
		})
		for i, w := range want {
			name, value, _ := strings.Cut(w, "\x00")
			want[i] = strings.ReplaceAll(url.QueryEscape(name)+"="+url.QueryEscape(value), "+", "%20")
		}
		if got := string(canonicalQuery(nil, strings.Join(parts, "&"))); got != strings.Join(want, "&") {
			t.Fatalf("%q: %q, want %q", parts, got, want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "a", "a=1&a", "&&", "%", "%zz=%4", "a+b=c%2Bd", "=", "b=2&a=1&a=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := canonicalQuery(nil, s)
		if again := canonicalQuery(nil, string(once)); !bytes.Equal(once, again) {
			t.Errorf("%q: %q, then %q", s, once, again)
		}
	})
}

func BenchmarkAuthorization(b *testing.B) {
	at, key, stamp := time.Now(), []byte("demo-secret-access-key-0001"), []byte(time.Now().Format(Time))
	body := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r := &Request{Method: "POST", Target: "/model/anthropic.claude-v1%3A0/invoke", Body: sha256.Sum256(body),
			Fields: []Field{{"host", []byte("bedrock-runtime.eu-central-1.amazonaws.com")}, {"x-amz-date", stamp}, {"content-type", []byte("application/json")}}}
		Scope{"eu-central-1", "bedrock"}.Authorization(r, "AKIDEXAMPLE", key, at)
	}
}

func BenchmarkKey(b *testing.B) {
	key := []byte("demo-secret-access-key-0001")
	for b.Loop() {
		Scope{"eu-central-1", "bedrock"}.key(key, "20260102")
	}
}
