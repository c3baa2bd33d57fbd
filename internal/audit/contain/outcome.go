package contain

import (
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/dispatch"
)

// Outcome is what a containment brought, by the custodians' own entries.
type Outcome struct {
	*Plan
	Begun     time.Time `json:"begun"`              // when the first of its records was signed
	Denied    time.Time `json:"denied,omitzero"`    // when the last custodian denied all of it; zero while that is not known
	Proven    time.Time `json:"proven,omitzero"`    // when the last secret that was to end was proven dead; zero while one is not
	Contained bool      `json:"contained"`          // every record is signed, and every custodian whom it concerns denies
	Seconds   float64   `json:"time_to_contain_s"`  // from Begun to Denied; -1 while not contained
	Provenly  float64   `json:"time_to_proven_s"`   // from Begun to Proven; -1 while that is not so
	Records   []Record  `json:"records"`            // what was sent
	Past      []Record  `json:"past"`               // what was sent, and was opened again
	Dead      []Death   `json:"dead"`               // proven
	Unproven  []Death   `json:"unproven"`           // and why
	Waiting   []Waiting `json:"waiting"`            // what somebody else has to sign
	Residual  Residual  `json:"residual"`           //
	Closed    []Closing `json:"closed"`             // at which custodian each target was closed when, with its entry
	Warnings  []string  `json:"warnings,omitempty"` // such as a record that went by one channel only
}

// Closing is a target that a custodian denies.
type Closing struct {
	Target    string      `json:"target"`
	Custodian string      `json:"custodian"`
	At        time.Time   `json:"at"`
	Channel   string      `json:"channel"` // by which it heard
	Entry     control.Ref `json:"entry"`
	Level     string      `json:"level"` // of the entry's proof: included or cosigned
}

// Record is what became of one record.
type Record struct {
	Target string   `json:"target"`
	End    bool     `json:"end"`
	By     []string `json:"by"`
	*dispatch.Report
}

// Death is one secret, at one custodian.
type Death struct {
	Credential string      `json:"credential"`
	Unit       string      `json:"unit"`
	Custodian  string      `json:"custodian"`
	Lease      string      `json:"lease,omitempty"`
	State      string      `json:"state,omitempty"`
	Frozen     time.Time   `json:"frozen,omitzero"`
	Provider   time.Time   `json:"provider,omitzero"` // its source was asked to end it, or cannot be
	Proven     time.Time   `json:"proven,omitzero"`   // the second negative probe, or its own end
	Until      time.Time   `json:"until,omitzero"`    // it may still have worked at its provider until then; zero with NoEnd, and where there is no secret
	NoEnd      bool        `json:"no_end"`            // nothing says when it stops working
	Residual   float64     `json:"residual_s"`        // from Frozen to Until; 0 with NoEnd
	Entry      control.Ref `json:"entry"`             // that says its state
	Why        string      `json:"why"`
}

// Waiting is a record that lacks a signature.
type Waiting struct {
	Target  string `json:"target"`
	End     bool   `json:"end"`
	Needs   string `json:"needs"`
	Command string `json:"command"`         // what the other one types
	Denied  bool   `json:"denied"`          // another record closes the target meanwhile
	Draft   string `json:"draft,omitempty"` // under which it waits
}

// Residual sums, over secrets that end, the time from the freeze to their proven death, or to their own end.
type Residual struct {
	Seconds float64 `json:"credential_seconds"`
	NoEnd   int     `json:"no_end"` // secrets that nothing says the end of: to be ended at their provider by hand
	Keys    int     `json:"keys"`   // of a captured custodian, that were taken along and work until they are rotated
}

