package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/passkey"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/terminal"
)

// withKeys explains the flags of a command that signs.
const withKeys = "You sign with --key FILE, a key file or an OpenSSH key that the charter has as yours; with --passkey, on a page that this\n" +
	"machine serves for it; or else with DIR/people/PERSON.key or, where there is none, with the OpenSSH key that ssh-agent holds."

// signing are the flags of a command that signs.
type signing struct {
	as, key, passphrase string
	page                passkeyPage
}

// passkeyPage are the flags of a command that may ask for a passkey.
type passkeyPage struct {
	asked bool
	wait  time.Duration
}

func (p *passkeyPage) flags(cmd *cobra.Command, usage string) {
	cmd.Flags().BoolVar(&p.asked, "passkey", false, usage)
	cmd.Flags().DurationVar(&p.wait, "passkey-wait", 10*time.Minute, "how long the page for the passkey waits")
}

// serve is the page; its address is printed on standard error.
func (p *passkeyPage) serve() *passkey.Page {
	return &passkey.Page{Out: terminal.NewWriter(os.Stderr), Life: p.wait}
}

func (s *signing) flags(cmd *cobra.Command) {
	s.optional(cmd)
	_ = cmd.MarkFlagRequired("as")
}

// optional are the same flags where the estate says who signs.
func (s *signing) optional(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.as, "as", "", "the `person` who signs")
	cmd.Flags().StringVar(&s.key, "key", "", "that person's key `file`, or OpenSSH key (default DIR/people/PERSON.key, then ssh-agent)")
	s.page.flags(cmd, "sign with a passkey, in a browser on this machine")
	cmd.Flags().StringVar(&s.passphrase, "passphrase-file", "", "`file` with the key file's passphrase, instead of asking on the terminal")
	cmd.MarkFlagsMutuallyExclusive("key", "passkey")
}

// open makes the person ready to sign.
func (s *signing) open(d *host.Dir) (*estate.Signer, error) {
	file := s.key
	if file == "" {
		file = d.Join("people", s.as+".key")
	}
	b, err := os.ReadFile(file)
	missing := errors.Is(err, os.ErrNotExist)
	switch {
	case err != nil && !missing:
		return nil, err
	case missing && s.key != "":
		return nil, fmt.Errorf("there is no key file %s", file)
	case !s.page.asked && !missing && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")):
		return s.keyFile(file)
	}
	keys, err := estateDir(d).KeysOf(s.as)
	switch {
	case err != nil:
		return nil, err
	case s.page.asked:
		return passkey.Signer(s.as, keys, s.page.serve())
	case s.key != "":
		return estate.OpenSSH(s.as, keys, file)
	}
	signer, err := estate.Agent(s.as, keys)
	if err != nil {
		err = fmt.Errorf("there is no key file %s, and %w: name a key of %s's with --key, or sign with --passkey", file, err, s.as)
	}
	return signer, err
}

func (s *signing) keyFile(file string) (*estate.Signer, error) {
	signer, err := estate.Open(file, s.ask)
	if err == nil && signer.Person != s.as {
		return nil, fmt.Errorf("%s is the key of %s, not of %s", file, signer.Person, s.as)
	}
	return signer, err
}

// both are the signer and the second person, if one is named, who signs on this machine too.
func (s *signing) both(d *host.Dir, with string) ([]*estate.Signer, error) {
	first, err := s.open(d)
	if err != nil || with == "" {
		return []*estate.Signer{first}, err
	}
	second, err := (&signing{as: with, passphrase: s.passphrase}).open(d)
	return []*estate.Signer{first, second}, err
}

func (s *signing) ask() (secret.Value, error) {
	if s.passphrase == "" {
		return askSecret(fmt.Sprintf("Passphrase of %s: ", s.as))
	}
	b, err := os.ReadFile(s.passphrase)
	return secret.New(bytes.TrimSuffix(b, []byte("\n"))), err
}
