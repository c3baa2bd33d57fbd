package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/terminal"
)

func newEstateRecoverCmd() *cobra.Command {
	var keys []string
	var reason, passphrase string
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Announce a charter that recovery keys sign because the root quorum is lost",
		Long: "Have the recovery keys sign the draft of the charter that waits, in the place of the root quorum before it, and announce that in\n" +
			"the ledger. The people of the new quorum draft and approve it first. (docs/procedures/root-quorum.md has all steps; reeve key add recovery --new makes such a key.) It takes effect when the notice of the charter in force has\n" +
			"run; until then whoever still belongs to the old quorum can publish another one. Then: sign a lock, and publish.",
		Example: "  reeve estate recover --key safe-1.key --key safe-2.key --reason 'two of three keys burnt'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			var signers []*estate.Signer
			for _, file := range keys {
				k, err := estate.Open(file, (&signing{as: file, passphrase: passphrase}).ask)
				if err != nil {
					return failed(err)
				}
				signers = append(signers, k)
			}
			from, err := estateDir(d).Recover(d.Pin(), reason, time.Now(), signers...)
			if err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "The announcement is in the signed store; the authority carries it to every process. The charter may take effect from %s on,\n"+
				"and at a process that hears of it later, as much later.\n", from.Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "a recovery key's `file`; as many as the charter asks for")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "`file` with the keys' passphrase, instead of asking on the terminal")
	_ = cmd.MarkFlagRequired("key")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}
