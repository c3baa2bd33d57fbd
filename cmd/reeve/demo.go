package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/terminal"
)

func newDemoCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Parts of the demo that run by themselves",
	}
	cmd.AddCommand(newDemoUpstreamCmd(), newDemoVendorCmd(), newDemoMonthCmd())
	return cmd
}

func newDemoUpstreamCmd() *cobra.Command {
	var listen, state string
	cmd := &cobra.Command{
		Use:   "upstream",
		Short: "A model provider on this machine: OpenAI's and Anthropic's API over TLS",
		Long: "A model provider on this machine: the OpenAI and the Anthropic API over TLS, with a CA of its own.\n\n" +
			"It accepts the keys whose hashes are in STATE/keys.json and records what it saw in STATE/seen.jsonl.\n\n" + upstream.Controls,
		Example: "  reeve demo upstream --listen 127.0.0.1:7809 --state ./demo/upstream",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			s, err := upstream.New(upstream.Config{State: state, Log: slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))})
			if err != nil {
				return failed(err)
			}
			defer s.Close()
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return failed(fmt.Errorf("demo upstream: %w", err))
			}
			url := "https://" + l.Addr().String()
			if err := os.WriteFile(filepath.Join(state, "url"), []byte(url+"\n"), 0o644); err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "demo upstream: %v\n", url)
			return failed(s.Serve(ctx, l))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7809", "address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&state, "state", "./demo/upstream", "folder for the CA, the keys' hashes, the record and the URL")
	return cmd
}
