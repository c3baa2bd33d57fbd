package credential

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/reevehq/reeve/internal/statement"
)

// errShape refuses a custody file whose list cannot be added to without writing other lines anew.
var errShape = errors.New("the credentials of this custody file are not a list of which each begins a line with a dash: write the record there by hand")

// Text is a record as it stands in a custody file, one item of the list.
func Text(c statement.Credential) (string, error) {
	b, err := yaml.MarshalWithOptions([]statement.Credential{c}, yaml.OmitZero(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		text.WriteString(strings.TrimPrefix(line, "  ")) // the encoder indents the outermost list too
	}
	return text.String(), err
}

// Insert returns the text of a custody file with one more record at the end of its credentials. Every other byte stays.
func Insert(file []byte, c statement.Credential) ([]byte, error) {
	item, err := Text(c)
	if err != nil {
		return nil, err
	}
	tree, err := parser.ParseBytes(file, 0)
	if err != nil {
		return nil, fmt.Errorf("reading the custody file: %w", err)
	}
	if len(tree.Docs) == 0 {
		return nil, errShape
	}
	top, ok := tree.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, errShape
	}
	lines := bytes.SplitAfter(file, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	} else {
		lines[n-1] = append(bytes.Clone(lines[n-1]), '\n')
	}
	join := func(upTo, from int, item string) []byte {
		return bytes.Join([][]byte{bytes.Join(lines[:upTo], nil), []byte(item), bytes.Join(lines[from:], nil)}, nil)
	}
	for _, member := range top.Values {
		if member.Key.String() != "credentials" {
			continue
		}
		at := member.Key.GetToken().Position.Line - 1
		list, ok := member.Value.(*ast.SequenceNode)
		switch {
		case ok && !list.IsFlowStyle && len(list.Values) > 0:
			dash := list.GetToken().Position.Column - 1
			end := after(lines, list.GetToken().Position.Line, dash)
			return join(end, end, indent(item, dash)), nil
		case ok && len(list.Values) == 0 && member.Value.GetToken().Position.Line-1 == at, member.Value.Type() == ast.NullType:
			return join(at, at+1, "credentials:\n"+indent(item, 2)), nil
		}
		return nil, errShape
	}
	return join(len(lines), len(lines), "credentials:\n"+indent(item, 2)), nil
}

// after is the number of lines up to the end of a block list whose first dash is in a line (from 1) at a column (from 0). Blank lines and
// comments that stand further left at the end belong to what comes next.
func after(lines [][]byte, first, dash int) int {
	end := first
	for i := first; i < len(lines); i++ {
		text := bytes.TrimRight(lines[i], " \r\n")
		column := len(text) - len(bytes.TrimLeft(text, " "))
		switch {
		case len(text) == 0 || column <= dash && text[column] == '#':
		case column > dash || column == dash && text[column] == '-':
			end = i + 1
		default:
			return end
		}
	}
	return end
}

func indent(text string, by int) string {
	margin := strings.Repeat(" ", by)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(margin)
		}
		b.WriteString(line)
	}
	return b.String()
}
