package feed

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/statement"
)

// feedKey makes a feed key for process a1.
func feedKey(t testing.TB) (note.Signer, statement.ServiceKey) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "reeve/test/a1/feed")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, statement.ServiceKey{Use: "feed", Process: "a1", Key: vkey}
}

func TestHeartbeat(t *testing.T) {
	signer, key := feedKey(t)
	_, other := feedKey(t)
	want := Heartbeat{Authority: "a1", Epoch: 3, Estate: "e", Lock: 7, Number: 9, Records: 2, Sum: (&Records{}).Sum(), Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	env, err := want.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenHeartbeat(env, []statement.ServiceKey{other, key})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	canonical, err := statement.Canonical(&want)
	if err != nil || string(canonical) != string(env.Payload) {
		t.Errorf("payload %s is not RFC 8785: %s, %v", env.Payload, canonical, err)
	}
	elsewhere := key
	elsewhere.Process = "a2"
	for name, c := range map[string]struct {
		change func(*statement.Envelope)
		keys   []statement.ServiceKey
	}{
		"other key":     {nil, []statement.ServiceKey{other}},
		"no keys":       {nil, nil},
		"other process": {nil, []statement.ServiceKey{elsewhere}},
		"payload changed": {func(e *statement.Envelope) {
			e.Payload = bytes.Replace(e.Payload, []byte(`"lock":7`), []byte(`"lock":8`), 1)
		}, []statement.ServiceKey{key}},
		"type changed":   {func(e *statement.Envelope) { e.PayloadType = "application/vnd.reeve.revocation+json" }, []statement.ServiceKey{key}},
		"two signatures": {func(e *statement.Envelope) { e.Signatures = append(e.Signatures, e.Signatures...) }, []statement.ServiceKey{key}},
		"no signature":   {func(e *statement.Envelope) { e.Signatures = nil }, []statement.ServiceKey{key}},
	} {
		copied := *env
		if c.change != nil {
			c.change(&copied)
		}
		if _, err := OpenHeartbeat(&copied, c.keys); !errors.Is(err, ErrHeartbeat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The vectors of docs/formats/feed.md, which were computed by a separate implementation, come out here too.
func TestVectors(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats/feed.md")
	if err != nil {
		t.Fatal(err)
	}
	skey := "PRIVATE+KEY+reeve/demo/feed/a1+7bf00e1c+" + base64.StdEncoding.EncodeToString(append([]byte{1}, bytes.Repeat([]byte{5}, 32)...))
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var records Records
	for _, f := range []string{"one", "two", "three"} {
		records.Add(sha256.Sum256([]byte(f)))
	}
	files := Files{"charter/1/manifest.json": []byte("c"), "lock/7/manifest.json": []byte("l")}
	h := Heartbeat{
		Authority: "a1", Epoch: 3, Estate: "demo", Lock: 7, LockHash: fmt.Sprintf("%x", sha256.Sum256([]byte("l"))), Number: 9,
		Records: 3, Sum: records.Sum(), SetSum: files.Sum(), Time: time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC),
	}
	env, err := h.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"key": skey, "records sum": "\n" + records.Sum() + "\n", "no records": "\n" + (&Records{}).Sum() + "\n", "set sum": "\n" + files.Sum() + "\n",
		"payload": "\n" + string(env.Payload) + "\n", "frame": "\n" + string((&Frame{Heartbeat: env}).Encode()),
	} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("%s: the document does not have %s", name, want)
		}
	}
}

func TestRecordsSumIsOfTheSet(t *testing.T) {
	seed := time.Now().UnixNano()
	rnd := mathrand.New(mathrand.NewSource(seed))
	var files [][]byte
	for i := range 50 {
		files = append(files, fmt.Appendf(nil, "file %d", i))
	}
	sums := map[string]int{}
	for round := range 5 {
		var r Records
		rnd.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		for _, f := range files {
			r.Add(sha256.Sum256(f))
			r.Sum() // must not stick
			r.Add(sha256.Sum256(f))
		}
		if sums[r.Sum()]++; r.Len() != len(files) || !r.Has(sha256.Sum256(files[round])) || r.Has(sha256.Sum256(nil)) {
			t.Errorf("seed %d: set has %d files", seed, r.Len())
		}
	}
	if len(sums) != 1 {
		t.Errorf("seed %d: the sum depends on the order: %v", seed, sums)
	}
}

