// Package host lays out what one machine needs to run an estate's processes: the directory, the users, the ports, the sockets,
// each process's keys and configuration file.
package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/statement"
)

// The processes, in the order in which they start. They stop in the reverse order.
const (
	Upstream  = "upstream" // demo only
	Auditor   = "auditor"
	Authority = "authority"
	Custodian = "custodian"
	Gateway   = "gateway"
)

// Start is the order in which processes start.
func Start(demo bool) []string {
	all := []string{Upstream, Auditor, Authority, Custodian, Gateway}
	if !demo {
		return all[1:]
	}
	return all
}

// WithLedger are the processes that keep a ledger and publish it.
func WithLedger() []string { return []string{Authority, Custodian, Gateway} }

// uids are the users of the processes when root starts them. They need no entry in /etc/passwd; each has a group of the same number.
var uids = map[string]int{Gateway: 64101, Custodian: 64102, Authority: 64103, Auditor: 64104, Upstream: 64105}

// Dir is an estate's directory on this machine. All paths are absolute.
type Dir struct {
	Path    string // as the user named it: has env, run.yaml and trust.json
	State   string // where everything else lies: Path, or a folder below /var/lib/reeve
	Bin     string // where the processes' binaries are started from
	Sockets string
	Run     Run

	own string // the folder with the binaries that this program came from
}

// Run is run.yaml: what was decided when the directory was made, fixed from then on.
type Run struct {
	Path  string `yaml:"path"` // where the directory was when the configurations were written: they have absolute paths
	Demo  bool   `yaml:"demo"`
	Ports Ports  `yaml:"ports"`
	State string `yaml:"state,omitempty"` // where the state lies when not here
	Trust Trust  `yaml:"estate_trust"`
}

// Trust is what is believed before anything was read. It stands in every process's configuration under the same name.
type Trust struct {
	Estate        string   `yaml:"estate"`
	CharterSHA256 string   `yaml:"charter_sha256,omitempty"` // hex, of the first charter's manifest; or RootKeys
	RootKeys      []string `yaml:"root_keys,omitempty"`      // public keys, as in the charter, of the root quorum
}

// TrustOf is a pin as it stands in configurations.
func TrustOf(p statement.Pin) Trust { return Trust{p.Estate, p.CharterSHA256, p.RootKeys} }

// Pin is the pin that an operator's commands verify the estate against.
func (d *Dir) Pin() statement.Pin {
	t := d.Run.Trust
	return statement.Pin{Estate: t.Estate, CharterSHA256: t.CharterSHA256, RootKeys: t.RootKeys, AllowDemo: d.Run.Demo}
}

// Moved is the folder below which state goes that the processes' users could not reach.
const Moved = "/var/lib/reeve"

// ErrForeign means that a directory belongs to another user.
var ErrForeign = errors.New("the directory belongs to another user")

// ErrNone means that there is no estate in the directory.
var ErrNone = errors.New("there is no estate here")

// Open reads the directory at path. bin is the folder of the reeve binaries. It returns ErrNone when nothing was made there.
func Open(path, bin string) (*Dir, error) {
	d, err := at(path, bin)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(d.runFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; `reeve up` makes a demo, `reeve init` a real one", path, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the directory: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(b, &d.Run, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s is damaged:\n%w", d.runFile(), err)
	}
	if d.Run.State != "" {
		d.State = d.Run.State
	}
	return d, nil
}

// at is the directory without what run.yaml says.
func at(path, bin string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, err
	}
	d := &Dir{Path: abs, State: abs, Bin: bin, own: bin, Sockets: socketsFolder(abs)}
	if err := d.checkOwner(); err != nil {
		return nil, err
	}
	return d, nil
}

// Create makes the directory with ports from first on (0: any). It refuses one that holds something else.
func Create(path, bin string, demo bool, first int) (*Dir, error) {
	d, err := at(path, bin)
	if err != nil {
		return nil, err
	}
	if !d.empty() && !d.unfinished() {
		return nil, fmt.Errorf("%s is not empty and holds no estate; name another directory with --dir", path)
	}
	if d.Run.Ports, err = ChoosePorts(first); err != nil {
		return nil, err
	}
	if d.Run.Demo = demo; !demo {
		d.Run.Ports.Upstream = 0
	}
	if err := os.MkdirAll(d.Path, d.mode()); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	if err := os.Chmod(d.Path, d.mode()); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	if err := d.clear(); err != nil {
		return nil, err
	}
	return d, d.layOut()
}

