package sealed

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/secret"
)

// memoryFile is what a credential's source has to remember, encrypted to the custodian.
const memoryFile = "memory.age"

// Memory is a credential's source.State.
type Memory struct {
	store *Store
	dir   state.Dir
	mu    sync.Mutex
}

// Dir is the directory of a credential: of its ciphertexts, and of what else is kept about it.
func (s *Store) Dir(credential string) (state.Dir, error) {
	if !safe(credential) {
		return "", fmt.Errorf("the name %q cannot be a directory's", credential)
	}
	return s.dir.Sub(credential)
}

// Memory is that of a credential's source.
func (s *Store) Memory(credential string) (*Memory, error) {
	dir, err := s.Dir(credential)
	return &Memory{store: s, dir: dir}, err
}

// Load implements source.State.
func (m *Memory) Load() (secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, err := m.dir.Read(memoryFile)
	if err != nil || text == nil {
		return secret.Value{}, err
	}
	plain, err := m.store.decrypt(text, maxMemory)
	if err != nil {
		return secret.Value{}, fmt.Errorf("opening %s: %w", m.dir.Path(memoryFile), err)
	}
	return secret.New(plain), nil
}

// Save implements source.State.
func (m *Memory) Save(v secret.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.Len() > maxMemory {
		return fmt.Errorf("%w: a source has at most %d bytes to remember", ErrCiphertext, maxMemory)
	}
	if err := m.store.keep(m.dir, memoryFile, v.Reveal()); err != nil {
		return fmt.Errorf("keeping what the source has to remember: %w", err)
	}
	return nil
}

// maxMemory bounds what a source keeps, in bytes.
const maxMemory = 32 << 10

// rewrap encrypts the custodian's own files to its newest identity.
func (s *Store) rewrap() error {
	all := s.keepFingerprintKey()
	names, err := os.ReadDir(string(s.dir))
	if err != nil {
		return err
	}
	for _, n := range names {
		if !n.IsDir() {
			continue
		}
		m := &Memory{store: s, dir: state.Dir(s.dir.Path(n.Name()))}
		if v, err := m.Load(); err == nil && !v.Empty() { // what opens no more is not lost by this
			all = errors.Join(all, m.Save(v))
			v.Wipe()
		}
	}
	return all
}
