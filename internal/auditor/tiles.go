package auditor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/durable"
)

const (
	width    = 256                   // of a full tile (C2SP tlog-tiles)
	maxTile  = width * tlog.HashSize // bytes
	maxEntry = 1<<16 - 1             // bytes
	maxFile  = width * (2 + maxEntry)

	signedFile   = "checkpoint.signed" // the newest that the log has signed
	cosignedFile = "checkpoint"        // the newest that is cosigned
)

// errBundle is wrapped when an entry bundle is not what its name says.
var errBundle = errors.New("not a whole entry bundle")

// folder is a log in the C2SP tlog-tiles layout, published by another process or the auditor's own copy. Paths are made from
// numbers alone; links that lead out of it are not followed.
type folder string

// path of a tile below the folder; level -1 is an entry bundle.
func path(level int, n int64, w int) string {
	p := strings.Replace(tlog.Tile{H: 8, L: level, N: n, W: w}.Path(), "tile/8/", "tile/", 1)
	return strings.Replace(p, "tile/data/", "tile/entries/", 1)
}

// read reads a regular file of at most maxFile bytes. A pipe does not hold it up.
func (d folder) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.Join(err, errors.New("not a regular file of a tile's size"))}
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// tile reads a tile of at least w hashes or entries: that of the width, a full one, or a wider partial one.
func (d folder) tile(level int, n int64, w int) ([]byte, error) {
	b, err := d.read(path(level, n, w))
	if !errors.Is(err, fs.ErrNotExist) || w == width {
		return b, err
	}
	full := path(level, n, width)
	if b, err := d.read(full); !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	others, _ := os.ReadDir(filepath.Join(string(d), filepath.FromSlash(full+".p")))
	for _, o := range others {
		if wider, e := strconv.Atoi(o.Name()); e == nil && wider > w && wider < width {
			return d.read(path(level, n, wider))
		}
	}
	return nil, err
}

// Height implements tlog.TileReader.
func (folder) Height() int { return 8 }

// SaveTiles implements tlog.TileReader.
func (folder) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader.
func (d folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		b, err := d.tile(t.L, t.N, t.W)
		if err != nil {
			return nil, err
		}
		if len(b) < t.W*tlog.HashSize || len(b) > maxTile {
			return nil, fmt.Errorf("tile %s has %d bytes", path(t.L, t.N, t.W), len(b))
		}
		all[i] = b[:t.W*tlog.HashSize]
	}
	return all, nil
}

// bundle reads the first w entries of a bundle.
func (d folder) bundle(n int64, w int) ([][]byte, error) {
	b, err := d.tile(-1, n, w)
	if err != nil {
		return nil, err
	}
	entries, err := split(b, w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path(-1, n, w), err)
	}
	return entries, nil
}

// split takes w entries from a bundle: each after its length in 16 bits.
func split(b []byte, w int) ([][]byte, error) {
	entries := make([][]byte, 0, w)
	for len(entries) < w {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("%w: it ends in entry %d of %d", errBundle, len(entries), w)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		entries = append(entries, b[2:n])
		b = b[n:]
	}
	return entries, nil
}

// join is the inverse of split.
func join(entries [][]byte) []byte {
	var b []byte
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}

// volumes are the numbers of the logs in the folder, rising: the first is the folder itself, a successor's folder has its number.
func (d folder) volumes() []int {
	all := []int{0}
	entries, _ := os.ReadDir(string(d))
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && strconv.Itoa(n) == e.Name() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// write puts a synced file into the folder; its directory is synced by sync.
func (d folder) write(name string, b []byte) error {
	return durable.Put(filepath.Join(string(d), filepath.FromSlash(name)), b, 0o600, (*os.File).Sync)
}

// sync makes the names of files in a directory durable, and the directory's own up to the folder.
func (d folder) sync(names map[string]bool) error {
	for name := range names {
		if err := durable.Sync(filepath.Join(string(d), filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}
