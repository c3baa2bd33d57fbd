package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/founding"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/terminal"
)

func newInitCmd() *cobra.Command {
	var a founding.Answers
	var passphrases string
	var port int
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Draft a real estate: three people, a unit, a workload, a provider; nothing is signed yet",
		Long: "Draft a real estate in --dir and make the keys of this host's processes. What the flags leave open is asked on the\n" +
			"terminal. An owner is ID, who gets a new key file under a passphrase, or ID=KEY with a key of his own: an OpenSSH public key, a\n" +
			"file that holds one, what reeve key add printed (a passkey, say), or an Ed25519 public key in base64.",
		Example: "  reeve init --dir ./acme\n" +
			"  reeve init --dir ./acme --estate acme --unit research --provider anthropic \\\n" +
			"    --policy ada --operations bea=bea.pub --lifecycle cora=cora.yaml --passphrase-file FILE",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := (&interview{cmd: cmd}).fill(&a); err != nil {
				return failed(err)
			}
			if err := owners(&a); err != nil {
				return &exitError{exitUsage, err}
			}
			if err := a.Complete(); err != nil {
				return &exitError{exitUsage, err}
			}
			return failed(found(cmd, &a, port, passphrases))
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.Estate, "estate", "", "the estate's `id`, such as your company's name")
	f.StringVar(&a.Tenant, "tenant", "", "the tenant, the border of isolation (default: the estate's id)")
	f.StringVar(&a.Unit, "unit", "", "the first business unit")
	f.StringVar(&a.Workload, "workload", "", "the first workload (default UNIT-agent)")
	f.StringVar(&a.Policy.ID, "policy", "", "the policy owner: `ID` or ID=KEY")
	f.StringVar(&a.Operations.ID, "operations", "", "the operations owner: `ID` or ID=KEY")
	f.StringVar(&a.Lifecycle.ID, "lifecycle", "", "the credentials' lifecycle owner: `ID` or ID=KEY")
	f.StringVar(&a.Provider, "provider", "", "openai, anthropic or openai-compatible")
	f.StringVar(&a.Name, "name", "", "what clients put before the model (default openai, anthropic or compatible)")
	f.StringVar(&a.Origin, "origin", "", "of an openai-compatible provider: https://host[:port]")
	f.StringVar(&a.Prefix, "prefix", "", "path before /v1 at an openai-compatible provider, such as /api")
	f.StringVar(&a.URL, "url", "", "the gateway's public URL (default: its port here)")
	f.StringVar(&a.Authority, "authority-url", "", "the authority's public https `URL`, as the issuer of access tokens (default: none are issued)")
	f.StringVar(&a.Isolation, "isolation", "separate-uid", "the weakest isolation level that is accepted: host, separate-uid, one-uid or none")
	f.StringVar(&passphrases, "passphrase-file", "", "`file` with one passphrase for all new keys, instead of asking")
	f.IntVar(&port, "port", host.DefaultPort, "first port of the processes; 0 takes any free ones")
	return cmd
}

// owner reads ID or ID=KEY.
func owner(s string) (p founding.Person, err error) {
	id, key, own := strings.Cut(s, "=")
	p.ID = id
	if own {
		k, err := estate.ReadKey(id+"-1", key)
		if err != nil {
			return p, fmt.Errorf("the key of %s: %w", id, err)
		}
		p.Key = &k
	}
	return p, nil
}

// owners reads what the flags or the answers say of the three.
func owners(a *founding.Answers) (err error) {
	for _, p := range []*founding.Person{&a.Policy, &a.Operations, &a.Lifecycle} {
		if *p, err = owner(p.ID); err != nil {
			return err
		}
	}
	return nil
}

// found makes the estate and prints what comes next.
func found(cmd *cobra.Command, a *founding.Answers, port int, passphrases string) error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	if _, err := host.Open(dirFlag(cmd), bin); !errors.Is(err, host.ErrNone) {
		if err == nil {
			err = fmt.Errorf("%s holds an estate already", dirFlag(cmd))
		}
		return err
	}
	d, err := host.Create(dirFlag(cmd), bin, false, port)
	if err != nil {
		return err
	}
	if a.URL == "" {
		a.URL = "http://" + host.Local(d.Run.Ports.Gateway)
	}
	if err := founding.Found(d, a, askPassphrase(passphrases), time.Now()); err != nil {
		return err
	}
	printNext(cmd.OutOrStdout(), d, a)
	return nil
}

// askPassphrase asks twice on the terminal, or takes the file's first line for every key.
func askPassphrase(file string) func(person string) (secret.Value, error) {
	return func(person string) (secret.Value, error) {
		if file != "" {
			b, err := os.ReadFile(file)
			if err != nil {
				return secret.Value{}, fmt.Errorf("reading the passphrase: %w", err)
			}
			line, _, _ := strings.Cut(string(b), "\n")
			return secret.New([]byte(line)), nil
		}
		first, err := askSecret(fmt.Sprintf("Passphrase for %s's new key: ", person))
		if err != nil {
			return first, err
		}
		again, err := askSecret("The same again: ")
		if err != nil {
			return again, err
		}
		if !first.Equal(again.Reveal()) {
			return secret.Value{}, errors.New("the two passphrases differ")
		}
		return first, nil
	}
}

