package ocsf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// File appends events to a file of JSON lines. Close ends it.
type File struct{ f *os.File }

// OpenFile opens the file, or makes it, and takes away what a crash left of its last line.
func OpenFile(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := mend(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &File{f}, nil
}

// mend cuts the file after its last whole line.
func mend(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	at, buf := end, make([]byte, 64<<10)
	for at > 0 {
		n := min(at, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], at-n); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			at = at - n + int64(i) + 1
			break
		}
		at -= n
	}
	if at == 0 && end > 0 && buf[0] != '{' { // the buffer holds the begin of the file
		return fmt.Errorf("%s has something else than events in it: name another file", f.Name())
	}
	if at < end {
		if err := f.Truncate(at); err != nil {
			return err
		}
	}
	_, err = f.Seek(at, io.SeekStart)
	return err
}

// Send implements Sink: the lines are on disk when it returns.
func (f *File) Send(_ context.Context, b Batch) error {
	if _, err := f.f.Write(b.Lines); err != nil {
		return err
	}
	return f.f.Sync()
}

// Close ends it.
func (f *File) Close() error { return f.f.Close() }
