// Package pack is what an assessor is given of a framework: the controls that answer to it as they were judged, a page, the same as OSCAL, the signed
// heads of the ledgers that it rests on, and a manifest of all of it.
package pack

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/oscal"
	"github.com/reevehq/reeve/internal/durable"
)

// ManifestFile names every other file of a pack with its hash.
const ManifestFile = "manifest.json"

// ErrNotEmpty means that the folder has files already: a pack is never mixed with another.
var ErrNotEmpty = errors.New("the folder is not empty")

// Manifest is what a pack consists of.
type Manifest struct {
	Estate    string    `json:"estate"`
	Framework string    `json:"framework"`
	Title     string    `json:"title"` // of the framework
	AsOf      time.Time `json:"as_of"`
	Lock      string    `json:"lock"` // hex hash of the set that was in force
	Files     []File    `json:"files"`
}

// File is one file of a pack.
type File struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

//go:embed page.html
var page string

// Make makes the files of a pack, by name. The same report makes the same bytes.
func Make(r *control.Report, b *books.Books, release string) (map[string][]byte, error) {
	c, err := control.Catalog()
	if err != nil {
		return nil, err
	}
	f, ok := c.Framework(r.Framework)
	if !ok {
		return nil, fmt.Errorf("%w %q", control.ErrFramework, r.Framework)
	}
	files, err := oscal.Documents(oscal.Input{Estate: r.Estate, Release: release, Catalogue: c, Results: []oscal.Assessment{{Title: "Controls for " + f.Title, From: r.AsOf, To: r.AsOf, Results: r.Results}}})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Collect(maps.Keys(files)) {
		files["oscal/"+name] = files[name]
		delete(files, name)
	}
	if files["results.json"], err = encode(r); err != nil {
		return nil, err
	}
	if files["controls.html"], err = html(r, c, f); err != nil {
		return nil, err
	}
	for _, l := range b.Logs {
		files["checkpoints/"+l.ID+".txt"] = l.Checkpoint.Raw
	}
	m := Manifest{Estate: r.Estate, Framework: f.ID, Title: f.Title, AsOf: r.AsOf, Lock: r.Lock}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		m.Files = append(m.Files, File{name, len(files[name]), hex.EncodeToString(sum[:])})
	}
	files[ManifestFile], err = encode(m)
	return files, err
}

func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// Write writes a pack into a folder, which it makes, for whoever runs it alone: it names what fails.
func Write(dir string, files map[string][]byte) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := durable.Replace(file, files[name], 0o600); err != nil {
			return err
		}
	}
	return nil
}

// line is one control on the page.
type line struct {
	control.Control
	control.Result
	More int // findings that are not shown
}

// shown is how many findings of a control the page shows; results.json has all.
const shown = 50

// html is the page.
func html(r *control.Report, c *control.Catalogue, f *control.Framework) ([]byte, error) {
	data := struct {
		*control.Report
		Framework *control.Framework
		Lines     []line
		Bars      []bar
		By        map[string]control.State
	}{Report: r, Framework: f, By: map[string]control.State{}}
	count := map[control.State]int{}
	for _, x := range r.Results {
		def, _ := c.Control(x.Control)
		l := line{Control: *def, Result: x}
		if n := len(l.Findings); n > shown {
			l.Findings, l.More = l.Findings[:shown], n-shown
		}
		data.Lines = append(data.Lines, l)
		data.By[x.Control] = x.State
		count[x.State]++
	}
	at := 0
	for _, s := range []control.State{control.Fail, control.Unknown, control.Exempt, control.Pass} {
		if n := count[s]; n > 0 {
			w := n * 600 / len(r.Results)
			data.Bars = append(data.Bars, bar{s, n, at, w})
			at += w
		}
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"day":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"date": func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.Bytes(), err
}

// bar is a part of the picture: how many controls are in a state.
type bar struct {
	State control.State
	N     int
	X, W  int // of 600
}
