package estate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

// Signed is one version of a statement, with what its signatures show.
type Signed struct {
	Version
	Approvals []statement.Approval `json:"approvals"` // signatures that hold, each under the newest charter that has its key
	Void      []string             `json:"void"`      // key ids of signatures that hold under no charter of the store
}

// By lists the keys whose signatures hold, and marks those whose do not.
func (s *Signed) By() string {
	var list []string
	for _, a := range s.Approvals {
		list = append(list, a.KeyID)
	}
	for _, id := range s.Void {
		list = append(list, id+" (void)")
	}
	return strings.Join(list, ", ")
}

// History is Log with the signatures verified. Keys are those of the charter in set and of the charters before it, of which each
// is vouched for by its successor.
func History(store statement.Store, set *statement.Set, name string) ([]Signed, error) {
	log, err := Log(store, name)
	if err != nil {
		return nil, err
	}
	charters, err := charters(store, set)
	if err != nil {
		return nil, err
	}
	var list []Signed
	for _, v := range log {
		one, err := signed(store, charters, v)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

// signed verifies the signatures of one version with the keys of the charters, the newest of which comes first.
func signed(store statement.Store, charters []*statement.Charter, v Version) (s Signed, err error) {
	dir := fmt.Sprintf("%s/%d/", v.Statement, v.Version)
	raw, err := store.ReadFile(dir + "manifest.json")
	if err != nil {
		return s, err
	}
	b, err := store.ReadFile(dir + "signatures.json")
	if err != nil {
		return s, err
	}
	sigs, err := statement.ParseSignatures(b)
	if err != nil {
		return s, err
	}
	s = Signed{Version: v, Approvals: []statement.Approval{}, Void: []string{}}
	seen := map[string]bool{}
	for _, c := range charters {
		for _, a := range c.Approvals(statement.PayloadType, raw, sigs) {
			if !seen[a.KeyID] {
				seen[a.KeyID], s.Approvals = true, append(s.Approvals, a)
			}
		}
	}
	for _, id := range v.Keys {
		if !seen[id] && !slices.Contains(s.Void, id) {
			s.Void = append(s.Void, id)
		}
	}
	return s, nil
}

// charters are the set's charter and those before it, the newest first, as far as the store reaches back. One that this release no
// longer reads is left out.
func charters(store statement.Store, set *statement.Set) ([]*statement.Charter, error) {
	list := []*statement.Charter{&set.Charter}
	bound := set.Lock.Statements["charter"]
	for v, want := bound.Version, bound.SHA256; v > 0; v-- {
		dir := fmt.Sprintf("charter/%d/", v)
		raw, err := store.ReadFile(dir + "manifest.json")
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if hash(raw) != want {
			return nil, fmt.Errorf("%smanifest.json is not what the charter after it names as its predecessor", dir)
		}
		var m statement.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("%smanifest.json: %w", dir, err)
		}
		want = m.Prev
		if v == bound.Version {
			continue
		}
		b, err := store.ReadFile(dir + "charter.yaml")
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(m.Files, func(f statement.File) bool { return f.Path == "charter.yaml" }); i < 0 || m.Files[i].SHA256 != hash(b) {
			return nil, fmt.Errorf("%scharter.yaml is not the file that was signed", dir)
		}
		if c, err := statement.ParseCharter(dir+"charter.yaml", b); err == nil {
			list = append(list, c)
		}
	}
	return list, nil
}
