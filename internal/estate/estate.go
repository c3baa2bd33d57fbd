package estate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/statement/standing"
)

// Dir is an estate's directory: the owners' files under version control, the signed store in .signed, and drafts that wait
// for signatures in .pending.
type Dir string

// Signed is the folder of what was published.
func (d Dir) Signed() string { return filepath.Join(string(d), ".signed") }

func (d Dir) pending() string { return filepath.Join(string(d), ".pending") }

// Store is the signed store.
func (d Dir) Store() statement.Store { return statement.Dir(d.Signed()) }

// Drafts is the signed store with the pending drafts laid over it: what Publish would make.
func (d Dir) Drafts() statement.Store {
	return overlay{statement.Dir(d.pending()), statement.Dir(d.Signed())}
}

// Drafting is the folder of pending drafts alone.
func (d Dir) Drafting() statement.Store { return statement.Dir(d.pending()) }

// Life is how long a statement is signed for when nothing else is said.
func Life(name string) time.Duration {
	if name == "lock" {
		return 90 * 24 * time.Hour
	}
	return 365 * 24 * time.Hour
}

// overlay reads from the first store that has the file, and lists both.
type overlay [2]statement.Dir

func (o overlay) ReadFile(name string) ([]byte, error) {
	b, err := o[0].ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o[1].ReadFile(name)
	}
	return b, err
}

func (o overlay) ReadDir(name string) ([]string, error) {
	a, errA := o[0].ReadDir(name)
	b, errB := o[1].ReadDir(name)
	if errA != nil && errB != nil {
		return nil, errB
	}
	all := append(a, b...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Files reads the owners' files of a statement: charter.yaml, operations.yaml, or those in units/<unit>.
func (d Dir) Files(name string) (map[string][]byte, error) {
	kind, unit, _ := strings.Cut(name, "-")
	switch kind {
	case "operations":
		return readFiles(string(d), "operations.yaml")
	case "charter":
		return withCedar(string(d), "charter.yaml")
	case "custody":
		return readFiles(filepath.Join(string(d), "units", unit), "custody.yaml")
	case "policy":
		return withCedar(filepath.Join(string(d), "units", unit), "policy.yaml")
	}
	return nil, fmt.Errorf("there is no statement %q: charter, operations, policy-UNIT, custody-UNIT or lock", name)
}

// withCedar reads a file and the Cedar files beside it.
func withCedar(dir, name string) (map[string][]byte, error) {
	cedar, err := filepath.Glob(filepath.Join(dir, "*.cedar"))
	if err != nil {
		return nil, err
	}
	names := []string{name}
	for _, c := range cedar {
		names = append(names, filepath.Base(c))
	}
	return readFiles(dir, names...)
}

func readFiles(dir string, names ...string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			return nil, err
		}
		files[n] = b
	}
	return files, nil
}

// Check parses the owners' files and holds them against each other, the Cedar and what templates say too. It looks at no signature.
func (d Dir) Check() (*statement.Set, error) { return d.CheckWith("", nil) }

// CheckWith is Check with other files in place of those of one statement.
func (d Dir) CheckWith(instead string, others map[string][]byte) (*statement.Set, error) {
	files := map[string]statement.Files{}
	add := func(name, dir string) (err error) {
		b := others
		if name != instead {
			b, err = d.Files(name)
		}
		files[name] = statement.Files{Dir: dir, Bytes: b}
		return err
	}
	if err := errors.Join(add("charter", "."), add("operations", ".")); err != nil {
		return nil, err
	}
	units, err := os.ReadDir(filepath.Join(string(d), "units"))
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		dir := "units/" + u.Name()
		if err := errors.Join(add("policy-"+u.Name(), dir), add("custody-"+u.Name(), dir)); err != nil {
			return nil, err
		}
	}
	set, err := statement.Check(files)
	if err != nil {
		return nil, err
	}
	if len(set.Charter.Units) != len(units) {
		return nil, fmt.Errorf("units holds %d folders and the charter %d units: remove the folder, or add the unit", len(units), len(set.Charter.Units))
	}
	for _, u := range set.Charter.Units {
		for _, c := range set.Custody[u.ID].Credentials {
			if _, err := custody.Read(c); err != nil {
				return nil, fmt.Errorf("units/%s/custody.yaml: %w", u.ID, err)
			}
		}
	}
	_, err = policy.Compile(set)
	return set, err
}

// Terms are the times of a signature.
type Terms struct{ Created, Expires time.Time }

