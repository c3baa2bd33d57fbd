package offline

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
)

var (
	// ErrErased means that a key of the payload, its tenant's or one of whom it is about, was destroyed, or is not with this copy of the ledger.
	ErrErased = errors.New("the payload's key is not here: it was erased, or this is a copy without keys")
	// ErrNoPayload means that an entry has no payload, or that it was not published yet.
	ErrNoPayload = errors.New("no payload of this entry is here")
)

// Payload opens the payload of an entry of volume n of the ledger in dir, without its salt. It fails with ErrErased, ErrNoPayload, or when it is
// not the one that the entry commits to. docs/formats/ledger.md describes the file.
func Payload(dir string, n int, e *entry.Entry) ([]byte, error) {
	sealed, err := find(filepath.Join(dir, strconv.Itoa(n), "payload"), e.Seq)
	if err != nil {
		return nil, err
	}
	commit, err := hex.DecodeString(e.Commit)
	if err != nil || len(commit) != 32 || len(sealed) < 1 || len(sealed) < 1+16*int(sealed[0]) || sealed[0] == 0 {
		return nil, fmt.Errorf("entry %d: malformed commitment or payload", e.Seq)
	}
	names, sealed := sealed[1:1+16*int(sealed[0])], sealed[1+16*int(sealed[0]):]
	var want [][16]byte
	for name := range slices.Chunk(names, 16) {
		want = append(want, [16]byte(name))
	}
	found, err := readKeys(dir, want...)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, name := range want {
		if found[name] == nil {
			return nil, ErrErased
		}
		keys = append(keys, found[name])
	}
	aead, err := ledger.OpenKey(keys)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed, commit)
	if err != nil {
		return nil, fmt.Errorf("%w, or another payload than the one committed to", ErrErased)
	}
	if e.Type != entry.Heartbeat { // whose commitment has its salts inside
		plain = plain[16:]
	}
	return plain, nil
}

// find returns the sealed payload of an entry from the file of its bundle, full or the widest there is.
func find(dir string, seq int64) ([]byte, error) {
	for width := 256; width > int(seq%256); width-- {
		b, err := os.ReadFile(filepath.Join(dir, ledger.PayloadPath(seq/256, width)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		for len(b) >= 12 {
			n := 12 + int(binary.BigEndian.Uint32(b[8:]))
			if n > len(b) {
				break
			}
			if int64(binary.BigEndian.Uint64(b)) == seq {
				return b[12:n], nil
			}
			b = b[n:]
		}
		return nil, ErrNoPayload
	}
	return nil, ErrNoPayload
}
