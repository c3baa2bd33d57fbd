package blast

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// picture is who reaches what: the subject, the credentials grouped by business unit, and where they go. Lengths are pixels.
type picture struct {
	Width, Height int
	Boxes         []box
	Bands         []band
	Note          string
}

// box is a node.
type box struct {
	X, Y, W, H   int
	Title, Under string
	Class        string // CSS
	Bars         []bar
	Lines        []line
	TextX        int
}

// bar is a part of a box's bar of classes.
type bar struct {
	X, Y, W int
	Class   string
	Title   string
}

// line is a credential in a box.
type line struct {
	X, Y  int
	Text  string
	Class string
}

// band goes from one box to another.
type band struct {
	Path  string
	Width float64
	Class string
	Title string
	order int
}

// Of the picture's columns.
const (
	leftX, leftW   = 8, 170
	unitX, unitW   = 392, 300
	rightX, rightW = 892, 260
	total          = rightX + rightW + 8
	each           = 40 // credentials in all up to which each is drawn
	most           = 24 // destinations that are drawn, and units with something to say
)

// style is a class's name in CSS.
func (c Class) style() string { return strings.ToLower(strings.ReplaceAll(string(c), "-", "")) }

// group is the rows of one unit that are drawn.
type group struct {
	unit   string
	rows   []Row
	counts map[Class]int
	to     map[string]map[Class]int // by destination
	y, h   int
}

func (g *group) worst() int {
	return slices.IndexFunc(Classes, func(c Class) bool { return g.counts[c] > 0 })
}

// draw makes the picture of an answer. What is excluded is counted and not drawn.
func draw(a *Answer) *picture {
	groups, excluded := groupsOf(a)
	p := &picture{Width: total}
	n := 0
	for _, g := range groups {
		n += len(g.rows)
	}
	if len(groups) == 0 {
		return nil
	}
	places, more := destinations(groups)
	y := 8
	for _, g := range groups {
		g.y, g.h = y, 46
		b := box{X: unitX, Y: y, W: unitW, H: 46, Title: clip(g.unit, 30), TextX: unitX + 12, Class: "unit", Under: plural(len(g.rows), "credential")}
		x, room := float64(unitX+130), float64(unitW-142)
		for _, c := range Classes {
			if k := g.counts[c]; k > 0 {
				w := room * float64(k) / float64(len(g.rows))
				b.Bars = append(b.Bars, bar{X: int(x), Y: y + 29, W: max(int(w), 2), Class: c.style(), Title: fmt.Sprintf("%s: %d", c, k)})
				x += w
			}
		}
		if n <= each {
			for i, r := range g.rows {
				b.Lines = append(b.Lines, line{X: unitX + 12, Y: y + 60 + 17*i, Text: clip(r.Credential, 34), Class: r.Class.style()})
			}
			g.h += 8 + 17*len(g.rows)
			b.H = g.h
		}
		p.Boxes = append(p.Boxes, b)
		y += g.h + 12
	}
	ends := map[string][2]int{}
	step := max(46, (y-8)/max(len(places), 1))
	for i, d := range places {
		arriving := 0
		for _, g := range groups {
			arriving += len(g.to[d])
		}
		high := max(38, min(step-12, 8*arriving))
		top := 8 + i*step + (step-high)/2
		ends[d] = [2]int{top, high}
		p.Boxes = append(p.Boxes, box{X: rightX, Y: top, W: rightW, H: high, Title: clip(d, 34), TextX: rightX + 12, Class: "place"})
		y = max(y, top+high+12)
	}
	name := a.Component.ID
	kind, id, _ := strings.Cut(a.Subject, ":")
	if name == "" {
		name = id
	}
	h := max(64, min(y-24, 40+10*len(groups)))
	top := 8 + (y-16-h)/2
	p.Boxes = append(p.Boxes, box{X: leftX, Y: top, W: leftW, H: h, Title: clip(cmp.Or(name, kind), 20), Under: kind, TextX: leftX + 14, Class: "subject"})
	p.bands(groups, ends, top, h)
	slices.SortStableFunc(p.Bands, func(a, b band) int { return cmp.Compare(b.order, a.order) }) // the worst on top
	p.Height = y
	var note []string
	if more > 0 {
		note = append(note, fmt.Sprintf("%d more destinations are drawn as one.", more))
	}
	if excluded > 0 {
		note = append(note, plural(excluded, "pair")+" of credential and unit are EXCLUDED and not drawn.")
	}
	p.Note = strings.Join(note, " ")
	return p
}

