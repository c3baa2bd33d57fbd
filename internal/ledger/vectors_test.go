package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// Vectors computed by a separate implementation of docs/formats/ledger.md, not by this code.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("../../docs/formats/vectors/ledger.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Origin, Header, Entry, Leaf, Chain, Record string
		FirstChain                                 string `json:"first_chain"`
		Tenant, Workload                           string
		Slots                                      []string
		Salt, Payload, Commit, Sealed              string
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	raw := func(s string) []byte {
		t.Helper()
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 {
			t.Fatalf("%q: %v", s, err)
		}
		return b
	}
	same := func(what string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, want %s", what, got, want)
		}
	}

	// A segment: its header, and a record in it.
	begins := firstState(v.Origin)
	same("the chain before the first record", begins.Chain[:], v.FirstChain)
	header, err := appendHeader(nil, &begins)
	if err != nil {
		t.Fatal(err)
	}
	same("a header", header, v.Header)
	if s, n, err := parseHeader(raw(v.Header)); err != nil || n != len(v.Header)/2 || s.Chain != begins.Chain || s.Origin != v.Origin {
		t.Errorf("a header is read as %+v, %d bytes, %v", s, n, err)
	}
	e, err := entry.Parse([]byte(v.Entry))
	if err != nil {
		t.Fatal(err)
	}
	leaf := tlog.RecordHash([]byte(v.Entry))
	same("a leaf", leaf[:], v.Leaf)
	chain := nextChain(begins.Chain, e.Seq, leaf)
	same("the chain behind it", chain[:], v.Chain)
	same("its record", appendRecord(nil, &record{chain: chain, body: []byte(v.Entry), payload: raw(v.Sealed)}), v.Record)
	if r, n, ok := parseRecord(raw(v.Record)); !ok || n != len(v.Record)/2 || string(r.body) != v.Entry || r.chain != chain {
		t.Errorf("a record is read as %+v, %d bytes, %v", r, n, ok)
	}

	// Its payload: the keys in their slots, what they are together, what that opens.
	names, keys := keyNames(e), [][]byte{}
	for i, text := range v.Slots {
		name, key, ok := parseSlot(raw(text))
		if !ok || !slices.Equal(name[:], names[i*nameLen:][:nameLen]) {
			t.Errorf("slot %d is read as %x, %v", i, name, ok)
		}
		keys = append(keys, key)
	}
	if v.Tenant != e.Tenant || v.Workload != e.Workload || len(names) != len(keys)*nameLen {
		t.Errorf("the entry names %d keys, of %s and %s", len(names)/nameLen, e.Tenant, e.Workload)
	}
	key, err := OpenKey(keys)
	if err != nil {
		t.Fatal(err)
	}
	sealed, commit := raw(v.Sealed), raw(v.Commit)
	plain, err := key.Open(nil, nil, sealed[1+int(sealed[0])*nameLen:], commit)
	if sum := sha256.Sum256(plain); err != nil || string(plain) != string(raw(v.Salt))+v.Payload || !bytes.Equal(sum[:], commit) || e.Commit != v.Commit {
		t.Errorf("a payload is opened as %q, %v", plain, err)
	}
}
