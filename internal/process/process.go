// Package process runs one of reeve's long-lived processes: flags, strict configuration, hardening, logger, ops listener,
// signals. Mains state what they are and hand over.
package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/terminal"
)

// App is a process. Config is its configuration struct, with yaml tags and documented fields.
type App[C any] struct {
	Name    string                   // reeve-custodian
	Default C                        // what the file leaves out
	Check   func(*C) error           // refuses a configuration that cannot work; may be nil
	Ops     func(*C) string          // where the ops listener is: unix:/path or host:port; empty for none
	Confine func(*C) confine.Profile // what the process may still do once it runs
	// Run ends after ctx does, when it has drained. At SIGHUP the configuration is read again; one that is accepted comes by the
	// channel, and Run answers it with Runtime.Reloaded. What it does not take stays as it was at the start.
	Run func(ctx context.Context, rt *Runtime, cfg *C, reload <-chan *C) error

	LogLevel func(*C) string // debug, info, warn or error; empty is info; may be nil
	Live     []string        // members of the configuration that take effect on SIGHUP
}

// Runtime is what a running process has from its surroundings.
type Runtime struct {
	Log     *slog.Logger
	Journal *Journal // that Log writes to, for the lines of requests
	Ready   *Readiness
	Metrics *metrics.Registry
	Demo    bool // demo estates are accepted
	Version string
	// Restrict applies the confinement of App.Confine for good, with further required features. Run calls it once its listeners
	// are open and before it serves.
	Restrict func(require []string) (confine.Report, error)

	refused *metrics.Counter // configurations; nil in tests
}

// Version is set by the linker: -ldflags "-X github.com/reevehq/reeve/internal/process.Version=…".
var Version = "dev"

// Run runs the process with its command line and returns its exit status.
func Run[C any](app App[C]) int {
	slacken()
	return RunArgs(app, os.Args[1:])
}

// RunArgs is Run with other arguments.
func RunArgs[C any](app App[C], args []string) int {
	err := app.run(args, os.Stdout, os.Stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	terminal.Printf(os.Stderr, "%s: %v\n", app.Name, err)
	return 1
}

var errUsage = errors.New("usage")

type options struct {
	config                     string
	demo, version, printConfig bool
}

func (app App[C]) run(args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(app.Name, args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, app.Name, Version)
		return nil
	}
	cfg, err := app.load(o.config)
	if err != nil {
		return err
	}
	if o.printConfig {
		return yaml.NewEncoder(stdout).Encode(cfg)
	}
	if err := refuseDebug(os.Getenv("GODEBUG")); err != nil {
		return err
	}
	raiseFileLimit()
	hardened, err := confine.Harden()
	if err != nil {
		return err
	}
	return app.serve(cfg, o, hardened, stderr)
}

func (app App[C]) serve(cfg *C, o options, hardened confine.Report, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	level := new(slog.LevelVar)
	if err := app.setLevel(level, cfg); err != nil {
		return err
	}
	journal := NewJournal(terminal.NewWriter(stderr), app.Name)
	defer journal.Flush()
	rt := &Runtime{
		Log:     slog.New(slog.NewJSONHandler(journal, &slog.HandlerOptions{Level: level})).With("process", app.Name),
		Journal: journal,
		Ready:   newReadiness(),
		Metrics: &metrics.Registry{},
		Demo:    o.demo,
		Version: Version,
	}
	rt.Restrict = func(require []string) (confine.Report, error) {
		p := app.Confine(cfg)
		p.Require = append(slices.Clone(p.Require), require...)
		p.ReadOnly = append(slices.Clone(p.ReadOnly), confine.Folders(o.config)...) // it may be replaced
		report, err := confine.Restrict(p, hardened)
		rt.Log.Info("confined", "report", report)
		return report, err
	}
	if app.Ops != nil && app.Ops(cfg) != "" {
		ops, err := serveOps(app.Ops(cfg), rt)
		if err != nil {
			return err
		}
		defer ops.Close()
	}
	rt.Log.Info("starting", "version", Version, "pid", os.Getpid(), "uid", os.Getuid())
	rt.refused = rt.Metrics.Counter("reeve_process_reloads_refused_total", "Configurations that were refused at SIGHUP; the one before stays.")
	err := app.Run(ctx, rt, cfg, app.reloading(ctx, o.config, cfg, rt, level))
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	rt.Log.Info("stopped", "error", errText(err))
	return err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func parseFlags(name string, args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.config, "config", "", "configuration `file` (YAML)")
	fs.BoolVar(&o.demo, "demo", false, "accept an estate whose charter says demo: true")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	fs.BoolVar(&o.printConfig, "print-config", false, "print the configuration in force, defaults included, and exit")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "Usage: %s --config FILE [--demo] [--print-config] [--version]\n\nExample: %s --config /etc/reeve/%s.yaml\n\n",
			name, name, strings.TrimPrefix(name, "reeve-"))
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if !o.version && o.config == "" || fs.NArg() > 0 {
		fs.Usage()
		return o, errUsage
	}
	return o, nil
}

// load reads the configuration strictly: an unknown field is refused with its line and column.
func (app App[C]) load(path string) (*C, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg := app.Default
	if err := yaml.UnmarshalWithOptions(b, &cfg, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("the configuration %s is refused; mend the line and start again:\n%w", path, err)
	}
	if app.Check != nil {
		if err := app.Check(&cfg); err != nil {
			return nil, fmt.Errorf("the configuration %s is refused: %w", path, err)
		}
	}
	return &cfg, nil
}

// refuseDebug refuses settings under which net/http writes header values, and with them secrets, to the log.
func refuseDebug(godebug string) error {
	for _, setting := range strings.Split(godebug, ",") {
		if name, value, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "http2debug") && value != "0" {
			return fmt.Errorf("GODEBUG=%s makes the HTTP library log header values, secrets included; unset it and start again", setting)
		}
	}
	return nil
}

// raiseFileLimit raises the soft limit of open files to the hard one.
func raiseFileLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // what remains is the soft limit: fewer streams, nothing worse
	}
}

// FileLimit is how many files the process may have open.
func FileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(l.Cur)
}