// add adds what a credential's custodian wrote of its secrets, as of now.
func (o *Outcome) add(c *Credential, e *dispatch.End, now time.Time) {
	captured := o.captured(e.Custodian)
	if len(e.Versions) == 0 && captured {
		o.Unproven = append(o.Unproven, Death{Credential: c.ID, Unit: c.Unit, Custodian: e.Custodian, Frozen: e.Frozen, NoEnd: true, Entry: control.Ref{Log: e.Log, Seq: e.Seq},
			Why: "only " + e.Custodian + " says that it had no secret, and it is what is captured"})
		o.Residual.NoEnd++
		return
	}
	if len(e.Versions) == 0 {
		o.Dead = append(o.Dead, Death{Credential: c.ID, Unit: c.Unit, Custodian: e.Custodian, Frozen: e.Frozen, Proven: e.Frozen,
			Entry: control.Ref{Log: e.Log, Seq: e.Seq}, Why: "it had no secret when it was frozen, and gets none"})
		return
	}
	for _, v := range e.Versions {
		if captured { // its probes prove nothing
			v.Refused, v.Proven = time.Time{}, time.Time{}
		}
		d := Death{Credential: c.ID, Unit: c.Unit, Custodian: e.Custodian, Lease: v.Lease, State: v.State, Frozen: e.Frozen, Provider: v.Provider, Proven: v.Proven,
			Entry: control.Ref{Log: e.Log, Seq: v.Seq}}
		until, said := (&dispatch.End{Versions: []dispatch.Ended{v}}).LastUse()
		if d.NoEnd = !said; said {
			d.Until = until
			d.Residual = max(until.Sub(e.Frozen), 0).Seconds()
		}
		switch {
		case !v.Proven.IsZero():
			d.Why = "its provider refused it twice, a minute apart"
		case !c.Probe:
			d.Why = "its custody record names no probe: nothing shows whether its provider still takes it"
		case v.Provider.IsZero():
			d.Why = "its source has not been asked yet"
		case v.Refused.IsZero():
			d.Why = "its provider has not refused it yet: end it there by hand"
		default:
			d.Why = "its provider refused it once; the second probe comes a minute later"
		}
		if o.Residual.Seconds += d.Residual; d.NoEnd {
			o.Residual.NoEnd++
		}
		if captured {
			d.Why = "only " + e.Custodian + " says what became of it, and it is what is captured: end it at its provider by hand"
			o.Unproven = append(o.Unproven, d)
			continue
		}
		if v.Proven.IsZero() && said && !until.After(now) {
			d.Why, d.Proven = "it ended by itself, as its source said", until
			o.Dead = append(o.Dead, d)
		} else if v.Proven.IsZero() {
			if said {
				d.Why += "; it ends by itself"
			}
			o.Unproven = append(o.Unproven, d)
		} else {
			o.Dead = append(o.Dead, d)
		}
	}
}

// captured reports whether the custodian is what is contained: its entries prove nothing of what it does.
func (o *Outcome) captured(custodian string) bool {
	return o.Scope.Kind == OfCustodian && o.Scope.ID == custodian
}

// judge draws the conclusions.
func (o *Outcome) judge() {
	o.Contained, o.Seconds, o.Provenly = len(o.Records)+len(o.Closed) > 0, -1, -1
	for _, c := range o.Closed { // without a record
		o.Denied = later(o.Denied, c.At)
		if o.Begun.IsZero() || c.At.Before(o.Begun) {
			o.Begun = c.At
		}
	}
	for _, r := range o.Records {
		at := o.step(r).Signed
		if o.Begun.IsZero() || at.Before(o.Begun) {
			o.Begun = at
		}
		taken := 0
		for _, s := range r.Sent {
			if s.Error == "" {
				taken++
			}
		}
		if len(r.Sent) > 0 && taken < 2 {
			o.Warnings = append(o.Warnings, "the record of "+r.Target+" went by fewer than two channels: who holds that one up holds the record up")
		}
		o.Contained = o.Contained && r.All()
		for _, c := range r.Custodians {
			if c.Known {
				o.Denied = later(o.Denied, c.At)
				o.Closed = append(o.Closed, Closing{Target: r.Target, Custodian: c.ID, At: c.At, Channel: c.Channel, Entry: control.Ref{Log: c.Log, Seq: c.Seq}, Level: c.Level})
			}
		}
	}
	for _, w := range o.Waiting {
		o.Contained = o.Contained && w.Denied
	}
	if o.Scope.Kind == OfCustodian {
		for _, k := range o.Keys {
			if k.Live && k.Taken {
				o.Residual.Keys++
			}
		}
		o.Contained = false
		o.Warnings = append(o.Warnings, fmt.Sprintf("that %[1]s denies is its captor's word: stop it, have each owner end its secrets at their providers, and take it out of the custody.yaml of each unit", o.Scope.ID))
	}
	if !o.Contained {
		o.Denied = time.Time{}
		for _, r := range o.Past {
			if o.Begun.IsZero() || r.Begun.Before(o.Begun) {
				o.Begun = r.Begun
			}
		}
		return
	}
	o.Seconds = max(o.Denied.Sub(o.Begun).Seconds(), 0)
	if o.ended() {
		for _, d := range o.Dead {
			o.Proven = later(o.Proven, d.Proven)
		}
		if o.Proven = later(o.Proven, o.Denied); !o.Proven.IsZero() {
			o.Provenly = max(o.Proven.Sub(o.Begun).Seconds(), 0)
		}
	}
}

// step is that of a record.
func (o *Outcome) step(r Record) *Step {
	i := slices.IndexFunc(o.Steps, func(s Step) bool { return s.Record == r.Report.Record })
	if i < 0 {
		return new(Step)
	}
	return &o.Steps[i]
}

// ended reports whether everything that was to end is proven dead.
func (o *Outcome) ended() bool {
	return len(o.Unproven) == 0 && !slices.ContainsFunc(o.Waiting, func(w Waiting) bool { return w.End })
}

// Done reports whether nothing is left to do, to wait for or to doubt.
func (o *Outcome) Done() bool { return o.Contained && o.ended() }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
