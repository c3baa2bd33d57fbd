package statement

import (
	"strings"
	"time"
)

// Evidence says that a document existed when its signer made the record: an authority's cosigned ledger gives it a time that nobody can set back. It
// opens and closes nothing. Signed by any live person.
type Evidence struct {
	Estate  string    `json:"estate"`
	Kind    string    `json:"kind"`    // of document, such as drill, incident, component or reconciliation
	Subject string    `json:"subject"` // what the document is about
	SHA256  string    `json:"sha256"`  // hex, of the document
	Created time.Time `json:"created"`
}

func (*Evidence) kind() string                { return "evidence" }
func (e *Evidence) made() (string, time.Time) { return e.Estate, e.Created }

// ReadEvidence decodes the payload of an evidence record. It verifies nothing.
func ReadEvidence(env *Envelope) (e Evidence, err error) {
	err = env.read("evidence", &e)
	return e, err
}

// OpenEvidence verifies an evidence record and returns who signed it, sorted.
func (s *Set) OpenEvidence(env *Envelope, now time.Time) (*Evidence, []string, error) {
	e := new(Evidence)
	by, err := s.open(env, e, now)
	if err != nil {
		return nil, nil, err
	}
	for id, p := range by {
		if !p.Live(e.Created) {
			delete(by, id)
		}
	}
	switch {
	case !validWord(e.Kind) || strings.TrimSpace(e.Subject) == "" || len(e.Subject) > 256 || !validHash(e.SHA256):
		return nil, nil, refuse("value", "the evidence names no kind (a short word), subject or document")
	case len(by) == 0:
		return nil, nil, refuse("right", "nobody who was live when it was made signed the evidence")
	}
	return e, by.ids(), nil
}

// validWord reports whether s is a short word that may stand in a ledger's reasons.
func validWord(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}
