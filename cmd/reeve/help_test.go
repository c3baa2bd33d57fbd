package main

import (
	"bytes"
	"cmp"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/process"
)

// eachCommand calls f with each command that a person sees, the overview first.
func eachCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			eachCommand(sub, f)
		}
	}
}

func TestHelp(t *testing.T) {
	root := newRoot()
	for _, c := range root.Commands() {
		if c.GroupID == "" {
			t.Errorf("%s stands under no heading of the overview", c.CommandPath())
		}
	}
	eachCommand(root, func(c *cobra.Command) {
		if c.Runnable() && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		var help bytes.Buffer
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			t.Error(err)
		}
		example := false
		for line := range strings.Lines(help.String()) {
			example = strings.HasPrefix(line, "Examples:") || example && line != "\n"
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 100 && !example && !strings.Contains(line, " [flags]") {
				t.Errorf("%s --help has a line of %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for line := range commandLines("```\n" + c.Example) {
			if err := parse(line, true); err != nil {
				t.Errorf("%s --help: %s: %v", c.CommandPath(), line, err)
			}
		}
	})
}

// The command line says its version as the processes do.
func TestVersion(t *testing.T) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"--version"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if want := "reeve " + process.Version + "\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// TestDocs parses every command line of the pages that people paste from: a command or flag that is not there any more is found here.
func TestDocs(t *testing.T) {
	found := 0
	read := func(path string) {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line, block := range commandLines(string(page)) {
			if err := parse(line, block); err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
			found++
		}
	}
	read("../../README.md")
	for _, pattern := range []string{"*.md", "formats/*.md", "procedures/*.md"} { // decisions name what was decided against, too
		pages, err := filepath.Glob("../../docs/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pages {
			read(path)
		}
	}
	if found < 100 {
		t.Errorf("only %d command lines were found", found)
	}
}

// TestWhatToDo: the commands that a control's advice names are there.
func TestWhatToDo(t *testing.T) {
	c, err := control.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`reeve [a-z-]+( [a-z-]+)?`)
	found := 0
	for _, x := range c.Controls {
		for _, line := range named.FindAllString(x.Act, -1) {
			if err := parse(line, false); err != nil {
				t.Errorf("%s: %s: %v", x.ID, line, err)
			}
			found++
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found", found)
	}
}

// parse tells why a command line cannot be: its command, a flag, or, when it is whole, the number of its arguments.
func parse(line string, whole bool) error {
	c, rest, err := newRoot().Find(words(line)[1:])
	if err != nil || len(rest) > 0 && slices.Contains(rest, "--help") {
		return err
	}
	if err := c.ParseFlags(rest); err != nil && (whole || !strings.Contains(err.Error(), "needs an argument")) {
		return err
	}
	if !whole {
		return nil
	}
	if !c.Runnable() {
		return errors.New("it has parts, and none is named")
	}
	return cmp.Or(c.ValidateArgs(c.Flags().Args()), c.ValidateRequiredFlags())
}

// commandLines gives each command line of reeve in a page's blocks of code (true), and what it has of them between backquotes.
func commandLines(page string) iter.Seq2[string, bool] {
	page = strings.ReplaceAll(page, "\\\n", " ")
	return func(yield func(string, bool) bool) {
		fenced := false
		for line := range strings.Lines(page) {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
				continue
			}
			list := []string{line}
			block := fenced || strings.HasPrefix(line, "    ")
			if !block {
				list = strings.Split(line, "`")
				for i := range list {
					if i%2 == 0 {
						list[i] = "" // outside of the backquotes
					}
				}
			}
			for _, part := range list {
				part = strings.TrimPrefix(strings.TrimSpace(part), "bin/")
				if strings.HasPrefix(part, "reeve ") && !yield(part, block) {
					return
				}
			}
		}
	}
}

// words splits a command line as a shell does, up to where its command ends.
func words(line string) (list []string) {
	var word strings.Builder
	var quote rune
	in := false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ':
			if in {
				list = append(list, word.String())
			}
			in = false
			word.Reset()
		case !in && strings.ContainsRune("#|<>&;", r):
			return list
		default:
			in = true
			word.WriteRune(r)
		}
	}
	return list
}
