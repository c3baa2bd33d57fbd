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
	"time"
)

// EvidenceDir is the folder of an estate's directory in which evidence lies: NAME.json, each an Evidence.
const EvidenceDir = "evidence"

const (
	maxDocument  = 16 << 20 // bytes of one document
	maxDocuments = 1 << 14  // in a folder
)

// Voucher is who vouches for a document of evidence.
type Voucher struct {
	Record   string    // hex SHA-256 of the record, as an authority's ledger has it
	By       []string  // people who signed it
	Made     time.Time // when a ledger had it; the signers' word while none has
	Anchored bool      // a ledger has it
	Two      bool      // two of those who signed hold two owner roles
}

// late is how much later than the record what a document says may be dated.
const late = 10 * time.Minute

// ParseEvidence reads one document. It refuses members that it does not know, and what follows the document.
func ParseEvidence(b []byte) (*Evidence, error) {
	e := new(Evidence)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return e, nil
}

// ReadEvidence reads every document of a folder, as one. A folder that is not there has none. open says who vouches for a document, by its bytes
// and its name without ".json": what nobody vouches for does not count, and is named in refused.
func ReadEvidence(folder fs.FS, open func(name string, document []byte) (Voucher, error)) (all *Evidence, refused []string, err error) {
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
		e, err := ParseEvidence(b)
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s is not evidence: %v", f.Name(), err))
			continue
		}
		v, err := open(name, b)
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", f.Name(), err))
			continue
		}
		refused = append(refused, all.Take(f.Name(), e, v)...)
	}
	return all, refused, nil
}

// Take adds what a document has that somebody vouches for. What is dated after the record was made does not count, nor does an exemption that its
// approver did not sign or that has no end: those are in refused, a sentence each.
func (e *Evidence) Take(name string, o *Evidence, v Voucher) (refused []string) {
	o.sift(func(what string, record *string, at time.Time) bool {
		if *record = v.Record; at.After(v.Made.Add(late)) {
			refused = append(refused, fmt.Sprintf("%s: the %s is dated %s, after the record that vouches for it (%s)", name, what, at.UTC().Format(time.RFC3339), v.Made.UTC().Format(time.RFC3339)))
			return false
		}
		return true
	})
	o.Exemptions = slices.DeleteFunc(o.Exemptions, func(x Exemption) bool {
		bad := !slices.Contains(v.By, x.Approver) || !x.Until.After(x.From)
		if bad {
			refused = append(refused, fmt.Sprintf("%s: the exemption from %s is not signed by its approver %s, or has no end", name, x.Control, x.Approver))
		}
		return bad
	})
	if len(o.Incidents) > 0 && !v.Two {
		refused, o.Incidents = append(refused, name+": how an incident went takes two people of two roles, as its steps do"), nil
	}
	e.add(o)
	return refused
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

// sift keeps of everything what keep says, by what it is, its record, and when it happened; an exemption may begin later.
func (e *Evidence) sift(keep func(what string, record *string, at time.Time) bool) {
	e.Drills = sifted(e.Drills, func(d *Drill) bool { return keep("drill of "+d.Scenario, &d.Record, d.Time) })
	e.Reconciliations = sifted(e.Reconciliations, func(r *Reconciliation) bool { return keep("comparison of "+r.Credential, &r.Record, r.To) })
	e.Discoveries = sifted(e.Discoveries, func(d *Discovery) bool { return keep("search of "+d.Where, &d.Record, d.Time) })
	e.Stores = sifted(e.Stores, func(s *Store) bool { return keep("look at the store of "+s.Credential, &s.Record, s.Time) })
	e.Exemptions = sifted(e.Exemptions, func(x *Exemption) bool { return keep("exemption from "+x.Control, &x.Record, time.Time{}) })
	e.Incidents = sifted(e.Incidents, func(i *Incident) bool { return keep("course of "+i.ID, &i.Record, i.AsOf) })
}

func sifted[T any](list []T, keep func(*T) bool) (kept []T) {
	for i := range list {
		if keep(&list[i]) {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// add takes what another document has.
func (e *Evidence) add(o *Evidence) {
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
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return b, os.WriteFile(filepath.Join(folder, name+".json"), b, 0o640)
}

// records are the records that vouch for what is there, each once, in the order of their hashes.
func (e *Evidence) records() (list []string) {
	e.sift(func(_ string, record *string, _ time.Time) bool {
		if *record != "" {
			list = append(list, *record)
		}
		return true
	})
	slices.Sort(list)
	return slices.Compact(list)
}
