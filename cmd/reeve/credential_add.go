package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/credential"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialAddCmd() *cobra.Command {
	var draft credential.Draft
	var set []string
	var show, asJSON bool
	cmd := &cobra.Command{
		Use:   "add [NAME]",
		Short: "Write a new credential's record, and show what to set up at the provider",
		Long: "Write the record of a new credential to the end of units/UNIT/custody.yaml, where nothing else is changed, and show what to set\n" +
			"up at the provider: the trust rule, role or app to paste, with issuer, audience and subject filled in. What the flags leave open\n" +
			"is asked on the terminal; without one, what most would answer is taken. Nothing is signed: the record is used once the owners have.\n\n" +
			templates(),
		Example: "  reeve credential add\n" +
			"  reeve credential add support-bot --unit support --template slack --set client_id=12.34 --set home=c1\n" +
			"  reeve credential add --unit research --template bedrock --set region=eu-central-1 --set role_arn=arn:aws:iam::123456789012:role/reeve --show --json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				draft.ID = args[0]
			}
			for _, word := range set {
				name, value, ok := strings.Cut(word, "=")
				if !ok {
					return &exitError{exitUsage, fmt.Errorf("--set %q is not NAME=VALUE", word)}
				}
				if err := draft.Answer(name, value); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			a, err := addCredential(cmd, estateDir(d), &draft, show)
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, a)
			}
			a.print(cmd.OutOrStdout())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&draft.Unit, "unit", "", "the business `unit`")
	f.StringVar(&draft.Template, "template", "", "the `provider`, as above")
	f.StringVar(&draft.Source, "source", "", "where its secrets come from (default: what the provider does best)")
	f.StringVar(&draft.Owner, "owner", "", "the accountable lifecycle owner (default: the unit's first)")
	f.StringVar(&draft.Class, "class", "", "normal or high (default normal)")
	f.StringVar(&draft.Honey, "honey", "", "bait: alarm or freeze; nobody has a reason to use it")
	f.StringArrayVar(&set, "set", nil, "`NAME=VALUE` of what provider and source ask for; can be repeated")
	f.BoolVar(&show, "show", false, "show what would be written, and write nothing")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// templates lists them for the help.
