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
	RootKeys      []string // public keys as in a charter, of which two at least signed that version
	AllowDemo     bool
	LastLock      Locked // the lock that was in force last: older ones, and ones that do not descend from it, are refused
	// Heard is when this verifier first heard of a charter that the recovery keys announced, by the hex SHA-256 of its manifest; for
	// one that it has not heard of, now. Nil takes the announcement's own word, for those who publish.
	Heard func(sha256 string) time.Time
}

const (
	clockSkew   = 5 * time.Minute      // how far in the future a signed time may lie
	maxLockLife = 366 * 24 * time.Hour // longest life of a lock
)

// Load reads the newest lock in the store and everything that it binds, verifies all of it against the pin and the rules
// at time now, and returns the set. prev is the set in force, or nil; it is returned when the store has nothing newer.
//
// Every lock that the store has is verified in turn, from the oldest on, and each set is held against the one before it: who
// answers for what a version changes has signed it. The locks must reach back to the last one accepted, prev or that of the pin,
// and from there on nothing may be missing. Older sets that the store has not complete are passed over; Set.Since says so.
//
// Nothing that is not verified is parsed, but for manifests, signatures and locks. Every refusal wraps ErrRefused and names the
// rule, the person, the file and the line. The Cedar in the set is not parsed: see policy.Compile.
func Load(store Store, pin Pin, prev *Set, now time.Time) (*Set, error) {
	l := &loader{store: store, pin: pin, now: now, left: maxSet, files: map[string][]byte{}, known: map[string]*signed{}}
	if prev != nil {
		l.pin.LastLock = prev.Locked()
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

// Versions returns every set that the store has complete, verified as Load does, the oldest first: what was in force when. The newest may have
// expired.
func Versions(store Store, pin Pin, now time.Time) (all []*Set, err error) {
	l := &loader{store: store, pin: pin, now: now, left: maxSets, files: map[string][]byte{}, known: map[string]*signed{}, each: func(s *Set) { all = append(all, s) }}
	_, err = l.load(nil)
	var e *Error
	if errors.As(err, &e) && e.Rule == "expired" && len(all) > 0 && !now.Before(all[len(all)-1].Expires) {
		err = nil
	}
	if err != nil && !errors.Is(err, ErrRefused) {
		err = refuse("missing", "reading the store: %v", err)
	}
	for _, s := range all {
		s.docs = nil
	}
	return all, err
}

// loader is one call of Load or Versions.
type loader struct {
	store Store
	pin   Pin
	now   time.Time
	left  int64              // bytes that may still be read
	each  func(*Set)         // of Versions
	files map[string][]byte  // that were read
	known map[string]*signed // versions that locks bind, by folder and hash

	// The newest charter accepted so far.
	charter *signed
	trusted *Charter
	parsed  *document
}

func (l *loader) load(prev *Set) (*Set, error) {
	newest, err := Newest(l.store, "lock")
	last := l.pin.LastLock
	switch {
	case err != nil:
		return nil, err
	case newest == 0:
		return nil, refuse("missing", "the store has no lock")
	}
	top, err := l.open("lock", newest, "")
	if err != nil {
		return nil, err
	}
	if prev != nil && prev.LockHash == sha256.Sum256(top.raw) {
		return prev, l.expired(top, prev.Expires)
	}
	locks, err := l.history(top, last, l.open)
	if err != nil {
		return nil, err
	}
	older, err := l.history(locks[len(locks)-1], Locked{}, l.open)
	if err != nil {
		return nil, err
	}
	var s *Set
	for _, lock := range slices.Backward(append(locks, older[1:]...)) {
		next, err := l.set(lock, s)
		var e *Error
		if errors.As(err, &e) && e.beyond && lock.Version < newest && (last.Version == 0 || lock.Version < last.Version) {
			s = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		if s = next; l.each != nil {
			l.each(s)
		}
	}
	s.docs = nil
	return s, l.expired(top, s.Expires)
}

// set verifies the set of one lock, and holds it against the set before it, if there is one.
func (l *loader) set(lock *signed, before *Set) (*Set, error) {
	s := &Set{LockHash: sha256.Sum256(lock.raw), Expires: lock.Expires, Since: lock.Version}
	if err := s.readLock(lock); err != nil {
		return nil, err
	}
	if err := l.readCharter(s); err != nil {
		return nil, err
	}
	if err := s.Charter.checkLock(&lock.Manifest, lock.signers(&s.Charter)); err != nil {
		return nil, inDir(err, lock.Dir)
	}
	s.Approvals = map[string][]Approval{"lock": lock.approvals, "charter": l.charter.approvals}
	statements, err := l.readStatements(s, before)
	if err != nil || before == nil {
		return s, err
	}
	s.Since = before.Since
	return s, s.compared(before, statements)
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
	judge     *signed    // the charter that the loader found them by
}

// signers returns the people of the charter who signed.
func (g *signed) signers(c *Charter) signers {
	g.approvals = c.Approvals(PayloadType, g.raw, g.sigs)
	return c.by(g.approvals)
}

func (l *loader) read(name string) ([]byte, error) {
	if b, ok := l.files[name]; ok {
		return b, nil
	}
	b, err := l.store.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		e := refuse("missing", "the store does not have this file").in(name)
		e.beyond = true
		return nil, e
	}
	if l.left -= int64(len(b)); err == nil && (len(b) > maxFile || l.left < 0) {
		err = refuse("size", "the store has more than %d bytes, or this file more than %d", maxSet, maxFile).in(name)
	}
	if err == nil {
		l.files[name] = b
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
	case "policy", "charter":
		return kind + ".yaml", false
	default:
		return kind + ".yaml", true
	}
}

// validFile reports whether s is a plain file name that a statement may hold.
func validFile(s string) bool {
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == "" && len(s) > 0 && len(s) <= 64 && s[0] != '.'
	return plain && (path.Ext(s) == ".yaml" || path.Ext(s) == ".cedar" || s == "estate.lock")
}

// history follows g back, reading each manifest before it, to was, the version accepted before; the zero Locked stands for
// the first version, or as far back as the store has it. It returns all of them, g first.
func (l *loader) history(g *signed, was Locked, read func(name string, version int64, hash string) (*signed, error)) ([]*signed, error) {
	if g.Version < was.Version || g.Version == was.Version && hexSHA256(g.raw) != was.SHA256 {
		return nil, refuse("rollback", "version %d of %s is not what was accepted as version %d", g.Version, g.Statement, was.Version).in(g.Dir)
	}
	all := []*signed{g}
	for g.Version > max(1, was.Version) {
		if g.Version == was.Version+1 && g.Prev != was.SHA256 || was.Version > 0 && len(all) > maxChain {
			return nil, refuse("chain", "version %d of %s does not descend from the version %d that was accepted", g.Version, g.Statement, was.Version).in(g.Dir)
		}
		before, err := read(g.Statement, g.Version-1, g.Prev)
		var e *Error
		if was.Version == 0 && (len(all) > maxChain || errors.As(err, &e) && e.beyond) {
			break
		}
		if err != nil {
			return nil, err
		}
		if before.Created.After(g.Created) {
			return nil, refuse("chain", "version %d of %s was created before version %d", g.Version, g.Statement, before.Version).in(g.Dir)
		}
		g = before
		all = append(all, g)
	}
	return all, nil
}

// readLock reads what the lock binds, unverified.
func (s *Set) readLock(lock *signed) error {
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
	return nil
}

// readCharter follows the charter from the pin, or the lock before, to the one that the lock binds. Each is accepted by the
// quorum of the one before and by its own.
func (l *loader) readCharter(s *Set) error {
	bound, from := s.Lock.Statements["charter"], max(1, l.pin.MinCharter)
	if l.charter != nil {
		from = l.charter.Version
	}
	if bound.Version < from || bound.Version > from+maxChain {
		e := refuse("rollback", "version %d of the lock binds version %d of the charter, and version %d is pinned or in force", s.Lock.Version, bound.Version, from).in("lock")
		e.beyond = l.charter == nil && bound.Version < from
		return e
	}
	for l.charter == nil || l.charter.Version < bound.Version {
		version := from
		if l.charter != nil {
			version = l.charter.Version + 1
		}
		g, err := l.open("charter", version, "")
		if err != nil {
			return err
		}
		switch {
		case l.charter == nil && hexSHA256(g.raw) != l.pin.CharterSHA256 && (l.pin.CharterSHA256 != "" || g.pinned(l.pin.RootKeys) < 2):
			return refuse("pin", "version %d of the charter has not the pinned hash, or is not signed by two of the pinned root keys", version).in(g.Dir)
		case l.charter != nil && (g.Prev != hexSHA256(l.charter.raw) || g.Created.Before(l.charter.Created)):
			return refuse("chain", "version %d of the charter does not descend from the one before", version).in(g.Dir)
		}
		if err := l.acceptCharter(g, s.Lock.Version <= l.pin.LastLock.Version); err != nil {
			return inDir(err, g.Dir)
		}
	}
	if hexSHA256(l.charter.raw) != bound.SHA256 {
		return refuse("lock", "the lock binds another version %d of the charter", bound.Version).in("lock")
	}
	if l.trusted.Demo && !l.pin.AllowDemo {
		return refuse("demo", "the charter says that this is a demo estate").in(l.charter.Dir)
	}
	s.Charter = *l.trusted
	return nil
}

// acceptCharter verifies a charter by the quorum before it, if any, and by its own. known is true for a charter that was in
// force here before.
func (l *loader) acceptCharter(g *signed, known bool) error {
	root := role{name: "root"}
	if l.trusted != nil {
		if lost := l.trusted.checkApprovers(&g.Manifest, g.signers(l.trusted), root); lost != nil {
			if err := l.recovered(g, lost, known); err != nil {
				return err
			}
		}
	}
	file := g.Dir + "/charter.yaml"
	c, d, err := parseCharter(file, g.Bytes["charter.yaml"])
	if err != nil {
		return err
	}
	if c.Estate != l.pin.Estate {
		return refuse("pin", "the charter is of the estate %q, not %q", c.Estate, l.pin.Estate).in(file)
	}
	by := g.signers(c)
	if err := c.checkAuthor(&g.Manifest, by); err != nil {
		return err
	}
	if err := c.checkApprovers(&g.Manifest, by, root); err != nil {
		return err
	}
	l.charter, l.trusted, l.parsed = g, c, d
	return nil
}

// inDir names the folder that a refusal is about.
func inDir(err error, dir string) error {
	var e *Error
	if errors.As(err, &e) {
		return e.in(dir)
	}
	return err
}

// readStatements reads everything that the lock binds besides the charter, and returns all statements.
func (l *loader) readStatements(s, before *Set) (map[string]*signed, error) {
	want := s.Charter.statements()
	for name := range s.Lock.Statements {
		if _, ok := want[name]; !ok {
			return nil, refuse("lock", "the lock binds %q, which this charter does not have", name).in("lock")
		}
	}
	delete(want, "charter")
	all, files := map[string]*signed{"charter": l.charter}, map[string]Files{"charter": l.charter.Files}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		bound, ok := s.Lock.Statements[name]
		if !ok {
			return nil, refuse("lock", "the lock does not bind %s", name).in("lock")
		}
		g, err := l.bound(name, bound)
		if err != nil {
			return nil, err
		}
		var was Locked
		if before != nil {
			was = before.Lock.Statements[name]
		}
		if err := l.accept(g, s, was, want[name]); err != nil {
			return nil, inDir(err, g.Dir)
		}
		all[name], files[name], s.Approvals[name] = g, g.Files, g.approvals
		if g.Expires.Before(s.Expires) {
			s.Expires = g.Expires
		}
	}
	return all, s.assemble(files, l.parsed, before)
}

// bound opens what a lock binds, once for all locks that bind it.
func (l *loader) bound(name string, b Locked) (g *signed, err error) {
	key := fmt.Sprintf("%s/%d %s", name, b.Version, b.SHA256)
	if g = l.known[key]; g == nil {
		if g, err = l.open(name, b.Version, b.SHA256); err == nil {
			l.known[key] = g
		}
	}
	return g, err
}

// accept checks one statement's history, times and signatures. was is the version that the lock before bound.
func (l *loader) accept(g *signed, s *Set, was Locked, r role) error {
	if g.Version != was.Version || hexSHA256(g.raw) != was.SHA256 {
		if _, err := l.history(g, was, l.manifest); err != nil {
			return err
		}
	}
	if g.Created.After(s.Lock.Created) {
		return refuse("lock", "%s was created after the lock that binds it", g.Statement)
	}
	if g.Created.After(l.charter.Expires) {
		return refuse("expired", "%s was created after the charter had expired", g.Statement)
	}
	if g.judge != l.charter { // else its signatures were verified under this charter for an older lock
		g.signers(l.trusted)
		g.judge = l.charter
	}
	by := l.trusted.by(g.approvals)
	if err := s.Charter.checkAuthor(&g.Manifest, by); err != nil {
		return err
	}
	return s.Charter.checkApprovers(&g.Manifest, by, r)
}
