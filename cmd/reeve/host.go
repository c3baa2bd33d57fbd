package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/terminal"
)

func newHostCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Keys of this host's processes",
	}
	cmd.AddCommand(newHostKeyCmd(), newHostRotateCmd())
	return cmd
}

func newHostKeyCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make or read a key for the hop between machines, and print its public half",
		Long: "Make a key in FILE (mode 0600), or read the one that is there, and print its peer key. FILE goes into the process's configuration\n" +
			"as hop.key and stays on its machine. The peer key is public: a gateway's goes into operations.yaml, a custodian's into each\n" +
			"custody.yaml that enrols it; the owners sign and publish.",
		Example: "  reeve host key /etc/reeve/hop.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			peer, err := hostKey(args[0])
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, map[string]string{"file": args[0], "peer": peer})
			}
			terminal.Printf(cmd.OutOrStdout(), "%v\n", peer)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// hostKey makes or reads a key. A key is never written over.
func hostKey(path string) (peer string, err error) {
	peer, text, err := hop.NewKey()
	if err != nil {
		return "", err
	}
	err = durable.Create(path, text, 0o600)
	if errors.Is(err, os.ErrExist) {
		key, err := hop.ReadKey(path)
		if err != nil {
			return "", err
		}
		return key.Peer(), nil
	}
	if err != nil {
		return "", fmt.Errorf("making the key: %w", err)
	}
	return peer, nil
}

func newHostRotateCmd() *cobra.Command {
	var process string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate log|feed|token|witness|identity",
		Short: "Make the next key of a process, and print what the owners put into the statements",
		Long: "Add another key to the process's key file, after those that are there. Nothing changes yet: the process goes on with its older key until the\n" +
			"owners have published the new one and the process is told: SIGHUP for feed, token, witness and identity, reeve ledger rotate for log.\n" +
			"Printed is the entry for service_keys in charter.yaml, or the recipient for custody.yaml. See docs/procedures/service-keys.md.",
		Example:   "  reeve host rotate feed\n  reeve host rotate log --process gateway\n  reeve host rotate identity",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"log", "feed", "token", "witness", "identity"},
		RunE: func(cmd *cobra.Command, args []string) error {
			use := args[0]
			if use == "identity" {
				d, err := openDir(cmd)
				if err != nil {
					return err
				}
				recipient, err := d.AddIdentity()
				if err != nil {
					return failed(err)
				}
				if asJSON {
					return printJSON(cmd, map[string]string{"recipient": recipient})
				}
				terminal.Printf(cmd.OutOrStdout(), "%v\n", recipient)
				return nil
			}
			f := ledgerFlags{process: process}
			switch use {
			case "feed", "token":
				f.process = host.Authority
			case "witness":
				f.process = host.Auditor
			}
			number := 0
			if use == "log" {
				_, heads, err := f.heads(cmd)
				if err != nil {
					return err
				}
				number = len(heads)
			}
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			k, err := d.AddKey(f.process, use, number, time.Now())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, k)
			}
			terminal.Printf(cmd.OutOrStdout(), "  - use: %s\n    process: %s\n    key: %s\n    not_before: %s\n    not_after: %s\n", k.Use, k.Process, k.Key,
				k.NotBefore.Format(time.RFC3339), k.NotAfter.Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().StringVar(&process, "process", host.Custodian, "whose log key: custodian, authority or gateway")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
