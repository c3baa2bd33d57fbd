package register

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Task is what somebody answers for.
type Task string

// The tasks.
const (
	Containment    Task = "containment"           // R2: stop it, and show that it is stopped
	Audit          Task = "audit"                 // R2: say what it was allowed to do and did
	Revocation     Task = "revocation"            // R2: end a credential that was in it
	Routing        Task = "routing integrity"     // R3: that requests go where policy says
	Authentication Task = "caller authentication" // R3: that callers are who they say
	Misuse         Task = "misuse in the window"  // R3: of a credential whose uses it could cause
	Reach          Task = "reach"                 // R4: that policy lets this unit's credentials be reached
	Classification Task = "classification"        // R5: that a vendor's gateway has a live verdict
)

// Duty is one task with a component, and the one person who answers for it. Reach alone is several people's: all who approved it, a Duty each.
type Duty struct {
	Component string   `json:"component"`
	Kind      Kind     `json:"kind"`
	Rule      Rule     `json:"rule"` // that says so
	Task      Task     `json:"task"`
	Of        string   `json:"of,omitempty"`     // "unit:research" or "credential:research-openai"; empty for the whole component
	Person    string   `json:"person,omitempty"` // who answered then; empty for nobody
	Named     string   `json:"named,omitempty"`  // who is named for it; another than Person where a deputy acts
	Deputies  []string `json:"deputies,omitempty"`
	Orphan    bool     `json:"orphan,omitempty"`    // nobody answers (R6)
	Escalated []string `json:"escalated,omitempty"` // of an orphan: the root holders, who have to name somebody. None of them inherits it.
	Why       string   `json:"why"`                 // one sentence
}

// Duties says who answered for what of the components at t, under the statements in force then: each task of each component is one person's, or an
// orphan. Sorted by component.
func Duties(set *statement.Set, all []Component, t time.Time) (list []Duty) {
	for i := range all {
		w := writer{set, &all[i], t, &list}
		w.write()
	}
	slices.SortStableFunc(list, func(a, b Duty) int { return strings.Compare(a.Component, b.Component) })
	return list
}

// Orphans are the duties that nobody has.
func Orphans(all []Duty) (list []Duty) {
	return slices.DeleteFunc(slices.Clone(all), func(d Duty) bool { return !d.Orphan })
}

// writer writes the duties of one component.
type writer struct {
	set *statement.Set
	c   *Component
	t   time.Time
	to  *[]Duty
}

func (w *writer) write() {
	flags := w.c.Effective(w.t)
	control := w.c.control(w.t)
	if why := "it can " + words(control); len(control) > 0 {
		if w.c.Unprobed(w.t) {
			why = "no verdict of a probe holds, so it counts as able to " + words(control)
		} else if unseen := w.c.Unseen(w.t); len(unseen) > 0 {
			why += ", of which the probe could not see " + words(unseen)
		}
		w.add(R2, Containment, "", w.c.Named.Operations, why+": its operations owner stops it")
		w.audit(why)
		w.revocation(why)
	} else if len(flags) > 0 {
		w.narrow("it can " + words(flags) + " and nothing more")
	}
	for _, u := range w.units() {
		w.reach(u)
	}
	if w.c.Kind == Vendor {
		why := "it has no live verdict of a probe"
		if w.c.Probing(w.t) {
			why = "its verdict holds until " + w.c.Probed.Format(time.RFC3339)
		}
		w.add(R5, Classification, "", w.c.Named.Contract, why+": its contract owner has it probed in time")
	}
}

// audit is one person's, or, of a custodian, one for each unit that it serves.
func (w *writer) audit(why string) {
	if w.c.UnitOwners == nil {
		w.add(R2, Audit, "", w.c.Named.Policy, why+": its policy owner says what it was allowed and did")
		return
	}
	for _, u := range w.c.Units {
		w.add(R2, Audit, "unit:"+u, first(&w.set.Charter, w.set.Charter.Roles.Units[u].Policy, w.t), why+", also for this unit: the unit's policy owner says what it was allowed and did")
	}
}

// revocation is the lifecycle owner's of each credential that was in the component: by the statements, of those of the estate that it serves; by
// its record, of those that it is known to reach. What the statements do not have is the component's own lifecycle owner's.
func (w *writer) revocation(why string) {
	credentials := w.credentials()
	if len(credentials) == 0 {
		w.add(R2, Revocation, "", w.c.Named.Lifecycle, why+", and nothing says with which credentials: its lifecycle owner ends them")
	}
	for _, id := range credentials {
		owner, whose := w.c.Named.Lifecycle, "its lifecycle owner"
		if cr, _, ok := w.set.Credential(id); ok {
			owner, whose = cr.Owner, "the credential's lifecycle owner"
		}
		w.add(R2, Revocation, "credential:"+id, owner, why+", with this credential: "+whose+" ends it")
	}
}

