package incident

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
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

// Lost is the ids of incidents that evidence in the signed store is of and that have no journal any more, sorted.
func (all Journals) Lost(kept []evidence.Kept) (ids []string, err error) {
	have, err := all.List()
	for _, k := range kept {
		id, _, _ := strings.Cut(k.Subject, " ")
		if k.Kind == evidence.Incident && idForm.MatchString(id) && !slices.Contains(have, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
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
	return all.take(j, fmt.Sprintf("incident/%s-%d", s.Incident, s.Number), env, false)
}

// Approve adds a signature to a step that waits, and appends it.
func (all Journals) Approve(name string, show func(*Step) error, by *estate.Signer) (*Signed, error) {
	b, err := os.ReadFile(all.pending(name))
	if err != nil {
		return nil, err
	}
	s, err := parse(b)
	if err != nil {
		return nil, err
	}
	if err := show(&s.Step); err != nil {
		return nil, err
	}
	if err := estate.Countersign(s.Env, by); err != nil {
		return nil, err
	}
	j, err := all.Read(s.Incident)
	if errors.Is(err, fs.ErrNotExist) {
		j, err = &Journal{ID: s.Incident}, nil
	}
	if err != nil {
		return nil, err
	}
	return all.take(j, name, s.Env, true)
}

// take appends a step that holds, or puts it aside for want of a signature. waited is that it was aside before.
func (all Journals) take(j *Journal, name string, env *statement.Envelope, waited bool) (*Signed, error) {
	line, err := statement.Canonical(env)
	if err != nil {
		return nil, err
	}
	s, err := all.verify(j.ID, line, j)
	if err != nil && estate.Unsigned(err) {
		if !waited && all.Waits(name) {
			return nil, fmt.Errorf("another step waits for a signature as %s: have it approved first, or remove %s", name, all.pending(name))
		}
		p := &Pending{Name: name}
		for _, a := range all.History.Newest().Charter.Approvals(env.PayloadType, env.Payload, env.Signatures) {
			p.By = append(p.By, a.Person)
		}
		if err := durable.Replace(all.pending(name), line, 0o644); err != nil {
			return nil, err
		}
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, old := range j.Steps {
		text = append(append(text, old.Line...), '\n')
	}
	put := durable.Replace
	if s.Number == 1 {
		if err := os.MkdirAll(all.Dir, 0o755); err != nil {
			return nil, err
		}
		put = durable.Create
	}
	err = put(all.file(j.ID), append(append(text, line...), '\n'), 0o644)
	if err != nil {
		return nil, fmt.Errorf("appending to the journal of %s: %w", j.ID, err)
	}
	if waited {
		err = os.Remove(all.pending(name))
	}
	return s, err
}

// Subject is what the evidence of a step says that it is about.
func (s *Step) Subject() string { return fmt.Sprintf("%s %d", s.Incident, s.Number) }

// Anchor is a step's entry in the authority's ledger.
type Anchor struct {
	Record string      `json:"record"` // of the evidence
	Entry  control.Ref `json:"entry"`
	Time   time.Time   `json:"time"` // which nobody can set back
}

const late = 10 * time.Minute // between a step's own time and its entry, before that is said

// Anchors are the entries of the journal's steps, by the steps' hashes. findings says what the ledger has and the journal has not: what was taken away
// or changed; remarks what is weaker than it should be.
func (j *Journal) Anchors(ctx context.Context, x index.Reader, kept []evidence.Kept) (anchors map[string]*Anchor, findings, remarks []string, err error) {
	events, err := x.Events(ctx, index.Filter{Types: []entry.Type{entry.Attest}})
	if err != nil {
		return nil, nil, nil, err
	}
	anchors = map[string]*Anchor{}
	known := map[string]*evidence.Kept{}
	for i := range kept {
		if kept[i].Kind == evidence.Incident {
			known[kept[i].Record] = &kept[i]
		}
	}
	waits := maps.Clone(known) // for a ledger
	has := func(hash string) bool {
		return slices.ContainsFunc(j.Steps, func(s Signed) bool { return s.Hash == hash })
	}
	for _, e := range events {
		if e.Reason != evidence.Incident {
			continue
		}
		at := time.Unix(0, e.Time).UTC()
		k := known[e.Record]
		delete(waits, e.Record)
		switch {
		case k == nil:
			findings = append(findings, fmt.Sprintf("entry %d of log %s is of an incident's step whose record the signed store has no more: records/evidence/%s.json", e.Seq, e.Log, e.Record))
		case !strings.HasPrefix(k.Subject, j.ID+" "):
		case !has(k.SHA256):
			findings = append(findings, fmt.Sprintf("the ledger has had step %s since %s (entry %d of log %s), and the journal has it no more", k.Subject, at.Format(time.RFC3339), e.Seq, e.Log))
		case anchors[k.SHA256] == nil:
			anchors[k.SHA256] = &Anchor{Record: e.Record, Entry: control.Ref{Log: e.Log, Seq: e.Seq}, Time: at}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(waits)) {
		if k := waits[r]; strings.HasPrefix(k.Subject, j.ID+" ") && !has(k.SHA256) {
			findings = append(findings, fmt.Sprintf("records/evidence/%s.json is of step %s, which no ledger has yet, and the journal has it no more", r, k.Subject))
		}
	}
	for i := range j.Steps {
		s := &j.Steps[i]
		switch a := anchors[s.Hash]; {
		case a == nil:
			remarks = append(remarks, fmt.Sprintf("step %d is in no ledger that the auditor has verified yet: its time is its signers' word", s.Number))
		case s.Time.After(a.Time.Add(late)):
			findings = append(findings, fmt.Sprintf("step %d is dated %s, after its entry in the ledger of %s", s.Number, s.Time.Format(time.RFC3339), a.Time.Format(time.RFC3339)))
		case a.Time.After(s.Time.Add(late)):
			remarks = append(remarks, fmt.Sprintf("step %d says %s and was entered at %s: until then its time is its signers' word", s.Number, s.Time.Format(time.RFC3339), a.Time.Format(time.RFC3339)))
		}
	}
	return anchors, findings, remarks, nil
}

// HashOf names a report by its JSON.
func HashOf(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
