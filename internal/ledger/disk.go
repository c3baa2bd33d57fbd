package ledger

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/durable"
)

// disk is one directory of WAL segments. The operating system's is osDisk; tests have one that loses what was not synced.
type disk interface {
	open(name string) (file, error)         // read and write; fs.ErrNotExist
	create(name string) (file, error)       // empty, replacing what was there
	rename(old, new string) error           // durable when it returns
	remove(name string) error               // a crash may bring the file back
	list() ([]string, error)                // sorted
	space() (free, total uint64, err error) // bytes
}

// file is one WAL segment.
type file interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Sync() error // fdatasync: contents and what is needed to read them back
	Close() error
}

// osDisk is a directory of the operating system.
type osDisk string

func (d osDisk) path(name string) string { return filepath.Join(string(d), name) }

func (d osDisk) open(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDisk) create(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDisk) rename(old, new string) error {
	if err := os.Rename(d.path(old), d.path(new)); err != nil {
		return err
	}
	return durable.Sync(string(d))
}

func (d osDisk) remove(name string) error { return os.Remove(d.path(name)) }

func (d osDisk) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d osDisk) space() (free, total uint64, err error) { return diskSpace(string(d)) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return fdatasync(f.File) }

// A segment made ahead is zeroed in pieces, each synced and followed by a pause, so that little stands in the way of the running log's
// syncs: without them a segment holds up every request of some 50 ms.
const (
	zeroPiece = 256 << 10 // bytes
	zeroPause = 5 * time.Millisecond
)

// tmpPrefix begins the name of a segment that is being made.
const tmpPrefix = "tmp-"

// createSegment makes a segment of zeros that is durable under its name when createSegment returns. urgent is asked again and again
// whether somebody waits for it.
func createSegment(d disk, name string, size int64, urgent func() bool) (file, error) {
	tmp := tmpPrefix + name
	f, err := d.create(tmp)
	if err != nil {
		return nil, err
	}
	if err = zero(f, 0, size, urgent); err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		f.Close()
		d.remove(tmp)
		return nil, fmt.Errorf("preparing WAL segment %s: %w", name, err)
	}
	return f, nil
}

// atOnce is for what somebody waits for.
func atOnce() bool { return true }

// zero overwrites [from, to) with zeros and syncs, piece by piece while it is not urgent.
func zero(f file, from, to int64, urgent func() bool) error {
	piece := make([]byte, min(zeroPiece, max(to-from, 0)))
	for from < to {
		n := min(int64(len(piece)), to-from)
		if _, err := f.WriteAt(piece[:n], from); err != nil {
			return err
		}
		if from += n; from < to && urgent() {
			continue
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if from < to {
			time.Sleep(zeroPause)
		}
	}
	return nil
}
