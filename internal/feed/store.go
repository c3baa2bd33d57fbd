package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Files is a statement.Store in memory: exact file bytes by slash-separated path below the store.
type Files map[string][]byte

// ReadFile implements statement.Store.
func (m Files) ReadFile(name string) ([]byte, error) {
	b, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return b, nil
}

// ReadDir implements statement.Store.
func (m Files) ReadDir(name string) ([]string, error) {
	var names []string
	for path := range m {
		if rest, ok := strings.CutPrefix(path, name+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			names = append(names, first)
		}
	}
	if names == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Sum is the hex SHA-256 of what sha256sum prints for the files, sorted by path.
func (m Files) Sum() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(h, "%x  %s\n", sha256.Sum256(m[name]), name)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Trace is a statement.Store that remembers in Read what was read From another: what Load reads is what a set consists of.
type Trace struct {
	From statement.Store
	Read Files
}

// ReadFile implements statement.Store.
func (t *Trace) ReadFile(name string) ([]byte, error) {
	b, err := t.From.ReadFile(name)
	if err == nil {
		t.Read[name] = b
	}
	return b, err
}

// ReadDir implements statement.Store.
func (t *Trace) ReadDir(name string) ([]string, error) { return t.From.ReadDir(name) }

// EachRecord calls do with every record of a store as a frame, handovers with their ciphertext. Nothing is verified. It stops
// at the first error.
func EachRecord(store statement.Store, do func(name string, record *Frame) error) error {
	kinds, err := store.ReadDir("records")
	for _, kind := range kinds {
		names, err := store.ReadDir("records/" + kind)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name = "records/" + kind + "/" + name; !strings.HasSuffix(name, ".json") {
				continue // being written
			}
			file, err := store.ReadFile(name)
			frame := &Frame{Record: file}
			if err == nil && kind == "handover" {
				frame.Sealed, err = sealed(store, file)
			}
			if err == nil {
				err = do(name, frame)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sealed reads the ciphertext beside a handover record.
func sealed(store statement.Store, file []byte) ([]byte, error) {
	env, _, err := ParseRecord(file)
	if err != nil {
		return nil, err
	}
	var h statement.Handover
	if err := json.Unmarshal(env.Payload, &h); err != nil {
		return nil, fmt.Errorf("%w: handover: %v", ErrFrame, err)
	}
	return store.ReadFile(SealedPath(&h))
}

// SealedPath is where a store has the ciphertext of a handover.
func SealedPath(h *statement.Handover) string {
	return fmt.Sprintf("sealed/%s/%d-%s.age", h.Credential, h.Version, h.Custodian)
}

// Stamp stands for what a signed store in a folder holds: it changes when a file is put there or taken away. It is empty
// while a change is so recent that another could hide behind the same time of modification: then look anyway.
func Stamp(dir string) string {
	var stamp strings.Builder
	names := []string{"lock", "records"}
	kinds, _ := os.ReadDir(filepath.Join(dir, "records"))
	for _, k := range kinds {
		names = append(names, "records/"+k.Name())
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if age := time.Since(info.ModTime()); age < 2*time.Second {
			return ""
		}
		fmt.Fprintf(&stamp, "%s %d\n", name, info.ModTime().UnixNano())
	}
	return stamp.String()
}
