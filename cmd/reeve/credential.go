package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credential",
		Short: "What the custodians use: add, put, list, rotate, revoke; nothing ever shows a secret",
	}
	cmd.AddCommand(newCredentialAddCmd(), newCredentialBOMCmd(), newCredentialListCmd(), newCredentialPutCmd(), newCredentialRevokeCmd(), newCredentialRotateCmd())
	return cmd
}

func newCredentialPutCmd() *cobra.Command {
	var signer signing
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "put NAME < FILE",
		Short: "Seal a secret to the custodians that serve the credential, signed by its owner",
		Long: "Read a secret from standard input, seal it to every custodian that serves the credential, sign the handover with the\n" +
			"lifecycle owner's key and put both into the estate's signed store, from where the authority carries them.\n" +
			"The recipients come from the verified custody statement. One newline at the end is taken away.\n" +
			"For inject as sigv4 the secret is ACCESS_KEY_ID:SECRET_ACCESS_KEY; as tls it is a private key and its certificates, in PEM, in one file.",
		Example: "  reeve credential put research-openai < key.txt\n  reeve credential put research-openai --as cora --key ~/cora.key < key.txt\n  cat key.pem chain.pem | reeve credential put research-partner",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			if err := named(set, "credential", args[0]); err != nil {
				return err
			}
			done, err := signer.handOver(cmd, d, set, args[0])
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, done)
			}
			terminal.Printf(cmd.OutOrStdout(), "%s version %d is sealed to %s, signed by %s.\n",
				done.Credential, done.Version, strings.Join(done.Custodians, ", "), done.Signer)
			return nil
		},
	}
	signer.optional(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func estateDir(d *host.Dir) estate.Dir { return estate.Dir(d.Join("estate")) }

// openSet opens --dir and verifies its newest published set against the pin in run.yaml.
func openSet(cmd *cobra.Command) (*host.Dir, *statement.Set, error) {
	d, err := openDir(cmd)
	if err != nil {
		return nil, nil, err
	}
	set, err := statement.Load(estateDir(d).Store(), d.Pin(), nil, time.Now())
	if err != nil {
		return nil, nil, failed(fmt.Errorf("the published estate in %s does not hold: %w", host.Shown(d.Join("estate")), err))
	}
	return d, set, nil
}

// askSecret asks on the terminal, also when standard input is something else, and shows nothing of the answer.
func askSecret(prompt string) (secret.Value, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return secret.Value{}, errors.New("there is no terminal to ask for the passphrase on")
	}
	defer tty.Close()
	terminal.Printf(tty, "%v", prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return secret.Value{}, fmt.Errorf("reading the passphrase: %w", err)
	}
	return secret.New(b), nil
}

// handOver hands over the secret on standard input, signed by the credential's owner unless another is named.
func (s *signing) handOver(cmd *cobra.Command, d *host.Dir, set *statement.Set, name string) (*handover.Done, error) {
	if owner, live := set.Owner(name, time.Now()); live && s.as == "" {
		s.as = owner.ID
	}
	by, err := s.open(d)
	if err != nil {
		return nil, err
	}
	value, err := readSecret(cmd)
	if err != nil {
		return nil, err
	}
	defer value.Wipe()
	return handover.Put(estateDir(d), set, name, value, by, time.Now())
}

// readSecret reads the secret to hand over: from a file or pipe, or from the terminal without showing it.
func readSecret(cmd *cobra.Command) (secret.Value, error) {
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		v, err := askSecret("Secret (not shown): ")
		if err != nil {
			return v, err
		}
		return handover.Read(strings.NewReader(string(v.Reveal())))
	}
	return handover.Read(cmd.InOrStdin())
}
