// Command bench measures reeve side by side with what stands for the alternatives: no gateway at all, a gateway of one process
// with the key in it (net/http/httputil.ReverseProxy), and nginx where it is installed. All go to the same upstream over TLS,
// in turns within one run, because machines are shared: read the ratios.
//
//	go run ./bench -bin bin
//	go run ./bench -bin bin -revocation -subscribers 1000 -trials 100
//	go run ./bench -bin bin -audit -entries 5000000
//	go run ./bench -audit -generated -entries 100000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/up"
)

type options struct {
	bin     string
	against string
	rounds  int
	each    time.Duration
	conns   int
	idle    string
	out     string
	only    string
	call    string
	starts  int
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "upstream" {
		fail(serveUpstream(os.Args[2], os.Args[3]))
		return
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "`folder` of the reeve binaries")
	flag.IntVar(&o.rounds, "rounds", 3, "turns of every measurement")
	flag.DurationVar(&o.each, "each", 3*time.Second, "length of one measurement")
	flag.IntVar(&o.conns, "conns", 32, "requests in flight at saturation")
	flag.StringVar(&o.idle, "idle", "1000,10000", "numbers of idle streams to weigh; empty for none")
	flag.StringVar(&o.against, "against", "", "compare with the binaries in this `folder` instead, in turns")
	flag.StringVar(&o.only, "only", "", "measure the target with this `name` alone, for a profiler")
	flag.StringVar(&o.call, "call", "", "saturate with the kind of request of this `name` alone, and nothing else, such as 'json 64 KiB'")
	flag.IntVar(&o.starts, "starts", 0, "measure so many first starts instead, in turns with those of -against")
	flag.StringVar(&o.out, "o", "", "also write the report to this `file`")
	var d drill
	revoking := flag.Bool("revocation", false, "measure revocation instead: a fleet of processes, keys revoked under use, partition, restarts")
	flag.IntVar(&d.custodians, "custodians", 3, "custodians, with -revocation")
	flag.IntVar(&d.gateways, "gateways", 10, "gateways, with -revocation")
	flag.IntVar(&d.subscribers, "subscribers", 100, "followers of the feed, with -revocation")
	flag.IntVar(&d.trials, "trials", 10, "keys that are revoked, with -revocation")
	auditor := flag.Bool("audit", false, "measure what an auditor does instead: a ledger's entries verified, cosigned, indexed, asked about")
	generated := flag.Bool("generated", false, "with -audit: generated entries of a month that are stored nowhere")
	entries := flag.Int64("entries", 5_000_000, "entries, with -audit")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE) // who reads the report may go away
	defer stop()
	if *auditor {
		a := &auditing{bin: o.bin, out: os.Stdout, entries: *entries}
		if *generated {
			fail(a.large(ctx))
		} else {
			fail(a.audit(ctx))
		}
		return
	}
	if *revoking {
		d.bin, d.out = o.bin, o.out
		fail(revocation(ctx, d))
		return
	}
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// progress says on stderr what is measured now: the report alone goes to stdout.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// run starts everything, measures, and prints.
func run(ctx context.Context, o options) error {
	base, err := os.MkdirTemp("/var/tmp", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o711); err != nil {
		return err
	}
	out := io.Writer(os.Stdout)
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(os.Stdout, f)
	}
	if o.starts > 0 {
		return starting(ctx, o, base, o.starts)
	}
	return within(ctx, filepath.Join(base, "estate"), o.bin, func(ctx context.Context, e *demonstration) error {
		b := &bench{options: o, demonstration: e, base: base, out: out}
		defer b.stop()
		if o.against == "" {
			return errors.Join(b.measureAll(ctx), ctx.Err())
		}
		return within(ctx, filepath.Join(base, "other"), o.against, func(ctx context.Context, other *demonstration) error {
			return errors.Join(b.compare(ctx, other), ctx.Err())
		})
	})
}

// demonstration is a demo that runs.
type demonstration struct {
	dir     *host.Dir
	pids    map[string]int
	key     string        // the upstream's, for those that have it in them
	started time.Duration // from the first fork to all processes ready
}

// within runs a demo with an upstream of the bench's own while then runs.
func within(ctx context.Context, path, bin string, then func(context.Context, *demonstration) error) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d, err := host.Create(path, bin, true, 0)
	if err != nil {
		return err
	}
	e := &demonstration{}
	err = demo.Create(d, time.Now(), func(credential string) secret.Value {
		key := demo.RandomKey(credential)
		if credential == "research-openai" {
			e.key = string(key.Reveal())
		}
		return key
	})
	if err != nil {
		return err
	}
	if d.State != d.Path {
		defer os.RemoveAll(d.State)
	}
	begun := time.Now()
	return up.Run(ctx, up.Options{
		Dir: d.Path, Bin: bin, Out: os.Stderr, Now: time.Now,
		Command: func(s up.Spec) up.Spec {
			if s.Name == host.Upstream {
				s.Path, s.UID = self, -1
				s.Args = []string{"upstream", host.Local(d.Run.Ports.Upstream), d.Join(host.Upstream, "demo-ca")}
			}
			return s
		},
		Then: func(ctx context.Context, d *host.Dir, pids map[string]int) error {
			e.dir, e.pids, e.started = d, pids, time.Since(begun)
			return then(ctx, e)
		},
	})
}
