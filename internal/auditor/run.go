package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/relay"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/verify"
)

const (
	poll     = time.Second     // between two looks at the published logs
	drain    = 2 * time.Second // for open requests when the process is told to stop
	inFlight = 64              // requests at once; more get 503
)

func run(ctx context.Context, rt *process.Runtime, cfg *Config, reload <-chan *Config) error {
	rt.Ready.Set("listener", "starting")
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return err
	}
	trust, err := readTrust(cfg.Trust)
	if err != nil {
		return err
	}
	signer, err := readSigner(cfg.WitnessKey, trust)
	if err != nil {
		return err
	}
	cert := new(serve.Certificate)
	if err := cert.Load(cfg.TLS); err != nil {
		return err
	}
	a, err := open(cfg, trust, signer, rt.Log, rt.Metrics)
	if err != nil {
		return err
	}
	l, err := process.Listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := rt.Restrict(nil); err != nil {
		return err
	}
	defer a.keep(ctx)()
	return a.serve(ctx, rt, cfg, cert.Listen(serve.Share(l, process.FileLimit()*4/5)), reload, cert)
}

// keep keeps the index, if there is to be one, until end is called, which waits.
func (a *Auditor) keep(ctx context.Context) (end func()) {
	if a.index == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.index.keep(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func readTrust(path string) (*verify.Trust, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("log keys: %w; 'reeve up' and 'reeve init' write trust.json", err)
	}
	return verify.ParseTrust(b)
}

// readSigner reads the witness key. The file may hold several, one a line, the newest last: the newest that the trust file has is used,
// and without any the newest.
func readSigner(path string, trust *verify.Trust) (*cosigner.Signer, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("witness key: %w", err)
	}
	var best *cosigner.Signer
	named := false
	for line := range strings.Lines(string(text.Reveal())) {
		s, err := cosigner.NewSigner(strings.TrimSpace(line), time.Now)
		if err != nil {
			return nil, fmt.Errorf("witness key %s: %w", path, err)
		}
		now := slices.ContainsFunc(trust.Witnesses, func(w verify.Witness) bool {
			return strings.HasPrefix(w.Key, fmt.Sprintf("%s+%08x+", s.Name(), s.KeyHash()))
		})
		if now || !named {
			best, named = s, now
		}
	}
	if best == nil {
		return nil, fmt.Errorf("witness key %s: the file is empty", path)
	}
	return best, nil
}

// serve answers, looks and reloads until ctx ends.
func (a *Auditor) serve(ctx context.Context, rt *process.Runtime, cfg *Config, l net.Listener, reload <-chan *Config, cert *serve.Certificate) error {
	server := &http.Server{
		Handler: a.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	server.RegisterOnShutdown(a.relay.Close)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	rt.Ready.Set("listener", "")
	look := time.NewTicker(poll)
	defer look.Stop()
	for {
		a.Look()
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.Background(), drain)
			defer cancel()
			return errors.Join(server.Shutdown(end), server.Close())
		case err := <-failed:
			return fmt.Errorf("serving: %w", err)
		case fresh := <-reload:
			trust, err := readTrust(fresh.Trust)
			var signer *cosigner.Signer
			if err == nil {
				signer, err = readSigner(cfg.WitnessKey, trust)
			}
			if err == nil {
				err = cert.Load(fresh.TLS)
			}
			if err == nil {
				a.setTrust(trust)
				a.signer.Store(signer)
			}
			rt.Reloaded(err)
		case <-look.C:
		}
	}
}

// Handler serves add-checkpoint and the status.
func (a *Auditor) Handler() http.Handler {
	mux := http.NewServeMux()
	slots := make(chan struct{}, inFlight)
	add := cosigner.Handler(a.Cosign)
	mux.HandleFunc("POST /add-checkpoint", func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			add.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a.Status())
	})
	mux.Handle(relay.Path, a.relay)
	mux.HandleFunc("GET /v1/logs/{process}/{file...}", a.file)
	return serve.Access(a.log, mux)
}
