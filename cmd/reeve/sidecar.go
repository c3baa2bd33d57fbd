package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/sidecar"
	"github.com/reevehq/reeve/internal/sidecar/spiffe"
	"github.com/reevehq/reeve/internal/terminal"
)

func newSidecarCmd() *cobra.Command {
	var f sidecarFlags
	var env string
	cmd := &cobra.Command{
		Use:   "sidecar",
		Short: "Stand beside a workload and prove each of its requests (level W2), so that SDKs need not",
		Long: "Hold the workload's key, get its token, sign every request that comes in and pass it to the gateway. Clients reach it on a Unix socket of\n" +
			"mode 0600, or on a loopback port with a key of this run, which --env writes for shells and SDKs. docs/sidecar.md has the configuration.\n\n" +
			"It logs a line of JSON for each request to standard error, without bodies, keys and tokens. On SIGTERM requests in flight have 30 seconds.",
		Example: "  reeve sidecar --config /etc/reeve/sidecar.yaml --env /run/agent/env\n  reeve sidecar key agent.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return failed(runSidecar(ctx, cmd, f, env))
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&env, "env", "", "`file` (mode 0600) for the settings that a shell or an SDK reads, on a loopback port; removed at the end")
	cmd.AddCommand(newSidecarKeyCmd())
	return cmd
}

func newSidecarKeyCmd() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make a workload's key in a new file, and print its public half",
		Long: "Make a workload's key in a new file of mode 0600, and print its public half as a JWKS. The charter's owners put that under issuers as the jwks of\n" +
			"an issuer of the workload's own; it never leaves the machine otherwise.",
		Example: "  reeve sidecar key agent.key\n  reeve sidecar key agent.key --type p256",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			jwks, err := sidecar.CreateKey(args[0], kind)
			if err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "%v\n", jwks)
			return nil
		},
	}
	cmd.Flags().StringVar(&kind, "type", "ed25519", "ed25519 or p256")
	return cmd
}

// sidecarFlags are those of exec and sidecar.
type sidecarFlags struct{ config, credential string }

func (f *sidecarFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "the sidecar's configuration `file`; by default sidecar.yaml in --dir")
	cmd.Flags().StringVar(&f.credential, "credential", "", "`credential` or model that every request is signed for; by default the model that its body names")
}

// open makes a sidecar with its door open. ctx ends what it holds open.
func (f *sidecarFlags) open(ctx context.Context, cmd *cobra.Command, log *slog.Logger) (*sidecar.Sidecar, *sidecar.Config, error) {
	path := f.config
	if path == "" {
		path = filepath.Join(dirFlag(cmd), "sidecar.yaml")
	}
	cfg, err := sidecar.ReadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	if f.credential != "" {
		cfg.Credential = f.credential
	}
	door, err := sidecar.Open(cfg.Listen)
	if err != nil {
		return nil, nil, err
	}
	s, err := sidecar.New(cfg, sidecar.Parts{
		Door: door, Log: log, Now: time.Now,
		SVID: func(c sidecar.SPIFFE) (sidecar.Source, error) { return spiffe.X509(ctx, c) }, JWT: spiffe.JWT,
	})
	if err != nil {
		door.Close()
	}
	return s, cfg, err
}

func runSidecar(ctx context.Context, cmd *cobra.Command, f sidecarFlags, env string) error {
	log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
	s, cfg, err := f.open(ctx, cmd, log)
	if err != nil {
		return err
	}
	defer s.Door.Close()
	var health sidecar.Health
	if cfg.Ops != "" {
		l, err := process.Listen(cfg.Ops)
		if err != nil {
			return err
		}
		defer l.Close()
		go health.Serve(l) // ends with l
	}
	switch {
	case s.Door.Key() != "" && env == "":
		return errors.New("clients on a loopback port need the key of this run: name a file for it with --env, or listen on unix:/path")
	case env != "" && s.Door.Key() == "":
		return errors.New("a Unix socket needs no key, and SDKs take no base URL of one: leave --env out")
	case env != "":
		if err := writeEnv(env, s.Door.Environment()); err != nil {
			return err
		}
		defer os.Remove(env)
	}
	log.Info("the sidecar listens", "at", s.Door.Addr().String(), "gateway", cfg.Gateway)
	go s.Watch(ctx, func(err error) {
		workload, level := s.Who()
		switch changed := health.Tell(err); {
		case changed && err != nil:
			log.Warn("the sidecar is not ready", "error", err)
		case changed:
			log.Info("the sidecar is ready", "workload", workload, "level", level)
		}
	})
	err = s.Serve(ctx, 30*time.Second)
	log.Info("the sidecar ended", "error", errText(err))
	return err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// writeEnv writes settings for shells to a file that only its owner reads.
func writeEnv(path string, settings [][2]string) error {
	var b strings.Builder
	for _, v := range settings {
		terminal.Printf(&b, "export %s=%s\n", v[0], v[1])
	}
	if err := durable.Replace(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	return nil
}
