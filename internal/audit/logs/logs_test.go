package logs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/verify"
)

// written is a published log of n entries in a folder below dir, closed.
func written(t testing.TB, dir, process string, n int) *verify.Trust {
	t.Helper()
	key, err := ledger.GenerateKey("reeve/test/" + process)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), ledger.Config{Key: key, Dir: t.TempDir(), Tiles: filepath.Join(dir, process), SegmentSize: 1 << 20, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := l.Enqueue(&entry.Entry{Type: entry.Publish, Reason: fmt.Sprint(i)}, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return &verify.Trust{Estate: "test", Logs: []verify.Log{{Process: process, Origin: key.Origin(), Key: key.Verifier()}}}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	trust := written(t, dir, "custodian", 300)
	if err := os.WriteFile(filepath.Join(dir, "note"), nil, 0o600); err != nil { // not a folder
		t.Fatal(err)
	}
	all, err := logs.Read(dir, trust)
	if err != nil || len(all) != 1 || all[0].Checkpoint.N != 300 || all[0].Process != "custodian" {
		t.Fatalf("%+v, %v", all, err)
	}
	l := all[0]
	seen := int64(250)
	read := func() error {
		return l.Raw(250, func(seq int64, raw []byte) error {
			if e, err := entry.Parse(raw); err != nil || seq != seen || e.Seq != seq {
				t.Errorf("entry %d: %+v, %v", seq, e, err)
			}
			seen++
			return nil
		})
	}
	if err := read(); err != nil || seen != 300 {
		t.Fatalf("%d, %v", seen, err)
	}
	for _, seq := range []int64{0, 255, 256, 299} {
		if e, _, err := l.Entry(seq); err != nil || e.Seq != seq {
			t.Errorf("entry %d: %+v, %v", seq, e, err)
		}
		b, err := l.Proof(seq, -1)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := trust.Bundle(b.Encode()); err != nil || r.Seq != seq || r.Level != verify.Included {
			t.Errorf("proof of %d: %+v, %v", seq, r, err)
		}
	}
	if _, _, err := l.Entry(300); err == nil {
		t.Error("an entry beyond the copy was read")
	}
	// An auditor that goes on puts a wider bundle in the place of the one that the checkpoint names.
	bundle := filepath.Join(dir, "custodian", "tile", "entries", "001.p", "44")
	if err := os.Rename(bundle, filepath.Join(filepath.Dir(bundle), "45")); err != nil {
		t.Fatal(err)
	}
	if seen = 250; read() != nil || seen != 300 {
		t.Errorf("from a wider bundle: %d entries", seen-250)
	}
	if err := os.RemoveAll(filepath.Dir(bundle)); err != nil {
		t.Fatal(err)
	}
	seen = 250
	if err := read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the bundle: %v", err)
	}
	if err := os.CopyFS(filepath.Join(dir, "again"), os.DirFS(filepath.Join(dir, "custodian"))); err != nil {
		t.Fatal(err)
	}
	if _, err := logs.Read(dir, trust); err == nil {
		t.Error("two copies of one log were read")
	}
}
