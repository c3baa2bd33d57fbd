package cosigner

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/witness"
)

var _ ledger.Witness = (*witness.Client)(nil)

// The vector of docs/formats/witness.md, computed by a separate implementation of RFC 8032. Its seed is 32 bytes of 0x07.
const (
	vectorKey   = "PRIVATE+KEY+witness.example/w1+aa4a09d1+BAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"
	vectorVKey  = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	vectorText  = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	vectorTime  = 1679315147
	vectorCosig = "— witness.example/w1 qkoJ0QAAAABkGFDLWr4Jea05CAgwNVtwky0Jgz6WfX0QJgM//FkB/W9BoT9TX0DkTxG+2cT4p/ViKNhUM/SnUwFcYQzugGFQ15LwDw==\n"
)

func TestVector(t *testing.T) {
	s, err := NewSigner(vectorKey, func() time.Time { return time.Unix(vectorTime, 999) })
	if err != nil {
		t.Fatal(err)
	}
	line, err := s.Cosign(vectorText)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vectorCosig, string(line)); diff != "" {
		t.Error(diff)
	}
	v, err := witness.NewVerifier(vectorVKey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(vectorText+"\n"+vectorCosig), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	if got := timeOf(n.Sigs[0]).Unix(); got != vectorTime {
		t.Errorf("time %d, want %d", got, vectorTime)
	}
}

// The key id must be that of the specification's formula, and the message its two lines and the text: made here by hand.
func TestAgainstTheFormula(t *testing.T) {
	skey, vkey, err := GenerateKey(rand.Reader, "w")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(skey, func() time.Time { return time.Unix(77, 0) })
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign([]byte("o\n1\nx\n"))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil || pub[0] != 4 {
		t.Fatalf("verifier key %q", vkey)
	}
	if !bytes.Equal(sig[:8], []byte{0, 0, 0, 0, 0, 0, 0, 77}) || !ed25519.Verify(pub[1:], []byte("cosignature/v1\ntime 77\no\n1\nx\n"), sig[8:]) {
		t.Error("not the specification's message")
	}
	v, _ := witness.NewVerifier(vkey)
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if v.Verify([]byte("o\n1\nx\n"), bad) {
			t.Errorf("verifies with byte %d flipped", i)
		}
	}
	for _, bad := range []string{"", "w", "w+00000000+" + vkey[11:], strings.Replace(vkey, "w+", "v+", 1), strings.Replace(vkey, "+B", "+A", 1), vkey + "x"} {
		if _, err := witness.NewVerifier(bad); err == nil {
			t.Errorf("NewVerifier accepts %q", bad)
		}
	}
	if _, err := NewSigner(vkey, time.Now); err == nil {
		t.Error("NewSigner accepts a verifier key")
	}
}

// tree is a log in memory.
type tree struct {
	signer note.Signer
	key    note.Verifier
	hashes []tlog.Hash
	n      int64
}

func (l *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func newTree(t testing.TB, origin string, leaves ...string) *tree {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	l := &tree{}
	l.signer, _ = note.NewSigner(skey)
	l.key, _ = note.NewVerifier(vkey)
	l.add(t, leaves...)
	return l
}

func (l *tree) add(t testing.TB, leaves ...string) {
	for _, leaf := range leaves {
		h, err := tlog.StoredHashes(l.n, []byte(leaf), l)
		if err != nil {
			t.Fatal(err)
		}
		l.hashes, l.n = append(l.hashes, h...), l.n+1
	}
}

func (l *tree) at(t testing.TB, n int64) tlog.Tree {
	h, err := tlog.TreeHash(n, l)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: n, Hash: h}
}

