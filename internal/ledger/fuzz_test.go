package ledger

import (
	"bytes"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// FuzzSegment reads arbitrary bytes as a segment: no panic, and what is read is written the same way.
func FuzzSegment(f *testing.F) {
	t := state{Origin: "reeve/test/c1", Number: 1, Chain: firstChain("reeve/test/c1"), Tenants: map[string]int64{"acme": 1}}
	b, err := appendHeader(nil, &t)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appendRecord(b, &record{seq: 3, acked: 2, chain: firstChain("x"), body: []byte(`{"v":1}`)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		acknowledged(b, 0)
		if s, n, err := parseHeader(b); err == nil {
			again, err := appendHeader(nil, s)
			if err != nil {
				t.Fatal(err)
			}
			if s2, _, err := parseHeader(again); err != nil || s2.Tree.root() != s.Tree.root() {
				t.Fatalf("%q is read as another state: %v", again, err)
			}
			b = b[n:]
		}
		if r, n, ok := parseRecord(b); ok {
			if again := appendRecord(nil, &r); len(again) != n || !bytes.Equal(again[:recordPrefix+len(r.body)], b[:recordPrefix+len(r.body)]) && allZero(b[recordPrefix+len(r.body):n]) {
				t.Fatalf("%q is written as %q", b[:n], again)
			}
		}
		Cut("wal-00000001", b)
	})
}

func FuzzCheckpointText(f *testing.F) {
	f.Add(string(checkpointText("reeve/test/c1", tlog.Tree{N: 12, Hash: firstChain("x")})))
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCheckpoint("reeve/test/c1", text); err == nil && string(checkpointText("reeve/test/c1", c)) != text {
			t.Fatalf("%q", text)
		}
	})
}
