// Package control judges the control catalogue from live data.
package control

import (
	"time"
)

// State is what a check found. Without data it is Unknown, which never counts as satisfied.
type State string

// The states.
const (
	Pass    State = "pass"
	Fail    State = "fail"
	Unknown State = "unknown"
	Exempt  State = "exempt" // until a date, with an approver
)

// Control is one control of the catalogue.
type Control struct {
	ID    string              `json:"id" yaml:"id"` // RV-01 …
	Title string              `json:"title" yaml:"title"`
	Fails string              `json:"fails" yaml:"fails"` // when
	Maps  map[string][]string `json:"maps" yaml:"maps"`   // ids by framework: owasp-nhi, csf2, ai-rmf, 800-63, 800-53, iso42001, soc2, owasp-agentic, owasp-mcp, …
	Act   string              `json:"act" yaml:"act"`     // what a person does when it fails
}

// Ref points into a ledger.
type Ref struct {
	Log string `json:"log"` // id
	Seq int64  `json:"seq"`
}

// Finding is one thing that a check found wrong, or that it could not know.
type Finding struct {
	What    string `json:"what"`              // one sentence: what is so, and what to do
	Subject string `json:"subject"`           // "credential:research-openai"
	Unit    string `json:"unit,omitempty"`    // business unit that it concerns
	Owner   string `json:"owner,omitempty"`   // person who has to act
	Refs    []Ref  `json:"refs,omitempty"`    // entries that show it
	Unknown bool   `json:"unknown,omitempty"` // it could not be judged
	Exempt  string `json:"exempt,omitempty"`  // until when, by whom and why it need not hold
}

// saying is the finding with what it says, and the entries that show it.
func (f Finding) saying(what string, refs ...Ref) Finding {
	f.What, f.Refs = what, refs
	return f
}

// Result is what one control's check found.
type Result struct {
	Control  string    `json:"control"`
	State    State     `json:"state"`
	Summary  string    `json:"summary"` // one sentence with the counts
	Checked  int       `json:"checked"` // subjects judged
	Findings []Finding `json:"findings"`
	AsOf     time.Time `json:"as_of"`
	Until    time.Time `json:"until,omitzero"`     // of an exemption
	Approver string    `json:"approver,omitempty"` // of an exemption
}
