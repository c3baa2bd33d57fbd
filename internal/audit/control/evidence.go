package control

import "time"

// Evidence is what neither the ledgers nor the statements have: what drills found, what providers saw, what was searched for, and what is
// exempt. A nil list means that there is nothing of the kind, and what needs it is unknown.
type Evidence struct {
	Drills          []Drill          `json:"drills,omitempty"`
	Reconciliations []Reconciliation `json:"reconciliations,omitempty"`
	Discoveries     []Discovery      `json:"discoveries,omitempty"`
	Stores          []Store          `json:"stores,omitempty"`
	Exemptions      []Exemption      `json:"exemptions,omitempty"`
	Incidents       []Incident       `json:"incidents,omitempty"`
}

// Drill is the result of one scenario of a drill.
type Drill struct {
	Scenario string    `json:"scenario"` // S1 … S10
	Time     time.Time `json:"time"`     // when it ended
	Passed   bool      `json:"passed"`
	Found    int       `json:"found"` // secrets in an attacker's hands, or calls that he may not make and that succeeded
	Detail   string    `json:"detail,omitempty"`
	// Seconds from the attack's first step until it was stopped, where the scenario has that; 0 where it was not stopped, or is not about that.
	Seconds float64 `json:"seconds,omitempty"`
	Record  string  `json:"record,omitempty"` // hex SHA-256 of the record that vouches for the document, as the ledger has it
}

// Reconciliation is what comes of holding a provider's own record of a credential's uses against the ledgers.
type Reconciliation struct {
	Credential string    `json:"credential"`
	Source     string    `json:"source"` // of the provider's record, such as openai-usage
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Provider   int64     `json:"provider"` // uses that the provider has
	Ledger     int64     `json:"ledger"`   // and that the ledgers have
	Strays     int64     `json:"strays"`   // uses that only the provider has
	// Undecided says why it could not be decided whether there are strays: it then shows nothing. Empty when it could.
	Undecided string `json:"undecided,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Record    string `json:"record,omitempty"`
}

// Discovery is one search for gateways and keys outside the register.
type Discovery struct {
	Where  string    `json:"where"` // what was searched
	Time   time.Time `json:"time"`
	Found  []Found   `json:"found"`
	Record string    `json:"record,omitempty"`
}

// Found is a gateway, or a configuration that holds keys.
type Found struct {
	Component string `json:"component"` // id, as it would stand in the register
	What      string `json:"what,omitempty"`
	Place     string `json:"place,omitempty"`
}

// Store is who may read a credential in the store that it comes from, as that store says.
type Store struct {
	Credential string    `json:"credential"`
	Time       time.Time `json:"time"`
	Readers    []string  `json:"readers"` // custodian ids; anything else is wider than the custody statement
	Record     string    `json:"record,omitempty"`
}

// Exemption is a signed record that says that a control need not hold for a subject until a date. It excuses nothing that its approver has to put right
// himself.
type Exemption struct {
	Control  string    `json:"control"`           // RV-01 …
	Subject  string    `json:"subject,omitempty"` // as in Finding; empty for all of them
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Approver string    `json:"approver"` // person id
	Reason   string    `json:"reason"`
	Record   string    `json:"record,omitempty"`
}

// Incident is how an incident went: what its journal says of its opening and its first report, and what somebody signed for of its containment, as the
// auditor's books had it.
type Incident struct {
	ID         string    `json:"id"`
	Opened     time.Time `json:"opened"`
	Attributed time.Time `json:"attributed,omitzero"` // when everyone accountable was named
	Closed     time.Time `json:"closed,omitzero"`
	Begun      time.Time `json:"begun,omitzero"`     // when the first record that contains it was signed
	Contained  time.Time `json:"contained,omitzero"` // when the last custodian denied all of it
	AsOf       time.Time `json:"as_of,omitzero"`     // when that was looked at; zero where nobody did
	Dead       int       `json:"dead"`               // secrets that were to end and are proven dead
	Unproven   int       `json:"unproven"`           // and that are not
	NoEnd      int       `json:"no_end"`             // of those, that nothing says the end of
	Residual   float64   `json:"credential_seconds"` // for which secrets may still have worked at their providers after the freeze
	Record     string    `json:"record,omitempty"`
}

// Contain is how long it took to contain it, from its opening or from the first record that was signed for that, if that was earlier.
func (i *Incident) Contain() time.Duration {
	if !i.Begun.IsZero() && i.Begun.Before(i.Opened) {
		return i.Contained.Sub(i.Begun)
	}
	return i.Contained.Sub(i.Opened)
}
