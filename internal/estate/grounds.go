package estate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrNoLock means that a store does not have the lock that is asked about.
var ErrNoLock = errors.New("the store has no lock of that hash")

// Grounds are what decisions under one lock rest on: the versions that it binds, who signed them, and the policies' own words.
type Grounds struct {
	Lock       Signed       `json:"lock"`
	Statements []Signed     `json:"statements"` // sorted by name
	Policies   []PolicyText `json:"policies"`
}

// PolicyText is one policy as it was signed.
type PolicyText struct {
	ID        string `json:"id"`
	Statement string `json:"statement"`
	Version   int64  `json:"version"`
	Line      int    `json:"line"` // in its file
	Text      string `json:"text"` // Cedar
}

// Grounds finds, in the signed store, the lock with the hash (hex, of its manifest), what it binds for the units that are named
// (charter and operations besides), and the policies with the ids. Signatures are verified under the charters of set, which is
// the set in force, and of those before it. The error is an ErrNoLock when the store does not reach back to that lock.
func (d Dir) Grounds(set *statement.Set, lock string, units, policies []string) (*Grounds, error) {
	store := d.Store()
	locks, err := History(store, set, "lock")
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(locks, func(s Signed) bool { return s.SHA256 == lock })
	if at < 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoLock, lock)
	}
	g := &Grounds{Lock: locks[at], Statements: []Signed{}, Policies: []PolicyText{}}
	var bound statement.Lock
	raw, err := signedFile(store, g.Lock.Version, "estate.lock")
	if err == nil {
		err = json.Unmarshal(raw, &bound)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(bound.Statements)) {
		if _, unit, ofUnit := strings.Cut(name, "-"); ofUnit && !slices.Contains(units, unit) {
			continue
		}
		versions, err := History(store, set, name)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(versions, func(s Signed) bool { return s.SHA256 == bound.Statements[name].SHA256 })
		if i < 0 {
			return nil, fmt.Errorf("the store has not version %d of %s, which the lock binds", bound.Statements[name].Version, name)
		}
		g.Statements = append(g.Statements, versions[i])
	}
	for _, id := range policies {
		text, err := g.policy(store, id)
		if err != nil {
			return nil, err
		}
		g.Policies = append(g.Policies, text)
	}
	return g, nil
}

// policy reads one policy from the version of its statement that the lock binds.
func (g *Grounds) policy(store statement.Store, id string) (t PolicyText, err error) {
	t = PolicyText{ID: id, Statement: "charter"}
	unit, file, _ := strings.Cut(id, "/")
	if unit != "*" {
		t.Statement = "policy-" + unit
	}
	file, _, _ = strings.Cut(file, "#")
	i := slices.IndexFunc(g.Statements, func(s Signed) bool { return s.Statement == t.Statement })
	if i < 0 {
		return t, fmt.Errorf("the policy %s is of no statement that the lock binds for these units", id)
	}
	t.Version = g.Statements[i].Version.Version
	raw, err := signedFile(store, g.Statements[i].Version, file)
	if err != nil {
		return t, err
	}
	t.Text, t.Line, err = reach.Text(unit+"/"+file, raw, id)
	return t, err
}

// signedFile reads a file of a version whose manifest was found to be the one that is bound, and holds it against the manifest.
func signedFile(store statement.Store, v Version, file string) ([]byte, error) {
	dir := fmt.Sprintf("%s/%d/", v.Statement, v.Version)
	raw, err := store.ReadFile(dir + "manifest.json")
	if err != nil {
		return nil, err
	}
	var m statement.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%smanifest.json: %w", dir, err)
	}
	b, err := store.ReadFile(dir + file)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(m.Files, func(f statement.File) bool { return f.Path == file })
	if hash(raw) != v.SHA256 || i < 0 || m.Files[i].SHA256 != hash(b) {
		return nil, fmt.Errorf("%s%s is not the file that was signed", dir, file)
	}
	return b, nil
}
