package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/verify"
)

// command runs one subcommand and returns its exit status and what it printed.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	root := &cobra.Command{Use: "reeve", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().String("dir", "./none", "")
	root.AddCommand(newVerifyCmd(), newReceiptCmd(), newLedgerCmd())
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitHolds, out.String()
	}
	out.WriteString(err.Error())
	var e *exitError
	if errors.As(err, &e) {
		return e.status, out.String()
	}
	return exitUsage, out.String()
}

func TestVerifyCommand(t *testing.T) {
	dir := t.TempDir()
	tiles, trust, proof := filepath.Join(dir, "tiles"), filepath.Join(dir, "trust.json"), filepath.Join(dir, "proof.json")
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(context.Background(), ledger.Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: tiles, SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Append(&entry.Entry{Type: entry.Intent, Tenant: "t", Unit: "u", Workload: "w", Credential: "c", Decision: "allow"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	receipt := d.Receipt()
	if err := l.Enqueue(&entry.Entry{Type: entry.Outcome, HasIntent: true, IntentSeq: d.Seq(), IntentLog: d.Log(), Status: 200}, false); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(verify.Trust{Estate: "test", Logs: []verify.Log{{Process: "c1", Origin: key.Origin(), Key: key.Verifier()}}})
	if err := os.WriteFile(trust, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--trust", trust, "--ledger", tiles, "--wait", "0s"}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"usage", []string{"verify", "--need", "nonsense"}, exitUsage, "none of"},
		{"no trust", []string{"verify", "--trust", filepath.Join(dir, "none")}, exitUndecided, "nothing to check with"},
		{"ledger", append([]string{"verify", "--need", "included"}, at...), exitHolds, "The ledger holds: included."},
		{"ledger not cosigned", append([]string{"verify"}, at...), exitNot, "cosigned was asked for"},
		{"since", append([]string{"verify", "--need", "included", "--since", filepath.Join(tiles, "checkpoint")}, at...), exitHolds, "holds"},
		{"promise", []string{"verify", "--trust", trust, "--need", "promised", receipt}, exitHolds, "promised: entry 0"},
		{"receipt alone", []string{"verify", "--trust", trust, receipt}, exitUndecided, "name the ledger with --ledger"},
		{"receipt", append([]string{"verify", "--need", "included", receipt}, at...), exitHolds, "outcome"},
		{"receipt not cosigned", append([]string{"verify", receipt}, at...), exitNot, "cosigned was asked for"},
		{"forged receipt", append([]string{"verify", strings.Replace(receipt, ".0.", ".1.", 1)}, at...), exitNot, "does not hold"},
		{"get", append([]string{"receipt", "get", receipt, "-o", proof}, at...), exitHolds, "written"},
		{"bundle", []string{"verify", proof, "--trust", trust, "--need", "included"}, exitHolds, "included: entry 0"},
		{"bad bundle", []string{"verify", filepath.Join(dir, "bad.json"), "--trust", trust}, exitNot, "bundle"},
		{"no such bundle", []string{"verify", filepath.Join(dir, "none.json"), "--trust", trust}, exitUndecided, "neither a file here nor a receipt"},
		{"json", append([]string{"verify", "--json", "--need", "included", receipt}, at...), exitHolds, `"level": "included"`},
	} {
		if status, out := command(t, c.args...); status != c.status || !strings.Contains(out, c.says) {
			t.Errorf("%s: status %d, want %d; it says\n%s", c.name, status, c.status, out)
		}
	}
	path := filepath.Join(tiles, "tile", "entries", "000.p", "2")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[20] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out := command(t, append([]string{"verify", "--need", "included"}, at...)...); status != exitNot {
		t.Errorf("a flipped byte: status %d\n%s", status, out)
	}
}
