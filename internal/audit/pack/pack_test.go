package pack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/pack"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/verify"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPack: the manifest names every file with its hash, the page shows what failed and lets nobody write into it, and the same report makes the
// same bytes.
func TestPack(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	e := estatetest.New(t, estatetest.At(now.Add(-time.Hour)))
	b := &books.Books{Trust: new(verify.Trust), Index: index.NewMemory(), History: history.New(e.Set), Now: now}
	b.Register = register.New(b.History, nil)
	r, err := control.Make(t.Context(), b, control.Options{Framework: "csf2"})
	must(t, err)
	r.Refused = []string{`<script>alert("x")</script>`}
	files, err := pack.Make(r, b, "test")
	must(t, err)
	again, err := pack.Make(r, b, "test")
	must(t, err)
	dir := filepath.Join(t.TempDir(), "out")
	must(t, pack.Write(dir, files))
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "oscal"): 0o700, filepath.Join(dir, pack.ManifestFile): 0o600} { // what fails is for few
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, pack.ManifestFile))
	must(t, err)
	var m pack.Manifest
	must(t, json.Unmarshal(text, &m))
	if len(m.Files) != len(files)-1 || m.Framework != "csf2" || m.Lock == "" || !m.AsOf.Equal(now) {
		t.Fatalf("%+v", m)
	}
	for _, f := range m.Files {
		got, err := os.ReadFile(filepath.Join(dir, f.Name))
		must(t, err)
		if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != f.SHA256 || len(got) != f.Size || !bytes.Equal(got, again[f.Name]) {
			t.Errorf("%s is not the file of the manifest, or not always the same", f.Name)
		}
	}
	page := string(files["controls.html"])
	for _, want := range []string{"PR.AA-03", `<span class="state fail">fail`, "What to do:", "RV-21", "&lt;script&gt;", "<svg"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	for _, never := range []string{"<script", "http-equiv", " src=", "ZgotmplZ"} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %s", never)
		}
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!doctype html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
	}
	if err := pack.Write(dir, files); !errors.Is(err, pack.ErrNotEmpty) {
		t.Errorf("written over another pack: %v", err)
	}
	r.Framework = "none"
	if _, err := pack.Make(r, b, "test"); !errors.Is(err, control.ErrFramework) {
		t.Errorf("a framework that is none: %v", err)
	}
}
