package ledger

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand"
	"slices"
	"sync"
	"syscall"
)

var errCrashed = errors.New("the machine has crashed")

// faultDisk is a disk in memory that keeps what was written apart from what was synced. A crash drops and tears the rest.
type faultDisk struct {
	mu      sync.Mutex
	names   map[string]*faultFile
	durable map[string]*faultFile // what the directory names after a crash
	removed map[string]*faultFile // may come back after a crash

	steps     int   // operations that change something, so far
	crashAt   int   // the step that does not happen any more; 0 for never
	forgetful bool  // Sync reports success and does nothing: the fault that the tests must catch
	syncErr   error // returned by every Sync
	full      bool  // files cannot grow
	free      uint64
}

type faultFile struct {
	d       *faultDisk
	data    []byte // as written
	synced  []byte // as on the platter
	pending []faultWrite
}

type faultWrite struct {
	off  int
	data []byte
}

func newFaultDisk() *faultDisk {
	return &faultDisk{names: map[string]*faultFile{}, durable: map[string]*faultFile{}, removed: map[string]*faultFile{}, free: 50}
}

// step counts an operation; the caller holds mu.
func (d *faultDisk) step() error {
	if d.steps++; d.crashAt > 0 && d.steps >= d.crashAt {
		return errCrashed
	}
	return nil
}

func (d *faultDisk) open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

func (d *faultDisk) create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return nil, syscall.ENOSPC
	}
	if err := d.step(); err != nil {
		return nil, err
	}
	f := &faultFile{d: d}
	d.names[name] = f
	return f, nil
}

func (d *faultDisk) rename(old, new string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[old]
	if f == nil {
		return fs.ErrNotExist
	}
	if err := d.step(); err != nil {
		return err
	}
	delete(d.names, old)
	delete(d.durable, old)
	d.names[new], d.durable[new] = f, f
	return nil
}

func (d *faultDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[name]
	if f == nil {
		return fs.ErrNotExist
	}
	if err := d.step(); err != nil {
		return err
	}
	if d.durable[name] != nil {
		d.removed[name] = f
	}
	delete(d.names, name)
	delete(d.durable, name)
	return nil
}

func (d *faultDisk) list() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *faultDisk) space() (free, total uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, 100, nil
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := int(off) + len(b)
	if f.d.full && end > len(f.data) {
		return 0, syscall.ENOSPC
	}
	if err := f.d.step(); err != nil {
		// The write was under way.
		f.pending = append(f.pending, faultWrite{int(off), slices.Clone(b)})
		return 0, err
	}
	if end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	copy(f.data[off:], b)
	f.pending = append(f.pending, faultWrite{int(off), slices.Clone(b)})
	return len(b), nil
}

func (f *faultFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *faultFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.syncErr != nil {
		return f.d.syncErr
	}
	if err := f.d.step(); err != nil {
		return err
	}
	if f.d.forgetful {
		return nil
	}
	for _, w := range f.pending {
		f.synced = w.apply(f.synced, 0, len(w.data))
	}
	f.pending = nil
	return nil
}

func (f *faultFile) Close() error { return nil }

// apply writes part of w into b, which grows.
func (w *faultWrite) apply(b []byte, from, to int) []byte {
	if n := w.off + to; n > len(b) {
		b = append(b, make([]byte, n-len(b))...)
	}
	copy(b[w.off+from:], w.data[from:to])
	return b
}

// crash returns the disk as it is found after a power cut: of every write that was not synced, each sector is there or not.
func (d *faultDisk) crash(r *rand.Rand) *faultDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	const sector = 512
	after := newFaultDisk()
	after.free, after.forgetful = d.free, d.forgetful
	names := maps.Clone(d.durable)
	for name, f := range d.removed {
		if names[name] == nil && r.Intn(2) == 0 {
			names[name] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		b := slices.Clone(f.synced)
		for _, w := range f.pending {
			keep := r.Intn(3) // nothing, everything, or some of it
			for from := 0; from < len(w.data); {
				to := min(len(w.data), (w.off+from)/sector*sector+sector-w.off)
				if keep == 1 || keep == 2 && r.Intn(2) == 0 {
					b = w.apply(b, from, to)
				}
				from = to
			}
		}
		n := &faultFile{d: after, data: b, synced: slices.Clone(b)}
		after.names[name], after.durable[name] = n, n
	}
	return after
}
