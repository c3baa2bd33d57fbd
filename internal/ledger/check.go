package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
)

// Checked is what Check found in one write-ahead log.
type Checked struct {
	Origin string `json:"origin"`
	First  int64  `json:"first"` // oldest entry that it still has
	Size   int64  `json:"size"`  // durable entries
	Signed int64  `json:"signed"`
}

// Check reads the write-ahead logs below dir, changing nothing, with the verifier key of the first log: every byte of every
// segment must be a record in the hash chain or zero, and the last signed checkpoint must be of these entries. The ledger may be running.
func Check(dir, verifierKey string) ([]Checked, error) {
	last, err := lastVolume(&Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	var all []Checked
	for n := 0; n <= last; n++ {
		wal := filepath.Join(dir, fmt.Sprint(n), "wal")
		if _, err := os.Stat(wal); errors.Is(err, fs.ErrNotExist) {
			continue // sealed: its entries are all published
		}
		v, err := publicVolume(verifierKey, n)
		if err != nil {
			return nil, err
		}
		v.disk = osDisk(wal)
		c, err := v.check(filepath.Join(dir, fmt.Sprint(n), cosignedFile))
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// publicVolume is a volume that can be read but not written.
func publicVolume(verifierKey string, n int) (*volume, error) {
	if _, err := note.NewVerifier(verifierKey); err != nil {
		return nil, err
	}
	part := strings.SplitN(verifierKey, "+", 3)
	v := &volume{n: n, origin: part[0], verifier: verifierKey}
	if n > 0 {
		v.origin = fmt.Sprintf("%s/%d", part[0], n)
		raw, err := base64.StdEncoding.DecodeString(part[2])
		if err == nil {
			v.verifier, err = note.NewEd25519VerifierKey(v.origin, ed25519.PublicKey(raw[1:]))
		}
		if err != nil {
			return nil, err
		}
	}
	v.id, v.chain = entry.LogID(v.verifier), firstChain(v.origin)
	return v, nil
}

func (v *volume) check(checkpointFile string) (Checked, error) {
	signed, err := v.readCheckpoint(checkpointFile)
	if err != nil {
		return Checked{}, &DamagedError{v.origin, err.Error()}
	}
	var s *walScan
	// A running ledger may be in the middle of a write, or have moved on from a segment: look again before judging.
	for try := 0; ; try++ {
		s, err = v.scan(signed.N, nil)
		if err == nil && !s.tail {
			break
		}
		if err == nil {
			err = errors.New("bytes after the last record are neither records nor zeros: a write that a crash tore, which the next start clears, or an alteration")
		}
		if try == 3 {
			return Checked{}, &DamagedError{v.origin, err.Error()}
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := v.matches(s, signed); err != nil {
		return Checked{}, err
	}
	if b, err := os.ReadFile(filepath.Join(string(v.disk.(osDisk)), reserveName)); err == nil && !allZero(b) {
		return Checked{}, &DamagedError{v.origin, "the reserve segment is not empty"}
	}
	return Checked{Origin: v.origin, First: s.first.Tree.Size, Size: s.tree.Size, Signed: signed.N}, nil
}
