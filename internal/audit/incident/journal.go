package incident

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/statement"
)

// Journals are the journals of an estate: a file ID.jsonl each, a step a line.
type Journals struct {
	Dir     string // estate directory's incidents
	History *history.History
}

// In is where an estate's journals lie.
func In(d estate.Dir, h *history.History) Journals {
	return Journals{Dir: filepath.Join(string(d), "incidents"), History: h}
}

// Journal is one incident's, verified.
type Journal struct {
	ID    string   `json:"id"`
	Steps []Signed `json:"steps"` // those that hold
	// Broken says why the journal holds no further; empty when it does.
	Broken string `json:"broken,omitempty"`
}

// Opened is the first step.
func (j *Journal) Opened() *Signed { return &j.Steps[0] }

// Closed is the step that closed it, or nil.
func (j *Journal) Closed() *Signed {
	if i := slices.IndexFunc(j.Steps, func(s Signed) bool { return s.Kind == KindClose }); i >= 0 {
		return &j.Steps[i]
	}
	return nil
}

// Course is how the incident went, as far as its journal says: its first report names everybody accountable.
func (j *Journal) Course() control.Incident {
	c := control.Incident{ID: j.ID, Opened: j.Opened().Time}
	for _, s := range j.Steps {
		if s.Kind == KindReport && c.Attributed.IsZero() {
			c.Attributed = s.Time
		}
	}
	if s := j.Closed(); s != nil {
		c.Closed = s.Time
	}
	return c
}

// last is the newest step, or nil.
func (j *Journal) last() *Signed {
	if len(j.Steps) == 0 {
		return nil
	}
	return &j.Steps[len(j.Steps)-1]
}

