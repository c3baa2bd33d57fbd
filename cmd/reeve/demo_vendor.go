package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/demo/vendor"
	"github.com/reevehq/reeve/internal/terminal"
)

func newDemoVendorCmd() *cobra.Command {
	var g vendor.Gateway
	var listen, upstream, key, urlFile string
	cmd := &cobra.Command{
		Use:   "vendor " + strings.Join(vendor.Habits, "|"),
		Short: "Somebody else's gateway, with one habit with credentials, for reeve probe",
		Example: "  reeve demo vendor cache --listen 127.0.0.1:4000 --upstream-file canary.url\n" +
			"  reeve probe acme --url http://127.0.0.1:4000 --canary-listen 127.0.0.1:4001 --canary-url-file canary.url --dry-run",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: vendor.Habits,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			g.Habit = args[0]
			g.Upstream = func() (string, error) {
				b, err := os.ReadFile(upstream)
				return strings.TrimSpace(string(b)), err
			}
			if key != "" {
				if g.Key, err = credentialIn(key); err != nil {
					return failed(err)
				}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return failed(fmt.Errorf("demo vendor: %w", err))
			}
			at := "http://" + l.Addr().String()
			if urlFile != "" {
				if err := os.WriteFile(urlFile, []byte(at+"\n"), 0o644); err != nil {
					return failed(err)
				}
			}
			terminal.Printf(cmd.OutOrStdout(), "demo vendor: %v\n", at)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			srv := &http.Server{Handler: &g, ReadHeaderTimeout: 10 * time.Second}
			go func() {
				<-ctx.Done()
				srv.Close()
			}()
			if err = srv.Serve(l); errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return failed(err)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&upstream, "upstream-file", "", "`file` with the provider's URL, read at each request")
	cmd.Flags().StringVar(&key, "key", "", "`file` with the credential that the habit retrieve reads")
	cmd.Flags().StringVar(&urlFile, "url-file", "", "write the gateway's own URL to this `file`")
	_ = cmd.MarkFlagRequired("upstream-file")
	return cmd
}