// empty reports whether nothing but the lock is in the directory.
func (d *Dir) empty() bool {
	entries, err := os.ReadDir(d.Path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && (len(entries) == 0 || len(entries) == 1 && entries[0].Name() == filepath.Base(d.Lock()))
}

// clear takes away what an earlier creation left half-way, and decides where the state goes. State of a directory that was
// deleted since is taken away when it was a demo's.
func (d *Dir) clear() error {
	if Separate() && !reachable(d.Path) {
		d.Run.State = filepath.Join(Moved, hash(d.Path))
		d.State = d.Run.State
		if _, err := os.Stat(d.State); err == nil && !d.Run.Demo {
			return fmt.Errorf("%s has the state of an estate that was in %s before; move it away and try again", d.State, d.Path)
		}
		if err := os.RemoveAll(d.State); err != nil {
			return fmt.Errorf("clearing the state of an earlier demo: %w", err)
		}
		for _, dir := range []string{Moved, d.State} {
			if err := errors.Join(os.MkdirAll(dir, d.mode()), os.Chmod(dir, d.mode())); err != nil {
				return fmt.Errorf("making the folder of the state: %w", err)
			}
		}
	}
	for _, name := range folders(d.Run.Demo) {
		if err := os.RemoveAll(filepath.Join(d.Path, name)); err != nil {
			return fmt.Errorf("clearing an unfinished creation: %w", err)
		}
	}
	return nil
}

// folders are those that an estate's directory has.
func folders(demo bool) []string {
	return append(Start(demo), "estate", "people", "tiles", "federation")
}

// unfinished reports whether a creation stopped half-way: it leaves this mark until it is complete.
func (d *Dir) unfinished() bool {
	_, err := os.Stat(filepath.Join(d.Path, ".unfinished"))
	return err == nil
}

// layOut makes the folders. Those of a moved state are linked from the directory, so that its paths hold for every command.
func (d *Dir) layOut() error {
	if err := os.WriteFile(filepath.Join(d.Path, ".unfinished"), nil, 0o600); err != nil {
		return err
	}
	for _, name := range folders(d.Run.Demo) {
		if err := os.MkdirAll(filepath.Join(d.State, name), 0o700); err != nil {
			return fmt.Errorf("making the directory: %w", err)
		}
		if d.State == d.Path {
			continue
		}
		err := os.Symlink(filepath.Join(d.State, name), filepath.Join(d.Path, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("linking the moved state: %w", err)
		}
	}
	return nil
}

// Finish writes run.yaml: from now on the directory holds the estate that pin names.
func (d *Dir) Finish(pin statement.Pin) error {
	d.Run.Path, d.Run.Trust = d.Path, TrustOf(pin)
	b, err := yaml.Marshal(d.Run)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.runFile(), b, 0o644); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(d.Path, ".unfinished"))
}

// Displaced reports whether the directory was moved or copied since its configurations were written.
func (d *Dir) Displaced() bool { return d.Run.Path != d.Path }

func (d *Dir) runFile() string { return filepath.Join(d.Path, "run.yaml") }

// Join is a path below the state.
func (d *Dir) Join(elem ...string) string {
	return filepath.Join(append([]string{d.State}, elem...)...)
}

// Env, Trust and Lock are files in the directory itself.
func (d *Dir) Env() string   { return filepath.Join(d.Path, "env") }
func (d *Dir) Trust() string { return filepath.Join(d.Path, "trust.json") }
func (d *Dir) Lock() string  { return filepath.Join(d.Path, "lock") }

// Log is the log file of a process.
func (d *Dir) Log(process string) string { return d.Join(process, "log") }

// Config is the configuration file of a process.
func (d *Dir) Config(process string) string { return d.Join(process, process+".yaml") }

// Socket is the path of a process's socket: ops, admin or hop.
func (d *Dir) Socket(process, name string) string {
	return filepath.Join(d.Sockets, process, name+".sock")
}

// Hop is the socket between gateway and custodian.
func (d *Dir) Hop() string { return d.Socket("hop", "hop") }

// Separate reports whether the processes get users of their own: when root starts them on Linux.
func Separate() bool { return os.Geteuid() == 0 && runtime.GOOS == "linux" }

// UID is the user that a process runs as, or -1 for one's own.
func UID(process string) int {
	if !Separate() {
		return -1
	}
	return uids[process]
}

// mode lets the processes' users through, and nobody else in.
func (d *Dir) mode() fs.FileMode {
	if Separate() {
		return 0o711
	}
	return 0o700
}

// checkOwner refuses a directory of another user with the command that mends it.
func (d *Dir) checkOwner() error {
	owner, err := ownerOf(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the directory: %w", err)
	}
	me := os.Geteuid()
	if owner == me {
		return nil
	}
	who := func(uid int) string {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			return u.Username
		}
		return strconv.Itoa(uid)
	}
	sudo := "sudo "
	if me == 0 {
		sudo = ""
	}
	return fmt.Errorf("%w: %s was made by %s and you are %s; some of its files would be closed to you.\n"+
		"Run it as %s: sudo -u %s reeve …\nor, when it is a demo that does not run, take it over: %schown -R %s %s\nor use one of your own: --dir ./demo-%s",
		ErrForeign, d.Path, who(owner), who(me), who(owner), who(owner), sudo, who(me), d.Path, who(me))
}

func ownerOf(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return int(info.Sys().(*syscall.Stat_t).Uid), nil
}

// reachable reports whether every user may pass through path and all its parents.
func reachable(path string) bool {
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}

// hash names a directory in places that all users share.
func hash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:6])
}

// socketsFolder is where the sockets are: their paths must stay under 107 bytes, so not below the directory.
func socketsFolder(path string) string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && !Separate() && len(dir) < 40 {
		if owner, err := ownerOf(dir); err == nil && owner == os.Geteuid() {
			return filepath.Join(dir, "reeve-"+hash(path))
		}
	}
	return fmt.Sprintf("/tmp/reeve-%d-%s", os.Geteuid(), hash(path))
}

// shown is a path as a person would type it: relative when that is shorter.
func shown(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) && !strings.HasPrefix(rel, "../..") {
		return rel
	}
	return path
}

// Shown is a path as a person would type it from here.
func Shown(path string) string { return shown(path) }