func templates() string {
	var b strings.Builder
	b.WriteString("Templates, with the sources of each:\n")
	for _, t := range custody.Templates() {
		var sources []string
		for _, w := range t.Ways {
			sources = append(sources, w.Source)
		}
		terminal.Printf(&b, "  %-18s %s (%s)\n", t.Name, t.Doc, strings.Join(sources, ", "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// added is what was written, and what comes next.
type added struct {
	Credential string               `json:"credential"`
	File       string               `json:"file"`
	Written    bool                 `json:"written"`
	Text       string               `json:"text"` // of the record, YAML
	Identity   *credential.Identity `json:"identity,omitempty"`
	Setup      []credential.Step    `json:"setup"`
	Next       []string             `json:"next"`
}

func addCredential(cmd *cobra.Command, dir estate.Dir, draft *credential.Draft, show bool) (*added, error) {
	before, err := dir.Check()
	if err != nil {
		return nil, err
	}
	on := &interview{cmd: cmd}
	asked, err := on.complete(draft, before)
	if err != nil {
		return nil, err
	}
	c, err := draft.Record()
	if err != nil {
		return nil, err
	}
	name := "custody-" + draft.Unit
	files, err := dir.Files(name)
	if err != nil {
		return nil, err
	}
	if files["custody.yaml"], err = credential.Insert(files["custody.yaml"], c); err != nil {
		return nil, err
	}
	after, err := dir.CheckWith(name, files)
	if err != nil {
		return nil, err
	}
	if err := onlyAdded(before, after, draft.Unit); err != nil {
		return nil, err
	}
	filled, err := custody.Read(c)
	if err != nil {
		return nil, err
	}
	a := &added{Credential: c.ID, File: filepath.Join(string(dir), "units", draft.Unit, "custody.yaml"), Next: afterAdding(&filled, draft.Unit)}
	if a.Text, err = credential.Text(c); err != nil {
		return nil, err
	}
	id := credential.IdentityOf(after.Custody[draft.Unit], &filled)
	if a.Setup = credential.Setup(filled, id); filled.Source == "federation" {
		a.Identity = &id
	}
	if asked {
		terminal.Printf(cmd.ErrOrStderr(), "\n%s\n", terminal.Lines(a.Text))
		answer, err := on.line("Write this to the end of " + host.Shown(a.File) + "? [y/N] ")
		if err != nil {
			return nil, err
		}
		show = show || !strings.HasPrefix(strings.ToLower(answer), "y")
	}
	if !show {
		if err := durable.Replace(a.File, files["custody.yaml"], 0o644); err != nil {
			return nil, err
		}
		a.Written = true
	}
	return a, nil
}

// complete asks what is open, on the terminal, or takes what most would answer. It reports whether anything was asked.
func (i *interview) complete(draft *credential.Draft, set *statement.Set) (asked bool, err error) {
	for {
		q, err := draft.Next(set)
		if err != nil {
			return asked, &exitError{exitUsage, err}
		}
		if q == nil {
			return asked, nil
		}
		if len(q.Choices) == 1 {
			if err := draft.Answer(q.Name, q.Choices[0]); err != nil {
				return asked, err
			}
			continue
		}
		prompt := q.Ask
		if len(q.Choices) > 0 {
			prompt += " (" + strings.Join(q.Choices, ", ") + ")"
		}
		if q.Default != "" {
			prompt += " [" + q.Default + "]"
		}
		value, err := i.line(prompt + ": ")
		switch {
		case errors.Is(err, errNoTerminal) && q.Default == "":
			return asked, &exitError{exitUsage, fmt.Errorf("%s is missing, and %w: %s", flagOf(q.Name), err, prompt)}
		case err != nil && !errors.Is(err, errNoTerminal):
			return asked, err
		}
		asked = asked || err == nil
		if value == "" {
			value = q.Default
		}
		if err := draft.Answer(q.Name, value); err != nil {
			return asked, &exitError{exitUsage, err}
		}
	}
}

// flagOf is how an answer is given without a terminal.
func flagOf(name string) string {
	switch name {
	case "name":
		return "NAME"
	case "unit", "template", "source", "owner", "class":
		return "--" + name
	}
	return "--set " + name + "=…"
}

// onlyAdded refuses a file in which something else changed than that one record came.
func onlyAdded(before, after *statement.Set, unit string) error {
	was, is := *before.Custody[unit], *after.Custody[unit]
	is.Credentials = is.Credentials[:max(len(is.Credentials)-1, 0)]
	a, errA := json.Marshal(was)
	b, errB := json.Marshal(is)
	if errA != nil || errB != nil || !bytes.Equal(a, b) && len(was.Credentials)+len(is.Credentials) > 0 {
		return errors.New("the record cannot be written without changing another: write it into the custody file by hand")
	}
	return nil
}

// afterAdding is what comes once the record is written.
func afterAdding(c *statement.Credential, unit string) (next []string) {
	next = append(next, "reeve estate diff")
	next = append(next, fmt.Sprintf("reeve sign custody-%s --as AUTHOR, reeve approve custody-%s --as %s, then the lock, and reeve publish", unit, unit, c.Owner))
	if kind, ok := custody.FindKind(c.Source); ok && kind.Root != "" {
		next = append(next, fmt.Sprintf("reeve credential put %s --as %s < FILE, which holds %s", c.ID, c.Owner, kind.Root))
	}
	if c.Dialect != "" {
		next = append(next, fmt.Sprintf("name %s under a provider of operations.yaml, and permit its use in a policy of %s", c.ID, unit))
	}
	return next
}

func (a *added) print(w io.Writer) {
	verb := "Written to the end of"
	if !a.Written {
		verb = "Not written; it would come to the end of"
	}
	terminal.Printf(w, "%s %s:\n\n%s\n", verb, host.Shown(a.File), terminal.Lines(a.Text))
	if len(a.Setup) > 0 {
		fmt.Fprintln(w, "At the provider:")
		for _, s := range a.Setup {
			if s.Do != "" {
				terminal.Printf(w, "  - %s\n", s.Do)
			}
			for line := range strings.Lines(s.Paste) {
				terminal.Printf(w, "      %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	fmt.Fprintln(w, "\nThen:")
	for i, n := range a.Next {
		terminal.Printf(w, "  %d. %s\n", i+1, n)
	}
}