// interview asks what the flags leave open, when there is a terminal.
type interview struct {
	cmd *cobra.Command
	in  *bufio.Reader
}

func (i *interview) fill(a *founding.Answers) error {
	for _, q := range []struct {
		answer       *string
		flag, prompt string
	}{
		{&a.Estate, "estate", "Estate id, such as your company's name"},
		{&a.Unit, "unit", "First business unit"},
		{&a.Policy.ID, "policy", "Policy owner, who decides what workloads may do (id)"},
		{&a.Operations.ID, "operations", "Operations owner, who runs the gateway (id)"},
		{&a.Lifecycle.ID, "lifecycle", "Lifecycle owner, who hands over and revokes the keys (id)"},
		{&a.Provider, "provider", "Provider (" + strings.Join(founding.Providers(), ", ") + ")"},
	} {
		if err := i.ask(q.answer, q.flag, q.prompt); err != nil {
			return err
		}
	}
	if a.Provider == "openai-compatible" {
		return i.ask(&a.Origin, "origin", "Its origin, https://host[:port]")
	}
	return nil
}

func (i *interview) ask(answer *string, flag, prompt string) error {
	if *answer != "" {
		return nil
	}
	line, err := i.line(prompt + ": ")
	if errors.Is(err, errNoTerminal) {
		return &exitError{exitUsage, fmt.Errorf("--%s is missing, and %w", flag, err)}
	}
	if err != nil {
		return err
	}
	if *answer = line; *answer == "" {
		return fmt.Errorf("--%s: %w", flag, founding.ErrAnswer)
	}
	return nil
}

var errNoTerminal = errors.New("there is no terminal to ask on")

// line asks on the terminal. Its error is errNoTerminal where there is none.
func (i *interview) line(prompt string) (string, error) {
	f, ok := i.cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", errNoTerminal
	}
	if i.in == nil {
		i.in = bufio.NewReader(f)
	}
	terminal.Printf(i.cmd.ErrOrStderr(), "%v", prompt)
	line, err := i.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// printNext tells the owners what to do now, in order.
func printNext(w io.Writer, d *host.Dir, a *founding.Answers) {
	dir, reeve := host.Shown(d.Path), "reeve"
	if self, err := os.Executable(); err == nil {
		reeve = host.Shown(self)
	}
	terminal.Printf(w, "The draft of the estate %s is in %s. Nothing is signed yet.\n\n", a.Estate, host.Shown(d.Path+"/estate"))
	step := 0
	next := func(what string, commands ...string) {
		step++
		terminal.Printf(w, "%d. %s\n", step, what)
		for _, c := range commands {
			c, input, reads := strings.Cut(c, " < ")
			if terminal.Printf(w, "     %s %s --dir %s", reeve, c, dir); reads {
				terminal.Printf(w, " < %s", input)
			}
			fmt.Fprintln(w)
		}
	}
	next("Read the files in " + host.Shown(d.Path+"/estate") + ", put them under version control, change what you like.")
	if a.Provider == "openai-compatible" {
		terminal.Printf(w, "   An origin inside your network has networks (such as [10.0.0.0/8]) under destination in units/%s/custody.yaml, and ca when its certificate is your own CA's.\n", a.Unit)
	}
	next("Draft every statement by somebody who does not hold its role, the lock last; then each of the three approves:",
		"sign charter policy-"+a.Unit+" --as "+a.Operations.ID, "sign operations custody-"+a.Unit+" --as "+a.Policy.ID,
		"sign lock --as "+a.Operations.ID, "approve all --as "+a.Policy.ID, "approve all --as "+a.Operations.ID,
		"approve all --as "+a.Lifecycle.ID)
	next("Put into force what is signed:", "publish")
	next("Hand the provider's key over, as "+a.Lifecycle.ID+"; no command shows it again:", "credential put "+a.Credential()+" < key.txt")
	next("Make the workload's key, as "+a.Policy.ID+"; it is shown once:", "workload key issue "+a.Workload+" --as "+a.Policy.ID)
	next("Start the processes here, as root for users of their own:", "up")
	terminal.Printf(w, "   Under an init system, start each with its configuration: reeve-custodian --config %s, and so on.\n", host.Shown(d.Config(host.Custodian)))
	next("Call it with any OpenAI or Anthropic SDK, the workload's key as its API key; reeve doctor says why a call is refused:")
	terminal.Printf(w, "     base URL %s/v1 (for Anthropic's SDK without /v1), model %s/MODEL\n", a.URL, a.Name)
	if made := madeHere(a); len(made) > 0 {
		next("Give each owner his key file and delete it here: " + strings.Join(made, ", ") + " in " + host.Shown(d.Path+"/people") + ". From then on they sign with --key.")
	}
}

// madeHere are the people whose keys init made.
func madeHere(a *founding.Answers) (ids []string) {
	for _, p := range []founding.Person{a.Policy, a.Operations, a.Lifecycle} {
		if p.Key == nil {
			ids = append(ids, p.ID)
		}
	}
	return ids
}
