package entry

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// readVectors reads a file of test vectors that other implementations use too.
func readVectors(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile("../docs/formats/vectors/" + name)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestEntryVectors(t *testing.T) {
	var v struct {
		Accept []struct {
			Entry string
			Leaf  string `json:"leaf_hash"`
		}
		Refuse []struct{ Why, Entry string }
	}
	readVectors(t, "entry.json", &v)
	for _, a := range v.Accept {
		e, err := Parse([]byte(a.Entry))
		if err != nil {
			t.Errorf("%s: %v", a.Entry, err)
			continue
		}
		if leaf := sha256.Sum256(append([]byte{0}, e.AppendJSON(nil)...)); hex.EncodeToString(leaf[:]) != a.Leaf {
			t.Errorf("%s: leaf hash %x", a.Entry, leaf)
		}
	}
	for _, r := range v.Refuse {
		if _, err := Parse([]byte(r.Entry)); err == nil {
			t.Errorf("%s: accepted", r.Why)
		}
	}
	if len(v.Accept) < 5 || len(v.Refuse) < 10 {
		t.Fatal("vectors are missing")
	}
}

func TestReceiptVectors(t *testing.T) {
	var v struct {
		Key      string `json:"verifier_key"`
		ID       string `json:"log_id"`
		Message  string `json:"signed_message"`
		Receipts []string
	}
	readVectors(t, "receipt.json", &v)
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(v.Key, "+", 3)[2])
	if err != nil || LogID(v.Key) != v.ID || len(v.Receipts) == 0 {
		t.Fatal(err, LogID(v.Key))
	}
	var leaves [][32]byte
	for i, s := range v.Receipts {
		r, err := ParseReceipt(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(ed25519.PublicKey(raw[1:])); err != nil || r.Seq != int64(i) || r.Log != v.ID {
			t.Fatalf("%s: %v", s, err)
		}
		leaves = append(leaves, r.Leaf)
	}
	if m := NewGroup(v.ID, 0, 1790000000000000000, leaves).Message(); base64.StdEncoding.EncodeToString(m) != v.Message {
		t.Fatalf("signed message %x", m)
	}
}
