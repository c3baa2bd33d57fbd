package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/cursor"
	"github.com/reevehq/reeve/internal/audit/detect"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/host"
)

func newAuditWatchCmd() *cobra.Command {
	var webhook, syslog, file string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Send findings to a webhook or to syslog as they begin",
		Long: "Follow the auditor's copies of the ledgers, beside the auditor and with the right to read its state only, and send each finding when it\n" +
			"begins: as JSON by POST, which the receiver answers with 2xx, or as an RFC 5424 message. The cursor is kept in a file, and moves once\n" +
			"the receivers have taken what was found: after a restart a finding may come again, with the same id, and none is left out. The first\n" +
			"run begins with what is written from now on. It ends with SIGINT or SIGTERM.",
		Example: "  reeve audit watch --webhook https://alerts.example/reeve\n  reeve audit watch --syslog udp://127.0.0.1:514 --cursor /var/lib/reeve-watch/cursor.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var sinks []detect.Sink
			if webhook != "" {
				w, err := detect.NewWebhook(webhook)
				if err != nil {
					return fmt.Errorf("--webhook: %w", err)
				}
				sinks = append(sinks, w)
			}
			if syslog != "" {
				s, err := detect.NewSyslog(syslog)
				if err != nil {
					return fmt.Errorf("--syslog: %w", err)
				}
				defer s.Close()
				sinks = append(sinks, s)
			}
			if len(sinks) == 0 {
				return errors.New("nobody is told: give --webhook URL, --syslog ADDRESS, or both")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			d, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			if file == "" {
				file = d.Join("watch.json")
			}
			f := &cursor.Follower{State: d.Join(host.Auditor), Trust: b.Trust, File: file}
			_, missing := os.Stat(file)
			if err := f.Open(); err != nil {
				return failed(err)
			}
			if errors.Is(missing, os.ErrNotExist) {
				if err := f.Skip(); err != nil {
					return failed(err)
				}
			}
			detector, err := detect.Resume(ctx, b, f.Next)
			if err != nil {
				return failed(err)
			}
			log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			w := &detect.Watch{Detector: detector, Sinks: sinks, Statements: func() (*history.History, error) {
				return history.Open(estateDir(d).Store(), d.Pin(), time.Now())
			}}
			log.Info("watching", "logs", len(b.Logs), "cursor", file)
			f.Run(ctx, w.Take, func(err error) { log.Error("a finding waits", "error", err) })
			return nil
		},
	}
	cmd.Flags().StringVar(&webhook, "webhook", "", "https `URL` that findings are posted to; http for this machine alone")
	cmd.Flags().StringVar(&syslog, "syslog", "", "`ADDRESS` of a syslog receiver: udp://host:port, tcp://host:port or unix:/path")
	cmd.Flags().StringVar(&file, "cursor", "", "`FILE` that says how far was sent; DIR/watch.json when left out")
	return cmd
}
