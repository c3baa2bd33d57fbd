package oscal

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/reevehq/reeve/internal/audit/control"
)

// tool is what assesses. Results name it as the assessment plan has it.
func tool() assets {
	u := id("tool", "reeve controls")
	return assets{
		Components: []systemComponent{{UUID: u, Type: "software", Title: "reeve controls", Description: "Judges each control from the auditor's verified copies of the ledgers, the signed statements and evidence that is kept beside them.", Status: stateOf{"operational"}}},
		Platforms:  []platform{{id("platform", "reeve controls"), "The auditor's books", []uses{{u}}}},
	}
}

func (w *writer) assessmentPlan() *assessmentPlanDoc {
	return &assessmentPlanDoc{Metadata: w.about("How the controls of " + w.in.Estate + " are assessed"), ImportSSP: href{PlanFile},
		Reviewed: reviewed{[]selection{{All: &struct{}{}}}}, Subjects: []chosen{{"component", &struct{}{}}}, Assets: tool(),
		Tasks: []task{{id("task", w.in.Estate), "action", "Judge every control", "Every control is judged from live data, at any time. What there is no data for is unknown, and unknown is not satisfied."}}}
}

func (w *writer) results() *resultsDoc {
	d := &resultsDoc{Metadata: w.about("Controls of " + w.in.Estate), ImportAP: href{AssessmentFile}}
	for i, a := range w.in.Results {
		d.Results = append(d.Results, w.result(a, strconv.Itoa(i)))
	}
	return d
}

func (w *writer) result(a Assessment, number string) result {
	title := cmp.Or(a.Title, "Controls of "+w.in.Estate)
	key := []string{w.in.Estate, number, stamp(a.To)}
	r := result{UUID: id(append(key, "result")...), Title: title, Description: counts(a.Results), Start: stamp(a.From), End: stamp(a.To)}
	if a.From.IsZero() {
		r.Start = r.End
	}
	var s selection
	for _, c := range a.Results {
		s.Include = append(s.Include, chosenC{c.Control})
		w.judged(&r, c, key)
	}
	r.Reviewed.Selections = []selection{s}
	return r
}

// judged adds one control: what was seen, a finding, and the risk where it is not satisfied. OSCAL has two states; pass alone is satisfied.
func (w *writer) judged(r *result, c control.Result, key []string) {
	of := func(words ...string) string { return id(append(append([]string{c.Control}, key...), words...)...) }
	by := []origin{{[]actor{{"tool", id("tool", "reeve controls")}}}}
	at := stamp(c.AsOf)
	if c.AsOf.IsZero() {
		at = r.End
	}
	title := c.Control
	if x, ok := w.in.Catalogue.Control(c.Control); ok {
		title += " " + x.Title
	}
	f := finding{UUID: of("finding"), Title: title, Description: text(c.Summary), Props: []prop{own("state", string(c.State)), own("checked", strconv.Itoa(c.Checked))},
		Target: target{"objective-id", objective(c.Control), status{State: "not-satisfied", Reason: "other", Remarks: remarks(c)}}}
	see := func(o observation) {
		o.Methods, o.Types, o.Origins, o.Collected = []string{"EXAMINE"}, []string{"control-objective"}, by, at
		r.Observations = append(r.Observations, o)
		f.Observations = append(f.Observations, related{o.UUID})
	}
	see(observation{UUID: of("observation"), Title: title, Description: text(c.Summary)})
	for i, x := range c.Findings {
		o := observation{UUID: of("observation", strconv.Itoa(i)), Title: text(c.Control + " " + x.Subject), Description: text(x.What)}
		for _, p := range [][2]string{{"subject", x.Subject}, {"business-unit", x.Unit}, {"owner", x.Owner}} {
			if p[1] != "" {
				o.Props = append(o.Props, own(p[0], p[1]))
			}
		}
		if x.Unknown {
			o.Props = append(o.Props, own("unknown", "true"))
		}
		for _, ref := range x.Refs {
			o.Evidence = append(o.Evidence, evidence{fmt.Sprintf("Entry %d of log %s", ref.Seq, ref.Log), []prop{own("log", ref.Log), own("seq", strconv.FormatInt(ref.Seq, 10))}})
		}
		see(o)
	}
	switch c.State {
	case control.Pass:
		f.Target.Status = status{State: "satisfied", Reason: "pass"}
	case control.Fail, control.Exempt:
		k := risk{UUID: of("risk"), Title: title, Description: text(c.Summary), Statement: "The control does not hold: what it guards against is possible.", Status: "open", Origins: by, Observations: f.Observations}
		if c.State == control.Exempt {
			k.Status = "deviation-approved"
			k.Props = append(k.Props, own("approver", cmp.Or(c.Approver, "unknown")))
			if !c.Until.IsZero() {
				k.Deadline = stamp(c.Until)
			}
		} else {
			f.Target.Status.Reason = "fail"
		}
		r.Risks = append(r.Risks, k)
		f.Risks = []relatedRisk{{k.UUID}}
	}
	r.Findings = append(r.Findings, f)
}

func remarks(c control.Result) string {
	switch c.State {
	case control.Exempt:
		return fmt.Sprintf("It is exempt until %s, approved by %s.", stamp(c.Until), cmp.Or(c.Approver, "nobody"))
	case control.Fail:
		return ""
	}
	return "There is no data to judge it by. Unknown is not satisfied."
}

// counts says how many are what.
func counts(list []control.Result) string {
	n := map[control.State]int{}
	for _, c := range list {
		n[c.State]++
	}
	return fmt.Sprintf("%d controls: %d pass, %d fail, %d unknown, %d exempt. Unknown and exempt ones are reported as not satisfied, with their state as a property.",
		len(list), n[control.Pass], n[control.Fail], n[control.Unknown], n[control.Exempt])
}

// text is one line and never empty, as OSCAL wants titles and values.
func text(s string) string { return cmp.Or(strings.Join(strings.Fields(s), " "), "Nothing is said.") }
