package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/canary"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/terminal"
)

// probing is one probe of a component.
type probing struct {
	plan                       canary.Plan
	listen, cert, key, urlFile string
	sent, login                string
	stored                     []string
	life                       time.Duration
	dry, asJSON                bool
	authorities                []string
}

func newProbeCmd() *cobra.Command {
	var p probing
	var s signing
	cmd := &cobra.Command{
		Use:   "probe COMPONENT",
		Short: "Find out what somebody else's gateway does with credentials, by bait",
		Long: "Play the provider behind a gateway of a vendor or another team: the canary upstream listens on --canary-listen, and the gateway has to be configured to\n" +
			"use it as a provider for the model --model. Then ask the gateway at --url some times without a credential, once with a canary credential, and without\n" +
			"it again. What arrives at the upstream is the verdict: a credential that was sent: forward; again, without being sent: cache; one that was never sent:\n" +
			"retrieve; a different one for each call, with an end of its own: mint. Canary credentials open nothing: they are made for the probe, or put by you where\n" +
			"the gateway reads (--canary-stored). The verdict ends after --for, and says what cannot be told. It is signed into the register and its hash entered in\n" +
			"the authority's ledger; until then, and after it has ended, a vendor's gateway counts as able to do everything. It also counts as able to what the probe\n" +
			"could not have seen: retrieve, where no credential was stored for it; cache, where nothing arrived after the one that was sent.\n" +
			"Exit status 3: nothing arrived, so nothing can be said.",
		Example: "  reeve probe acme --url https://ai.acme.example --canary-listen :8443 --canary-cert canary.pem --canary-cert-key canary.key \\\n" +
			"      --canary-stored planted.txt --login acme-login.txt --as bea\n" +
			"  reeve probe acme --url http://127.0.0.1:4000 --canary-listen 127.0.0.1:4001 --dry-run",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !p.dry && s.as == "" {
				return &exitError{exitUsage, errors.New("say who signs the verdict, with --as, or try it with --dry-run")}
			}
			if p.life <= 0 || p.life > 366*24*time.Hour {
				return &exitError{exitUsage, errors.New("--for: a verdict holds for a year at most")}
			}
			a, err := openAddition(cmd, &s)
			if err != nil {
				return err
			}
			last := a.journal.Last(args[0])
			if last == nil || !last.Said.Until.IsZero() || last.Said.Kind.Own() {
				return noSuch("the register has no component %q of others: reeve component add %s --kind vendor-gateway", args[0], args[0])
			}
			v, err := p.run(cmd)
			if errors.Is(err, canary.ErrSilent) {
				return &exitError{exitUndecided, err}
			}
			if err != nil {
				return failed(err)
			}
			said := last.Said
			said.Discovered, said.Verdict, said.Probed, said.Valid = canary.Flags(v), v, v.Ended.Add(p.life).UTC().Truncate(time.Second), v.Ended
			if !p.asJSON {
				printVerdict(cmd.OutOrStdout(), &said)
			}
			if p.dry && p.asJSON {
				return printJSON(cmd, said)
			}
			if p.dry {
				return nil
			}
			a.now = time.Now()
			return a.write(cmd, said, p.authorities, p.asJSON)
		},
	}
	s.optional(cmd)
	f := cmd.Flags()
	f.StringVar(&p.plan.URL, "url", "", "the gateway's `URL`")
	f.StringVar(&p.plan.Path, "path", "/v1/chat/completions", "path that is asked for; /v1/messages asks as Anthropic's clients do")
	f.StringVar(&p.plan.Model, "model", "canary", "model that the gateway sends to the canary upstream")
	f.StringVar(&p.listen, "canary-listen", "", "`address` at which the canary upstream listens, as the gateway can reach it")
	f.StringVar(&p.cert, "canary-cert", "", "PEM `file` with the certificate of the canary upstream; without one it speaks plain HTTP")
	f.StringVar(&p.key, "canary-cert-key", "", "PEM `file` with the certificate's key")
	f.StringVar(&p.urlFile, "canary-url-file", "", "write the canary upstream's URL to this `file` once it listens")
	f.StringVar(&p.plan.Header, "canary-header", "Authorization", "header in which the canary credential is sent")
	f.StringVar(&p.sent, "canary-sent", "", "`file` with the canary credential to send (default: one is made)")
	f.StringSliceVar(&p.stored, "canary-stored", nil, "`file` with a canary credential that you put where the gateway reads, and that is never sent")
	f.StringVar(&p.login, "login", "", "`file` with what the gateway knows you by")
	f.StringVar(&p.plan.LoginHeader, "login-header", "X-Gateway-Key", "header in which that is sent")
	f.IntVar(&p.plan.Calls, "calls", 3, "calls without the canary credential, before and after the one with it")
	f.DurationVar(&p.plan.Wait, "wait", 5*time.Second, "how long to wait for what comes late")
	f.DurationVar(&p.life, "for", 30*24*time.Hour, "how long the verdict holds, a year at most")
	f.BoolVar(&p.dry, "dry-run", false, "print the verdict and record nothing")
	f.StringSliceVar(&p.authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("url")
	_ = cmd.MarkFlagRequired("canary-listen")
	cmd.MarkFlagsRequiredTogether("canary-cert", "canary-cert-key")
	return cmd
}

