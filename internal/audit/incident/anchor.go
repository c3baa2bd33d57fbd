package incident

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/evidence"
)

// Subject is what the evidence of a step says that it is about.
func (s *Step) Subject() string { return fmt.Sprintf("%s %d", s.Incident, s.Number) }

// Sum is what the evidence of a step is of: the hex SHA-256 of its payload, which does not change with a signature more.
func (s *Signed) Sum() string {
	sum := sha256.Sum256(s.Env.Payload)
	return hex.EncodeToString(sum[:])
}

// Anchor is a step's entry in the authority's ledger.
type Anchor struct {
	Record string      `json:"record"` // of the evidence
	Entry  control.Ref `json:"entry"`
	Time   time.Time   `json:"time"` // which nobody can set back
}

const late = 10 * time.Minute // between a step's own time and its entry, before that is said

// Anchors are the entries of the journal's steps, by the steps' hashes. findings says what the ledger has and the journal has not: what was taken away
// or changed; remarks what is weaker than it should be. As a step takes two people of two roles, so does evidence that one is missing: what one person
// alone could enter is a remark.
func (j *Journal) Anchors(ctx context.Context, b *books.Books, kept []evidence.Kept) (anchors map[string]*Anchor, findings, remarks []string, err error) {
	entered, err := b.Entered(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	anchors = map[string]*Anchor{}
	known, waits := map[string]*evidence.Kept{}, map[string]*evidence.Kept{}
	for i := range kept {
		if kept[i].Kind == evidence.Incident {
			known[kept[i].Record], waits[kept[i].Record] = &kept[i], &kept[i]
		}
	}
	steps := map[string]*Signed{}
	for i := range j.Steps {
		steps[j.Steps[i].Sum()] = &j.Steps[i]
	}
	missing := func(two bool, by []string, format string, args ...any) {
		what := fmt.Sprintf(format, args...)
		if two {
			findings = append(findings, what)
		} else {
			remarks = append(remarks, fmt.Sprintf("%s; %s alone signed for that, and it takes two people of two roles to be believed", what, strings.Join(by, " and ")))
		}
	}
	for _, e := range entered {
		if e.Kind != evidence.Incident {
			continue
		}
		k, two := known[e.Record], e.Span.Charter.Two(e.By, e.Time)
		delete(waits, e.Record)
		switch {
		case k == nil:
			missing(two, e.By, "entry %d of log %s is of an incident's step whose record the signed store has no more: records/evidence/%s.json", e.Seq, e.Log, e.Record)
		case !strings.HasPrefix(k.Subject, j.ID+" "):
		case steps[k.SHA256] == nil:
			missing(two, e.By, "the ledger has had step %s since %s (entry %d of log %s), and the journal has it no more", k.Subject, e.Time.Format(time.RFC3339), e.Seq, e.Log)
		case anchors[steps[k.SHA256].Hash] == nil:
			anchors[steps[k.SHA256].Hash] = &Anchor{Record: e.Record, Entry: control.Ref{Log: e.Log, Seq: e.Seq}, Time: e.Time}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(waits)) {
		if k := waits[r]; strings.HasPrefix(k.Subject, j.ID+" ") && steps[k.SHA256] == nil {
			by, two := signers(b.History.At, k)
			missing(two, by, "records/evidence/%s.json is of step %s, which no ledger has yet, and the journal has it no more", r, k.Subject)
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

// signers are who signed evidence that no ledger has, by the statements of the time that it says, and whether two of them held two roles then.
func signers(at func(time.Time) (*history.Span, error), k *evidence.Kept) (by []string, two bool) {
	span, err := at(k.Created)
	if err != nil {
		return nil, false
	}
	by = k.Signers(span.Set)
	return by, span.Charter.Two(by, k.Created)
}

// Lost is the ids of incidents that evidence in the signed store is of, which two people of two roles signed, and that have no journal any more, sorted.
func (all Journals) Lost(kept []evidence.Kept) (ids []string, err error) {
	have, err := all.List()
	for i := range kept {
		k := &kept[i]
		id, _, _ := strings.Cut(k.Subject, " ")
		if k.Kind != evidence.Incident || !idForm.MatchString(id) || slices.Contains(have, id) {
			continue
		}
		if _, two := signers(all.History.At, k); two {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}
