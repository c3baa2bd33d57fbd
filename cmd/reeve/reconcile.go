package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newReconcileCmd() *cobra.Command {
	var f reconcileFlags
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Hold a provider's usage report against the ledgers: who uses keys outside?",
		Long: "Compare what a provider says of the use of its keys with the ledgers, and keep the result with the auditor's state, where reeve blast and reeve controls\n" +
			"find it. Nothing is fetched: FILE is what the provider's own tools print. Exit status 0: nothing is out of band; 1: something is; 3: that cannot be said.\n\n" +
			"  openai      answers of GET /v1/organization/usage/completions with group_by=api_key_id,\n" +
			"              and its siblings that count model requests; one file\n" +
			"  anthropic   answers of GET /v1/organizations/usage_report/messages with\n" +
			"              group_by[]=api_key_id and bucket_width=1m; one file\n" +
			"  openbao     the audit file of OpenBao or Vault\n" +
			"  cloudtrail  log files, and digest files with their signatures\n" +
			"              (x-amz-meta-signature as NAME.sig); several files or a folder\n\n" +
			"Which key belongs to which credential the custody statements say for OpenAI projects, paths in OpenBao and roles of AWS; a mapping file says the rest,\n" +
			"credential: [key, …] in YAML. With --as, that person signs for the result, and controls are judged by it.\n\n" + withKeys,
		Example: "  reeve reconcile --provider openai --file usage.json --map keys.yaml\n" +
			"  reeve reconcile --provider cloudtrail --file trail/ --keys public-keys.json --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVar(&f.provider, "provider", "", "openai, anthropic, openbao or cloudtrail")
	cmd.Flags().StringArrayVar(&f.files, "file", nil, "the export; for cloudtrail several, or a folder")
	cmd.Flags().StringVar(&f.mapping, "map", "", "`FILE` with the provider's ids of each credential, in YAML")
	cmd.Flags().StringVar(&f.keys, "keys", "", "`FILE` with what aws cloudtrail list-public-keys prints")
	cmd.Flags().DurationVar(&f.early, "early", 0, "how much earlier than the ledgers the provider may date a use (default: a minute)")
	cmd.Flags().DurationVar(&f.late, "late", 0, "how much later (default: 15 minutes for openai and anthropic, else 2)")
	f.signing.optional(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("provider")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

type reconcileFlags struct {
	signing
	provider, mapping, keys string
	files                   []string
	early, late             time.Duration
	json                    bool
}

func (f *reconcileFlags) run(cmd *cobra.Command) error {
	files, err := readFiles(f.files)
	if err != nil {
		return err
	}
	x, err := f.parse(files)
	if errors.Is(err, export.ErrFormat) {
		return &exitError{exitUndecided, err}
	}
	if err != nil {
		return err
	}
	var m usage.Mapping
	if f.mapping != "" {
		b, err := os.ReadFile(f.mapping)
		if err != nil {
			return err
		}
		if m, err = usage.ReadMapping(bytes.NewReader(b)); err != nil {
			return err
		}
	}
	reach := usage.Usual(f.provider)
	if cmd.Flags().Changed("early") {
		reach.Early = f.early
	}
	if cmd.Flags().Changed("late") {
		reach.Late = f.late
	}
	d, b, err := openBooks(cmd)
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := usage.Reconcile(cmd.Context(), b, x, m, reach)
	if err != nil {
		return &exitError{exitUndecided, err}
	}
	for _, file := range files {
		sum := sha256.Sum256(file.Bytes)
		r.Source = append(r.Source, usage.Source{Name: filepath.Base(file.Name), SHA256: hex.EncodeToString(sum[:])})
	}
	path, err := usage.Write(d.Join(host.Auditor), r)
	if err == nil {
		err = f.record(cmd, r, "usage-"+strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	if err != nil {
		return &exitError{exitUndecided, fmt.Errorf("the result could not be kept, so that not every answer will know of it: %w", err)}
	}
	if f.json {
		err = printJSON(cmd, r)
	} else {
		err = printReconciled(cmd.OutOrStdout(), r)
	}
	switch {
	case err != nil:
		return err
	case r.State == usage.OutOfBand:
		return &exitError{status: exitNot}
	case r.State == usage.Undecided:
		return &exitError{status: exitUndecided}
	}
	return nil
}

// record has the person sign for what the controls are judged from. What it says goes beside the result.
func (f *reconcileFlags) record(cmd *cobra.Command, r *usage.Result, name string) error {
	e := r.Evidence()
	if len(e.Reconciliations) == 0 {
		return nil
	}
	if f.as == "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "Nobody signed for it (--as PERSON): no control is judged by it.")
		return nil
	}
	out := cmd.OutOrStdout()
	cmd.SetOut(cmd.ErrOrStderr())
	defer cmd.SetOut(out)
	return recordEvidence(cmd, &f.signing, e, "reconciliation", name)
}

func (f *reconcileFlags) parse(files []export.File) (*export.Export, error) {
	one := map[string]func(io.Reader) (*export.Export, error){"openai": export.OpenAI, "anthropic": export.Anthropic, "openbao": export.OpenBao}[f.provider]
	switch {
	case f.provider == "cloudtrail":
		var keys []byte
		if f.keys != "" {
			var err error
			if keys, err = os.ReadFile(f.keys); err != nil {
				return nil, err
			}
		}
		return export.CloudTrail(files, keys)
	case one == nil:
		return nil, fmt.Errorf("%q is no provider whose exports can be read: openai, anthropic, openbao or cloudtrail", f.provider)
	case f.keys != "":
		return nil, errors.New("--keys is for cloudtrail")
	case len(files) != 1:
		return nil, fmt.Errorf("an export of %s is one file", f.provider)
	}
	return one(bytes.NewReader(files[0].Bytes))
}

// readFiles reads files, and all that are below folders.
func readFiles(paths []string) (files []export.File, err error) {
	left := int64(export.MaxFile)
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			i, err := e.Info()
			if err != nil {
				return err
			}
			if left -= i.Size(); left < 0 {
				return fmt.Errorf("the files have more than %d MiB; export less at a time", export.MaxFile>>20)
			}
			b, err := os.ReadFile(name)
			files = append(files, export.File{Name: name, Bytes: b})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func printReconciled(out io.Writer, r *usage.Result) error {
	terminal.Printf(out, "%s: %s (%s to %s)\n", r.State, r.Summary, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	t := table.New(out)
	if len(r.Judged) > 0 {
		fmt.Fprintln(t, "\nCREDENTIAL\tKIND\tPROVIDER\tLEDGER\tSPARE")
	}
	for _, j := range r.Judged {
		terminal.Printf(t, "%s\t%s\t%d\t%d\t%d\n", j.Credential, j.Kind, j.Counted, j.Ledger, j.Spare)
	}
	if len(r.Strays) > 0 {
		fmt.Fprintln(t, "\nOUT OF BAND\tKIND\tFROM\tTO\tPROVIDER\tLEDGER\tNEAR\tMISSING\tCONFIDENCE\tWHO")
	}
	for _, s := range r.Strays {
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", s.Credential, s.Kind, s.From.Format(time.RFC3339), s.To.Format(time.RFC3339), s.Counted, s.Ledger,
			s.Tolerance, s.Difference, s.Confidence, strings.Join(s.Who, "; "))
	}
	for _, u := range r.Unmapped {
		terminal.Printf(t, "\nno credential is known by %s, used %d times\n", strings.Join(append([]string{}, u.Keys...), ", "), u.Counted)
	}
	for _, c := range r.Cannot {
		terminal.Printf(t, "\n%s", c)
	}
	if len(r.Cannot) > 0 {
		fmt.Fprintln(t)
	}
	return t.Flush()
}
