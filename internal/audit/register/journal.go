package register

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/statement"
)

// Folder is where the journal lies in a signed store: a DSSE envelope as RFC 8785 JSON in each file, "00000001.json" and on. It only grows.
const Folder = "register"

// Journal is the records of a register, verified. A nil Journal has none.
type Journal struct {
	links []*link
	lacks error // ErrMissing, once Anchor has found it
}

// fileName is the file of a record.
func fileName(number int64) string { return fmt.Sprintf("%08d.json", number) }

// Parse reads a journal's files, the oldest first, and checks their chain. It verifies no signature: the records count once Verify has taken them. The
// error is ErrRecord or ErrChain.
func Parse(files ...[]byte) (*Journal, error) {
	j := new(Journal)
	for _, f := range files {
		if err := j.add(f); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func (j *Journal) add(file []byte) error {
	var before *link
	if n := len(j.links); n > 0 {
		before = j.links[n-1]
	}
	l, err := parse(file, before)
	if err == nil {
		j.links = append(j.links, l)
	}
	return err
}

// Open reads and verifies the journal of a signed store. A store without one has an empty journal.
func Open(store statement.Store, h *history.History, now time.Time) (*Journal, error) {
	j := new(Journal)
	names, err := store.ReadDir(Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the register: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		if strings.HasPrefix(n, ".") {
			continue // being written
		}
		if want := fileName(int64(j.Len()) + 1); n != want {
			return nil, fmt.Errorf("%w: %s/%s is there where %s should be; restore the folder from another copy of the store", ErrChain, Folder, n, want)
		}
		file, err := store.ReadFile(Folder + "/" + n)
		if err == nil {
			err = j.add(file)
		}
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", Folder, n, err)
		}
	}
	return j, j.Verify(h, now)
}

// Verify judges each record by the set that was in force when it was made. The error is ErrSigner or ErrRecord.
func (j *Journal) Verify(h *history.History, now time.Time) error {
	for _, l := range j.links {
		span, err := h.At(l.Recorded)
		if err != nil {
			return refuse(ErrSigner, &l.Record, "who was entitled to it cannot be known: %v", err)
		}
		if err := l.verify(span.Set, now); err != nil {
			return err
		}
		if err := l.foreign(KindOf(span.Set, l.Said.ID, l.Recorded)); err != nil {
			return err
		}
	}
	return nil
}

// foreign refuses a record about a component of this estate that the statements do not name, and one that takes its name for another. own is the kind
// of the estate's component of that id, or empty.
func (l *link) foreign(own Kind) error {
	switch {
	case own == l.Said.Kind, own == "" && !l.Said.Kind.Own():
		return nil
	case own == "":
		return refuse(ErrRecord, &l.Record, "the signed statements have no %s %s", l.Said.Kind, l.Said.ID)
	}
	return refuse(ErrRecord, &l.Record, "%s is the name of the %s of this estate: take another for a %s", l.Said.ID, own, l.Said.Kind)
}

// Entered is evidence of a record that a ledger has.
type Entered struct {
	Evidence string        // hex SHA-256 of the evidence record
	Document string        // hex, its document: Sum of a file of the journal; empty when the signed store has no such evidence
	By       []string      // who signed the evidence
	Time     time.Time     // of the entry
	Span     *history.Span // in force then
}

// Anchor tells the journal what ledgers have of it. Evidence that nobody entitled to records signed counts for what the journal has, and for nothing else: who
// could enter what is not there would have every reader doubt it.
func (j *Journal) Anchor(list []Entered) {
	links := map[string]*link{}
	for _, l := range j.links {
		links[l.sum] = l
	}
	var missing []string
	for _, e := range list {
		if l := links[e.Document]; l != nil {
			if l.anchored.IsZero() || e.Time.Before(l.anchored) {
				l.anchored = e.Time
			}
			continue
		}
		if slices.ContainsFunc(e.By, func(p string) bool { return Entitled(&e.Span.Charter, p, e.Time) }) {
			missing = append(missing, fmt.Sprintf("%.16s, which %s signed, entered at %s", e.Evidence, strings.Join(e.By, " and "), e.Time.Format(time.RFC3339)))
		}
	}
	if len(missing) > 0 {
		j.lacks = fmt.Errorf("%w: %d of them, by evidence %s; get a newer copy of the signed store, or restore %s/ from one", ErrMissing, len(missing), strings.Join(missing, "; "), Folder)
	}
}

// at is what was said of each component for the time valid, by those who had said it by recorded (zero for now): the last of the records that begin
// by then. One that has ended then says that there is no such component.
func (j *Journal) at(valid, recorded time.Time) (list []Component) {
	if j == nil {
		return nil
	}
	last := map[string]*link{}
	var order []string
	for _, l := range j.links {
		if l.Said.Valid.After(valid) || !recorded.IsZero() && l.known().After(recorded) {
			continue
		}
		if last[l.Said.ID] == nil {
			order = append(order, l.Said.ID)
		}
		last[l.Said.ID] = l
	}
	for _, id := range order {
		if l := last[id]; l.Said.Until.IsZero() || valid.Before(l.Said.Until) {
			list = append(list, l.component())
		}
	}
	return list
}

// Last is the newest record of a component, or nil.
func (j *Journal) Last(id string) (last *Record) {
	for _, l := range j.links {
		if l.Said.ID == id {
			last = &l.Record
		}
	}
	return last
}

// Len is how many records there are.
func (j *Journal) Len() int { return len(j.links) }
