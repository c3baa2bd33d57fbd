package incident

import (
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
)

// Report is an incident's report, by the outline of the control catalogue. Its signatures are not in it: they are over its hash, in the journal.
type Report struct {
	Incident string    `json:"incident"`
	Estate   string    `json:"estate"`
	Made     time.Time `json:"made"`

	// 1 Header.
	State     string    `json:"state"` // open or closed
	Subjects  []Subject `json:"subjects"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Why       string    `json:"why"`
	Commander Person    `json:"commander"`
	Opened    time.Time `json:"opened"`
	Closed    time.Time `json:"closed,omitzero"`
	Outcome   string    `json:"outcome,omitempty"` // as its closing says
	Brackets  []Bracket `json:"brackets"`          // what of each ledger lies in the window
	Findings  []string  `json:"findings"`          // why the incident's own record does not hold
	Remarks   []string  `json:"remarks"`

	// 2 One page.
	Read      int                 `json:"read"` // credentials whose plaintext was in a subject
	Counts    map[blast.Class]int `json:"counts"`
	Matrix    []UnitCounts        `json:"matrix"`
	Misuse    Misuse              `json:"misuse"`
	Contained bool                `json:"contained"`
	Residual  contain.Residual    `json:"residual"`
	Answer    []string            `json:"answer"` // sentences

	// 3 Accountability, as of the start.
	People       []Person `json:"people"` // whom the report names
	Accountable  []Duty   `json:"accountable"`
	Acknowledged []Ack    `json:"acknowledged"`

	Timeline     []Moment     `json:"timeline"`    // 4
	Credentials  []Credential `json:"credentials"` // 5
	Units        []Unit       `json:"units"`       // 6
	Unproven     []string     `json:"unproven"`    // 7: what cannot be known, and what is out of band
	Containment  Containment  `json:"containment"` // 8
	Controls     []Control    `json:"controls"`    // 9
	ControlsNote string       `json:"controls_note,omitempty"`

	// 10 Completeness.
	Complete bool        `json:"complete"`
	Logs     []blast.Log `json:"logs"`
	Commands []string    `json:"commands"` // that verify it offline

	// Judged is what the controls were found to be, before and after.
	Judged [2][]control.Result `json:"judged"`

	Blast []*blast.Answer `json:"blast"` // one a subject: what the report is made from
}

// Subject is what was taken to be captured.
type Subject struct {
	ID     string `json:"id"`   // as it was opened: gateway:g1
	Kind   string `json:"kind"` // of the component
	Flags  string `json:"flags,omitempty"`
	Owners Duty   `json:"owners"`
}

// Person is somebody whom the report names.
type Person struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

func (p Person) String() string {
	if p.Name == "" || p.Name == p.ID {
		return p.ID
	}
	return p.Name + " (" + p.ID + ")"
}

// Bracket is what of a ledger lies in the window, and the signed checkpoint that it is proven by.
type Bracket struct {
	Process  string    `json:"process"`
	Log      string    `json:"log"`
	Origin   string    `json:"origin"`
	Before   int64     `json:"before"` // number of the last entry before the window; -1 for none
	Last     int64     `json:"last"`   // number of the last entry in it; Before when there is none
	Size     int64     `json:"size"`   // of the checkpoint
	Root     string    `json:"root"`   // base64
	Cosigned time.Time `json:"cosigned,omitzero"`
}

// UnitCounts is a row of the one-page answer.
type UnitCounts struct {
	Unit   string              `json:"unit"`
	Tenant string              `json:"tenant"`
	Counts map[blast.Class]int `json:"counts"`
}

// Misuse is every use in the window that only a bearer proof, or a subject, vouched for: what an attacker can have done. Who did what under such a
// proof is not known, so all of it counts.
type Misuse struct {
	Uses        int64       `json:"uses"` // that went through
	First       time.Time   `json:"first,omitzero"`
	Last        time.Time   `json:"last,omitzero"`
	FirstEntry  control.Ref `json:"first_entry"`
	LastEntry   control.Ref `json:"last_entry"`
	Credentials []string    `json:"credentials"`
	Workloads   []string    `json:"workloads"`
	Units       []string    `json:"units"`
	Owners      []string    `json:"owners"` // accountable lifecycle owners of the credentials

	Denied      int64            `json:"denied"`  // attempts that were refused
	Reasons     map[string]int64 `json:"reasons"` // of the refusals
	FirstDenied time.Time        `json:"first_denied,omitzero"`
	LastDenied  time.Time        `json:"last_denied,omitzero"`
	FirstRefuse control.Ref      `json:"first_denied_entry"`
	LastRefuse  control.Ref      `json:"last_denied_entry"`

	Proven int64 `json:"proven"` // uses in the window that the workload signed itself: no misuse
}

// Duty is who answered for what.
type Duty struct {
	Of         string   `json:"of"` // unit, credential or component
	Policy     []string `json:"policy"`
	Operations []string `json:"operations"`
	Lifecycle  []string `json:"lifecycle"`
	Approvers  []string `json:"approvers,omitempty"`
	Answers    string   `json:"answers,omitempty"` // for what, in a sentence
}

// Ack is somebody's signature on the incident.
type Ack struct {
	Person Person    `json:"person"`
	Step   int64     `json:"step"`
	Kind   string    `json:"kind"`
	Time   time.Time `json:"time"`
}

// Moment is a line of the timeline.
type Moment struct {
	Time    time.Time    `json:"time"`
	Process string       `json:"process"` // whose ledger; "journal" for the incident's own
	What    string       `json:"what"`
	Who     []string     `json:"who,omitempty"`
	Unit    string       `json:"unit,omitempty"`
	Entry   *control.Ref `json:"entry,omitempty"`
}

// Credential is a line of the credential annex.
type Credential struct {
	ID           string      `json:"id"`
	Unit         string      `json:"unit"` // whose it is
	Owner        string      `json:"owner"`
	Class        blast.Class `json:"class"` // the most serious
	Fingerprints []string    `json:"fingerprints"`
	Destination  string      `json:"destination"`
	Scope        []string    `json:"scope"`    // methods and paths
	Lifetime     string      `json:"lifetime"` // longest, as its record says
	Uses         int64       `json:"uses"`
	LastUse      time.Time   `json:"last_use,omitzero"`
	State        string      `json:"state"`
	Live         bool        `json:"live"`
	LiveUntil    time.Time   `json:"live_until,omitzero"`
	Probe        string      `json:"probe"` // result
}

// Unit is the annex of one business unit: it can be shown without the others.
type Unit struct {
	Unit        string      `json:"unit"`
	Tenant      string      `json:"tenant"`
	Rows        []blast.Row `json:"rows"` // what it used or could use, and what others used of its
	Accountable []Duty      `json:"accountable"`
}

// Containment is how it was stopped.
type Containment struct {
	Outcomes   []*contain.Outcome `json:"outcomes"`            // one a scope
	Begun      time.Time          `json:"begun,omitzero"`      // the first record's signature
	Contained  time.Time          `json:"contained,omitzero"`  // the last custodian's denial; the first time, where it was opened again since
	Held       []contain.Held     `json:"held"`                // the times in which all of it was closed, and that are over: it was opened again
	Attribute  float64            `json:"time_to_attribute_s"` // from the opening to the first report, or to this one
	Contain    float64            `json:"time_to_contain_s"`   // from the opening, or the first record if that is earlier, to the last denial; -1 while not contained
	Exposure   float64            `json:"exposure_s"`          // from the first misuse to the last denial; -1 when either is not known
	RevokeP50  float64            `json:"time_to_revoke_p50_s"`
	RevokeP95  float64            `json:"time_to_revoke_p95_s"`
	RevokeMax  float64            `json:"time_to_revoke_max_s"`
	AfterUses  int64              `json:"uses_after"`  // uses through what was contained while it was: 0, or it was not
	OneOwner   float64            `json:"one_owner"`   // share of uses in the window that resolve to one live owner
	OutOfBand  int                `json:"out_of_band"` // uses that no ledger has
	Unanswered []string           `json:"unanswered"`  // scopes that nothing closes
}

// Control is a control before and after.
type Control struct {
	ID     string        `json:"id"`
	Title  string        `json:"title"`
	Before control.State `json:"before"`
	After  control.State `json:"after"`
	Why    string        `json:"why"` // after
}
