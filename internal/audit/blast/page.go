package blast

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// listed is how many rows of a class the page lists; the JSON has all.
const listed = 200

// page is what the template shows.
type page struct {
	*Answer
	Title   string
	Annex   *Annex
	Tiles   []tile
	Picture *picture
	ByUnit  []unitLine
	Tables  []table
	Flags   string
	Unread  bool // nothing was read, or is out of band
}

type tile struct {
	Class   Class
	Style   string
	Count   int
	Meaning string
}

// unitLine is one business unit's share.
type unitLine struct {
	Unit                                     string
	Counts                                   []int // as Classes
	Uses                                     int64
	Policy, Operations, Lifecycle, Approvers []string
}

// table is the rows of one class.
type table struct {
	Class Class
	Style string
	Rows  []Row
	More  int
	Used  bool // a row has uses
}

// meanings is what each class means, in a few words.
func meanings() map[Class]string {
	return map[Class]string{
		Read:         "plaintext was in it",
		OutOfBand:    "the provider saw more than the ledgers",
		UsedAsserted: "a bearer token, or its own word",
		UsedProven:   "the workload signed each request",
		Reachable:    "permitted, or not known; no entry",
		Excluded:     "denied, and the ledgers are complete",
	}
}

// WritePage writes an answer as one HTML page that needs nothing else.
func WritePage(w io.Writer, a *Answer) error {
	return write(w, &page{Answer: a, Title: "Blast radius of " + a.Subject})
}

// WriteAnnex writes a business unit's annex as one HTML page that needs nothing else.
func WriteAnnex(w io.Writer, x *Annex) error {
	return write(w, &page{Answer: x.Answer, Annex: x, Title: "Annex of " + x.Unit + ": " + x.Answer.Subject})
}

func write(w io.Writer, p *page) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"stamp": func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format("2006-01-02 15:04:05Z")
		},
		"join":   func(list []string) string { return strings.Join(list, ", ") },
		"proofs": proofs,
		"few": func(list []string) string { // where there can be thousands: what they are is in the tables and the JSON
			if len(list) > 6 {
				return strings.Join(list[:5], ", ") + " and " + plural(len(list)-5, "other")
			}
			return strings.Join(list, ", ")
		},
		"short": func(list []string) string {
			if len(list) > 4 {
				return strings.Join(list[:4], ", ") + " and " + plural(len(list)-4, "more")
			}
			return strings.Join(list, ", ")
		},
	}).Parse(pageText)
	if err != nil {
		return err
	}
	p.fill()
	return t.Execute(w, p)
}

// fill makes what the template shows of the answer.
func (p *page) fill() {
	units := map[string]*unitLine{}
	mean := meanings()
	p.Unread = p.Counts[Read]+p.Counts[OutOfBand] == 0
	rows := map[Class][]Row{}
	for _, r := range p.Rows {
		rows[r.Class] = append(rows[r.Class], r)
		u := units[r.Unit]
		if u == nil {
			u = &unitLine{Unit: r.Unit, Counts: make([]int, len(Classes))}
			units[r.Unit] = u
		}
		u.Counts[slices.Index(Classes, r.Class)]++
		if u.Uses += r.Uses; r.Class != Excluded {
			a := r.Accountable
			u.Policy, u.Operations, u.Approvers = union(u.Policy, a.Policy), union(u.Operations, a.Operations), union(u.Approvers, a.Approvers)
			u.Lifecycle = insert(u.Lifecycle, a.Lifecycle)
		}
	}
	for _, c := range Classes {
		p.Tiles = append(p.Tiles, tile{c, c.style(), p.Counts[c], mean[c]})
		if list := rows[c]; c != Excluded && len(list) > 0 {
			n := min(len(list), listed)
			p.Tables = append(p.Tables, table{c, c.style(), list[:n], len(list) - n, slices.ContainsFunc(list, func(r Row) bool { return r.Uses > 0 })})
		}
	}
	for _, u := range slices.Sorted(maps.Keys(units)) {
		if line := units[u]; line.Counts[len(Classes)-1] < sum(line.Counts) {
			p.ByUnit = append(p.ByUnit, *line)
		}
	}
	slices.SortStableFunc(p.ByUnit, func(a, b unitLine) int { return slices.Compare(b.Counts, a.Counts) })
	for _, f := range p.Component.Effective(p.From) {
		p.Flags = strings.TrimPrefix(p.Flags+", "+string(f), ", ")
	}
	p.Picture = draw(p.Answer)
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

// proofs are the proofs of a row's uses with their counts.
func proofs(m map[string]int64) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s ×%d", k, m[k]))
	}
	return strings.Join(list, ", ")
}
