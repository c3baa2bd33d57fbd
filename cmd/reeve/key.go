package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newKeyCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make the keys that people sign with, and print what the charter says of them"}
	cmd.AddCommand(newKeyAddCmd())
	return cmd
}

func newKeyAddCmd() *cobra.Command {
	var ssh, out, id, passphrase string
	var page passkeyPage
	var fresh, verified, synced bool
	cmd := &cobra.Command{
		Use:   "add PERSON --ssh FILE|--passkey|--new",
		Short: "Print the charter's entry for a key: OpenSSH, a passkey or a new key file",
		Long: "Print the entry on standard output; it counts when it stands under the person's keys in estate/charter.yaml and the root quorum\n" +
			"has signed that. A key that could not sign is refused here: RSA, a passkey that is synced to a cloud account.\n\n" +
			"--ssh takes an OpenSSH public key: Ed25519 or ECDSA on P-256, in a file, an agent or, with ssh-keygen -t ed25519-sk, on a security\n" +
			"key. --passkey makes one in a browser on this machine. --new makes a key file under a passphrase.",
		Example: "  reeve key add ada --ssh ~/.ssh/id_ed25519.pub\n  reeve key add ada --ssh id_ed25519_sk.pub --require-user-verification\n" +
			"  reeve key add ada --passkey > ada.yaml\n  reeve key add ada --new -o ada.key",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			person, known := args[0], knownKeys(cmd, args[0])
			if id == "" {
				id = nextID(person, known)
			}
			var k statement.Key
			var err error
			switch {
			case ssh != "":
				k, err = estate.ReadKey(id, ssh)
				if k.RequireUserVerification = verified; err == nil {
					err = k.Check()
				}
			case page.asked:
				k, err = page.serve().Register(person, id, known, synced)
			default:
				k, err = newKeyFile(person, id, out, passphrase)
			}
			if err != nil {
				return failed(err)
			}
			entry, err := estate.Entry(k)
			if err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.ErrOrStderr(), "Put this under the keys of %s in estate/charter.yaml; the root quorum signs it:\n", person)
			terminal.Printf(cmd.OutOrStdout(), "%s", terminal.Lines(entry))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&ssh, "ssh", "", "an OpenSSH public key `file`")
	page.flags(cmd, "make a passkey in a browser on this machine")
	f.BoolVar(&fresh, "new", false, "make a key file")
	f.StringVar(&id, "id", "", "the key's `id` in the charter (default PERSON and a number)")
	f.BoolVar(&verified, "require-user-verification", false, "with --ssh: a PIN or a fingerprint besides the touch of a security key")
	f.BoolVar(&synced, "synced", false, "with --passkey: accept one that is synced to its owner's cloud account")
	f.StringVarP(&out, "out", "o", "", "with --new: the key `file` to write (default PERSON.key)")
	f.StringVar(&passphrase, "passphrase-file", "", "with --new: `file` with the passphrase, instead of asking")
	cmd.MarkFlagsOneRequired("ssh", "passkey", "new")
	cmd.MarkFlagsMutuallyExclusive("ssh", "passkey", "new")
	return cmd
}

// knownKeys are the person's keys in the estate, if there is one here and it knows him.
func knownKeys(cmd *cobra.Command, person string) []statement.Key {
	d, err := openDir(cmd)
	if err != nil {
		return nil
	}
	keys, err := estateDir(d).KeysOf(person)
	if err != nil {
		return nil
	}
	return keys
}

// nextID is the first of PERSON-1, PERSON-2, … that is not taken.
func nextID(person string, known []statement.Key) string {
	for n := 1; ; n++ {
		id := fmt.Sprintf("%s-%d", person, n)
		if !slices.ContainsFunc(known, func(k statement.Key) bool { return k.ID == id }) {
			return id
		}
	}
}

// newKeyFile makes a key file under a passphrase.
func newKeyFile(person, id, file, passphrase string) (k statement.Key, err error) {
	if file == "" {
		file = person + ".key"
	}
	s, err := estate.NewKeyFile(person, id)
	if err != nil {
		return k, err
	}
	pass, err := askPassphrase(passphrase)(person)
	if err != nil {
		return k, err
	}
	if pass.Empty() {
		return k, errors.New("a key file needs a passphrase: whoever has the file could sign otherwise")
	}
	if err := s.Save(file, pass); err != nil {
		return k, fmt.Errorf("saving the key: %w", err)
	}
	terminal.Printf(os.Stderr, "The key is in %s.\n", host.Shown(file))
	return s.Key(), nil
}
