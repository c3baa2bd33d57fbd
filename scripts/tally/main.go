// Command tally reads `go test -json` from standard input, prints it as a person wants it (one line a package, whole output of
// what failed) and adds its counts to a file. `tally -sum FILE` prints what was skipped and why, and the closing line.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// counts is one line of the file.
type counts struct {
	Passed, Failed int
	Skipped        []string // "package Test: reason"
}

func main() {
	file := flag.String("file", "", "add the counts to this `file`")
	sum := flag.String("sum", "", "print the sum of this `file` and exit")
	flag.Parse()
	var err error
	failed := false
	if *sum != "" {
		failed, err = printSum(*sum)
	} else {
		failed, err = follow(*file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// event is one line of `go test -json` (cmd/test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// tests collects a run.
type tests struct {
	counts
	output map[string][]string // by package and test
	broken map[string]bool     // packages with a failed test
}

func follow(file string) (failed bool, err error) {
	t := tests{output: map[string][]string{}, broken: map[string]bool{}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // not JSON: the go command's own words
			continue
		}
		t.take(&e)
	}
	if err := in.Err(); err != nil {
		return true, err
	}
	return t.Failed > 0, appendLine(file, t.counts)
}

func (t *tests) take(e *event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		t.output[key] = append(t.output[key], e.Output)
		return
	case "build-output":
		fmt.Print(e.Output)
		return
	case "pass":
		if e.Test != "" {
			t.Passed++
		} else {
			fmt.Printf("ok    %-48s %7.1f s\n", short(e.Package), e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			t.Skipped = append(t.Skipped, fmt.Sprintf("%s %s: %s", short(e.Package), e.Test, reason(t.output[key])))
		}
	case "fail":
		if e.Test != "" || !t.broken[e.Package] { // a package's own failure counts when no test of it did
			t.Failed++
		}
		t.broken[e.Package] = true
		fmt.Printf("FAIL  %s %s\n%s", short(e.Package), e.Test, strings.Join(t.output[key], ""))
	default:
		return
	}
	delete(t.output, key)
}

// reason is the message of t.Skip: the last line of the form "    file.go:12: message" that is not testscript's own account of a script.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ".go:")
		if _, message, found := strings.Cut(rest, ": "); ok && found && file != "testscript" {
			return message
		}
	}
	return "no reason given"
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/reevehq/reeve/") }

func appendLine(path string, c counts) error {
	if path == "" {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func printSum(path string) (failed bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return true, err
	}
	var all counts
	for line := range strings.Lines(string(b)) {
		var c counts
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return true, err
		}
		all.Passed += c.Passed
		all.Failed += c.Failed
		all.Skipped = append(all.Skipped, c.Skipped...)
	}
	if len(all.Skipped) > 0 {
		fmt.Println("\nSkipped, and why:")
	}
	for _, s := range all.Skipped {
		fmt.Println("  SKIP:", s)
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", all.Passed, all.Failed, len(all.Skipped))
	return all.Failed > 0 || all.Passed == 0, nil
}
