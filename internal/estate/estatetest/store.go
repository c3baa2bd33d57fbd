package estatetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// Store is a signed store in memory, by path, which a test corrupts.
type Store map[string][]byte

// CopyStore reads the signed store of an estate.
func CopyStore(t testing.TB, d estate.Dir) Store {
	t.Helper()
	m, root := Store{}, d.Signed()
	must(t, filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(root, file)
			m[filepath.ToSlash(rel)], err = os.ReadFile(file)
		}
		return err
	}))
	return m
}

// ReadFile implements statement.Store.
func (m Store) ReadFile(name string) ([]byte, error) {
	if b, ok := m[name]; ok {
		return b, nil
	}
	return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
}

// ReadDir implements statement.Store.
func (m Store) ReadDir(name string) ([]string, error) {
	var names []string
	for file := range m {
		if rest, ok := strings.CutPrefix(file, name+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			names = append(names, first)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Put writes a version of a statement as edit leaves its manifest, signed by people, the first as its author. Its files are those
// given and else those of the version before.
func (m Store) Put(t testing.TB, name string, version int64, files map[string][]byte, edit func(*statement.Manifest), by ...*estate.Signer) {
	t.Helper()
	var man statement.Manifest
	must(t, json.Unmarshal(m[fmt.Sprintf("%s/%d/manifest.json", name, max(1, version-1))], &man))
	man.Version, man.Author = version, by[0].Person
	if version > 1 {
		man.Prev = sum(m[fmt.Sprintf("%s/%d/manifest.json", name, version-1)])
	}
	for file := range files {
		if !slices.ContainsFunc(man.Files, func(f statement.File) bool { return f.Path == file }) {
			man.Files = append(man.Files, statement.File{Path: file})
		}
	}
	slices.SortFunc(man.Files, func(a, b statement.File) int { return strings.Compare(a.Path, b.Path) })
	for i, f := range man.Files {
		b, ok := files[f.Path]
		if !ok {
			b = m[fmt.Sprintf("%s/%d/%s", name, max(1, version-1), f.Path)]
		}
		man.Files[i].Size, man.Files[i].SHA256 = int64(len(b)), sum(b)
		m[fmt.Sprintf("%s/%d/%s", name, version, f.Path)] = b
	}
	if edit != nil {
		edit(&man)
	}
	raw, err := statement.Canonical(man)
	must(t, err)
	var sigs []statement.Signature
	for _, s := range by {
		sigs = append(sigs, Signature(t, s, statement.PayloadType, raw))
	}
	signed, err := statement.Canonical(sigs)
	must(t, err)
	m[fmt.Sprintf("%s/%d/manifest.json", name, version)] = raw
	m[fmt.Sprintf("%s/%d/signatures.json", name, version)] = signed
}

// Lock writes a version of the lock over the newest version of everything, as edit leaves it and those members of its manifest
// that it sets.
func (m Store) Lock(t testing.TB, version int64, edit func(*statement.Lock, *statement.Manifest), by ...*estate.Signer) {
	t.Helper()
	l := statement.Lock{Statements: map[string]statement.Locked{}}
	for file := range m {
		name, _, _ := strings.Cut(file, "/")
		if name == "lock" || name == "records" || name == "sealed" {
			continue
		}
		v, err := statement.Newest(m, name)
		must(t, err)
		l.Statements[name] = statement.Locked{Version: v, SHA256: sum(m[fmt.Sprintf("%s/%d/manifest.json", name, v)])}
	}
	var change statement.Manifest
	if edit != nil {
		edit(&l, &change)
	}
	b, err := statement.Canonical(l)
	must(t, err)
	m.Put(t, "lock", version, map[string][]byte{"estate.lock": b}, func(man *statement.Manifest) {
		if !change.Created.IsZero() {
			man.Created = change.Created
		}
		if !change.Expires.IsZero() {
			man.Expires = change.Expires
		}
		if change.Prev != "" {
			man.Prev = change.Prev
		}
	}, by...)
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
