// Package boundary reads the module's sources and says which imports break the law of the layers. It has no code that runs in
// a process: its tests are what enforces the law.
package boundary

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the module.
const Module = "github.com/reevehq/reeve"

// Graph is who imports whom: package path, relative to the module for our own, to the paths that its sources without tests
// import. Sources for every system are read, whatever their build constraints.
type Graph map[string][]string

// Read builds the graph of the module at root. Nested modules and testdata are left out.
func Read(root string) (Graph, error) {
	g := Graph{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(root, path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		return g.add(root, path)
	})
	return g, err
}

func skip(root, path, name string) error {
	if path == root {
		return nil
	}
	nested, _ := filepath.Glob(filepath.Join(path, "go.mod"))
	if len(nested) > 0 || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") {
		return filepath.SkipDir
	}
	return nil
}

func (g Graph) add(root, path string) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		return err
	}
	pkg := filepath.ToSlash(dir)
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		imported = strings.TrimPrefix(imported, Module+"/")
		if !slices.Contains(g[pkg], imported) {
			g[pkg] = append(g[pkg], imported)
		}
	}
	slices.Sort(g[pkg])
	return nil
}

// Chain returns the shortest chain of imports from a package to one that matches, itself not counted, or nil.
func (g Graph) Chain(from string, matches func(string) bool) []string {
	type step struct {
		pkg  string
		prev *step
	}
	seen := map[string]bool{from: true}
	queue := []*step{{pkg: from}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, next := range g[s.pkg] {
			if seen[next] {
				continue
			}
			seen[next] = true
			n := &step{next, s}
			if matches(next) {
				var chain []string
				for ; n != nil; n = n.prev {
					chain = append([]string{n.pkg}, chain...)
				}
				return chain
			}
			queue = append(queue, n)
		}
	}
	return nil
}

// Rule forbids packages under From to reach, directly or through others, packages under To.
type Rule struct {
	From, To string // path prefixes: "internal/gateway" covers internal/gateway/openai
	Except   []string
	Why      string
}

// Break is one chain that a rule forbids.
type Break struct {
	Rule  Rule
	Chain []string
}

func (b Break) String() string {
	return fmt.Sprintf("%s: %s", strings.Join(b.Chain, " → "), b.Rule.Why)
}

// Breaks returns every chain that a rule forbids, one for each package it starts from.
func (g Graph) Breaks(rules []Rule) []Break {
	var breaks []Break
	for _, r := range rules {
		for pkg := range g {
			if !under(pkg, r.From) || slices.Contains(r.Except, pkg) {
				continue
			}
			chain := g.Chain(pkg, func(p string) bool { return under(p, r.To) && !under(p, r.From) })
			if chain != nil {
				breaks = append(breaks, Break{r, chain})
			}
		}
	}
	slices.SortFunc(breaks, func(a, b Break) int { return strings.Compare(a.String(), b.String()) })
	return breaks
}

// under reports whether pkg is prefix or below it. A prefix that ends in "." matches any first path element with a dot: the
// modules of others.
func under(pkg, prefix string) bool {
	if prefix == "." {
		first, _, _ := strings.Cut(pkg, "/")
		return strings.Contains(first, ".") && !strings.HasPrefix(pkg, Module)
	}
	return pkg == prefix || strings.HasPrefix(pkg, prefix+"/")
}