func TestReadFrame(t *testing.T) {
	line := func(f *Frame) string { return string(f.Encode()) }
	record := line(&Frame{Record: []byte("r"), Sealed: []byte("s")})
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"record":             {record, nil},
		"of a newer release": {`{"weather":"fine"}` + "\n", nil},
		"end":                {"", io.EOF},
		"torn":               {record[:10], io.ErrUnexpectedEOF},
		"endless":            {strings.Repeat("x", MaxFrame+1), ErrFrame},
		"not JSON":           {"hello\n", ErrFrame},
		"two members":        {`{"record":"cg==","set":{"a":"cg=="}}` + "\n", ErrFrame},
		"sealed alone":       {`{"sealed":"cg=="}` + "\n", ErrFrame},
		"set climbs":         {line(&Frame{Set: Files{"../x": nil}}), ErrFrame},
		"set is absolute":    {line(&Frame{Set: Files{"/etc/x": nil}}), ErrFrame},
		"set uses a drive":   {line(&Frame{Set: Files{`c:\x`: nil}}), ErrFrame},
		"record too large":   {line(&Frame{Record: make([]byte, MaxRecord+1)}), ErrFrame},
		"sealed too large":   {line(&Frame{Record: []byte("r"), Sealed: make([]byte, MaxSealed+1)}), ErrFrame},
		"set too large":      {line(&Frame{Set: Files{"a": make([]byte, MaxSet/2), "b": make([]byte, MaxSet/2+1)}}), ErrFrame},
	} {
		if _, err := ReadFrame(bufio.NewReaderSize(strings.NewReader(c.in), 4096)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for in, want := range map[string]string{
		`{"payload":"e30=","payloadType":"application/vnd.reeve.revocation+json","signatures":[]}`: "revocation",
		`{"payload":"","payloadType":"application/vnd.reeve.x+json","signatures":[]}`:              "x",
		`{"payload":"","payloadType":"application/json","signatures":[]}`:                          "",
		`{"payload":"","payloadType":"application/vnd.reeve.x","signatures":[]}`:                   "",
		`null`: "",
		`{"payload":"","payloadType":"application/vnd.reeve.x+json","signatures":[]}{}`:                                "",
		`{"payload":"","payloadType":"application/vnd.reeve.x+json","signatures":[]}` + strings.Repeat(" ", MaxRecord): "",
	} {
		_, kind, err := ParseRecord([]byte(in))
		if kind != want || (want == "") != errors.Is(err, ErrFrame) {
			t.Errorf("%.80q: kind %q, %v", in, kind, err)
		}
	}
}

func TestFiles(t *testing.T) {
	m := Files{"lock/2/manifest.json": []byte("m"), "lock/10/manifest.json": nil, "lock/10/x": nil}
	names, err := m.ReadDir("lock")
	if diff := cmp.Diff([]string{"10", "2"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := m.ReadDir("loc"); err == nil {
		t.Error("lists a folder that is not there")
	}
	trace := &Trace{From: m, Read: Files{}}
	if b, err := trace.ReadFile("lock/2/manifest.json"); err != nil || string(b) != "m" {
		t.Error(err)
	}
	if _, err := trace.ReadFile("nothing"); err == nil || len(trace.Read) != 1 {
		t.Errorf("trace %v, %v", trace.Read, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	signer, _ := feedKey(f)
	env, err := (&Heartbeat{Authority: "a1", Epoch: 1, Number: 1}).Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	record, _ := json.Marshal(env)
	for _, frame := range []*Frame{{Heartbeat: env}, {Set: Files{"lock/1/manifest.json": []byte("{}")}}, {Record: record, Sealed: []byte("s")}, {}} {
		f.Add(frame.Encode())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			frame, err := ReadFrame(r)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return
			}
			if err != nil {
				if !errors.Is(err, ErrFrame) {
					t.Fatalf("untyped error %v", err)
				}
				continue
			}
			if again, err := ParseFrame(frame.Encode()); err != nil {
				t.Fatalf("%+v does not parse again: %v", again, err)
			}
			if len(frame.Record) > 0 {
				ParseRecord(frame.Record)
			}
			if frame.Heartbeat != nil {
				OpenHeartbeat(frame.Heartbeat, nil)
			}
		}
	})
}
