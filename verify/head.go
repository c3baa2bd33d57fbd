package verify

import (
	"errors"
	"io/fs"
)

// Head is the newest state of one log of a chain, as its checkpoints say.
type Head struct {
	Log      Log         `json:"log"`
	ID       string      `json:"id"`
	Signed   *Checkpoint `json:"-"`
	Cosigned *Checkpoint `json:"-"` // nil: none is
}

// Heads reads the checkpoints of a published log and its successors. It verifies their signatures and no entries.
func (t *Trust) Heads(dir fs.FS) ([]Head, error) {
	var heads []Head
	for n := 0; ; n++ {
		d, err := published{dir}.volume(n)
		if n > 0 && errors.Is(err, fs.ErrNotExist) {
			return heads, nil
		}
		if err != nil {
			return nil, err
		}
		cosigned, err := d.checkpoint(t, cosignedFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		signed, err := d.checkpoint(t, signedFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, undecided("nothing is published here: %w", err)
		}
		if err != nil {
			return nil, err
		}
		if cosigned != nil && t.level(cosigned) < Cosigned {
			cosigned = nil
		}
		heads = append(heads, Head{Log: signed.Log, ID: signed.ID(), Signed: signed, Cosigned: cosigned})
	}
}

// Entries returns the bytes of up to count entries from a sequence number on, each proven to be in the tree of c, which
// is a checkpoint of the published log in dir or of a successor.
func (c *Checkpoint) Entries(dir fs.FS, from int64, count int) ([]string, error) {
	d, err := published{dir}.volume(c.Log.n)
	if err != nil {
		return nil, err
	}
	var all []string
	for seq := max(from, 0); seq < c.N && len(all) < count; seq++ {
		var p Proven
		if _, err := d.prove(c, c, seq, &p); err != nil {
			return all, err
		}
		all = append(all, p.Entry)
	}
	return all, nil
}
