package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// What a command prints of others' texts goes through terminal.Printf: a newline in a name is no line of ours. fmt prints constants alone.
func TestPrintedThroughTerminal(t *testing.T) {
	files := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range file.Imports {
			if x.Path.Value == `"text/tabwriter"` {
				t.Errorf("%s: tables are table.New's, which fit a terminal", files.Position(x.Pos()))
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := f.X.(*ast.Ident); !ok || x.Name != "fmt" || !strings.Contains(f.Sel.Name, "rint") || strings.HasPrefix(f.Sel.Name, "S") {
				return true
			}
			calls++
			if strings.HasSuffix(f.Sel.Name, "f") || f.Sel.Name[0] == 'P' {
				t.Errorf("%s: fmt.%s; use terminal.Printf", files.Position(call.Pos()), f.Sel.Name)
			}
			for _, a := range call.Args[1:] {
				if !constant(a) {
					t.Errorf("%s: fmt.%s of more than constants; use terminal.Printf", files.Position(a.Pos()), f.Sel.Name)
				}
			}
			return true
		})
	}
	if calls == 0 {
		t.Error("no call was looked at")
	}
}

func constant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.BinaryExpr:
		return constant(e.X) && constant(e.Y)
	}
	return false
}
