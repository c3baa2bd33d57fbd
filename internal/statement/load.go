package statement

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Pin is what a verifier trusts before it has read anything: from the process configuration.
type Pin struct {
	Estate        string
	MinCharter    int64    // the charter version that the pin is about, 1 when zero; older ones are refused
	CharterSHA256 string   // hex, of the manifest of that version; or RootKeys
	RootKeys      []string // public keys as in a charter, Ed25519 or OpenSSH, of which two at least signed that version
	AllowDemo     bool
	LastLock      int64 // lowest lock version that is accepted: what was in force before
}

const (
	clockSkew   = 5 * time.Minute      // how far in the future a signed time may lie
	maxLockLife = 366 * 24 * time.Hour // longest life of a lock
)

// Load reads the newest lock in the store and everything that it binds, verifies all of it against the pin and the rules
// at time now, and returns the set. prev is the set in force, or nil; it is returned when the store has nothing newer.
// Nothing that is not verified is parsed, but for manifests, signatures and the lock. The history of manifests is read as far
// as the store has it, and must reach back to prev. Every refusal wraps ErrRefused and names the rule, the person, the file
// and the line. The Cedar in the set is not parsed: see policy.Compile.
func Load(store Store, pin Pin, prev *Set, now time.Time) (*Set, error) {
	l := &loader{store: store, pin: pin, now: now, left: maxSet}
	if prev != nil {
		l.prev = prev.Lock
	}
	s, err := l.load(prev)
	if err != nil && !errors.Is(err, ErrRefused) {
		err = refuse("missing", "reading the store: %v", err)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// loader is one call of Load.
type loader struct {
	store   Store
	pin     Pin
	prev    Lock // in force, or the zero Lock
	now     time.Time
	left    int64 // bytes that may still be read
	charter *signed
}

func (l *loader) load(prev *Set) (*Set, error) {
	newest, err := Newest(l.store, "lock")
	if err != nil {
		return nil, err
	}
	if newest == 0 {
		return nil, refuse("missing", "the store has no lock")
	}
	if newest < max(l.pin.LastLock, l.prev.Version) {
		return nil, refuse("rollback", "version %d of the lock is older than the one in force", newest).in("lock")
	}
	lock, err := l.open("lock", newest, "")
	if err != nil {
		return nil, err
	}
	s := &Set{LockHash: sha256.Sum256(lock.raw), Expires: lock.Expires}
	if prev != nil && prev.LockHash == s.LockHash {
		return prev, l.expired(lock, prev.Expires)
	}
	if err := l.readLock(s, lock, prev); err != nil {
		return nil, err
	}
	if err := l.readCharter(s); err != nil {
		return nil, err
	}
	if err := s.Charter.checkLock(&lock.Manifest, lock.signers(&s.Charter)); err != nil {
		return nil, inDir(err, lock.Dir)
	}
	s.Approvals = map[string][]Approval{"lock": lock.approvals, "charter": l.charter.approvals}
	if err := l.readStatements(s); err != nil {
		return nil, err
	}
	return s, l.expired(lock, s.Expires)
}

// expired refuses a set whose time has run out.
func (l *loader) expired(lock *signed, until time.Time) error {
	if l.now.Before(until) {
		return nil
	}
	return refuse("expired", "the set expired at %s", until.Format(time.RFC3339)).in(lock.Dir)
}

// signed is one version of a statement as it lies in the store: hashes checked, signatures not.
type signed struct {
	Manifest
	Files
	raw       []byte // the manifest's bytes
	sigs      []Signature
	approvals []Approval // what signers found last
}

// signers returns the people of the charter who signed.
func (g *signed) signers(c *Charter) signers {
	g.approvals = c.Approvals(PayloadType, g.raw, g.sigs)
	return c.by(g.approvals)
}

func (l *loader) read(name string) ([]byte, error) {
	b, err := l.store.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("missing", "the store does not have this file").in(name)
	}
	if l.left -= int64(len(b)); err == nil && (len(b) > maxFile || l.left < 0) {
		err = refuse("size", "the set has more than %d bytes, or this file more than %d", maxSet, maxFile).in(name)
	}
	return b, err
}

// manifest reads a manifest without its files. hash, if not empty, is what its SHA-256 must be.
func (l *loader) manifest(name string, version int64, hash string) (g *signed, err error) {
	g = &signed{Files: Files{Dir: fmt.Sprintf("%s/%d", name, version)}}
	file := g.Dir + "/manifest.json"
	if g.raw, err = l.read(file); err != nil {
		return nil, err
	}
	if hash != "" && hexSHA256(g.raw) != hash {
		return nil, refuse("hash", "the manifest is not the one that was signed for").in(file)
	}
	if err := decode(file, g.raw, &g.Manifest); err != nil {
		return nil, err
	}
	m := &g.Manifest
	switch {
	case m.Estate != l.pin.Estate || m.Statement != name || m.Version != version:
		return nil, refuse("lock", "the manifest is of version %d of %q of the estate %q", m.Version, m.Statement, m.Estate).in(file)
	case (m.Prev == "") != (version == 1) || m.Prev != "" && !validHash(m.Prev):
		return nil, refuse("chain", "version %d names the predecessor %q", version, m.Prev).in(file)
	case !m.Created.Before(m.Expires) || m.Created.After(l.now.Add(clockSkew)):
		return nil, refuse("value", "the statement was created at %s and expires at %s", m.Created.Format(time.RFC3339), m.Expires.Format(time.RFC3339)).in(file)
	}
	for i, f := range m.Files {
		if !validFile(f.Path) || i > 0 && m.Files[i-1].Path >= f.Path || f.Size < 0 || f.Size > maxFile || i >= maxFiles {
			return nil, refuse("size", "the manifest lists %q of %d bytes: plain names only, sorted, at most %d files of %d bytes", f.Path, f.Size, maxFiles, maxFile).in(file)
		}
	}
	return g, nil
}

// open reads a manifest, its signatures and its files, and checks the files against the manifest.
func (l *loader) open(name string, version int64, hash string) (*signed, error) {
	g, err := l.manifest(name, version, hash)
	if err != nil {
		return nil, err
	}
	sigs, err := l.read(g.Dir + "/signatures.json")
	if err != nil {
		return nil, err
	}
	if err := decode(g.Dir+"/signatures.json", sigs, &g.sigs); err != nil {
		return nil, err
	}
	g.Bytes = make(map[string][]byte, len(g.Manifest.Files))
	for _, f := range g.Manifest.Files {
		b, err := l.read(g.Dir + "/" + f.Path)
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != f.Size || hexSHA256(b) != f.SHA256 {
			return nil, refuse("hash", "the file is not the one that was signed").in(g.Dir + "/" + f.Path)
		}
		g.Bytes[f.Path] = b
	}
	main, only := mainFile(name)
	if g.Bytes[main] == nil || only && len(g.Bytes) != 1 {
		return nil, refuse("missing", "the statement must hold %s", main).in(g.Dir)
	}
	return g, nil
}

// mainFile names the file that a statement must hold, and whether it may hold no other.
func mainFile(name string) (file string, only bool) {
	switch kind, _, _ := strings.Cut(name, "-"); kind {
	case "lock":
		return "estate.lock", true
	case "policy":
		return "policy.yaml", false
	default:
		return kind + ".yaml", true
	}
}

// validFile reports whether s is a plain file name that a statement may hold.
func validFile(s string) bool {
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == "" && len(s) > 0 && len(s) <= 64 && s[0] != '.'
	return plain && (path.Ext(s) == ".yaml" || path.Ext(s) == ".cedar" || s == "estate.lock")
}

// history follows g back to its first version, or as far as the store has it. was is the version in force, which must be an
// ancestor that the store reaches; the zero Locked when none is.
func (l *loader) history(g *signed, was Locked) error {
	if g.Version < was.Version || g.Version == was.Version && hexSHA256(g.raw) != was.SHA256 {
		return refuse("rollback", "version %d of %s is not what was accepted as version %d", g.Version, g.Statement, was.Version).in(g.Dir)
	}
	for steps := 0; g.Version > 1; steps++ {
		enough := was.Version == 0 || g.Version <= was.Version+1
		if g.Version == was.Version+1 && g.Prev != was.SHA256 || !enough && steps == maxChain {
			return refuse("chain", "version %d of %s does not descend from the version %d that was accepted", g.Version, g.Statement, was.Version).in(g.Dir)
		}
		before, err := l.manifest(g.Statement, g.Version-1, g.Prev)
		var e *Error
		if enough && (steps == maxChain || errors.As(err, &e) && e.Rule == "missing") {
			return nil
		}
		if err != nil {
			return err
		}
		if before.Created.After(g.Created) {
			return refuse("chain", "version %d of %s was created before version %d", g.Version, g.Statement, before.Version).in(g.Dir)
		}
		g = before
	}
	return nil
}

// readLock reads what the lock binds, unverified, and checks that it succeeds the one in force.
func (l *loader) readLock(s *Set, lock *signed, prev *Set) error {
	file := lock.Dir + "/estate.lock"
	if err := decode(file, lock.Bytes["estate.lock"], &s.Lock); err != nil {
		return err
	}
	s.Lock.Version, s.Lock.Created, s.Lock.Expires = lock.Version, lock.Created, lock.Expires
	if lock.Expires.Sub(lock.Created) > maxLockLife {
		return refuse("expired", "the lock lives longer than %d days", int(maxLockLife.Hours()/24)).in(file)
	}
	for name, b := range s.Lock.Statements {
		if b.Version < 1 || !validHash(b.SHA256) {
			return refuse("lock", "the lock binds no proper version of %q", name).in(file)
		}
	}
	if prev == nil {
		return l.history(lock, Locked{})
	}
	return l.history(lock, Locked{Version: prev.Lock.Version, SHA256: fmt.Sprintf("%x", prev.LockHash)})
}

// readCharter follows the charter from the pin, through the version in force, to the one that the lock binds. Each is
// accepted by the quorum of the one before and by its own.
func (l *loader) readCharter(s *Set) error {
	bound, was := s.Lock.Statements["charter"], l.prev.Statements["charter"]
	version := max(1, l.pin.MinCharter)
	if bound.Version < max(version, was.Version) || bound.Version > version+maxChain {
		return refuse("rollback", "the lock binds version %d of the charter, the pin is about version %d, and version %d is in force", bound.Version, version, was.Version).in("lock")
	}
	var trusted *Charter
	for ; version <= bound.Version; version++ {
		g, err := l.open("charter", version, "")
		if err != nil {
			return err
		}
		hash := hexSHA256(g.raw)
		switch {
		case trusted == nil && hash != l.pin.CharterSHA256 && (l.pin.CharterSHA256 != "" || g.pinned(l.pin.RootKeys) < 2):
			return refuse("pin", "version %d of the charter has not the pinned hash, or is not signed by two of the pinned root keys", version).in(g.Dir)
		case trusted != nil && (g.Prev != hexSHA256(l.charter.raw) || g.Created.Before(l.charter.Created)):
			return refuse("chain", "version %d of the charter does not descend from the one before", version).in(g.Dir)
		case version == was.Version && hash != was.SHA256:
			return refuse("rollback", "version %d of the charter is not what was accepted", version).in(g.Dir)
		case version == bound.Version && hash != bound.SHA256:
			return refuse("lock", "the lock binds another version %d of the charter", version).in("lock")
		}
		if trusted, err = l.acceptCharter(g, trusted); err != nil {
			return inDir(err, g.Dir)
		}
		l.charter = g
	}
	if trusted.Demo && !l.pin.AllowDemo {
		return refuse("demo", "the charter says that this is a demo estate").in(l.charter.Dir)
	}
	s.Charter = *trusted
	return nil
}

// acceptCharter verifies a charter by the quorum before it, if any, and by its own.
func (l *loader) acceptCharter(g *signed, before *Charter) (*Charter, error) {
	root := role{name: "root"}
	if before != nil {
		if err := before.checkApprovers(&g.Manifest, g.signers(before), root); err != nil {
			return nil, err
		}
	}
	file := g.Dir + "/charter.yaml"
	c, err := ParseCharter(file, g.Bytes["charter.yaml"])
	if err != nil {
		return nil, err
	}
	if c.Estate != l.pin.Estate {
		return nil, refuse("pin", "the charter is of the estate %q, not %q", c.Estate, l.pin.Estate).in(file)
	}
	by := g.signers(c)
	if err := c.checkAuthor(&g.Manifest, by); err != nil {
		return nil, err
	}
	return c, c.checkApprovers(&g.Manifest, by, root)
}

// inDir names the folder that a refusal is about.
func inDir(err error, dir string) error {
	var e *Error
	if errors.As(err, &e) {
		return e.in(dir)
	}
	return err
}

// readStatements reads everything that the lock binds besides the charter.
func (l *loader) readStatements(s *Set) error {
	want := s.Charter.statements()
	for name := range s.Lock.Statements {
		if _, ok := want[name]; !ok {
			return refuse("lock", "the lock binds %q, which this charter does not have", name).in("lock")
		}
	}
	delete(want, "charter")
	got := map[string]Files{}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		bound, ok := s.Lock.Statements[name]
		if !ok {
			return refuse("lock", "the lock does not bind %s", name).in("lock")
		}
		g, err := l.open(name, bound.Version, bound.SHA256)
		if err != nil {
			return err
		}
		if err := l.accept(g, s, want[name]); err != nil {
			return inDir(err, g.Dir)
		}
		got[name], s.Approvals[name] = g.Files, g.approvals
		if g.Expires.Before(s.Expires) {
			s.Expires = g.Expires
		}
	}
	return s.assemble(got)
}

// accept checks one statement's history, times and signatures.
func (l *loader) accept(g *signed, s *Set, r role) error {
	if err := l.history(g, l.prev.Statements[g.Statement]); err != nil {
		return err
	}
	if g.Created.After(s.Lock.Created) {
		return refuse("lock", "%s was created after the lock that binds it", g.Statement)
	}
	if g.Created.After(l.charter.Expires) {
		return refuse("expired", "%s was created after the charter had expired", g.Statement)
	}
	by := g.signers(&s.Charter)
	if err := s.Charter.checkAuthor(&g.Manifest, by); err != nil {
		return err
	}
	return s.Charter.checkApprovers(&g.Manifest, by, r)
}
