package statement

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// Store is where signed sets and records lie: estate/.signed, or what came over the feed. Whoever writes it is not trusted.
type Store interface {
	// ReadFile reads a file by its slash-separated path below the store.
	ReadFile(name string) ([]byte, error)
	// ReadDir lists the names below a folder of the store, sorted.
	ReadDir(name string) ([]string, error)
}

// Bounds on what is read from a store, in bytes and entries.
const (
	maxFile    = 4 << 20  // one file
	maxJSON    = 1 << 20  // one that is parsed before it is verified
	maxSet     = 64 << 20 // all files of one set
	maxSets    = 4 << 30  // all files of all sets, for who asks what was in force when
	maxFiles   = 256      // in one statement
	maxEntries = 1 << 16  // names in one folder
	maxChain   = 1 << 12  // versions that are walked from what is trusted to what is offered
)

// Dir is a store in a folder of the file system. No path or symbolic link leads out of it; only regular files are read.
type Dir string

// ReadFile reads a regular file of at most 4 MiB.
func (d Dir) ReadFile(name string) ([]byte, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.Join(err, errors.New("not a regular file"))}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = refuse("size", "the file has more than %d bytes", maxFile).in(name)
	}
	return b, err
}

// ReadDir lists a folder of at most 65,536 names.
func (d Dir) ReadDir(name string) ([]string, error) { return d.list(name, maxEntries) }

// list lists a folder of at most limit names: a part of them would hide the newest.
func (d Dir) list(name string, limit int) ([]string, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(names) > limit {
		return nil, refuse("size", "the folder has more than %d names", limit).in(name)
	}
	slices.Sort(names)
	return names, nil
}

// Newest returns the highest version of a statement in the store, 0 when there is none. Names that are not plain
// decimal numbers are passed over.
func Newest(store Store, name string) (int64, error) {
	names, err := store.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var newest int64
	for _, n := range names {
		if v, err := strconv.ParseInt(n, 10, 64); err == nil && v > newest && strconv.FormatInt(v, 10) == n {
			newest = v
		}
	}
	return newest, err
}
