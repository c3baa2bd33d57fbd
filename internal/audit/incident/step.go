// Package incident keeps what people record of an incident: an append-only journal of steps, each signed by two people of two roles, chained by
// hashes and entered in the authority's cosigned ledger; and makes the report from the auditor's books.
package incident

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/statement"
)

// The kinds of step.
const (
	KindOpen   = "open"   // the first
	KindNote   = "note"   //
	KindReport = "report" // a report was made, by its hash
	KindClose  = "close"  // notes and reports may follow
)

// Step is one thing recorded of an incident: the payload of a DSSE envelope of the type "application/vnd.reeve.incident+json", in canonical JSON.
type Step struct {
	Estate   string    `json:"estate"`
	Incident string    `json:"incident"` // its id
	Number   int64     `json:"number"`   // from 1
	Prev     string    `json:"prev"`     // hex SHA-256 of the line before; empty for the first
	Kind     string    `json:"kind"`     // open, note, report or close
	Author   string    `json:"author"`   // person id; he signed
	Time     time.Time `json:"time"`

	Subjects  []string  `json:"subjects,omitempty"`  // of open: what is taken to be captured, such as gateway:g1
	From      time.Time `json:"from,omitzero"`       // of open: begin of the window
	To        time.Time `json:"to,omitzero"`         // of open: its end; zero for the time of the report
	Commander string    `json:"commander,omitempty"` // of open: person id

	Text     string          `json:"text"`               // why it was opened, the note, or the outcome
	Refs     []control.Ref   `json:"refs,omitempty"`     // entries that a note is about
	Contains []contain.Scope `json:"contains,omitempty"` // what was contained for it
	SHA256   string          `json:"sha256,omitempty"`   // of report: hex, of the report's JSON
}

// Signed is a step as it lies in the journal.
type Signed struct {
	Step
	Hash    string              `json:"hash"`    // hex SHA-256 of its line
	Signers []string            `json:"signers"` // person ids, sorted
	Env     *statement.Envelope `json:"-"`
	// Evidence of a step that was appended just now, which every one of its signers signed.
	Evidence *statement.Envelope `json:"-"`
	Line     []byte              `json:"-"` // canonical JSON of the envelope
}

// PayloadType is that of a step's envelope.
func PayloadType() string { return statement.RecordType("incident") }

// ErrStep is wrapped by what makes a step or a journal invalid.
var ErrStep = errors.New("not a valid step of an incident")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrStep, fmt.Sprintf(format, args...))
}

var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// check checks what every kind must hold.
func (s *Step) check() error {
	switch {
	case !idForm.MatchString(s.Incident) || s.Number < 1 || s.Estate == "" || s.Author == "" || s.Time.IsZero():
		return bad("it lacks its estate, incident, number, author or time")
	case s.Kind == KindOpen && (len(s.Subjects) == 0 || s.From.IsZero() || s.Commander == "" || strings.TrimSpace(s.Text) == "" || !s.To.IsZero() && !s.From.Before(s.To)):
		return bad("an opening names its subjects, the window and why, and who commands")
	case s.Kind == KindReport && len(s.SHA256) != 2*sha256.Size:
		return bad("a report is named by its hash")
	case s.Kind != KindOpen && s.Kind != KindReport && strings.TrimSpace(s.Text) == "":
		return bad("a %s says nothing", s.Kind)
	case !slices.Contains([]string{KindOpen, KindNote, KindReport, KindClose}, s.Kind):
		return bad("there is no kind of step %q", s.Kind)
	}
	return nil
}

// parse reads one line of a journal. It verifies no signature.
func parse(line []byte) (*Signed, error) {
	env, err := statement.ParseEnvelope(line)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStep, err)
	}
	if env.PayloadType != PayloadType() {
		return nil, bad("it is of the type %q", env.PayloadType)
	}
	s := &Signed{Env: env, Line: line}
	d := json.NewDecoder(bytes.NewReader(env.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Step); err != nil {
		return nil, bad("%v", err)
	}
	if again, err := statement.Canonical(s.Step); err != nil || !bytes.Equal(again, env.Payload) {
		return nil, bad("its payload is not canonical")
	}
	sum := sha256.Sum256(line)
	s.Hash = hex.EncodeToString(sum[:])
	return s, s.check()
}

// signed verifies that two people of two roles signed, its author among them, by the set in force when it was made.
func (s *Signed) signed(set *statement.Set) (err error) {
	if s.Estate != set.Charter.Estate {
		return bad("it is of the estate %q", s.Estate)
	}
	if s.Signers, err = set.Two(s.Env, s.Time); err != nil {
		return fmt.Errorf("%w: %w", ErrStep, err)
	}
	if !slices.Contains(s.Signers, s.Author) {
		return bad("its author %s did not sign it", s.Author)
	}
	return nil
}

// follows checks that the step comes after another, nil for none.
func (s *Signed) follows(before *Signed, closed bool) error {
	switch {
	case before == nil && (s.Number != 1 || s.Prev != "" || s.Kind != KindOpen):
		return bad("the journal does not begin with its opening: steps before it were taken away")
	case before == nil:
		return nil
	case s.Incident != before.Incident || s.Number != before.Number+1:
		return bad("step %d of %s follows step %d of %s", s.Number, s.Incident, before.Number, before.Incident)
	case s.Prev != before.Hash:
		return bad("step %d does not follow the step %d that is there: one of them was changed", s.Number, before.Number)
	case s.Time.Before(before.Time):
		return bad("step %d is dated before step %d", s.Number, before.Number)
	case s.Kind == KindOpen || s.Kind == KindClose && closed:
		return bad("step %d opens or closes what is open or closed already", s.Number)
	}
	return nil
}
