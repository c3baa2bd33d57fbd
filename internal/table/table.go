// Package table lines up rows for people, so that they fit a terminal.
package table

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Columns is how wide a table is at most on a terminal.
const Columns = 100

// Table lines up what is written to it: cells end with a tab, rows with a newline; a line without a tab stands as it is, between two tables. On a
// terminal cells are folded so that a row is at most Columns wide, and what does not fit beside goes below it, each with its heading. Elsewhere, such
// as in a pipe, every row is one line, unless $COLUMNS says how wide they may be.
type Table struct {
	w     io.Writer
	width int // 0 for no limit
	text  bytes.Buffer
}

// New returns a table that Flush writes to w.
func New(w io.Writer) *Table {
	t := &Table{w: w}
	if x, ok := w.(screen); ok {
		t.width = x.columns
	}
	return t
}

// On is w, which goes to the file, for tables that fit the file's terminal, if it is one, or $COLUMNS.
func On(file *os.File, w io.Writer) io.Writer {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 40 {
		return screen{w, n}
	}
	if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return screen{w, Columns}
	}
	return w
}

type screen struct {
	io.Writer
	columns int
}

// Write takes a part of the table's text.
func (t *Table) Write(p []byte) (int, error) { return t.text.Write(p) }

// Flush writes the table.
func (t *Table) Flush() error {
	var out strings.Builder
	var rows [][]string
	for line := range strings.Lines(t.text.String()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "\t") {
			rows = append(rows, strings.Split(line, "\t"))
			continue
		}
		t.lay(&out, rows)
		rows = nil
		out.WriteString(line + "\n")
	}
	t.lay(&out, rows)
	t.text.Reset()
	_, err := io.WriteString(t.w, out.String())
	return err
}

const gap = 2 // between columns

// lay writes rows, the first of which is the headings.
func (t *Table) lay(out *strings.Builder, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	widths, least := measure(rows)
	beside := len(widths)
	if t.width > 0 {
		for beside > 2 && total(least[:beside]) > t.width {
			beside--
		}
		fit(widths[:beside], least, t.width)
	}
	for n, row := range rows {
		side := min(beside, len(row))
		cells := make([][]string, side)
		lines := 1
		for i := range cells {
			cells[i] = fold(row[i], widths[i])
			lines = max(lines, len(cells[i]))
		}
		for l := range lines {
			var b strings.Builder
			for i, cell := range cells {
				text := ""
				if l < len(cell) {
					text = cell[l]
				}
				b.WriteString(text)
				if i < len(row)-1 {
					b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+gap))
				}
			}
			out.WriteString(strings.TrimRight(b.String(), " ") + "\n")
		}
		if n > 0 && side < len(row) {
			below(out, rows[0], row, side, t.width)
		}
	}
}

// below writes the cells that have no room beside the others, each after its heading.
func below(out *strings.Builder, head, row []string, from, width int) {
	var parts []string
	for i := from; i < len(row); i++ {
		if row[i] == "" {
			continue
		}
		name := ""
		if i < len(head) {
			name = strings.ToLower(head[i]) + " "
		}
		parts = append(parts, name+row[i])
	}
	if len(parts) > 0 {
		for _, line := range fold(strings.Join(parts, "; "), width-4) {
			out.WriteString("    " + line + "\n")
		}
	}
}

// measure says how wide each column is by itself, and how narrow it can be made.
func measure(rows [][]string) (widths, least []int) {
	const most, short = 32, 16 // of a word that is not broken, the name of a credential; of what a column keeps
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths, least = append(widths, 0), append(least, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			for word := range strings.FieldsSeq(cell) {
				least[i] = max(least[i], min(utf8.RuneCountInString(word), most))
			}
		}
	}
	for i, w := range widths {
		least[i] = max(least[i], min(w, short))
	}
	return widths, least
}

func total(widths []int) int {
	n := gap * (len(widths) - 1)
	for _, w := range widths {
		n += w
	}
	return n
}

// fit narrows the widest columns until all have room, none below its least.
func fit(widths, least []int, width int) {
	for total(widths) > width {
		widest := -1
		for i := range widths {
			if widths[i] > least[i] && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// fold breaks a text into lines of a width, between words where it can.
func fold(text string, width int) (lines []string) {
	if width < 1 || utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		if n := utf8.RuneCountInString(line); n > 0 && n+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		r := []rune(word)
		for ; len(r) > width; r = r[width:] {
			lines = append(lines, string(r[:width]))
		}
		line = string(r)
	}
	return append(lines, line)
}