func (w *writer) narrow(why string) {
	n := w.c.Named
	w.add(R3, Authentication, "", n.Policy, why+": its policy owner answers for who could call")
	w.add(R3, Routing, "", n.Operations, why+": its operations owner answers for where requests went")
	w.add(R3, Misuse, "", n.Lifecycle, why+": its lifecycle owner answers for what was misused through it in the window")
}

// reach is the people's who approved the version in force of a unit's policy: they signed it, and hold the unit's policy role, or stood in for somebody
// who does. Its author, and who else signed, decided nothing.
func (w *writer) reach(unit string) {
	var people []string
	holders := slices.Clone(w.set.Charter.Roles.Units[unit].Policy)
	for _, id := range w.set.Charter.Roles.Units[unit].Policy {
		if p, ok := w.set.Person(id); ok {
			holders = append(holders, p.Deputies...)
		}
	}
	for _, a := range w.set.Approvals["policy-"+unit] {
		if p, ok := w.set.Person(a.Person); ok && slices.Contains(holders, a.Person) && p.Live(w.t) && !slices.Contains(people, a.Person) {
			people = append(people, a.Person)
		}
	}
	slices.Sort(people)
	why := "they approved the version in force of policy-" + unit + ", by which its credentials can be reached through it"
	if len(people) == 0 {
		w.add(R4, Reach, "unit:"+unit, "", "nobody who approved the version in force of policy-"+unit+" is live: it has to be approved anew")
	}
	for _, p := range people {
		w.add(R4, Reach, "unit:"+unit, p, why)
	}
}

// units are those whose policy opens what the component can reach: of the estate's own that carry requests or serve them.
func (w *writer) units() (units []string) {
	if w.c.Kind != Gateway && w.c.Kind != Custodian {
		return nil
	}
	for _, u := range w.set.Charter.Units {
		if w.c.Serves(u.ID) {
			units = append(units, u.ID)
		}
	}
	return units
}

// credentials are those that may be in a component of the control plane, sorted.
func (w *writer) credentials() []string {
	list := slices.Clone(w.c.Credentials)
	for _, u := range w.units() {
		for _, cr := range w.set.Custody[u].Credentials {
			if w.c.Kind == Gateway || w.set.Serves(w.c.ID, cr.ID) {
				list = append(list, cr.ID)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// add gives a task to whoever is named for it, to his deputy, or to nobody (R6).
func (w *writer) add(rule Rule, task Task, of, named, why string) {
	d := Duty{Component: w.c.ID, Kind: w.c.Kind, Rule: rule, Task: task, Of: of, Named: named, Person: acting(&w.set.Charter, named, w.t), Why: why}
	p, known := w.set.Person(named)
	if known {
		d.Deputies = slices.Clone(p.Deputies)
	}
	switch {
	case d.Person == "":
		d.Orphan, d.Rule, d.Escalated = true, R6, roots(&w.set.Charter, w.t)
		switch {
		case named == "":
			d.Why = "nobody is named for it"
		case !known:
			d.Why = named + ", who is named for it, is not in the charter"
		default:
			d.Why = fmt.Sprintf("%s, who is named for it, is not live (until %s), and no deputy is", named, p.Until().Format(time.RFC3339))
		}
		d.Why += ": the root holders have to see that somebody is; by " + string(rule) + ", " + why
	case d.Person != named:
		d.Why += fmt.Sprintf("; %s is not live, and %s is the first deputy who is", named, d.Person)
	}
	*w.to = append(*w.to, d)
}

// roots are the root holders who are live, sorted.
func roots(c *statement.Charter, t time.Time) (people []string) {
	for _, id := range c.Roles.Root {
		if acting(c, id, t) == id {
			people = append(people, id)
		}
	}
	slices.Sort(people)
	return slices.Compact(people)
}

// words lists flags as verbs.
func words(flags []Flag) string {
	var list []string
	for _, f := range flags {
		list = append(list, string(f))
	}
	return strings.Join(list, ", ")
}

// Of are the person's own duties, and those that he has as a deputy.
func Of(all []Duty, person string) []Duty {
	return slices.DeleteFunc(slices.Clone(all), func(d Duty) bool { return d.Person != person })
}

// Escalated are the orphans that the person, a root holder, has to find somebody for.
func Escalated(all []Duty, person string) []Duty {
	return slices.DeleteFunc(slices.Clone(all), func(d Duty) bool { return !slices.Contains(d.Escalated, person) })
}
