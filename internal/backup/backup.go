// Package backup saves and restores what a host's processes cannot make again: ledgers, published tiles, the custodian's sealed
// secrets, closings and the last statements. It leaves the keys out: a backup opens nothing by itself, and whoever restores it
// needs the custodian's identity and log keys from where they are kept apart.
package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger/offline"
)

// state is the archive's folder of a process's files beside its ledger: <process>/state/…. The ledger package's own folders lie
// beside it, <process>/ledger/… and <process>/tiles/….
const state = "state"

// database is the authority's own, which is copied while it is written to.
const database = "authority.db"

// Kept lists, by process and file below its folder, what an archive never has.
func Kept(process string) []string {
	common := []string{process + ".yaml", "log", "log.1", "log.key", "hop.key"}
	switch process {
	case host.Custodian:
		return append(common, "identity.age")
	case host.Authority:
		return append(common, "feed.key", "token.key", "authority.db-wal", "authority.db-shm")
	}
	return common
}

// Write writes an archive (tar) of every process with a ledger. The processes may run: what was durable when it began is in it.
func Write(d *host.Dir, w io.Writer) error {
	t := tar.NewWriter(w)
	for _, p := range host.WithLedger() {
		if err := writeLedger(t, d, p); err != nil {
			return fmt.Errorf("backing up the %s: %w", p, err)
		}
		// After the ledger: a closing that the ledger tells of is in the archive too.
		if err := writeState(t, d, p); err != nil {
			return fmt.Errorf("backing up the %s: %w", p, err)
		}
	}
	return t.Close()
}

// writeLedger copies the members of the ledger's own archive into this one.
func writeLedger(t *tar.Writer, d *host.Dir, process string) error {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { pw.CloseWithError(offline.Write(d.Join(process, "ledger"), d.Join("tiles", process), pw)) }()
	in := tar.NewReader(pr)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = path.Join(process, h.Name)
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(t, in); err != nil {
			return err
		}
	}
}

func writeState(t *tar.Writer, d *host.Dir, process string) error {
	kept := Kept(process)
	root, err := os.OpenRoot(d.Join(process)) // a link in it leads nowhere else: see offline.Write
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no such process on this host
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // replaced while it was read
			return nil
		case err != nil:
			return err
		case e.IsDir() && name == "ledger":
			return fs.SkipDir
		case !e.Type().IsRegular() || slices.Contains(kept, name):
			return nil
		}
		read := root.ReadFile
		if process == host.Authority && name == database {
			read = func(name string) ([]byte, error) { return store.Copy(d.Join(process, name)) }
		}
		b, err := read(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(process, state, name), Size: int64(len(b)), Mode: 0o600}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err = t.Write(b)
		return err
	})
}

// Restore unpacks an archive. No process may run, and no process may have a ledger: what is there is evidence, to be moved away
// first by a person. Nothing is checked here; the processes do when they start, and refuse a log that a witness has seen further.
func Restore(d *host.Dir, r io.Reader) error {
	in := tar.NewReader(r)
	var open *unpacking
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return open.close()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("restoring: %w", err), open.close())
		}
		process, name, ok := strings.Cut(h.Name, "/")
		if !ok || !slices.Contains(host.WithLedger(), process) || h.Typeflag != tar.TypeReg {
			return errors.Join(fmt.Errorf("restoring: %q is no part of a backup", h.Name), open.close())
		}
		if open == nil || open.process != process {
			if err := open.close(); err != nil {
				return err
			}
			if open, err = unpack(d, process); err != nil {
				return err
			}
		}
		if err := open.take(h, name, in); err != nil {
			return errors.Join(fmt.Errorf("restoring the %s: %w", process, err), open.close())
		}
	}
}

// unpacking is the restore of one process: its ledger's members go on to the ledger package.
type unpacking struct {
	process string
	root    *os.Root
	pipe    *io.PipeWriter
	ledger  *tar.Writer
	done    chan error
}

func unpack(d *host.Dir, process string) (*unpacking, error) {
	root, err := os.OpenRoot(d.Join(process))
	if err != nil {
		return nil, fmt.Errorf("restoring the %s: %w", process, err)
	}
	pr, pw := io.Pipe()
	u := &unpacking{process: process, root: root, pipe: pw, ledger: tar.NewWriter(pw), done: make(chan error, 1)}
	go func() {
		err := offline.Restore(pr, d.Join(process, "ledger"), d.Join("tiles", process))
		pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		u.done <- err
	}()
	return u, nil
}

func (u *unpacking) take(h *tar.Header, name string, r io.Reader) error {
	if rest, ok := strings.CutPrefix(name, state+"/"); ok {
		return u.write(rest, r)
	}
	h.Name = name
	if err := u.ledger.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(u.ledger, r)
	return err
}

func (u *unpacking) write(name string, r io.Reader) error {
	if err := u.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// close ends the process's restore and returns what went wrong in it. A nil unpacking has nothing to close.
func (u *unpacking) close() error {
	if u == nil {
		return nil
	}
	err := u.ledger.Close()
	u.pipe.CloseWithError(err)
	if restored := <-u.done; restored != nil {
		err = restored // the cause: what was written to it failed after
	}
	return errors.Join(err, u.root.Close())
}