// Sign drafts the next version of a statement from the owners' files, or of the lock from the drafts and what is published,
// and signs it as its author. A pending draft of the statement is replaced, with the signatures it had. A version is not dated
// before its predecessor, nor a lock before what it binds, should this machine's clock be behind.
func (d Dir) Sign(estate, name string, author *Signer, t Terms) (version int64, err error) {
	last, err := statement.Newest(d.Store(), name)
	if err != nil {
		return 0, err
	}
	m := statement.Manifest{Estate: estate, Statement: name, Version: last + 1, Author: author.Person, Created: t.Created.UTC().Truncate(time.Second), Expires: t.Expires.UTC().Truncate(time.Second)}
	after := func(v Version) {
		if m.Created.Before(v.Created) {
			m.Created = v.Created
		}
	}
	if last > 0 {
		before, err := readVersion(d.Store(), name, last)
		if err != nil {
			return 0, err
		}
		m.Prev = before.SHA256
		after(before)
	}
	var files map[string][]byte
	if name == "lock" {
		files, err = d.lock(after)
	} else {
		files, err = d.Files(name)
	}
	if err != nil {
		return 0, err
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		m.Files = append(m.Files, statement.File{Path: f, Size: int64(len(files[f])), SHA256: hash(files[f])})
	}
	raw, err := statement.Canonical(m)
	if err != nil {
		return 0, err
	}
	contents := maps.Clone(files)
	files["manifest.json"] = raw
	sig, err := author.Sign(&Message{PayloadType: statement.PayloadType, Payload: raw, Files: contents, Before: before(d.Store(), name, last), Effect: func() *Effect { return d.effect(name, contents, m.Created) }})
	if err != nil {
		return 0, err
	}
	if files["signatures.json"], err = statement.Canonical([]statement.Signature{sig}); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(filepath.Join(d.pending(), name)); err != nil {
		return 0, err
	}
	dir := filepath.Join(d.pending(), name, strconv.FormatInt(m.Version, 10))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	for f, b := range files { // a draft need not survive a crash: Publish syncs
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
			return 0, err
		}
	}
	return m.Version, nil
}

// lock is the file of the next lock: the newest version of every statement, drafts included. each is told of all of them.
func (d Dir) lock(each func(Version)) (map[string][]byte, error) {
	store := d.Drafts()
	names, err := store.ReadDir(".")
	if err != nil {
		return nil, err
	}
	l := statement.Lock{Statements: map[string]statement.Locked{}}
	for _, name := range names {
		v, err := statement.Newest(store, name)
		if err != nil {
			return nil, err
		}
		if v == 0 || name == "lock" {
			continue // records and sealed secrets have no versions
		}
		one, err := readVersion(store, name, v)
		if err != nil {
			return nil, err
		}
		each(one)
		l.Statements[name] = statement.Locked{Version: v, SHA256: one.SHA256}
	}
	b, err := statement.Canonical(l)
	return map[string][]byte{"estate.lock": b}, err
}

// Pending lists the statements that wait for signatures, with their versions.
func (d Dir) Pending() (map[string]int64, error) {
	names, err := d.Drafting().ReadDir(".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m := map[string]int64{}
	for _, n := range names {
		v, err := statement.Newest(d.Drafting(), n)
		if err != nil {
			return nil, err
		}
		if v > 0 {
			m[n] = v
		}
	}
	return m, err
}

// Publish verifies the drafts as a process would that has the published set in force, and moves them into the signed store,
// the lock last. Nothing is moved when anything is refused.
func (d Dir) Publish(pin statement.Pin, now time.Time) (*statement.Set, error) {
	pending, err := d.Pending()
	if err != nil {
		return nil, err
	}
	if len(pending) == 0 {
		return nil, errors.New("nothing waits to be published: reeve sign comes first")
	}
	prev, err := statement.Load(d.Store(), pin, nil, now)
	if err != nil { // the first version, or one that has expired
		prev = nil
	}
	set, err := statement.Load(d.Drafts(), pin, prev, now)
	if err != nil {
		return nil, err
	}
	if _, err := policy.Compile(set); err != nil {
		return nil, err
	}
	if prev != nil {
		records, err := ReadRecords(d.Store(), "revocation")
		if err == nil {
			err = standing.Keeps(prev, set, maps.Values(records), now)
		}
		if err != nil {
			return nil, err
		}
	}
	names := slices.Sorted(maps.Keys(pending))
	slices.SortStableFunc(names, func(a, b string) int { return order(a) - order(b) })
	for _, name := range names {
		if bound, ok := set.Lock.Statements[name]; name != "lock" && (!ok || bound.Version != pending[name]) {
			return nil, fmt.Errorf("the lock does not bind the draft of %s: sign a new lock (reeve sign lock)", name)
		}
	}
	for _, name := range names {
		v := strconv.FormatInt(pending[name], 10)
		from, to := filepath.Join(d.pending(), name, v), filepath.Join(d.Signed(), name, v)
		err := syncFiles(from)
		for _, step := range []func() error{
			func() error { return os.MkdirAll(filepath.Dir(to), 0o755) },
			func() error { return os.Rename(from, to) },
			func() error { return durable.Sync(filepath.Dir(to)) },
		} {
			if err == nil {
				err = step()
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return set, os.RemoveAll(d.pending())
}

// order sorts the charter first and the lock last.
func order(name string) int {
	switch name {
	case "charter":
		return 0
	case "lock":
		return 2
	}
	return 1
}

// syncFiles brings a folder and its files to the disk.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, durable.Sync(filepath.Join(dir, e.Name())))
	}
	return errors.Join(err, durable.Sync(dir))
}

// Pin is the pin for the estate's first charter version.
func (d Dir) Pin(estate string) (statement.Pin, error) {
	first, err := readVersion(d.Store(), "charter", 1)
	return statement.Pin{Estate: estate, CharterSHA256: first.SHA256}, err
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
