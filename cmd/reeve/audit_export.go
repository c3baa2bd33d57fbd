package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/cursor"
	"github.com/reevehq/reeve/internal/audit/ocsf"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

func newAuditExportCmd() *cobra.Command {
	var f auditExport
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Hand ledger entries to a file or a webhook, as OCSF events, for a SIEM",
		Long: "Hand every entry of the auditor's verified copies over, each at least once and in the order of its log: JSON lines in a file, or POSTs of them to an\n" +
			"https address. A cursor remembers how far that went. An event's metadata.uid is the same whenever it comes again. Nothing waits for this: the\n" +
			"ledgers are written whether it runs or not. Header fields for the webhook, such as Authorization, are in a file, a line each.",
		Example: "  reeve audit export --to events.jsonl\n  reeve audit export --to https://siem.example/ingest --header-file siem.header --follow",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVar(&f.format, "format", "ocsf", "ocsf")
	cmd.Flags().StringVar(&f.to, "to", "", "a `FILE`, or an https address")
	cmd.Flags().StringVar(&f.cursor, "cursor", "", "`FILE` that remembers how far it went (default: FILE.cursor, or one for the address in --dir)")
	cmd.Flags().StringVar(&f.header, "header-file", "", "`FILE` with header fields for the webhook")
	cmd.Flags().BoolVar(&f.follow, "follow", false, "go on with what comes, until it is told to stop")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

type auditExport struct {
	format, to, cursor, header string
	follow                     bool
}

func (f *auditExport) run(cmd *cobra.Command) error {
	if f.format != "ocsf" {
		return fmt.Errorf("%q is no format that entries are exported in: ocsf", f.format)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := openDir(cmd)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(d.Trust())
	if err != nil {
		return failed(err)
	}
	trust, err := verify.ParseTrust(text)
	if err != nil {
		return failed(err)
	}
	say := func(err error) {
		terminal.Printf(cmd.ErrOrStderr(), "reeve: not exported, will be tried again: %v\n", err)
	}
	sink, end, err := f.sink(d, say)
	if err != nil {
		return err
	}
	defer end()
	x := &ocsf.Exporter{State: d.Join(host.Auditor), Trust: trust, Sink: sink}
	c := &cursor.Follower{State: x.State, Trust: trust, File: f.cursor}
	if err := c.Open(); err != nil {
		return failed(err)
	}
	if !f.follow {
		n, err := c.Deliver(ctx, x.Deliver)
		if err != nil {
			return failed(fmt.Errorf("%d entries were exported, then: %w", n, err))
		}
		terminal.Printf(cmd.OutOrStdout(), "exported %d entries\n", n)
		return nil
	}
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	c.Run(ctx, x.Deliver, func(err error) {
		if errors.Is(err, ocsf.ErrRefused) {
			refuse(err)
		}
		say(err)
	})
	if err := context.Cause(ctx); errors.Is(err, ocsf.ErrRefused) {
		return failed(err)
	}
	return nil
}

// sink opens where the events go, and chooses the cursor's file.
func (f *auditExport) sink(d *host.Dir, say func(error)) (ocsf.Sink, func(), error) {
	if !strings.Contains(f.to, "://") {
		if f.header != "" {
			return nil, nil, errors.New("--header-file is for a webhook")
		}
		if f.cursor == "" {
			f.cursor = f.to + ".cursor"
		}
		file, err := ocsf.OpenFile(f.to)
		if err != nil {
			return nil, nil, failed(err)
		}
		return file, func() { file.Close() }, nil
	}
	if f.cursor == "" {
		sum := sha256.Sum256([]byte(f.to))
		f.cursor = d.Join("ocsf-" + hex.EncodeToString(sum[:8]) + ".cursor")
	}
	header, err := readHeader(f.header)
	if err != nil {
		return nil, nil, err
	}
	w, err := ocsf.NewWebhook(f.to, header, func(err error, _ time.Duration) { say(err) })
	return w, func() {}, err
}

// readHeader reads header fields, a line each.
func readHeader(path string) (http.Header, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(bytes.TrimSpace(b), "\r\n\r\n"...)))).ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("%s holds no header fields, Name: value, a line each", path)
	}
	return http.Header(h), nil
}
