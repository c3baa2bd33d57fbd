package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Names in a published log.
const (
	cosignedFile = "checkpoint"
	signedFile   = "checkpoint.signed"
	tileWidth    = 256
	maxBundle    = tileWidth * (2 + 65535)
)

// published is one log in the C2SP tlog-tiles layout. Paths are made from numbers alone.
type published struct{ fs.FS }

// tilePath is the path of a tile; level -1 is an entry bundle.
func tilePath(level int, n int64, width int) string {
	p := strings.Replace(tlog.Tile{H: 8, L: level, N: n, W: width}.Path(), "tile/8/", "tile/", 1)
	return strings.Replace(p, "tile/data/", "tile/entries/", 1)
}

// parsePath is the inverse of tilePath.
func parsePath(p string) (level int, n int64, width int, ok bool) {
	rest, ok := strings.CutPrefix(p, "tile/")
	if !ok {
		return 0, 0, 0, false
	}
	name, rest, _ := strings.Cut(rest, "/")
	if name == "entries" {
		name = "data"
	}
	t, err := tlog.ParseTilePath("tile/8/" + name + "/" + rest)
	if err != nil || tilePath(t.L, t.N, t.W) != p {
		return 0, 0, 0, false
	}
	return t.L, t.N, t.W, true
}

// tile reads the first width hashes of a tile, from the partial tile of that width, a wider one or the full one.
func (d published) tile(level int, n int64, width int) ([]byte, error) {
	b, err := d.either(level, n, width)
	if err != nil {
		return nil, err
	}
	if len(b)%tlog.HashSize != 0 || len(b) > tileWidth*tlog.HashSize || len(b) < width*tlog.HashSize {
		return nil, fails("tile %s has %d bytes", tilePath(level, n, width), len(b))
	}
	return b[:width*tlog.HashSize], nil
}

// bundle reads the first count entries of a bundle.
func (d published) bundle(n int64, count int) ([][]byte, error) {
	b, err := d.either(-1, n, count)
	if err != nil {
		return nil, err
	}
	entries, err := splitBundle(b)
	if err != nil {
		return nil, fails("%s: %w", tilePath(-1, n, count), err)
	}
	if len(entries) < count {
		return nil, fails("%s has %d entries", tilePath(-1, n, count), len(entries))
	}
	return entries[:count], nil
}

// either reads the tile of a width, the full one, or a wider partial one: a log that is written takes narrower ones away.
func (d published) either(level int, n int64, width int) ([]byte, error) {
	b, err := d.read(tilePath(level, n, width))
	full := tilePath(level, n, tileWidth)
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		b, err = d.read(full)
	}
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		others, _ := fs.ReadDir(d.FS, full+".p")
		for _, o := range others {
			if w, e := strconv.Atoi(o.Name()); e == nil && w > width && w < tileWidth && errors.Is(err, fs.ErrNotExist) {
				b, err = d.read(tilePath(level, n, w))
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fails("%w", err) // the checkpoint says that it is there
	}
	return b, err
}

// read reads a file of a log: none is longer than a full bundle.
func (d published) read(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err == nil && len(b) > maxBundle {
		err = fails("%s is too long", name)
	}
	return b, err
}

// splitBundle splits an entry bundle: each entry after its length in 16 bits.
func splitBundle(b []byte) ([][]byte, error) {
	var entries [][]byte
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) || len(entries) == tileWidth {
			return nil, errors.New("malformed entry bundle")
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		entries, b = append(entries, b[2:n]), b[n:]
	}
	return entries, nil
}

// entry reads one entry of a tree of size leaves.
func (d published) entry(seq, size int64) ([]byte, error) {
	if seq < 0 || seq >= size {
		return nil, fmt.Errorf("entry %d of %d", seq, size)
	}
	n := seq / tileWidth
	b, err := d.bundle(n, int(min(size-n*tileWidth, tileWidth)))
	if err != nil {
		return nil, err
	}
	return b[seq%tileWidth], nil
}

// Height, ReadTiles and SaveTiles make published a tlog.TileReader.
func (published) Height() int                     { return 8 }
func (published) SaveTiles([]tlog.Tile, [][]byte) {}

func (d published) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if all[i], err = d.tile(t.L, t.N, t.W); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// hashes reads tree hashes from tiles and checks them against the tree's root.
func (d published) hashes(t tlog.Tree) tlog.HashReader { return tlog.TileHashReader(t, d) }

// checkpoint reads and verifies one of the checkpoint files.
func (d published) checkpoint(t *Trust, name string) (*Checkpoint, error) {
	raw, err := d.read(name)
	if err != nil {
		return nil, err
	}
	c, err := t.Checkpoint(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// volume is the log itself or its nth successor, in the directory of that number; fs.ErrNotExist.
func (d published) volume(n int) (published, error) {
	if n == 0 {
		return d, nil
	}
	name := strconv.Itoa(n)
	if _, err := fs.Stat(d.FS, path.Join(name, signedFile)); err != nil {
		return published{}, err
	}
	sub, err := fs.Sub(d.FS, name)
	return published{sub}, err
}
