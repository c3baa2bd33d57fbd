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
type Journal struct{ links []*link }

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
		if err := l.foreign(components(span, l.Recorded)); err != nil {
			return err
		}
	}
	return nil
}

// foreign refuses a record about a component of this estate that the statements do not name, and one that takes its name for another.
func (l *link) foreign(own []Component) error {
	named := false
	for _, c := range own {
		if c.ID != l.Said.ID {
			continue
		}
		if named = true; c.Kind != l.Said.Kind {
			return refuse(ErrRecord, &l.Record, "%s is the name of the %s of this estate: take another for a %s", c.ID, c.Kind, l.Said.Kind)
		}
	}
	if l.Said.Kind.Own() && !named {
		return refuse(ErrRecord, &l.Record, "the signed statements have no %s %s", l.Said.Kind, l.Said.ID)
	}
	return nil
}

// Anchor tells the journal what ledgers have of it: the time of each anchored record, by Sum of its file. The error is ErrMissing when they have one that it lacks.
func (j *Journal) Anchor(entered map[string]time.Time) error {
	have := 0
	for _, l := range j.links {
		if t, ok := entered[l.sum]; ok {
			l.anchored = t
			have++
		}
	}
	if have < len(entered) {
		return fmt.Errorf("%w: %d of the %d that are anchored are not in it; restore %s/ from another copy of the store", ErrMissing, len(entered)-have, len(entered), Folder)
	}
	return nil
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
