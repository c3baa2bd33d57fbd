package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrExposed is wrapped when others than its owner may read a key's file.
var ErrExposed = errors.New("others can read it")

// maxFile bounds a key's file, in bytes.
const maxFile = 64 << 10

// ReadFile reads a process's own key from a file that only its owner may read, without the white space around it.
func ReadFile(path string) (Value, error) {
	f, err := os.Open(path)
	if err != nil {
		return Value{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Value{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Value{}, fmt.Errorf("key file %s has mode %04o: %w, so it proves nothing; chmod 600 it and, if anyone could have read it, replace it", path, mode, ErrExposed)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Value{}, err
	}
	return New(bytes.TrimSpace(b)), nil
}
