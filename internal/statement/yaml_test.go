package statement

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name string            `yaml:"name"`
	N    int64             `yaml:"n"`
	On   bool              `yaml:"on"`
	At   time.Time         `yaml:"at"`
	For  Duration          `yaml:"for"`
	List []sample          `yaml:"list"`
	Map  map[string]string `yaml:"map"`
}

func TestParse(t *testing.T) {
	var v sample
	_, err := parse("f.yaml", []byte("# head\nname: a # tail\nn: 3\non: true\nat: 2026-11-23T05:50:00Z\nfor: 1h5s\nlist:\n  - name: \"b\"\n    at: '2026-01-02T00:00:00Z'\nmap: {x: y}\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name != "a" || v.N != 3 || !v.On || v.At.Unix() != 1795413000 || time.Duration(v.For) != time.Hour+5*time.Second || v.List[0].Name != "b" || v.List[0].At.Year() != 2026 || v.Map["x"] != "y" {
		t.Fatalf("%+v", v)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name, text   string
		line, column int
	}{
		{"unknown field", "name: a\nlist:\n  - name: b\n    nmae: c\n", 4, 5},
		{"duplicate key", "name: a\nn: 1\nname: b\n", 3, 1},
		{"duplicate key in a map", "map:\n  a: b\n  a: c\n", 3, 3},
		{"duplicate key, other spelling", "name: a\n\"name\": b\n", 2, 1},
		{"anchor", "name: &x a\n", 1, 7},
		{"alias", "map: {a: *x}\n", 1, 10},
		{"merge key", "map:\n  <<: {a: b}\n", 2, 3},
		{"tag", "name: !!str 1\n", 1, 7},
		{"two documents", "name: a\n---\nname: b\n", 0, 0},
		{"directive", "%YAML 1.2\n---\nname: a\n", 0, 0},
		{"empty", "", 0, 0},
		{"only a comment", "# nothing\n", 0, 0},
		{"a list", "- name: a\n", 0, 0},
		{"a scalar", "name\n", 0, 0},
		{"a list for a word", "name: [a]\n", 1, 7},
		{"a word for a number", "n: many\n", 1, 4},
		{"a fraction", "n: 1.5\n", 1, 4},
		{"too big a number", "n: 9223372036854775808\n", 1, 4},
		{"a word for yes or no", "on: yes\n", 1, 5},
		{"no such day", "at: 2026-02-30T00:00:00Z\n", 1, 5},
		{"a date without time", "at: 2026-02-03\n", 1, 5},
		{"a negative duration", "for: -1s\n", 1, 6},
		{"a duration without unit", "for: 30\n", 1, 6},
		{"a tab", "map:\n\ta: b\n", 2, 1},
		{"byte order mark", "\xef\xbb\xbfname: a\n", 0, 0},
		{"not UTF-8", "name: \xff\n", 0, 0},
		{"deep", "map: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", 1, 0},
		{"a long flow", "list: [" + strings.Repeat("a,\n", 2000) + "]\n", 1001, 1},
		{"very deep", "map: " + strings.Repeat("[", 1<<18) + "\n", 1, 1},
		{"very deep blocks", strings.Repeat("- ", 1<<18) + "a\n", 1, 1},
		{"very deep indentation", "a:\n" + strings.Repeat(" ", 100) + "b: c\n", 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v sample
			_, err := parse("f.yaml", []byte(c.text), &v)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrRefused) {
				t.Fatalf("not refused: %v %+v", err, v)
			}
			if e.Rule != "yaml" || e.File != "f.yaml" || e.Line != c.line || c.column > 0 && e.Column != c.column {
				t.Fatalf("want %d:%d, got %v", c.line, c.column, e)
			}
		})
	}
}

func TestParseRefusesSize(t *testing.T) {
	var v sample
	_, err := parse("f.yaml", bytes.Repeat([]byte("#\n"), 1<<19+1), &v)
	var e *Error
	if !errors.As(err, &e) || e.Rule != "size" {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: a\nlist:\n  - {n: 1}\n"))
	f.Add([]byte("at: 2026-02-30T00:00:00Z\nfor: 1s\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Charter
		if d, err := parse("f", b, &c); err == nil {
			_ = checkCharter(&c, d)
		} else if !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
	})
}
