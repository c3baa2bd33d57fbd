package incident

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/statement"
)

//go:embed page.html
var pageText string

// Page is a report with what was signed of it.
type Page struct {
	*Report
	Hash       string      // hex SHA-256 of the report's JSON
	Signatures []Signature // none for a draft
	Waits      string      // name of the step that lacks a signature
}

// Signature is one person's, over the report's hash.
type Signature struct {
	Person Person
	Time   time.Time
	By     statement.Approval
	Step   int64
	Line   string // hash of the journal's line that holds it
}

// Encode writes the report's JSON: the bytes that its hash is of.
func (r *Report) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// Signed is who signed a report of that hash, by the journal's newest step of it.
func (j *Journal) Signed(hash string, set *statement.Set) (list []Signature) {
	for i := range j.Steps {
		s := &j.Steps[i]
		if s.Kind != KindReport || s.SHA256 != hash {
			continue
		}
		list = nil
		for _, a := range set.Charter.Approvals(s.Env.PayloadType, s.Env.Payload, s.Env.Signatures) {
			p := Person{ID: a.Person}
			if x, ok := set.Person(a.Person); ok {
				p.Name = x.Name
			}
			list = append(list, Signature{Person: p, Time: s.Time.UTC(), By: a, Step: s.Number, Line: s.Hash})
		}
	}
	return list
}

// WriteHTML writes the report as one page that holds everything it shows.
func (p *Page) WriteHTML(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"at":      func(t time.Time) string { return stamp(t, "2006-01-02 15:04:05") },
		"precise": func(t time.Time) string { return stamp(t, "2006-01-02 15:04:05.000") },
		"list":    func(l []string) string { return strings.Join(l, ", ") },
		"entry":   func(r control.Ref) string { return fmt.Sprintf("%s:%d", r.Log, r.Seq) },
		"classes": func() []blast.Class { return blast.Classes },
		"shown": func() []blast.Class {
			return slices.DeleteFunc(slices.Clone(blast.Classes), func(c blast.Class) bool { return c == blast.Excluded })
		},
		"count":   func(m map[blast.Class]int, c blast.Class) int { return m[c] },
		"slug":    func(c blast.Class) string { return strings.ToLower(string(c)) },
		"seconds": span,
		"percent": func(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) },
		"short": func(s string) string {
			if len(s) > 16 {
				return s[:16] + "…"
			}
			return s
		},
		"person": p.person,
		"people": func(ids []string) string {
			var names []string
			for _, id := range ids {
				names = append(names, p.person(id))
			}
			if len(names) == 0 {
				return "nobody"
			}
			return strings.Join(names, ", ")
		},
		"timebar": p.timebar,
		"opened":  p.opened,
		"changed": func(c Control) bool { return c.Before != c.After },
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("the report's page: %w", err)
	}
	return t.Execute(w, p)
}

func stamp(t time.Time, layout string) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format(layout) + " Z"
}

// span says a number of seconds; a negative one is not known.
func span(s float64) string {
	switch {
	case s < 0:
		return "not known"
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 120:
		return fmt.Sprintf("%.1f s", s)
	case s < 7200:
		return fmt.Sprintf("%.1f min", s/60)
	}
	return fmt.Sprintf("%.1f h", s/3600)
}

// person names somebody.
func (p *Page) person(id string) string {
	if i := slices.IndexFunc(p.People, func(x Person) bool { return x.ID == id }); i >= 0 {
		return p.People[i].String()
	}
	return id
}

// Mark is an instant on the picture of the timeline.
type Mark struct {
	X     float64
	Text  float64 // where its label is centred
	Label string
	At    string
	Row   int
	Color string
}

// Bar is the picture of the timeline: 1000 units wide.
type Bar struct {
	Cut                    bool // the window began before the picture does
	Marks                  []Mark
	WindowX, WindowW       float64
	MisuseX, MisuseW       float64
	ContainedX, ContainedW float64
	HasMisuse, IsContained bool
}

// opened reports whether what was contained is open again.
func (p *Page) opened() bool { return !p.Contained && len(p.Containment.Held) > 0 }

// timebar places the window, the misuse, the opening and the containment on one line. Of a window that is much longer than all of them only the
// end is shown.
func (p *Page) timebar() Bar {
	first, to := p.To, p.To
	for _, t := range []time.Time{p.Misuse.First, p.Opened, p.Containment.Contained, p.Closed, p.Misuse.Last} {
		if t.IsZero() {
			continue
		}
		if t.After(to) {
			to = t
		}
		if t.Before(first) {
			first = t
		}
	}
	from, b := p.From, Bar{}
	if margin := to.Sub(first) / 4; margin > 0 && first.Add(-margin).After(from) {
		from, b.Cut = first.Add(-margin), true
	}
	whole := max(to.Sub(from).Seconds(), 1e-3)
	x := func(t time.Time) float64 { return min(max(20+960*t.Sub(from).Seconds()/whole, 20), 980) }
	b.WindowX = x(p.From)
	b.WindowW = max(x(p.To)-b.WindowX, 3)
	add := func(t time.Time, label, color string) {
		if !t.IsZero() {
			b.Marks = append(b.Marks, Mark{X: x(t), Label: label, At: t.UTC().Format("15:04:05"), Color: color})
		}
	}
	if m := p.Misuse; !m.First.IsZero() {
		b.HasMisuse, b.MisuseX, b.MisuseW = true, x(m.First), max(x(m.Last)-x(m.First), 3)
		add(m.First, "first misuse", "#b3261e")
		if b.MisuseW > 60 {
			add(m.Last, "last misuse", "#b3261e")
		}
	}
	add(p.Opened, "opened", "#33415c")
	if c := p.Containment.Contained; !c.IsZero() {
		b.IsContained, b.ContainedX = true, x(c)
		b.ContainedW = max(980-b.ContainedX, 3)
		add(c, "contained", "#1b6e3c")
		if p.opened() {
			until := p.Containment.Held[0].Until
			b.ContainedW = max(x(until)-b.ContainedX, 3)
			add(until, "opened again", "#33415c")
		}
	}
	slices.SortStableFunc(b.Marks, func(m, n Mark) int { return cmp.Compare(m.X, n.X) })
	free := [2]float64{45, 45} // from where on a label has room, above and below
	for i := range b.Marks {
		m := &b.Marks[i]
		m.Row = i % 2
		m.Text = max(m.X, free[m.Row])
		free[m.Row] = m.Text + 90
	}
	free = [2]float64{955, 955} // and up to where: what was pushed over the end goes back
	for i := range slices.Backward(b.Marks) {
		m := &b.Marks[i]
		m.Text = min(m.Text, free[m.Row])
		free[m.Row] = m.Text - 90
	}
	return b
}
