package offline

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/plain"
)

// Folders in a backup.
const (
	stateFolder = "ledger"
	tilesFolder = "tiles"
)

// Write writes a tar archive of the ledger in dir and what it published in tiles, which may be in use meanwhile. The
// archive holds every entry that was durable when Write began, and perhaps later ones. It leaves the keys of tenants' payloads
// out, so that destroying one erases what was backed up too: keep the folder keys apart, or payloads cannot be opened after a restore.
//
// A restored backup is an older state of the log: where a witness has seen more, the ledger refuses to start from it.
func Write(dir, tiles string, w io.Writer) error {
	var trees []tree
	for _, at := range [...]struct{ prefix, dir string }{{stateFolder, dir}, {tilesFolder, tiles}} {
		root, err := plain.Folder(at.dir) // whoever has taken its user over leads root nowhere else
		if errors.Is(err, fs.ErrNotExist) {
			continue // nothing was written there yet
		}
		if err != nil {
			return fmt.Errorf("backing up: %w", err)
		}
		defer root.Close()
		trees = append(trees, tree{at.prefix, root})
	}
	t := tar.NewWriter(w)
	// The checkpoints are read first and the trees last, so that no checkpoint speaks of entries that the archive lacks.
	checkpoints, err := readAll(trees)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	for _, x := range trees {
		err = errors.Join(err, x.add(t))
	}
	for _, c := range checkpoints {
		err = errors.Join(err, addFile(t, c.name, c.data))
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return nil
}

// isCheckpoint reports whether a path below a ledger's state or published tree names a checkpoint.
func isCheckpoint(name string) bool {
	base := path.Base(name)
	return base == "checkpoint" || base == "checkpoint.signed"
}

// isTransient reports whether a path below a ledger's state or published tree means nothing to a copy of it: the lock,
// requests, files that are being written.
func isTransient(name string) bool {
	base := path.Base(name)
	return name == "lock" || name == ledger.RotateRequest || strings.HasPrefix(base, ".new-") || strings.HasPrefix(base, "tmp-")
}

type namedFile struct {
	name string
	data []byte
}

// tree is a directory and the archive's folder for it.
type tree struct {
	prefix string
	*os.Root
}

// readAll reads every checkpoint below the directories.
func readAll(trees []tree) (files []namedFile, err error) {
	for _, x := range trees {
		for _, pattern := range []string{"*", "*/*"} {
			names, _ := fs.Glob(x.FS(), pattern) // the pattern is well formed
			for _, name := range names {
				if !isCheckpoint(name) {
					continue
				}
				b, err := x.ReadFile(name)
				if err != nil {
					return nil, err
				}
				files = append(files, namedFile{path.Join(x.prefix, name), b})
			}
		}
	}
	return files, nil
}

// add adds a directory's files but for checkpoints. Write-ahead log segments go last to first: what a segment
// holds when it is read, the segments before it hold then too.
func (x tree) add(t *tar.Writer) error {
	var names []string
	err := fs.WalkDir(x.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if !isCheckpoint(name) && !isTransient(name) && !strings.HasPrefix(name, "keys/") {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(names)
	for _, name := range names {
		b, err := x.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a partial tile that became full, or a segment that is no longer needed
		}
		if err != nil {
			return err
		}
		if x.prefix == stateFolder {
			ledger.Cut(name, b)
		}
		if err := addFile(t, path.Join(x.prefix, name), b); err != nil {
			return err
		}
	}
	return nil
}

func addFile(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o600}); err != nil {
		return err
	}
	_, err := io.Copy(t, bytes.NewReader(b))
	return err
}

// Restore unpacks a backup into dir and tiles, neither of which may hold a ledger. Nothing is checked here: Open does.
func Restore(r io.Reader, dir, tiles string) error {
	roots := map[string]*os.Root{}
	for prefix, target := range map[string]string{stateFolder: dir, tilesFolder: tiles} {
		if names, err := os.ReadDir(target); err == nil && len(names) > 0 {
			return fmt.Errorf("restoring: %s is not empty; move it away first, it may be evidence", target)
		}
		if err := os.MkdirAll(target, 0o750); err != nil {
			return err
		}
		root, err := os.OpenRoot(target)
		if err != nil {
			return err
		}
		defer root.Close()
		roots[prefix] = root
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("restoring: %w", err)
		}
		prefix, name, _ := strings.Cut(h.Name, "/")
		root := roots[prefix]
		if root == nil || h.Typeflag != tar.TypeReg {
			return fmt.Errorf("restoring: %q is no part of a ledger's backup", h.Name)
		}
		if err := restoreFile(root, name, prefix == stateFolder, t); err != nil {
			return fmt.Errorf("restoring: %w", err)
		}
	}
}

func restoreFile(root *os.Root, name string, private bool, r io.Reader) error {
	dirMode, mode := fs.FileMode(0o750), fs.FileMode(0o640)
	if private {
		dirMode, mode = 0o700, 0o600
	}
	if err := root.MkdirAll(path.Dir(name), dirMode); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}
