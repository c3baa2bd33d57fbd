package offline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/plain"
)

var (
	// ErrNothing means that there is no key to destroy.
	ErrNothing = errors.New("nothing of it was sealed here, or it was erased already")
	// ErrAnother means that the process has another erasure to obey first.
	ErrAnother = errors.New("another erasure waits for the process, which obeys when it runs: start it ('reeve up'), and ask again once that is done")
)

// Erasure is a request to destroy a key that payloads are sealed with.
type Erasure struct {
	dir, tenant, subject string
	key                  [sha256.Size]byte // hash of the key that is to go
}

// RequestErasure asks the process that owns the ledger in dir to destroy the key of a tenant's payloads or, with a subject, of those about it: a
// workload, or who acts for one. It does so now or at its next start, and writes that down. No copy of such a payload can be opened any more; the
// tree stays whole. It fails with ErrNothing when nothing was sealed with the key. One that waits already is not left again.
func RequestErasure(dir, tenant, subject string) (*Erasure, error) {
	e := &Erasure{dir: dir, tenant: tenant, subject: subject}
	key, err := e.read()
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, ErrNothing
	}
	e.key = sha256.Sum256(key)
	text := []byte(tenant)
	if subject != "" {
		text = []byte(tenant + "\x00" + subject)
	}
	waiting, err := e.waiting()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, request(dir, ledger.EraseRequest, text)
	case err != nil:
		return nil, err
	case !bytes.Equal(waiting, text):
		return nil, ErrAnother
	}
	return e, nil
}

// read returns the key as it is now, or nil.
func (e *Erasure) read() ([]byte, error) {
	name := ledger.KeyName(e.tenant, e.subject)
	found, err := readKeys(e.dir, name)
	return found[name], err
}

func (e *Erasure) waiting() ([]byte, error) {
	root, err := plain.Folder(e.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return plain.ReadIn(root, ledger.EraseRequest, 64<<10)
}

// Waits reports whether the request lies there: it goes when it was obeyed, or when somebody takes it away.
func (e *Erasure) Waits() bool {
	_, err := e.waiting()
	return !errors.Is(err, fs.ErrNotExist)
}

// Destroyed reports whether the key that was there when the erasure was asked for is gone. There may be a new one, for what came since.
func (e *Erasure) Destroyed() (bool, error) {
	key, err := e.read()
	return err == nil && sha256.Sum256(key) != e.key, err
}

// Said reports whether an entry, one behind the request, says that the process has obeyed.
func (e *Erasure) Said(x *entry.Entry) bool {
	return x.Type == entry.Erasure && x.Tenant == e.tenant && x.Reason == ledger.Erased(e.tenant, e.subject)
}

// readKeys reads keys of the payloads of the ledger in dir. What was destroyed, was never made, or is not with a copy, is missing.
func readKeys(dir string, names ...[16]byte) (map[[16]byte][]byte, error) {
	root, err := plain.Folder(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	defer root.Close()
	f, err := plain.OpenIn(root, ledger.KeysPath, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	return ledger.ReadKeys(f, names...)
}