func (l *tree) checkpoint(t testing.TB, n int64) []byte {
	c := l.at(t, n)
	b, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), n, c.Hash)}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (l *tree) proof(t testing.TB, old, n int64) tlog.TreeProof {
	if old == 0 || old == n {
		return nil
	}
	p, err := tlog.ProveTree(n, old, l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheck(t *testing.T) {
	l := newTree(t, "log", "a", "b", "c", "d", "e")
	fork := newTree(t, "log", "a", "b", "X", "d", "e")
	fork.signer, fork.key = l.signer, l.key
	other := newTree(t, "other", "a", "b", "c", "d", "e")
	three, five, none := l.at(t, 3), l.at(t, 5), tlog.Tree{}
	for name, c := range map[string]struct {
		req  *Request
		last tlog.Tree
		want error
		size int64 // of a conflict
	}{
		"first":              {&Request{witness.Request{Old: 0, Proof: nil, Note: l.checkpoint(t, 3)}}, none, nil, 0},
		"grown":              {&Request{witness.Request{Old: 3, Proof: l.proof(t, 3, 5), Note: l.checkpoint(t, 5)}}, three, nil, 0},
		"same again":         {&Request{witness.Request{Old: 5, Proof: nil, Note: l.checkpoint(t, 5)}}, five, nil, 0},
		"empty":              {&Request{witness.Request{Old: 0, Proof: nil, Note: l.checkpoint(t, 0)}}, none, nil, 0},
		"old too low":        {&Request{witness.Request{Old: 0, Proof: nil, Note: l.checkpoint(t, 5)}}, three, nil, 3},
		"old too high":       {&Request{witness.Request{Old: 4, Proof: l.proof(t, 4, 5), Note: l.checkpoint(t, 5)}}, three, nil, 3},
		"rollback":           {&Request{witness.Request{Old: 3, Proof: nil, Note: l.checkpoint(t, 3)}}, five, nil, 5},
		"old beyond new":     {&Request{witness.Request{Old: 5, Proof: nil, Note: l.checkpoint(t, 3)}}, five, witness.ErrMalformed, 0},
		"fork, grown":        {&Request{witness.Request{Old: 3, Proof: fork.proof(t, 3, 5), Note: fork.checkpoint(t, 5)}}, three, witness.ErrInconsistent, 0},
		"fork, same size":    {&Request{witness.Request{Old: 5, Proof: nil, Note: fork.checkpoint(t, 5)}}, five, nil, 5},
		"no proof":           {&Request{witness.Request{Old: 3, Proof: nil, Note: l.checkpoint(t, 5)}}, three, witness.ErrInconsistent, 0},
		"proof not needed":   {&Request{witness.Request{Old: 5, Proof: l.proof(t, 3, 5), Note: l.checkpoint(t, 5)}}, five, witness.ErrInconsistent, 0},
		"other log's key":    {&Request{witness.Request{Old: 0, Proof: nil, Note: other.checkpoint(t, 5)}}, none, witness.ErrSignature, 0},
		"not a checkpoint":   {&Request{witness.Request{Old: 0, Proof: nil, Note: sign(t, l, "log\nhello\n\n")}}, none, witness.ErrMalformed, 0},
		"leading zero":       {&Request{witness.Request{Old: 0, Proof: nil, Note: sign(t, l, "log\n03\n"+three.Hash.String()+"\n")}}, none, witness.ErrMalformed, 0},
		"another origin":     {&Request{witness.Request{Old: 0, Proof: nil, Note: sign(t, l, "gol\n3\n"+three.Hash.String()+"\n")}}, none, witness.ErrUnknownLog, 0},
		"extension lines ok": {&Request{witness.Request{Old: 0, Proof: nil, Note: sign(t, l, "log\n3\n"+three.Hash.String()+"\nmore\n")}}, none, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.req.Check("log", note.VerifierList(l.key), c.last)
			var conflict *ledger.ConflictError
			switch {
			case errors.As(err, &conflict):
				if c.size == 0 || conflict.Size != c.size {
					t.Errorf("conflict with size %d, want %d", conflict.Size, c.size)
				}
			case c.size != 0 || !errors.Is(err, c.want):
				t.Errorf("got %v, want %v (conflict size %d)", err, c.want, c.size)
			case err == nil && got.Origin != "log":
				t.Errorf("got %+v", got)
			}
		})
	}
}

func sign(t testing.TB, l *tree, text string) []byte {
	b, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestClientAndHandler(t *testing.T) {
	l := newTree(t, "log", "a", "b", "c")
	skey, vkey, _ := GenerateKey(rand.Reader, "w")
	signer, _ := NewSigner(skey, time.Now)
	key, _ := witness.NewVerifier(vkey)
	_, strange, _ := GenerateKey(rand.Reader, "w")

	var answer error
	mux := http.NewServeMux()
	mux.Handle("POST /prefix/add-checkpoint", Handler(func(_ context.Context, r *Request) ([]byte, error) {
		if answer != nil {
			return nil, answer
		}
		c, err := r.Check("log", note.VerifierList(l.key), tlog.Tree{})
		if err != nil {
			return nil, err
		}
		return signer.Cosign(c.Text)
	}))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	client := &witness.Client{URL: srv.URL + "/prefix/", Keys: keys(t, vkey)}

	sigs, err := client.Cosign(t.Context(), 0, l.checkpoint(t, 3), nil)
	if err != nil || len(sigs) != 1 {
		t.Fatal(sigs, err)
	}
	full := fmt.Appendf(l.checkpoint(t, 3), "— %s %s\n", sigs[0].Name, sigs[0].Base64)
	if n, err := note.Open(full, note.VerifierList(l.key, key)); err != nil || len(n.Sigs) != 2 {
		t.Errorf("cosigned checkpoint: %v", err)
	}
	if _, err := (&witness.Client{URL: srv.URL + "/prefix", Keys: keys(t, strange)}).Cosign(t.Context(), 0, l.checkpoint(t, 3), nil); err == nil {
		t.Error("accepts another witness's cosignature")
	}
	for _, want := range []error{witness.ErrMalformed, witness.ErrSignature, witness.ErrUnknownLog, witness.ErrInconsistent, witness.ErrNotYet} {
		answer = want
		if _, err := client.Cosign(t.Context(), 0, l.checkpoint(t, 3), nil); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	answer = &ledger.ConflictError{Size: 42}
	var c *ledger.ConflictError
	if _, err := client.Cosign(t.Context(), 0, l.checkpoint(t, 3), nil); !errors.As(err, &c) || c.Size != 42 {
		t.Errorf("got %v, want a conflict with size 42", err)
	}
	resp, err := http.Post(srv.URL+"/prefix/add-checkpoint", "text/plain", strings.NewReader(strings.Repeat("x", maxBody+1)))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("oversized body: %v, %v", resp, err)
	}
}

// A witness that answers with lines for another text, too much, or nothing that verifies, gives nothing.
func TestClientTrustsNoAnswer(t *testing.T) {
	l := newTree(t, "log", "a")
	skey, vkey, _ := GenerateKey(rand.Reader, "w")
	signer, _ := NewSigner(skey, time.Now)
	wrong, _ := signer.Cosign("log\n2\n" + l.at(t, 1).Hash.String() + "\n")
	for name, body := range map[string]string{
		"empty": "", "another text": string(wrong), "endless": strings.Repeat(string(wrong), 2000), "text": "ok\n",
		"the log's own line": string(l.checkpoint(t, 1)[bytes.Index(l.checkpoint(t, 1), []byte("\n\n"))+2:]),
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) }))
		if sigs, err := (&witness.Client{URL: srv.URL, Keys: keys(t, vkey)}).Cosign(t.Context(), 0, l.checkpoint(t, 1), nil); err == nil {
			t.Errorf("%s: got %v", name, sigs)
		}
		srv.Close()
	}
}

func FuzzParseRequest(f *testing.F) {
	l := newTree(f, "log", "a", "b", "c")
	f.Add((&Request{witness.Request{Old: 0, Proof: nil, Note: l.checkpoint(f, 1)}}).Encode())
	f.Add((&Request{witness.Request{Old: 1, Proof: l.proof(f, 1, 3), Note: l.checkpoint(f, 3)}}).Encode())
	f.Add([]byte("old 01\n\nx\n1\nAAAA\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseRequest(body)
		if err != nil {
			if !errors.Is(err, witness.ErrMalformed) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), body) {
			t.Errorf("%q encodes as %q", body, r.Encode())
		}
		r.Check("log", note.VerifierList(l.key), l.at(t, 1))
		ParseCheckpoint(string(r.Note))
	})
}

func keys(t *testing.T, vkeys ...string) func() note.Verifiers {
	v, err := witness.Verifiers(vkeys)
	if err != nil {
		t.Fatal(err)
	}
	return func() note.Verifiers { return v }
}

// timeOf is when a verified cosignature was made, to the second. The zero Time means that sig is not a cosignature.
func timeOf(sig note.Signature) time.Time {
	b, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(b) != 4+8+ed25519.SignatureSize {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0)
}
