package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EvidenceDir is the folder of an estate's directory in which evidence lies: NAME.json, each an Evidence.
const EvidenceDir = "evidence"

const (
	maxDocument  = 16 << 20 // bytes of one document
	maxDocuments = 1 << 14  // in a folder
)

// ReadEvidence reads every document of a folder, as one. A folder that is not there has none. open says who vouches for a document, by its bytes
// and its name without ".json": exemptions that no person vouches for do not count, and are named in refused.
func ReadEvidence(folder fs.FS, open func(name string, document []byte) (record string, by []string, err error)) (all *Evidence, refused []string, err error) {
	all = new(Evidence)
	files, err := fs.ReadDir(folder, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	if len(files) > maxDocuments {
		return nil, nil, fmt.Errorf("the folder of evidence has more than %d names", maxDocuments)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || !f.Type().IsRegular() {
			continue
		}
		b, err := readDocument(folder, f.Name())
		if err != nil {
			return nil, nil, err
		}
		var e Evidence
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			refused = append(refused, fmt.Sprintf("%s is not evidence: %v", f.Name(), err))
			continue
		}
		record, by, err := open(name, b)
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", f.Name(), err))
			continue
		}
		e.name(record)
		e.Exemptions = slices.DeleteFunc(e.Exemptions, func(x Exemption) bool {
			bad := !slices.Contains(by, x.Approver) || !x.Until.After(x.From)
			if bad {
				refused = append(refused, fmt.Sprintf("%s: the exemption from %s is not signed by its approver %s, or has no end", f.Name(), x.Control, x.Approver))
			}
			return bad
		})
		all.Add(&e)
	}
	return all, refused, nil
}

func readDocument(folder fs.FS, name string) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = fmt.Errorf("%s has more than %d bytes", name, maxDocument)
	}
	return b, err
}

// name gives everything the record that vouches for its document.
func (e *Evidence) name(record string) {
	for i := range e.Drills {
		e.Drills[i].Record = record
	}
	for i := range e.Reconciliations {
		e.Reconciliations[i].Record = record
	}
	for i := range e.Discoveries {
		e.Discoveries[i].Record = record
	}
	for i := range e.Stores {
		e.Stores[i].Record = record
	}
	for i := range e.Exemptions {
		e.Exemptions[i].Record = record
	}
	for i := range e.Incidents {
		e.Incidents[i].Record = record
	}
}

// Add takes what another document has.
func (e *Evidence) Add(o *Evidence) {
	e.Drills = append(e.Drills, o.Drills...)
	e.Reconciliations = append(e.Reconciliations, o.Reconciliations...)
	e.Discoveries = append(e.Discoveries, o.Discoveries...)
	e.Stores = append(e.Stores, o.Stores...)
	e.Exemptions = append(e.Exemptions, o.Exemptions...)
	e.Incidents = append(e.Incidents, o.Incidents...)
}

// Write writes a document into the folder of an estate's directory, and returns its bytes: what a record of kind evidence names by their SHA-256.
func (e *Evidence) Write(dir, name string) ([]byte, error) {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, EvidenceDir)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return b, os.WriteFile(filepath.Join(folder, name+".json"), b, 0o644)
}

// records are the records that vouch for what is there, each once, in the order of their hashes.
func (e *Evidence) records() (list []string) {
	for _, d := range e.Drills {
		list = append(list, d.Record)
	}
	for _, r := range e.Reconciliations {
		list = append(list, r.Record)
	}
	for _, d := range e.Discoveries {
		list = append(list, d.Record)
	}
	for _, s := range e.Stores {
		list = append(list, s.Record)
	}
	for _, x := range e.Exemptions {
		list = append(list, x.Record)
	}
	for _, i := range e.Incidents {
		list = append(list, i.Record)
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(r string) bool { return r == "" })
}
