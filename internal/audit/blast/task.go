package blast

import (
	"cmp"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/audit/register"
)

// Task is what one person has to do now. What was exposed and ended since is no task.
type Task struct {
	Person    string   `json:"person"`              // who answers now; empty when nobody live does
	Escalated []string `json:"escalated,omitempty"` // root holders then: they name somebody
	Do        string   `json:"do"`                  // contain, rotate, revoke or look
	What      []string `json:"what"`                // the subject; keys; credentials, the most serious first
	Units     []string `json:"units"`               // whose they are
	Why       string   `json:"why"`
	Command   string   `json:"command,omitempty"` // what he types; once for each where there are many
}

// The tasks, in the order in which they are done.
var tasks = [...]string{"contain", "rotate", "revoke", "look"}

// Work is the tasks of one kind.
type Work struct {
	Do, Why, Command string // PERSON stands in the command for each of them, where they are many
	Tasks            []Task
}

// Work is the answer's tasks, kind by kind.
func (a *Answer) Work() (list []Work) {
	for _, t := range a.Tasks {
		if n := len(list); n == 0 || list[n-1].Do != t.Do {
			list = append(list, Work{Do: t.Do, Why: t.Why, Command: t.Command})
		}
		w := &list[len(list)-1]
		if w.Tasks = append(w.Tasks, t); len(w.Tasks) > 1 && w.Tasks[0].Person != "" {
			w.Command = strings.ReplaceAll(w.Command, "--as "+w.Tasks[0].Person+" ", "--as PERSON ")
		}
	}
	return list
}

// tasked makes the tasks of an answer whose rows are sorted.
func (r *radius) tasked(a *Answer, now *history.Span) {
	a.Tasks = []Task{}
	by := map[[2]string]*Task{}
	add := func(person, do, what, unit, why, command string) {
		t := by[[2]string{person, do}]
		if t == nil {
			t = &Task{Person: person, Do: do, What: []string{}, Units: []string{}, Why: why, Command: strings.ReplaceAll(command, "PERSON", cmp.Or(person, "PERSON"))}
			if person == "" {
				t.Escalated = r.roots(now)
			}
			by[[2]string{person, do}] = t
		}
		if !slices.Contains(t.What, what) {
			t.What = append(t.What, what)
		}
		t.Units = insert(t.Units, unit)
	}
	revoke := "reeve credential revoke CREDENTIAL --as PERSON --reason …"
	if r.component.Kind == register.Custodian {
		revoke = "reeve contain custodian " + r.component.ID + " --as PERSON --reason …" // all that is his at once
	}
	r.contained(add, now)
	for i := range a.Keys {
		k := &a.Keys[i]
		if !k.Live {
			continue
		}
		people := k.Rotate
		if len(people) == 0 {
			people = []string{""}
		}
		for _, p := range people {
			add(p, "rotate", rotated(k), k.Unit, "the captured custodian had them: what each takes is in the list of keys", "")
		}
	}
	for i := range a.Rows {
		x := &a.Rows[i]
		switch {
		case x.Class == OutOfBand && x.Live, x.Class == Read && x.Live:
			add(r.revokes(x.Credential, now), "revoke", x.Credential, cmp.Or(x.Owning, x.Unit), "somebody else can have the secret: it ends at its provider, whatever is closed here", revoke)
		case x.Class == UsedAsserted:
			add(r.revokes(x.Credential, now), "look", x.Credential, cmp.Or(x.Owning, x.Unit), "used in the window without the workload's own signature: are these uses his workloads' own? The secret itself was not exposed", "reeve uses CREDENTIAL --from "+stamp(r.from)+" --to "+stamp(r.to))
		}
	}
	a.Tasks = append(a.Tasks, sortedTasks(by)...)
}

// rotated is what a task calls a key.
func rotated(k *keyring.Key) string {
	return string(k.Kind) + " " + k.ID + map[bool]string{true: " of " + k.Unit}[k.Unit != ""]
}

func sortedTasks(by map[[2]string]*Task) (list []Task) {
	for _, t := range by {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(x, y Task) int {
		return cmp.Or(cmp.Compare(slices.Index(tasks[:], x.Do), slices.Index(tasks[:], y.Do)), cmp.Compare(len(y.What), len(x.What)), cmp.Compare(x.Person, y.Person))
	})
	return list
}

// contained adds who stops the subject.
func (r *radius) contained(add func(person, do, what, unit, why, command string), now *history.Span) {
	c, id := &r.component, r.subject.ID
	live := func(p string) string {
		if x := now.Charter.Acting(p, r.asOf); x != nil {
			return x.ID
		}
		return ""
	}
	command := "reeve contain " + string(r.subject.Kind) + " " + id + " --as PERSON --reason …"
	switch r.subject.Kind {
	case Component:
		if c.Kind == register.Auditor {
			return
		}
		why := "it is the operations owner's to stop"
		switch {
		case c.Kind == register.Gateway:
			command = "reeve contain gateway " + id + " --as PERSON --reason …"
		case c.Kind == register.Custodian:
			why = "stop its service and keep its host as it is: what it says of itself from now on proves nothing"
			command = "reeve contain custodian " + id + " --plan"
		case c.Kind == register.Authority:
			command = ""
			why = "take its token key out of the charter, and its service down (docs/procedures/service-keys.md)"
		default:
			command = ""
			why = "cut it off from here, and ask " + cmp.Or(c.Owners.Contract, "whoever holds the contract") + " to have its operator do so: nothing here closes it"
			if c.Unprobed(r.from) {
				why += "; no probe's verdict holds, so it counts as able to do everything"
			}
			if len(c.Credentials) == 0 {
				add(live(cmp.Or(c.Owners.Contract, c.Owners.Operations)), "look", id, "", "the register lists no credential that it was given, so none is counted here: find out which it has, and enter them", "reeve component show "+id)
			}
		}
		add(live(r.operates(&c.Component, now)), "contain", id, "", why, command)
	case Workload:
		w, _, _ := now.Workload(id)
		var by, unit string
		if w != nil {
			unit = w.Unit
			for _, p := range now.Charter.Roles.Units[unit].Policy {
				by = cmp.Or(by, live(p))
			}
		}
		add(by, "contain", id, unit, "the owner of the unit's policy closes it", command)
	case Person:
		by := ""
		if people := r.roots(now); len(people) > 0 {
			by = people[0]
		}
		add(by, "contain", id, "", "any root holder closes a person", "reeve revoke person "+id+" --as PERSON --reason …")
	}
}

// operates is who answers for containment, as the register has it now.
func (r *radius) operates(c *register.Component, now *history.Span) string {
	list, err := r.b.Register.At(r.asOf, r.asOf)
	if err == nil {
		if i := slices.IndexFunc(list, func(x register.Component) bool { return x.ID == c.ID }); i >= 0 {
			return list[i].Owners.Operations
		}
	}
	return c.Owners.Operations
}

// revokes is who ends a credential's secrets now. One that the statements do not have is the component's lifecycle owner's.
func (r *radius) revokes(credential string, now *history.Span) string {
	if _, _, ok := now.Credential(credential); !ok {
		if p := now.Charter.Acting(r.component.Owners.Lifecycle, r.asOf); p != nil {
			return p.ID
		}
		return ""
	}
	if p, ok := now.Owner(credential, r.asOf); ok {
		return p.ID
	}
	return ""
}

// roots are the live root holders.
func (r *radius) roots(now *history.Span) (people []string) {
	for _, id := range now.Charter.Roles.Root {
		if p, ok := now.Person(id); ok && p.Live(r.asOf) {
			people = append(people, id)
		}
	}
	return people
}