// groupsOf are the units with something to say, the worst first. The least of many are one.
func groupsOf(a *Answer) (list []*group, excluded int) {
	by := map[string]*group{}
	for _, r := range a.Rows {
		if r.Class == Excluded {
			excluded++
			continue
		}
		g := by[r.Unit]
		if g == nil {
			g = &group{unit: cmp.Or(r.Unit, "of no unit"), counts: map[Class]int{}, to: map[string]map[Class]int{}}
			by[r.Unit] = g
		}
		g.add(r)
	}
	list = slices.Collect(maps.Values(by))
	slices.SortFunc(list, func(x, y *group) int {
		return cmp.Or(cmp.Compare(x.worst(), y.worst()), cmp.Compare(y.counts[Classes[x.worst()]], x.counts[Classes[x.worst()]]), cmp.Compare(x.unit, y.unit))
	})
	if len(list) > most {
		rest := &group{unit: fmt.Sprintf("%d more units", len(list)-most+1), counts: map[Class]int{}, to: map[string]map[Class]int{}}
		for _, g := range list[most-1:] {
			for _, r := range g.rows {
				rest.add(r)
			}
		}
		list = append(list[:most-1], rest)
	}
	return list, excluded
}

func (g *group) add(r Row) {
	to := cmp.Or(strings.TrimPrefix(r.Destination, "https://"), "not known")
	g.rows = append(g.rows, r)
	g.counts[r.Class]++
	if g.to[to] == nil {
		g.to[to] = map[Class]int{}
	}
	g.to[to][r.Class]++
}

// destinations are where the drawn credentials go, the most frequent first. The least of many become one.
func destinations(groups []*group) (list []string, more int) {
	counts := map[string]int{}
	for _, g := range groups {
		for d, classes := range g.to {
			for _, n := range classes {
				counts[d] += n
			}
		}
	}
	list = slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	if len(list) <= most {
		return list, 0
	}
	more = len(list) - most + 1
	rest := plural(more, "other destination")
	for _, g := range groups {
		for _, d := range list[most-1:] {
			for c, n := range g.to[d] {
				if g.to[rest] == nil {
					g.to[rest] = map[Class]int{}
				}
				g.to[rest][c] += n
			}
			delete(g.to, d)
		}
	}
	return append(list[:most-1:most-1], rest), more
}

// bands draws from the subject to the units, and from the units to the destinations; the width is by the logarithm of the number of credentials.
func (p *picture) bands(groups []*group, ends map[string][2]int, top, h int) {
	at := float64(top) + 8
	step := (float64(h) - 16) / float64(len(groups))
	arrive := map[string]int{} // bands that have arrived
	due := map[string]int{}
	for _, g := range groups {
		for d := range g.to {
			due[d]++
		}
	}
	for i, g := range groups {
		y := at + step*(float64(i)+0.5)
		shift := 0.0
		for _, c := range slices.Backward(Classes) { // the worst on top
			if n := g.counts[c]; n > 0 {
				p.band(leftX+leftW, y, unitX, float64(g.y)+23+shift, n, c, fmt.Sprintf("%s: %s of %s", c, plural(n, "credential"), g.unit))
				shift += width(n)
			}
		}
		for j, d := range slices.Sorted(maps.Keys(g.to)) {
			from := float64(g.y) + float64(g.h)*(float64(j)+1)/float64(len(g.to)+1)
			to := float64(ends[d][0]) + float64(ends[d][1])*(float64(arrive[d])+1)/float64(due[d]+1)
			arrive[d]++
			shift := 0.0
			for _, c := range slices.Backward(Classes) {
				if n := g.to[d][c]; n > 0 {
					p.band(unitX+unitW, from+shift, rightX, to, n, c, fmt.Sprintf("%s: %s of %s go to %s", c, plural(n, "credential"), g.unit, d))
					shift += width(n)
				}
			}
		}
	}
}

// width is a band's, for so many credentials.
func width(n int) float64 { return 2 + 4*math.Log10(float64(n)+1) }

func (p *picture) band(x1 int, y1 float64, x2 int, y2 float64, n int, c Class, title string) {
	m := float64(x1+x2) / 2
	p.Bands = append(p.Bands, band{Path: fmt.Sprintf("M%d %.1f C%.1f %.1f %.1f %.1f %d %.1f", x1, y1, m, y1, m, y2, x2, y2), Width: math.Round(10*width(n)) / 10,
		Class: c.style(), Title: title, order: slices.Index(Classes, c)})
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
