package table

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a table holds, no row is wider than a terminal, nothing of it is lost there, and elsewhere each row is one line.
func TestTableFits(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	for range 300 {
		columns := 2 + random.Intn(14)
		var text strings.Builder
		var cells []string
		rows := 2 + random.Intn(5)
		for range rows {
			var row []string
			for range columns {
				var words []string
				for range random.Intn(6) {
					words = append(words, strings.Repeat("ä", 1+random.Intn(3))+strings.Repeat("x", random.Intn(40)))
				}
				row = append(row, strings.Join(words, " "))
			}
			cells = append(cells, row...)
			text.WriteString(strings.Join(row, "\t") + "\n")
		}
		var wide bytes.Buffer
		var here bytes.Buffer
		for _, table := range []*Table{New(&wide), New(screen{&here, Columns})} {
			fmt.Fprint(table, text.String())
			if err := table.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(wide.String(), "\n"); n != rows {
			t.Fatalf("%d rows are %d lines in a pipe", rows, n)
		}
		for line := range strings.Lines(here.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > Columns {
				t.Fatalf("%d columns: %q", n, line)
			}
		}
		count := func(s string) int { return strings.Count(s, "x") }
		lost := count(strings.Join(cells, "")) - count(here.String())
		if lost > count(strings.Join(cells[:columns], "")) || lost > 0 && !strings.Contains(here.String(), "    ") { // headings go where their columns go
			t.Fatalf("%d characters are lost:\n%s\n%s", lost, text.String(), here.String())
		}
	}
}

func TestTable(t *testing.T) {
	rows := "Two tables.\n\nA\tB\nlong cell\t1\n\nCREDENTIAL\tWHY\tWHO\tWHERE\nresearch-openai\t" + strings.Repeat("word ", 20) + "end\tada\tin-a-place-with-a-name-of-32-runes\n"
	for width, want := range map[int]string{
		0: "Two tables.\n\nA          B\nlong cell  1\n\nCREDENTIAL       WHY" + strings.Repeat(" ", 102) + "WHO  WHERE\nresearch-openai  " + strings.Repeat("word ", 20) + "end  ada  in-a-place-with-a-name-of-32-runes\n",
		60: `Two tables.

A          B
long cell  1

CREDENTIAL       WHY                                     WHO
research-openai  word word word word word word word      ada
                 word word word word word word word
                 word word word word word word end
    where in-a-place-with-a-name-of-32-runes
`,
	} {
		var out bytes.Buffer
		table := New(screen{&out, width})
		fmt.Fprint(table, rows)
		if err := table.Flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%d:\n%s\nnot\n%s", width, out.String(), want)
		}
	}
}
