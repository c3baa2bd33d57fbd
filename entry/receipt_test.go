package entry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
)

// testGroup is a signed commit group of n entries.
func testGroup(n int) (*Group, [][32]byte, ed25519.PublicKey) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	leaves := make([][32]byte, n)
	for i := range leaves {
		leaves[i] = sha256.Sum256(binary.BigEndian.AppendUint32([]byte("leaf"), uint32(i)))
	}
	g := NewGroup("0123456789abcdef", 1000, 1790000000000000001, leaves)
	g.Sig = [64]byte(ed25519.Sign(key, g.Message()))
	return g, leaves, key.Public().(ed25519.PublicKey)
}

func TestReceipts(t *testing.T) {
	for n := 1; n <= 70; n++ {
		g, leaves, key := testGroup(n)
		for i, leaf := range leaves {
			s := g.Receipt(1000+int64(i), leaf).String()
			r, err := ParseReceipt(s)
			if err != nil {
				t.Fatalf("%d of %d: %v", i, n, err)
			}
			if err := r.Verify(key); err != nil || r.Seq != 1000+int64(i) || r.Leaf != leaf || r.TimeNS != 1790000000000000001 {
				t.Fatalf("%d of %d: %+v, %v", i, n, r, err)
			}
		}
	}
}

// TestForgedReceipts changes everything that a receipt says, and each byte of one.
func TestForgedReceipts(t *testing.T) {
	g, leaves, key := testGroup(11)
	for name, change := range map[string]func(*Receipt){
		"log":        func(r *Receipt) { r.Log = "0123456789abcdee" },
		"seq":        func(r *Receipt) { r.Seq++ },
		"leaf":       func(r *Receipt) { r.Leaf[0] ^= 1 },
		"time":       func(r *Receipt) { r.TimeNS++ },
		"index":      func(r *Receipt) { r.Index++ },
		"count":      func(r *Receipt) { r.Count++ },
		"path":       func(r *Receipt) { r.Path[1][3] ^= 1 },
		"short path": func(r *Receipt) { r.Path = r.Path[1:] },
		"signature":  func(r *Receipt) { r.Sig[9] ^= 1 },
		"a node as a leaf": func(r *Receipt) {
			r.Leaf, r.Path, r.Index, r.Count = g.levels[1][2], r.Path[1:], r.Index/2, (r.Count+1)/2
		},
	} {
		r := g.Receipt(1004, leaves[4])
		change(r)
		if err := r.Verify(key); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	s := g.Receipt(1004, leaves[4]).String()
	for i := range s {
		b := []byte(s)
		b[i] ^= 1
		if r, err := ParseReceipt(string(b)); err == nil && r.Verify(key) == nil {
			t.Errorf("byte %d changed: still holds", i)
		}
	}
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if g.Receipt(1004, leaves[4]).Verify(other) == nil || g.Receipt(1004, leaves[4]).Verify(nil) == nil {
		t.Error("another key accepted")
	}
}

func FuzzReceipt(f *testing.F) {
	g, leaves, key := testGroup(11)
	want := g.Receipt(1004, leaves[4])
	f.Add(want.String())
	f.Add("v1.0123456789abcdef.0..")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReceipt(s)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Fatalf("%q is written as %q", s, r.String())
		}
		if r.Verify(key) == nil && !reflect.DeepEqual(r, want) {
			t.Fatalf("forged: %q", s)
		}
	})
}
