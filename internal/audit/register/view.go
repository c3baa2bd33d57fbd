package register

import (
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/statement"
)

// Judged is a component with what the rules say of it at a time.
type Judged struct {
	Component
	Effective    []Flag `json:"effective"`            // R1, R5
	Undeclared   []Flag `json:"undeclared,omitempty"` // R1: a finding each
	ControlPlane bool   `json:"control_plane"`        // R2
	Unprobed     bool   `json:"unprobed,omitempty"`   // R5
	Orphans      []Duty `json:"orphans,omitempty"`    // R6
}

// View is the register at a time, as it was recorded by another.
type View struct {
	At         time.Time      `json:"at"`
	AsOf       time.Time      `json:"as_of,omitzero"` // zero for now
	Set        *statement.Set `json:"-"`              // that was in force
	Components []Judged       `json:"components"`
	Duties     []Duty         `json:"-"`               // of all of them
	Lacks      string         `json:"lacks,omitempty"` // that the ledgers have evidence of records that the journal has not
}

// Look reads the register at the time valid, as recorded by recorded (zero for now).
func Look(h *history.History, r Reader, valid, recorded time.Time) (*View, error) {
	known := valid
	if !recorded.IsZero() && recorded.Before(valid) {
		known = recorded
	}
	span, err := h.At(known)
	if err != nil {
		return nil, err
	}
	all, err := r.At(valid, recorded)
	if err != nil {
		return nil, err
	}
	v := &View{At: valid, AsOf: recorded, Set: span.Set, Duties: Duties(span.Set, all, valid), Components: []Judged{}}
	if err := r.Lacks(); err != nil {
		v.Lacks = err.Error()
	}
	for _, c := range all {
		j := Judged{Component: c, Effective: c.Effective(valid), Undeclared: c.Undeclared(), ControlPlane: c.ControlPlane(valid), Unprobed: c.Unprobed(valid)}
		j.Orphans = Orphans(ofComponent(v.Duties, c.ID))
		v.Components = append(v.Components, j)
	}
	return v, nil
}

// Component is the component of an id, and its duties; false when there is none.
func (v *View) Component(id string) (c Judged, duties []Duty, ok bool) {
	for _, c := range v.Components {
		if c.ID == id {
			return c, ofComponent(v.Duties, id), true
		}
	}
	return c, nil, false
}

// Conflicts is who holds powers together then.
func (v *View) Conflicts() []Conflict {
	var all []Component
	for _, c := range v.Components {
		all = append(all, c.Component)
	}
	return Conflicts(v.Set, all, v.At)
}

func ofComponent(all []Duty, id string) (list []Duty) {
	for _, d := range all {
		if d.Component == id {
			list = append(list, d)
		}
	}
	return list
}
