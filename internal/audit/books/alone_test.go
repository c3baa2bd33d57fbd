package books_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/internal/database"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/verify"
)

// Who has taken the auditor over writes in its index, and in its copies, what he likes. From the copies alone the answer is theirs, or there is none.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	if _, err := sample.Write(dir, sample.Options{Seed: 3, End: now, Credentials: 2400, Uses: 500}); err != nil {
		t.Fatal(err)
	}
	d, err := host.Open(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	state := d.Join(host.Auditor)
	where := books.At(state, d.Trust(), estate.Dir(d.Join("estate")).Store(), d.Pin())
	intents := func(w books.Where) (n int64, err error) {
		b, err := books.Open(w, now)
		if err != nil {
			return 0, err
		}
		defer b.Close()
		uses, err := b.Index.Uses(t.Context(), index.Filter{Types: []entry.Type{entry.Intent}})
		for _, u := range uses {
			n += u.Count
		}
		return n, err
	}
	alone := where
	alone.Alone = true
	want, err := intents(where)
	if err != nil || want < 500 {
		t.Fatalf("%d uses: %v", want, err)
	}

	// An index in which nobody used anything.
	b, err := books.Open(where, now)
	if err != nil {
		t.Fatal(err)
	}
	x, err := where.Index.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Extend(t.Context(), b.Logs, nil), x.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := database.File(where.Index.File)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DELETE FROM reeve_index_sum`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if n, err := intents(where); n != 0 || err != nil {
		t.Fatalf("the index still has %d uses: %v", n, err)
	}
	if n, err := intents(alone); n != want || err != nil {
		t.Errorf("from the copies alone %d uses, want %d: %v", n, want, err)
	}

	// A copy in which somebody else used it.
	if err := os.Remove(where.Index.File); err != nil {
		t.Fatal(err)
	}
	altered := 0
	err = filepath.WalkDir(filepath.Join(state, "logs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || altered > 0 {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(`"type":"intent"`)) {
			return err
		}
		altered++
		return os.WriteFile(path, bytes.Replace(text, []byte(`"type":"intent"`), []byte(`"type":"fetch!"`), 1), 0o600)
	})
	if err != nil || altered == 0 {
		t.Fatalf("%d altered: %v", altered, err)
	}
	if _, err := intents(alone); !errors.Is(err, verify.ErrDoesNotHold) {
		t.Errorf("of copies that were altered: %v", err)
	}
}
