package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/reevehq/reeve/internal/sidecar"
)

func newExecCmd() *cobra.Command {
	var f sidecarFlags
	var logFile string
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARGS]",
		Short: "Run a program whose SDKs' requests are each signed with the workload's key (level W2)",
		Long: "Start a sidecar on a free loopback port, run COMMAND with OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN, REEVE_URL\n" +
			"and REEVE_KEY set to it, pass signals on, and end with COMMAND's exit status (128 and the signal's number when a signal ended it).\n\n" +
			"The key in COMMAND's environment is made for this run. It opens nothing but this run's loopback port, and nothing once the run is over: the\n" +
			"workload's own key and token never leave the sidecar. A key of the provider's in ANTHROPIC_API_KEY is taken out of the environment.",
		Example: "  reeve exec -- node agent.mjs\n  reeve exec --config ./agent/sidecar.yaml -- python3 agent.py --fast\n  reeve exec -- sh -c 'curl -s \"$REEVE_URL/v1/reeve/me\" -H \"Authorization: Bearer $REEVE_KEY\"'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return failed(runExec(cmd, f, logFile, args))
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&logFile, "log", "", "`file` for a line of JSON for each request, without bodies; by default there is none")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func runExec(cmd *cobra.Command, f sidecarFlags, logFile string, args []string) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if logFile != "" {
		w, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("opening the log: %w", err)
		}
		defer w.Close()
		log = slog.New(slog.NewJSONHandler(io.Writer(w), nil))
	}
	s, _, err := f.open(ctx, cmd, log)
	if err != nil {
		return err
	}
	if s.Door.Key() == "" {
		s.Door.Close()
		return errors.New("exec needs a loopback port, and the configuration's listen names a Unix socket: SDKs take no base URL of one; run reeve sidecar for it")
	}
	serving, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(serving, 0) }() // what the program leaves behind has nothing to ask any more
	defer func() {
		end()
		<-ended
	}()
	if err := s.Ask(ctx); err != nil { // before the program starts, so that it is said once and plainly
		return err
	}
	go s.Watch(serving, func(error) {})
	return runChild(args, environment(os.Environ(), s.Door))
}

// runChild runs a program, passes signals on to it and returns its exit status as an error.
func runChild(args, env []string) error {
	child := exec.Command(args[0], args[1:]...)
	child.Stdin, child.Stdout, child.Stderr, child.Env = os.Stdin, os.Stdout, os.Stderr, env
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting the program: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	terminal := term.IsTerminal(int(os.Stdin.Fd()))
	go func() {
		for {
			select {
			case sig := <-signals:
				if terminal && (sig == syscall.SIGINT || sig == syscall.SIGQUIT) {
					continue // the terminal gave it to the program as well
				}
				child.Process.Signal(sig) // one that has ended needs none
			case <-done:
				return
			}
		}
	}()
	var e *exec.ExitError
	switch err := child.Wait(); {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return fmt.Errorf("waiting for the program: %w", err)
	}
	if status, ok := e.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &exitError{status: 128 + int(status.Signal())}
	}
	return &exitError{status: e.ExitCode()}
}

// environment is the child's: ours, with what leads SDKs to the sidecar and without what would lead them past it.
func environment(own []string, door *sidecar.Door) []string {
	set := door.Environment()
	env := slices.DeleteFunc(slices.Clone(own), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "ANTHROPIC_API_KEY" || slices.ContainsFunc(set, func(s [2]string) bool { return s[0] == name })
	})
	for _, s := range set {
		env = append(env, s[0]+"="+s[1])
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} { // a proxy for the world is none for this machine
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v+",127.0.0.1,localhost")
		} else {
			env = append(env, name+"=127.0.0.1,localhost")
		}
	}
	return env
}
