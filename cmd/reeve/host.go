package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/hop"
)

func newHostCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Keys with which a gateway and a custodian on two machines know each other",
	}
	cmd.AddCommand(newHostKeyCmd())
	return cmd
}

func newHostKeyCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make a key for the hop between machines, or read one, and print its peer key for the statements",
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
			fmt.Fprintln(cmd.OutOrStdout(), peer)
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