// List is the ids of all incidents, sorted.
func (all Journals) List() (ids []string, err error) {
	files, err := os.ReadDir(all.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range files {
		if id, ok := strings.CutSuffix(f.Name(), ".jsonl"); ok && idForm.MatchString(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Next is an id for an incident opened at t.
func (all Journals) Next(t time.Time) (string, error) {
	ids, err := all.List()
	for n := 1; ; n++ {
		if id := fmt.Sprintf("inc-%s-%d", t.UTC().Format("20060102"), n); !slices.Contains(ids, id) {
			return id, err
		}
	}
}

func (all Journals) file(id string) string { return filepath.Join(all.Dir, id+".jsonl") }

// Read reads and verifies a journal. What is broken is in the journal; the error is that there is none, or that it cannot be read.
func (all Journals) Read(id string) (*Journal, error) {
	if !idForm.MatchString(id) {
		return nil, bad("%q is no incident's id", id)
	}
	b, err := os.ReadFile(all.file(id))
	if err != nil {
		return nil, err
	}
	j := &Journal{ID: id, Steps: []Signed{}}
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			j.Broken = fmt.Sprintf("after step %d: the line is not whole", len(j.Steps))
			break
		}
		s, err := all.verify(id, line, j)
		if err != nil {
			j.Broken = fmt.Sprintf("after step %d: %v", len(j.Steps), err)
			break
		}
		j.Steps, b = append(j.Steps, *s), rest
	}
	if len(j.Steps) == 0 && j.Broken == "" {
		j.Broken = "the journal is empty"
	}
	return j, nil
}

// verify verifies the step in a line that follows those of the journal.
func (all Journals) verify(id string, line []byte, j *Journal) (*Signed, error) {
	s, err := parse(line)
	if err != nil {
		return nil, err
	}
	if s.Incident != id {
		return nil, bad("it is of the incident %s", s.Incident)
	}
	if err := s.follows(j.last(), j.Closed() != nil); err != nil {
		return nil, err
	}
	span, err := all.History.At(s.Time)
	if err != nil {
		return nil, err
	}
	return s, s.signed(span.Set)
}

// Pending is a step that waits for its second signature, in a file below the journals.
type Pending struct {
	Name string // incident/ID-N, for reeve approve
	By   []string
	Step *Step
}

func (p *Pending) Error() string {
	return fmt.Sprintf("the step is signed by %s and waits for a second person, of another role: reeve approve %s --as PERSON", strings.Join(p.By, ", "), p.Name)
}

func (all Journals) pending(name string) string {
	return filepath.Join(all.Dir, ".pending", strings.TrimPrefix(name, "incident/")+".json")
}

// Waits reports whether a step waits under that name.
func (all Journals) Waits(name string) bool {
	_, err := os.Stat(all.pending(name))
	return strings.HasPrefix(name, "incident/") && !strings.Contains(name, "..") && err == nil
}

// Append signs the next step of an incident, of which everything but estate, number, chain and time is given, and appends it. With one signer it is
// put aside: the error is a *Pending. A journal that is broken takes no step.
func (all Journals) Append(s Step, now time.Time, by ...*estate.Signer) (*Signed, error) {
	j, err := all.Read(s.Incident)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.Kind == KindOpen:
		j = &Journal{ID: s.Incident}
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no incident %s: reeve incident list shows all", s.Incident)
	case err != nil:
		return nil, err
	case j.Broken != "":
		return nil, bad("the journal of %s was changed (%s): nothing is appended to it", s.Incident, j.Broken)
	}
	s.Estate, s.Number, s.Time, s.Author = all.History.Newest().Charter.Estate, 1, now.UTC().Truncate(time.Microsecond), by[0].Person
	if last := j.last(); last != nil {
		s.Number, s.Prev = last.Number+1, last.Hash
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	env, err := estate.Seal("incident", s, by...)
	if err != nil {
		return nil, err
	}
	proof, err := evidence.Seal(all.History.Newest().Set, evidence.Incident, s.Subject(), env.Payload, s.Time, by...)
	if err != nil {
		return nil, err
	}
	return all.take(j, fmt.Sprintf("incident/%s-%d", s.Incident, s.Number), &waiting{env, proof}, false)
}

// waiting is a step that waits for a signature, and the evidence of it: whoever signs the one signs the other.
type waiting struct {
	Step     *statement.Envelope `json:"step"`
	Evidence *statement.Envelope `json:"evidence"`
}

// Approve adds a signature to a step that waits, and appends it.
func (all Journals) Approve(name string, show func(*Step) error, by *estate.Signer) (*Signed, error) {
	b, err := os.ReadFile(all.pending(name))
	if err != nil {
		return nil, err
	}
	w, s, err := parseWaiting(b)
	if err != nil {
		return nil, err
	}
	if err := show(&s.Step); err != nil {
		return nil, err
	}
	if err := errors.Join(estate.Countersign(w.Step, by), estate.Countersign(w.Evidence, by)); err != nil {
		return nil, err
	}
	j, err := all.Read(s.Incident)
	if errors.Is(err, fs.ErrNotExist) {
		j, err = &Journal{ID: s.Incident}, nil
	}
	if err != nil {
		return nil, err
	}
	return all.take(j, name, w, true)
}

// parseWaiting reads a step that waits. Its evidence is of nothing else.
func parseWaiting(b []byte) (*waiting, *Signed, error) {
	w := new(waiting)
	if err := json.Unmarshal(b, w); err != nil || w.Step == nil || w.Evidence == nil {
		return nil, nil, bad("what waits is no step with its evidence")
	}
	line, err := statement.Canonical(w.Step)
	if err != nil {
		return nil, nil, err
	}
	s, err := parse(line)
	if err != nil {
		return nil, nil, err
	}
	e, err := statement.ReadEvidence(w.Evidence)
	if err != nil {
		return nil, nil, err
	}
	if e.Kind != evidence.Incident || e.Subject != s.Subject() || e.SHA256 != s.Sum() || e.Estate != s.Estate {
		return nil, nil, bad("the evidence that waits with step %d is of something else: remove it", s.Number)
	}
	return w, s, nil
}

// take appends a step that holds, or puts it aside for want of a signature. waited is that it was aside before.
func (all Journals) take(j *Journal, name string, w *waiting, waited bool) (*Signed, error) {
	env := w.Step
	line, err := statement.Canonical(env)
	if err != nil {
		return nil, err
	}
	s, err := all.verify(j.ID, line, j)
	if err != nil && estate.Unsigned(err) {
		if !waited && all.Waits(name) {
			return nil, fmt.Errorf("another step waits for a signature as %s: have it approved first, or remove %s", name, all.pending(name))
		}
		p := &Pending{Name: name, Step: &s.Step}
		for _, a := range all.History.Newest().Charter.Approvals(env.PayloadType, env.Payload, env.Signatures) {
			p.By = append(p.By, a.Person)
		}
		both, err := json.Marshal(w)
		if err == nil {
			err = durable.Replace(all.pending(name), both, 0o640)
		}
		if err != nil {
			return nil, err
		}
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	s.Evidence = w.Evidence
	var text []byte
	for _, old := range j.Steps {
		text = append(append(text, old.Line...), '\n')
	}
	put := durable.Replace
	if s.Number == 1 {
		if err := os.MkdirAll(all.Dir, 0o750); err != nil {
			return nil, err
		}
		put = durable.Create
	}
	err = put(all.file(j.ID), append(append(text, line...), '\n'), 0o640)
	if err != nil {
		return nil, fmt.Errorf("appending to the journal of %s: %w", j.ID, err)
	}
	if waited {
		err = os.Remove(all.pending(name))
	}
	return s, err
}

// HashOf names a report by its JSON.
func HashOf(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
