package verify

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/reevehq/reeve/entry"
)

// Published verifies that a published log has kept one promise, without reading the rest of it.
func (t *Trust) Published(dir fs.FS, receipt string) (*Result, error) {
	r, l, err := t.Receipt(receipt)
	if err != nil {
		return nil, err
	}
	d, err := published{dir}.volume(l.n)
	if err != nil {
		return nil, undecided("%s is not in this directory: %w", l.Origin, err)
	}
	var newest *Checkpoint
	for _, name := range []string{cosignedFile, signedFile} {
		c, err := d.checkpoint(t, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.Log.Origin != l.Origin {
			return nil, undecided("the directory holds %s, the receipt is of %s", c.Log.Origin, l.Origin)
		}
		newest = c
		if r.Seq >= c.N {
			continue
		}
		p := new(Proven)
		e, err := d.prove(c, c, r.Seq, p)
		if err != nil {
			return nil, err
		}
		if err := matches(r, []byte(p.Entry), e); err != nil {
			return nil, err
		}
		res := t.result(c, e, p.Entry)
		if e.Type == entry.Intent {
			if seq, err := d.outcome(e, c.N); err != nil {
				return nil, err
			} else if seq < 0 {
				res.Unknown = append(res.Unknown, "used, outcome unknown: no outcome entry below the checkpoint")
			} else if raw, err := d.entry(seq, c.N); err == nil {
				res.Outcome = string(raw)
			}
		}
		return res, nil
	}
	if newest == nil {
		return nil, undecided("%s has published no checkpoint yet", l.Origin)
	}
	return nil, &MissingError{Receipt: r, Size: newest.N}
}

// MissingError says that the published log does not reach the promised entry yet. After the lag bound of the log, about a
// second, it is a broken promise.
type MissingError struct {
	Receipt *entry.Receipt
	Size    int64
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("entry %d was promised at %d ns, the newest signed checkpoint has %d entries", e.Receipt.Seq, e.Receipt.TimeNS, e.Size)
}

// Unwrap makes it undecided.
func (e *MissingError) Unwrap() error { return ErrUndecided }
