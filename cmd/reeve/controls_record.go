package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newControlsRecordCmd() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "record FILE",
		Short: "Sign for a document of evidence, so that controls are judged from it too",
		Long: "Copy a document (docs/formats/evidence.md) to the estate's folder evidence, sign for its hash, and have the authority write that into its ledger. What\n" +
			"nobody has signed for counts for nothing.\n\n" + withKeys,
		Example: "  reeve controls record discovery.json --as bea",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var e control.Evidence
			d := json.NewDecoder(bytes.NewReader(b))
			d.DisallowUnknownFields()
			if err := d.Decode(&e); err != nil {
				return fmt.Errorf("%s is not a document of evidence (docs/formats/evidence.md): %w", args[0], err)
			}
			name := strings.TrimSuffix(filepath.Base(args[0]), ".json")
			return recordEvidence(cmd, &s, &e, "document", name)
		},
	}
	s.flags(cmd)
	return cmd
}

func newControlsExemptCmd() *cobra.Command {
	var s signing
	var x control.Exemption
	var until string
	cmd := &cobra.Command{
		Use:   "exempt ID --until DATE --reason TEXT",
		Short: "Approve that a control need not hold for a subject until a date",
		Long: "Sign an exemption. It excuses findings about the subject, or about all of them without one, until its end; it excuses nothing that the person\n" +
			"who signs has to put right himself.\n\n" + withKeys,
		Example: "  reeve controls exempt RV-10 --subject credential:research-openai --until 2027-01-31 --reason 'the provider has no federation' --as ada",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := control.Catalog()
			if err != nil {
				return err
			}
			x.Control = strings.ToUpper(args[0])
			if _, ok := c.Control(x.Control); !ok {
				return fmt.Errorf("there is no control %q", args[0])
			}
			if x.Until, err = time.Parse(time.DateOnly, until); err != nil {
				if x.Until, err = time.Parse(time.RFC3339, until); err != nil {
					return fmt.Errorf("--until: %q is neither a date such as 2027-01-31 nor a time of RFC 3339", until)
				}
			}
			x.From, x.Approver = time.Now().UTC().Truncate(time.Second), s.as
			if !x.Until.After(x.From) {
				return errors.New("--until lies in the past")
			}
			sum := sha256.Sum256(fmt.Append(nil, x))
			return recordEvidence(cmd, &s, &control.Evidence{Exemptions: []control.Exemption{x}}, "exemption", "exemption-"+strings.ToLower(x.Control)+"-"+hex.EncodeToString(sum[:4]))
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&x.Subject, "subject", "", "as reeve controls shows it, such as credential:research-openai; empty for all")
	cmd.Flags().StringVar(&until, "until", "", "its end: a date, or RFC 3339")
	cmd.Flags().StringVar(&x.Reason, "reason", "", "why")
	_ = cmd.MarkFlagRequired("until")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// recordEvidence keeps a document, and has a person sign for it.
func recordEvidence(cmd *cobra.Command, s *signing, e *control.Evidence, kind, name string) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	b, err := e.Write(d.Path, name)
	if err != nil {
		return failed(err)
	}
	return vouch(cmd, d, set, s, kind, name, b)
}

// vouch has a person sign for a document, and the authority write that into its ledger.
func vouch(cmd *cobra.Command, d *host.Dir, set *statement.Set, s *signing, kind, subject string, document []byte) error {
	signer, err := s.open(d)
	if err != nil {
		return failed(err)
	}
	to := evidence.Place{Dir: estateDir(d), Authorities: []string{"http://" + host.Local(d.Run.Ports.Authority)}}
	a, err := evidence.Anchor(cmd.Context(), to, set, kind, subject, document, signer)
	if err != nil {
		return failed(err)
	}
	terminal.Printf(cmd.OutOrStdout(), "%s signed for the %s %s: record %s\n", s.as, kind, subject, a.Record)
	if a.Waits != "" {
		terminal.Printf(cmd.ErrOrStderr(), "reeve: no ledger has it yet: %s\n", a.Waits)
	}
	return nil
}
