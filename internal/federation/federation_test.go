package federation

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// TestKeyStaysInTheState: who has taken the custodian over makes the folder of the keys, or that of a unit, a link; root makes nothing behind it.
func TestKeyStaysInTheState(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"federation", "federation/research"} {
		state, elsewhere := t.TempDir(), t.TempDir()
		path := filepath.Join(state, at)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, path); err != nil {
			t.Fatal(err)
		}
		if _, err := NewKey(filepath.Join(state, "federation"), "research", "ES256", identity.Recipient().String()); err == nil {
			t.Errorf("%s: a key was made through a link", at)
		}
		if names, err := os.ReadDir(elsewhere); err != nil || len(names) > 0 {
			t.Errorf("%s: behind the link: %v, %v", at, names, err)
		}
	}
	for _, unit := range []string{"", ".", "..", "../up", "a/b", "*", "Research"} {
		if _, err := NewKey(filepath.Join(t.TempDir(), "federation"), unit, "ES256", identity.Recipient().String()); err == nil {
			t.Errorf("%q is no unit, and a key was made for it", unit)
		}
	}
}

func TestHelperTakesNoOtherNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	h, err := NewHelper(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"", ".", "..", "../up", "a/b", "*", "Research"} {
		if _, err := h.NewKey(unit, "ES256"); err == nil {
			t.Errorf("%q is no unit, and a key was made for it", unit)
		}
	}
	if _, err := h.NewKey("research", "ES256"); err != nil {
		t.Fatal(err)
	}
	keys, err := h.list("research")
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	_, kid, _ := strings.Cut(keys[0].ID, "/")
	// A key outside, where ".." leads.
	if b, err := os.ReadFile(h.path("research", kid)); err != nil || os.WriteFile(filepath.Join(filepath.Dir(dir), kid+".pk8"), b, 0o600) != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"*", "..", "../keys/research", "?esearch", "[r]esearch", "x/research", "."} {
		if a := h.answer(ask(t, map[string]any{"keys": unit})); len(a.Keys) > 0 || a.Error == "" {
			t.Errorf("%q: %v", unit, a)
		}
	}
	digest := sha256.Sum256(nil)
	for _, id := range []string{"../" + kid, "*/" + kid, "research/*", "research/../research/" + kid, "research/" + kid + ".pk8", "research", "research/", "./" + kid} {
		if a := h.answer(ask(t, map[string]any{"sign": id, "digest": digest[:]})); a.Signature != nil || a.Error == "" {
			t.Errorf("%q signed: %v", id, a)
		}
	}
	if a := h.answer(ask(t, map[string]any{"sign": keys[0].ID, "digest": digest[:]})); a.Signature == nil {
		t.Errorf("%v", a)
	}
}

func ask(t *testing.T, question map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// TestHelperServesSeveral: clients who say nothing keep nobody waiting, as long as they are not too many, and Serve returns when all were served.
func TestHelperServesSeveral(t *testing.T) {
	h, err := NewHelper(filepath.Join(t.TempDir(), "keys"), "")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Serve(ctx, l) }()
	defer func() { stop(); <-done }()
	dial := func() net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var silent []net.Conn
	for range most - 1 {
		silent = append(silent, dial())
	}
	c := dial()
	fmt.Fprintln(c, `{"keys":"research"}`)
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "{}\n" {
		t.Fatalf("%q, %v", line, err)
	}
	// All of the silent ones were still being served.
	for _, c := range silent {
		fmt.Fprintln(c, `{"keys":"research"}`)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "{}\n" {
			t.Errorf("a slow client: %q, %v", line, err)
		}
	}
}
