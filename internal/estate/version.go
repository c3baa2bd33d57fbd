package estate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// Version is one version of a statement as its manifest and signatures tell it. Nothing of it is verified.
type Version struct {
	Statement string    `json:"statement"`
	Version   int64     `json:"version"`
	SHA256    string    `json:"sha256"` // of the manifest
	Author    string    `json:"author"`
	Keys      []string  `json:"keys"` // that signed, by id
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
}

// Log lists the versions of a statement in a store, the newest first.
func Log(store statement.Store, name string) ([]Version, error) {
	newest, err := statement.Newest(store, name)
	if err != nil {
		return nil, err
	}
	var list []Version
	for v := newest; v > 0; v-- {
		one, err := readVersion(store, name, v)
		if errors.Is(err, fs.ErrNotExist) && len(list) > 0 {
			break // drafts, and stores that were pruned, do not reach back to the first
		}
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func readVersion(store statement.Store, name string, version int64) (v Version, err error) {
	dir := fmt.Sprintf("%s/%d/", name, version)
	raw, err := store.ReadFile(dir + "manifest.json")
	if err != nil {
		return v, err
	}
	sigs, err := store.ReadFile(dir + "signatures.json")
	if err != nil {
		return v, err
	}
	var m statement.Manifest
	all, err := statement.ParseSignatures(sigs)
	if err = errors.Join(err, json.Unmarshal(raw, &m)); err != nil {
		return v, fmt.Errorf("%s: %w", dir, err)
	}
	v = Version{Statement: name, Version: version, SHA256: hash(raw), Author: m.Author, Created: m.Created, Expires: m.Expires}
	for _, s := range all {
		v.Keys = append(v.Keys, s.KeyID)
	}
	return v, nil
}

// before reads the files of a published version, to be shown: none are missed.
func before(store statement.Store, name string, version int64) map[string][]byte {
	files := map[string][]byte{}
	dir := fmt.Sprintf("%s/%d", name, version)
	names, _ := store.ReadDir(dir)
	for _, n := range names {
		if b, err := store.ReadFile(dir + "/" + n); err == nil && filepath.Ext(n) != ".json" {
			files[n] = b
		}
	}
	return files
}

// Approve adds a signature to the pending draft of a statement, after it has made sure that the files that lie there are
// those that the manifest lists: what the signer could read is what he signs.
func (d Dir) Approve(name string, by *Signer) error {
	v, err := statement.Newest(d.Drafting(), name)
	if err != nil {
		return err
	}
	if v == 0 {
		return fmt.Errorf("nothing of %s waits for a signature: its author begins with reeve sign %s", name, name)
	}
	dir := filepath.Join(d.pending(), name, strconv.FormatInt(v, 10))
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return err
	}
	files, err := sameFiles(dir, name, v, raw)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(filepath.Join(dir, "signatures.json"))
	if err != nil {
		return err
	}
	sigs, err := statement.ParseSignatures(old)
	if err != nil {
		return err
	}
	sig, err := by.Sign(&Message{PayloadType: statement.PayloadType, Payload: raw, Files: files, Before: before(d.Store(), name, v-1), Effect: func() *Effect { return d.effect(name, files, time.Now()) }})
	if err != nil {
		return err
	}
	sigs = slices.DeleteFunc(sigs, func(s statement.Signature) bool { return s.KeyID == sig.KeyID })
	b, err := statement.Canonical(append(sigs, sig))
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, "signatures.json"), b, 0o644)
}

// sameFiles reads the files of a draft's folder, which must hold exactly what its manifest lists.
func sameFiles(dir, name string, version int64, manifest []byte) (map[string][]byte, error) {
	var m statement.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("%s/manifest.json: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if m.Statement != name || m.Version != version || len(entries) != len(m.Files)+2 {
		return nil, fmt.Errorf("%s does not hold exactly what its manifest lists: have it drafted again", dir)
	}
	files := map[string][]byte{}
	for _, f := range m.Files {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(f.Path)))
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != f.Size || hash(b) != f.SHA256 {
			return nil, fmt.Errorf("%s is not the file that its manifest lists: have it drafted again", filepath.Join(dir, f.Path))
		}
		files[f.Path] = b
	}
	return files, nil
}
