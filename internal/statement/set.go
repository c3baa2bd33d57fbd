// Package statement parses and verifies what an estate's owners have signed: the charter, each unit's policy and custody,
// the operations statement and the lock that binds one version of each.
package statement

import (
	"crypto/sha256"
	"maps"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Set is one verified version of an estate. It is immutable: a new version is a new Set.
type Set struct {
	Charter    Charter
	Policies   map[string]*PolicyStatement  // by unit id
	Cedar      map[string]map[string][]byte // by unit id and file name
	Forbids    map[string][]byte            // the charter's Cedar, by file name
	Custody    map[string]*CustodyStatement // by unit id
	Operations Operations
	Lock       Lock
	LockHash   [sha256.Size]byte     // of the lock's manifest: the "estate" field of ledger entries
	Approvals  map[string][]Approval // who signed what is in force, and how, by statement
	Expires    time.Time             // the set is not used from here on: the first expiry of the lock and what it binds, the charter not counted

	// Since is the lowest lock version from which on every change was held against the set before it. What older versions
	// changed is not in the store; it was taken on its statements' approvers alone.
	Since int64

	index *index
	docs  map[string]*document // by statement, while the set is being verified
}

// Files are the files of one statement, by name, and the folder they are in.
type Files struct {
	Dir   string
	Bytes map[string][]byte
}

// Check parses the files of all statements of an estate and holds them against each other, as Load does after it has
// verified them. It verifies no signature and the set has no lock: it is for those who write an estate.
func Check(files map[string]Files) (*Set, error) {
	f := files["charter"]
	c, d, err := parseCharter(path.Join(f.Dir, "charter.yaml"), f.Bytes["charter.yaml"])
	if err != nil {
		return nil, err
	}
	s := &Set{Charter: *c}
	if err := s.assemble(files, d, nil); err != nil {
		return nil, err
	}
	s.docs = nil
	return s, nil
}

// assemble parses what the charter wants besides itself, checks it, and indexes the set. What the lock of the set before binds too was
// parsed for that one. It is checked again, but for custody under the same charter: it is checked against nothing else.
func (s *Set) assemble(files map[string]Files, charter *document, before *Set) (err error) {
	c := &s.Charter
	s.docs = map[string]*document{"charter": charter}
	s.Policies, s.Cedar, s.Custody = map[string]*PolicyStatement{}, map[string]map[string][]byte{}, map[string]*CustodyStatement{}
	if charter.cedar(c.Cedar, files["charter"].Bytes); charter.err != nil {
		return charter.err
	}
	s.Forbids = maps.Clone(files["charter"].Bytes)
	delete(s.Forbids, "charter.yaml")
	readings := s.read(files, before)
	for _, u := range c.Units {
		cu, d, err := take[CustodyStatement](s, readings, "custody-"+u.ID)
		if err == nil && (before == nil || before.Custody[u.ID] != cu || before.Lock.Statements["charter"] != s.Lock.Statements["charter"]) {
			err = checkCustody(cu, u.ID, c, d)
		}
		if err != nil {
			return err
		}
		s.Custody[u.ID] = cu
	}
	for _, u := range c.Units {
		f := files["policy-"+u.ID].Bytes
		p, d, err := take[PolicyStatement](s, readings, "policy-"+u.ID)
		if err == nil {
			err = checkPolicy(p, u.ID, f, s.Custody, c, d)
		}
		if err != nil {
			return err
		}
		s.Policies[u.ID], s.Cedar[u.ID] = p, maps.Clone(f)
		delete(s.Cedar[u.ID], "policy.yaml")
	}
	o, d, err := take[Operations](s, readings, "operations")
	if err == nil {
		err = checkOperations(o, c, s.Custody, d)
	}
	if err != nil {
		return err
	}
	s.Operations = *o
	s.index, err = newIndex(s)
	return err
}

// reading is a statement's file, parsed or refused.
type reading struct {
	d   *document
	err error
}

// read parses the files of all statements but the charter, side by side, unless the lock of the set before, if there is one, binds the same version.
func (s *Set) read(files map[string]Files, before *Set) map[string]*reading {
	into := map[string]any{"operations": new(Operations)}
	for _, u := range s.Charter.Units {
		into["custody-"+u.ID], into["policy-"+u.ID] = new(CustodyStatement), new(PolicyStatement)
	}
	all := map[string]*reading{}
	var parsing sync.WaitGroup
	turn := make(chan struct{}, runtime.GOMAXPROCS(0))
	for name, v := range into {
		r := new(reading)
		all[name] = r
		f, ok := files[name]
		if !ok {
			r.err = refuse("missing", "the charter has %s, and there are no files for it", name)
			continue
		}
		if before != nil && before.docs[name] != nil && before.Lock.Statements[name] == s.Lock.Statements[name] {
			r.d = before.docs[name]
			continue
		}
		file, _ := mainFile(name)
		turn <- struct{}{}
		parsing.Go(func() {
			r.d, r.err = parse(path.Join(f.Dir, file), f.Bytes[file], v)
			<-turn
		})
	}
	parsing.Wait()
	return all
}

// take is what was read of a statement.
func take[T any](s *Set, all map[string]*reading, name string) (*T, *document, error) {
	r := all[name]
	if r.err != nil {
		return nil, nil, r.err
	}
	s.docs[name] = r.d
	return r.d.value.(*T), r.d, nil
}

// Without returns the set as if these people had left long ago: nothing that they signed opens anything, their deputies act for
// them, and what has no deputy is orphaned. Without anybody of them it returns the set itself.
func (s *Set) Without(people ...string) *Set {
	n := *s
	n.Charter.People, n.Charter.people = slices.Clone(s.Charter.People), map[string]*Person{}
	gone := false
	for i := range n.Charter.People {
		p := &n.Charter.People[i]
		if slices.Contains(people, p.ID) {
			p.Left, gone = time.Unix(0, 0), true
		}
		n.Charter.people[p.ID] = p
	}
	if !gone {
		return s
	}
	return &n
}
