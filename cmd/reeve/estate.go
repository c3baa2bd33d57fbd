package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func newEstateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "estate",
		Short: "Check, sign, approve and publish what the owners decide",
		Long: "An estate's statements are files under DIR/estate that its owners edit. A change takes effect when its author has drafted\n" +
			"it (sign), the holders of its role have signed too (approve), a new lock binds it, and it is published.",
	}
	cmd.AddCommand(newEstateCheckCmd(), newEstateDiffCmd(), newEstateSignCmd(), newEstateApproveCmd(), newEstatePublishCmd(), newEstateLogCmd())
	return cmd
}

func newEstateCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Verify what is published, check the owners' files, and say what waits and what ends soon",
		Long:    "Exit status 0 when a published set is in force and the owners' files hold, else 1.",
		Example: "  reeve estate check\n  reeve estate check --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			r, err := estateDir(d).Report(d.Pin(), time.Now())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				err = printJSON(cmd, r)
			} else {
				err = printEstate(cmd, r)
			}
			if err == nil && r.Refused+r.Draft != "" {
				err = errors.New(strings.Join(slices.DeleteFunc([]string{r.Refused, r.Draft}, func(s string) bool { return s == "" }), "\n"))
			}
			return failed(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printEstate(cmd *cobra.Command, r *estate.Report) error {
	out := cmd.OutOrStdout()
	if r.Lock > 0 {
		fmt.Fprintf(out, "The estate %s is at version %d of its lock, valid until %s.\n\n", r.Estate, r.Lock, r.Expires.Format(time.RFC3339))
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STATEMENT\tVERSION\tEXPIRES\tSIGNED BY\tNEXT")
	for _, s := range r.Statements {
		version, expires, next := "none", "", ""
		if s.Version.Version > 0 {
			version, expires = fmt.Sprint(s.Version.Version), s.Expires.Format(time.DateOnly)
		}
		if s.Pending != nil {
			next = fmt.Sprintf("version %d waits, signed by %s", s.Pending.Version, strings.Join(s.Pending.Keys, ", "))
		}
		if s.Changed {
			next = strings.TrimPrefix(next+"; the files were changed since", "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Statement, version, expires, strings.Join(s.Keys, ", "), next)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(out, "warning: %s\n", w)
	}
	return nil
}

// signing are the flags of a command that signs.
type signing struct {
	as, key, passphrase string
}

func (s *signing) flags(cmd *cobra.Command) {
	s.optional(cmd)
	_ = cmd.MarkFlagRequired("as")
}

// optional are the same flags where the estate says who signs.
func (s *signing) optional(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.as, "as", "", "the `person` who signs")
	cmd.Flags().StringVar(&s.key, "key", "", "that person's key `file` (default DIR/people/PERSON.key)")
	cmd.Flags().StringVar(&s.passphrase, "passphrase-file", "", "`file` with the key's passphrase, instead of asking on the terminal")
}

// open opens the person's key.
func (s *signing) open(d *host.Dir) (*estate.Signer, error) {
	key := s.key
	if key == "" {
		key = d.Join("people", s.as+".key")
	}
	signer, err := estate.Open(key, s.ask)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("there is no key file %s: name %s's with --key", key, s.as)
	case err == nil && signer.Person != s.as:
		return nil, fmt.Errorf("%s is the key of %s, not of %s", key, signer.Person, s.as)
	}
	return signer, err
}

func (s *signing) ask() (secret.Value, error) {
	if s.passphrase == "" {
		return askSecret(fmt.Sprintf("Passphrase of %s: ", s.as))
	}
	b, err := os.ReadFile(s.passphrase)
	return secret.New(bytes.TrimSuffix(b, []byte("\n"))), err
}

func newEstateSignCmd() *cobra.Command {
	var s signing
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "sign STATEMENT…",
		Short: "Draft the next version of statements from the owners' files, as their author",
		Long: "Draft the next version of each statement from the files under DIR/estate and sign it as its author. Its role's holders\n" +
			"approve it after that; the author does not count among them. Statements are charter, operations, policy-UNIT,\n" +
			"custody-UNIT and, last, lock; \"changed\" stands for every one whose files differ from the newest version, without the lock.",
		Example: "  reeve estate sign policy-research --as bea\n  reeve estate sign changed --as bea\n  reeve estate sign lock --as ada",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			e := estateDir(d)
			set, err := e.Check()
			if err != nil {
				return failed(err)
			}
			if args[0] == "changed" {
				if args, err = changed(e, d.Pin()); err != nil {
					return failed(err)
				}
			}
			author, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			for _, name := range args {
				waits := approvers(&set.Charter, name, author.Person)
				if len(waits) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s is left out: only %s approves it, so somebody else must be its author.\n", name, author.Person)
					continue
				}
				terms := estate.Terms{Created: time.Now(), Expires: time.Now().Add(life)}
				if life == 0 {
					terms.Expires = time.Now().Add(estate.Life(name))
				}
				v, err := e.Sign(set.Charter.Estate, name, author, terms)
				if err != nil {
					return failed(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Version %d of %s is drafted by %s, valid until %s. Who may approve it: %s.\n",
					v, name, author.Person, terms.Expires.UTC().Format(time.DateOnly), strings.Join(waits, ", "))
				if err := printWanted(cmd, e, d.Pin(), name); err != nil {
					return failed(err)
				}
			}
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().DurationVar(&life, "for", 0, "how long it is valid (default 8760h, the lock 2160h)")
	return cmd
}

// printWanted says whose signature the draft needs for the sake of an item.
func printWanted(cmd *cobra.Command, e estate.Dir, pin statement.Pin, name string) error {
	wants, err := e.Wants(pin, name, time.Now())
	for _, w := range wants {
		fmt.Fprintf(cmd.OutOrStdout(), "  %s signs it too (%s): %s.\n", strings.Join(w.From, " or "), w.Owner, w.Change)
	}
	return err
}

// changed are the statements whose files were changed.
func changed(e estate.Dir, pin statement.Pin) (names []string, err error) {
	r, err := e.Report(pin, time.Now())
	if err != nil {
		return nil, err
	}
	for _, s := range r.Statements {
		if s.Changed {
			names = append(names, s.Statement)
		}
	}
	if len(names) == 0 {
		err = errors.New("no file was changed since the last draft")
	}
	return names, err
}

// approvers are the people who may approve the statement.
func approvers(c *statement.Charter, name, author string) (list []string) {
	for _, p := range c.People {
		if p.ID != author && c.MayApprove(p.ID, name) {
			list = append(list, p.ID)
		}
	}
	return list
}

func newEstateApproveCmd() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "approve STATEMENT…|RECORD",
		Short: "Sign what somebody else drafted, after you have read it",
		Long: "Add your signature to the drafts named. What you sign lies under DIR/estate/.pending. \"all\" stands for every draft that your\n" +
			"role approves, or that changes what you answer for. A record that waits for a second owner is named as reeve revoke printed it, such as revocation/cora-3.",
		Example: "  reeve estate approve policy-research --as ada\n  reeve estate approve all --as ada\n  reeve estate approve revocation/cora-3 --as bea",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			signer, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			e := estateDir(d)
			if args[0] == "all" {
				if args, err = mine(e, d.Pin(), s.as); err != nil {
					return failed(err)
				}
			}
			for _, name := range args {
				if strings.Contains(name, "/") {
					err = approveRecord(cmd, name, signer)
				} else if err = e.Approve(name, signer); err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s signed %s.\n", s.as, name)
				}
				if err != nil {
					return failed(err)
				}
			}
			return nil
		},
	}
	s.flags(cmd)
	return cmd
}

