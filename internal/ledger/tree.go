package ledger

import (
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tileWidth is the number of hashes in a full C2SP tile.
const tileWidth = 256

// tree is an RFC 6962 tree reduced to the hashes of the unfinished tile at each tile level: all that is needed to go on.
type tree struct {
	Size   int64         `json:"size"`
	Levels [][]tlog.Hash `json:"levels"` // Levels[l] are roots of 256^l leaves
}

// add appends a leaf hash. full, if not nil, is called with each tile that the leaf finishes.
func (t *tree) add(h tlog.Hash, full func(level int, n int64, hashes []tlog.Hash)) {
	t.Size++
	for l := 0; ; l++ {
		if l == len(t.Levels) {
			t.Levels = append(t.Levels, make([]tlog.Hash, 0, tileWidth))
		}
		t.Levels[l] = append(t.Levels[l], h)
		if len(t.Levels[l]) < tileWidth {
			return
		}
		if full != nil {
			full(l, t.Size>>(8*(l+1))-1, t.Levels[l])
		}
		h = perfect(t.Levels[l])
		t.Levels[l] = t.Levels[l][:0]
	}
}

// root is the RFC 6962 tree hash.
func (t *tree) root() tlog.Hash {
	var h tlog.Hash
	some := false
	for _, hashes := range t.Levels {
		// The perfect subtrees within the tile are joined from the right, smallest first.
		for n, bit := len(hashes), 1; n > 0; bit *= 2 {
			if n&bit == 0 {
				continue
			}
			sub := perfect(hashes[n-bit : n])
			if some {
				sub = tlog.NodeHash(sub, h)
			}
			h, some = sub, true
			n -= bit
		}
	}
	if !some {
		h, _ = tlog.TreeHash(0, nil)
	}
	return h
}

// clone copies the tree deeply.
func (t *tree) clone() tree {
	c := tree{Size: t.Size, Levels: make([][]tlog.Hash, len(t.Levels))}
	for i, l := range t.Levels {
		c.Levels[i] = append(make([]tlog.Hash, 0, tileWidth), l...)
	}
	return c
}

// valid reports whether the tree's levels agree with its size.
func (t *tree) valid() bool {
	for l := range t.Levels {
		if l > 7 || len(t.Levels[l]) != int(t.Size>>(8*l)&(tileWidth-1)) {
			return false
		}
	}
	return t.Size >= 0 && t.Size>>(8*len(t.Levels)) == 0
}

// perfect is the root over a power of two of hashes.
func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	return tlog.NodeHash(perfect(hashes[:len(hashes)/2]), perfect(hashes[len(hashes)/2:]))
}

// tilePath is the path of a tile in the C2SP tlog-tiles layout; level -1 is an entry bundle. Width 256 is a full tile.
func tilePath(level int, n int64, width int) string {
	p := tlog.Tile{H: 8, L: level, N: n, W: width}.Path()
	p = strings.Replace(p, "tile/8/", "tile/", 1)
	return strings.Replace(p, "tile/data/", "tile/entries/", 1)
}
