package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Prepare makes the socket folders, gives each process what is its own, and brings the binaries to where the processes' users
// can reach them. It runs at every start: a directory that was copied or taken over is put right.
func (d *Dir) Prepare(binaries []string) error {
	if err := d.makeSockets(); err != nil {
		return err
	}
	for _, p := range WithLedger() { // before the processes confine themselves to what is there
		if err := os.MkdirAll(d.Join("tiles", p), 0o700); err != nil {
			return fmt.Errorf("making the folder of %s's published log: %w", p, err)
		}
	}
	if !Separate() {
		return nil
	}
	if err := d.giveAway(); err != nil {
		return fmt.Errorf("giving each process its files: %w", err)
	}
	if reachable(d.own) {
		return nil
	}
	d.Bin = d.Join("bin")
	for _, name := range binaries {
		if err := copyBinary(filepath.Join(d.own, name), filepath.Join(d.Bin, name)); err != nil {
			return fmt.Errorf("copying the binaries to where their users can reach them: %w", err)
		}
	}
	return nil
}

// share is a folder and who may enter it.
type share struct {
	path     string
	uid, gid int
	mode     fs.FileMode
}

// setgid makes what is created in a folder belong to the folder's group.
const setgid = fs.ModeSetgid

// giveAway sets owners and modes for the processes' users: each has its own folder; the authority reads the estate; the auditor
// reads every published log. People's keys stay with root.
func (d *Dir) giveAway() error {
	shares := []share{
		{d.State, 0, 0, 0o711}, {d.Join("people"), 0, 0, 0o700}, {d.Join("tiles"), 0, 0, 0o711},
		{d.Join("estate"), 0, uids[Authority], 0o750 | setgid},
	}
	shares = append(shares, share{d.Join("federation"), uids[Custodian], uids[Custodian], 0o755}) // for everybody to publish
	for _, p := range Start(d.Run.Demo) {
		shares = append(shares, share{d.Join(p), uids[p], uids[p], 0o700})
	}
	for _, p := range WithLedger() {
		shares = append(shares, share{d.Join("tiles", p), uids[p], uids[Auditor], 0o750 | setgid})
	}
	for _, s := range shares {
		if err := os.MkdirAll(s.path, s.mode.Perm()); err != nil {
			return err
		}
		if err := s.apply(); err != nil {
			return err
		}
	}
	return nil
}

// apply gives the folder's content to its owner. State, people and tiles are folders of folders: only they themselves. A user whose folder it is
// may change it meanwhile: nothing outside is reached, whatever links he makes.
func (s share) apply() error {
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := s.give(root, name, e.IsDir()); err != nil {
			return err
		}
		if s.uid == 0 && s.gid == 0 {
			return fs.SkipAll
		}
		return nil
	})
}

// give sets the owner first: a change of owner clears the set-group bit.
func (s share) give(root *os.Root, name string, dir bool) error {
	err := root.Lchown(name, s.uid, s.gid)
	if err == nil && (name == "." || dir && s.mode&setgid != 0) {
		err = root.Chmod(name, s.mode)
	}
	return err
}

// own is for a folder whose parent is root's.
func own(path string, uid, gid int, mode fs.FileMode) error {
	if err := os.Lchown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// makeSockets makes the folder of the sockets anew: one folder inside for each process, and one for the hop that the gateway may
// enter too. It refuses a folder that somebody else put there.
func (d *Dir) makeSockets() error {
	const longest = len("/custodian/admin.sock")
	if len(d.Sockets)+longest >= 107 {
		return fmt.Errorf("the path of the sockets, %s, is too long for the kernel", d.Sockets)
	}
	err := os.Mkdir(d.Sockets, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the folder of the sockets: %w", err)
	}
	info, err := os.Lstat(d.Sockets)
	if err != nil {
		return fmt.Errorf("making the folder of the sockets: %w", err)
	}
	if !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return fmt.Errorf("%s, where the sockets go, belongs to somebody else: sockets there could be swapped; remove it and start again", d.Sockets)
	}
	if err := os.Chmod(d.Sockets, d.mode()); err != nil {
		return err
	}
	for _, p := range append(Start(false), "hop") {
		if err := d.makeSocketFolder(p); err != nil {
			return fmt.Errorf("making the folder of the sockets: %w", err)
		}
	}
	return nil
}

func (d *Dir) makeSocketFolder(process string) error {
	path := filepath.Join(d.Sockets, process)
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	switch {
	case !Separate():
		return nil
	case process == "hop":
		return own(path, uids[Custodian], uids[Gateway], 0o750|setgid)
	}
	return own(path, uids[process], uids[process], 0o700)
}

// copyBinary replaces the copy when size or time differ.
func copyBinary(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if old, err := os.Stat(to); err == nil && old.Size() == info.Size() && old.ModTime().Equal(info.ModTime()) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	dst, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Chmod(0o755), dst.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(to+".new", info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