// mine are the drafts that the person may approve, or must for the sake of an item, and did not write.
func mine(e estate.Dir, pin statement.Pin, person string) (names []string, err error) {
	set, err := e.Check()
	if err != nil {
		return nil, err
	}
	for _, name := range estate.Names(&set.Charter) {
		drafts, err := estate.Log(e.Drafting(), name)
		if err != nil {
			return nil, err
		}
		if len(drafts) == 0 || drafts[0].Author == person {
			continue
		}
		wants, err := e.Wants(pin, name, time.Now())
		if err != nil {
			return nil, err
		}
		if set.Charter.MayApprove(person, name) || estate.WantedFrom(wants, person) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		err = fmt.Errorf("nothing waits for %s", person)
	}
	return names, err
}

func newEstatePublishCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "publish",
		Short: "Verify the signed drafts as a custodian would, and put them into force",
		Long: "Verify the published statements with the signed drafts over them, exactly as every process will. If they hold, move the drafts\n" +
			"into DIR/estate/.signed, the lock last; else nothing is moved and the rule, the person, the file and the line are named.",
		Example: "  reeve estate publish",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			set, err := estateDir(d).Publish(d.Pin(), time.Now())
			if err != nil {
				return failed(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Version %d of the lock is published, valid until %s. Its hash is %x.\n", set.Lock.Version, set.Expires.Format(time.RFC3339), set.LockHash)
			for _, w := range estate.Warnings(set, time.Now()) {
				fmt.Fprintf(cmd.OutOrStdout(), "warning: %s\n", w)
			}
			return nil
		},
	}
}

func newEstateLogCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "log STATEMENT",
		Short:   "The published versions of a statement, the newest first",
		Example: "  reeve estate log policy-research --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			list, err := estate.Log(estateDir(d).Store(), args[0])
			if err != nil {
				return failed(err)
			}
			if len(list) == 0 {
				return failed(fmt.Errorf("no version of %s is published", args[0]))
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "VERSION\tCREATED\tEXPIRES\tAUTHOR\tSIGNED BY\tMANIFEST")
			for _, v := range list {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", v.Version, v.Created.Format(time.RFC3339), v.Expires.Format(time.RFC3339), v.Author, strings.Join(v.Keys, ", "), v.SHA256)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
