package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/credential"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialRotateCmd() *cobra.Command {
	var signer signing
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rotate NAME < FILE",
		Short: "Replace what an owner handed over, while the old one stays good for what is under way",
		Long: "For a credential of the source sealed: hand the next secret over, as with put, and wait until this host's custodian uses it. What is\n" +
			"under way ends with the old one; then the old one can be taken back at the provider. For a source that gets secrets with something\n" +
			"that its owner handed over, that is replaced, and the next secret is got with it. Where nothing is handed over the custodian\n" +
			"replaces the secrets by itself, and this says when. To end one at once: reeve credential revoke.",
		Example: "  reeve credential rotate research-openai < key.txt\n  reeve credential rotate support-slack --as cora --json < slack.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			if err := named(set, "credential", args[0]); err != nil {
				return err
			}
			c, _, _ := set.Credential(args[0])
			posture := func() (*credential.Posture, error) {
				asked, _ := statuses(cmd, d, nil)
				r, err := credential.List(estateDir(d), set, asked, time.Now())
				if err != nil {
					return nil, err
				}
				for i := range r.Credentials {
					if r.Credentials[i].Credential == args[0] {
						return &r.Credentials[i], nil
					}
				}
				return nil, handover.ErrCredential
			}
			p, err := posture()
			if err != nil {
				return failed(err)
			}
			kind, _ := custody.FindKind(c.Source)
			x := &rotated{Credential: args[0], Source: c.Source}
			switch {
			case kind == nil || kind.Root == "":
				x.Next = p.Next
			case p.Version == 0:
				return failed(fmt.Errorf("nothing was handed over for %s that could be rotated: reeve credential put %s", args[0], args[0]))
			default:
				if x.Done, err = signer.handOver(cmd, d, set, args[0]); err != nil {
					return failed(err)
				}
				for end := time.Now().Add(wait); x.InUse == nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					if p, err = posture(); err != nil {
						return failed(err)
					}
					x.take(p)
				}
			}
			if asJSON {
				err = printJSON(cmd, x)
			} else {
				_, err = terminal.Printf(cmd.OutOrStdout(), "%v\n", x.say())
			}
			if err == nil && x.Done != nil && x.InUse == nil {
				return &exitError{exitUndecided, fmt.Errorf("no custodian of this host uses version %d yet: reeve credential list shows when it does", x.Done.Version)}
			}
			return failed(err)
		},
	}
	signer.optional(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long to wait for this host's custodian")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// rotated is what a rotation did.
type rotated struct {
	Credential string         `json:"credential"`
	Source     string         `json:"source"`
	Done       *handover.Done `json:"handed_over,omitempty"`
	InUse      []string       `json:"in_use_at,omitempty"` // custodians of this host that have it
	Next       time.Time      `json:"next,omitzero"`       // when a custodian gets the next secret by itself
}

// take notes the custodians that have the new version.
func (x *rotated) take(p *credential.Posture) {
	for id, a := range p.Custodian {
		if a.Version >= x.Done.Version {
			x.InUse = append(x.InUse, id)
		}
	}
	x.Next = p.Next
}

func (x *rotated) say() string {
	switch {
	case x.Done == nil && x.Next.IsZero():
		return fmt.Sprintf("Nothing is handed over for %s: its custodians get each next secret by themselves (source %s), the first when it is used.", x.Credential, x.Source)
	case x.Done == nil:
		return fmt.Sprintf("Nothing is handed over for %s: its custodians get each next secret by themselves (source %s), the next one at %s.", x.Credential, x.Source, x.Next.UTC().Format(time.RFC3339))
	}
	text := fmt.Sprintf("%s version %d is sealed to %s, signed by %s", x.Credential, x.Done.Version, strings.Join(x.Done.Custodians, ", "), x.Done.Signer)
	switch {
	case x.InUse == nil:
		return text + "."
	case x.Source == "sealed":
		return text + ", and in use. What is under way ends with the one before; take that back at the provider then."
	}
	return text + ". The next secret is got with it; those that are out live to their end."
}