// run listens as the upstream, and probes.
func (p *probing) run(cmd *cobra.Command) (*register.Verdict, error) {
	if err := p.credentials(); err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", p.listen)
	if err != nil {
		return nil, fmt.Errorf("the canary upstream: %w", err)
	}
	up := canary.NewUpstream(p.plan.Known()...)
	srv := &http.Server{Handler: up, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, 1)
	scheme := "http"
	if p.cert != "" {
		scheme = "https"
		go func() { ended <- srv.ServeTLS(l, p.cert, p.key) }()
	} else {
		go func() { ended <- srv.Serve(l) }()
	}
	defer srv.Close()
	at := scheme + "://" + l.Addr().String()
	if p.urlFile != "" {
		if err := os.WriteFile(p.urlFile, []byte(at+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	terminal.Printf(cmd.ErrOrStderr(), "canary upstream: %s\n", at)
	probed, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(fmt.Errorf("the canary upstream: %w", <-ended)) }()
	v, err := canary.Run(probed, p.plan, up)
	if err != nil && probed.Err() != nil {
		err = context.Cause(probed)
	}
	return v, err
}

// credentials reads or makes those of the plan.
func (p *probing) credentials() (err error) {
	p.plan.Sent = canary.NewCanary()
	if p.sent != "" {
		if p.plan.Sent, err = credentialIn(p.sent); err != nil {
			return err
		}
	}
	for _, f := range p.stored {
		k, err := credentialIn(f)
		if err != nil {
			return err
		}
		p.plan.Stored = append(p.plan.Stored, k)
	}
	if p.login != "" {
		login, err := credentialIn(p.login)
		p.plan.Login = secret.New([]byte(login))
		return err
	}
	return nil
}

func credentialIn(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil && (len(bytes.TrimSpace(b)) < 8 || bytes.ContainsAny(bytes.TrimSpace(b), " \r\n\t")) {
		err = fmt.Errorf("%s holds no credential of 8 characters or more in one line", file)
	}
	return strings.TrimSpace(string(b)), err
}

func printVerdict(out io.Writer, s *register.Said) {
	terminal.Printf(out, "%s at %s, until %s:\n", s.ID, s.Verdict.URL, s.Probed.Format(time.RFC3339))
	for _, f := range s.Verdict.Found {
		terminal.Printf(out, "  %-10s %s\n", f.Flag, f.Why)
	}
	for _, f := range s.Verdict.Unseen {
		terminal.Printf(out, "  %-10s not seen either way: a vendor's gateway counts as able to\n", f)
	}
	for _, c := range s.Verdict.Cannot {
		terminal.Printf(out, "  cannot be told: %s\n", c)
	}
}
