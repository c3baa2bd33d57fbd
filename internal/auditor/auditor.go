// Package auditor follows, verifies, stores and cosigns every ledger of an estate. It cosigns a size only after it has
// fetched and checked every leaf below it. It can permit nothing and change nothing: who owns it can stop cosigning.
package auditor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/relay/server"
	"github.com/reevehq/reeve/internal/witness"
	"github.com/reevehq/reeve/verify"
)

// Auditor is a running auditor.
type Auditor struct {
	id      string
	state   string
	sources map[string]folder // by process
	signer  atomic.Pointer[cosigner.Signer]
	clock   func() time.Time
	log     *slog.Logger
	metrics *metrics.Registry
	alarms  *alarms
	relay   *server.Relay
	index   *keeper // nil when none is kept

	mu    sync.Mutex // guards what follows
	trust *verify.Trust
	tails map[string]*tail // by origin
}

// open makes an auditor over its state directory.
func open(cfg *Config, trust *verify.Trust, signer *cosigner.Signer, log *slog.Logger, m *metrics.Registry) (*Auditor, error) {
	a := &Auditor{
		id: cfg.ID, state: cfg.StateDir, relay: server.New(), sources: map[string]folder{}, clock: time.Now, log: log, metrics: m,
		trust: trust, tails: map[string]*tail{},
	}
	a.signer.Store(signer)
	for _, s := range cfg.Logs {
		a.sources[s.Process] = folder(s.Tiles)
	}
	var err error
	if err := os.MkdirAll(filepath.Join(cfg.StateDir, "logs"), 0o700); err != nil {
		return nil, err
	}
	a.alarms, err = openAlarms(filepath.Join(cfg.StateDir, "alarms.ndjson"), log, m)
	if !cfg.Index.Off {
		a.index = &keeper{a: a, place: cfg.place()}
		m.GaugeFunc("reeve_auditor_index_lag", "Entries verified and not indexed.", func() float64 { return float64(a.index.status().Lag) })
	}
	return a, err
}

// setTrust takes other log keys. Logs that are followed stay.
func (a *Auditor) setTrust(t *verify.Trust) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trust = t
}

func (a *Auditor) trusted() *verify.Trust {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.trust
}

// tail returns the log that a verified checkpoint is of, and opens its copy the first time.
func (a *Auditor) tail(l verify.Log) (*tail, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tails[l.Origin]; t != nil {
		if t.log.Key != l.Key {
			return nil, fmt.Errorf("%w: %s is followed under another key", witness.ErrSignature, l.Origin)
		}
		return t, nil
	}
	from, ok := a.sources[l.Process]
	if !ok {
		return nil, fmt.Errorf("%w: the auditor is not told where %s publishes its log", witness.ErrUnknownLog, l.Process)
	}
	base, n := entry.Successor(l.Origin)
	var before *tail
	if n != 0 {
		from = folder(filepath.Join(string(from), strconv.Itoa(n)))
		before = a.tails[origin(base, n-1)]
	}
	t, err := openTail(l.Process, l, from, folder(filepath.Join(a.state, "logs", entry.LogID(l.Key))), before)
	if err != nil {
		a.alarms.raise(l.Origin, &problem{kind: kindOwn, err: err})
		return nil, fmt.Errorf("%w: %w", witness.ErrNotYet, err)
	}
	if t.Tree.N == 0 && before == nil && t.Origin != base {
		return nil, fmt.Errorf("%w: the log that %s succeeds has not been read yet", witness.ErrNotYet, l.Origin)
	}
	a.tails[l.Origin] = t
	for name, read := range map[string]func(Log) int64{
		"size": func(s Log) int64 { return s.Size }, "cosigned": func(s Log) int64 { return s.Cosigned }, "lag": func(s Log) int64 { return s.Lag },
	} {
		a.metrics.GaugeFunc("reeve_auditor_log_"+name, "Entries of a log: verified (size), cosigned, and signed but not cosigned (lag).",
			func() float64 { return float64(read(t.status())) }, "process", t.process, "log", t.id)
	}
	return t, nil
}

// Cosign answers add-checkpoint: it verifies and stores every leaf below the checkpoint first.
func (a *Auditor) Cosign(_ context.Context, req *cosigner.Request) ([]byte, error) {
	trust, named := a.trusted(), req.Origin()
	if _, ok := trust.ByOrigin(named); !ok {
		return nil, fmt.Errorf("%w: %q", witness.ErrUnknownLog, named)
	}
	c, err := trust.Checkpoint(req.Note)
	if err != nil {
		a.alarms.raise(named, wrong(kindKey, "a checkpoint was pushed that no key of the log signed")) // the rest is the sender's choice
		return nil, fmt.Errorf("%w: %w", witness.ErrSignature, err)
	}
	t, err := a.tail(c.Log)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := a.protocol(t, c, req); err != nil {
		return nil, err
	}
	old := t.Tree
	if err := t.advance(c); err != nil {
		return nil, a.refuse(t, err)
	}
	text, _, _ := strings.Cut(string(c.Raw), "\n\n")
	line, err := a.signer.Load().Cosign(text + "\n")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", witness.ErrNotYet, err)
	}
	before, at := t.Cosigned, t.CosignedAt
	t.Cosigned, t.CosignedAt = c.Tree, a.clock().UTC()
	if err := t.save(old); err != nil { // what is not durable was not cosigned
		t.Cosigned, t.CosignedAt = before, at
		return nil, a.refuse(t, err)
	}
	a.alarms.settle(t.Origin)
	cosigned := slices.Concat(c.Raw, line)
	if err := os.WriteFile(filepath.Join(string(t.own), cosignedFile), cosigned, 0o600); err != nil { // for people and verify
		a.log.Warn("the cosigned checkpoint is not in the own copy", "log", t.Origin, "error", err)
	}
	return line, nil
}

// protocol makes the checks of C2SP tlog-witness. A refusal that shows a log going back or another way is an alarm.
func (a *Auditor) protocol(t *tail, c *verify.Checkpoint, req *cosigner.Request) error {
	key, err := verify.NewVerifier(t.log.Key)
	if err != nil {
		return err
	}
	_, err = req.Check(t.Origin, note.VerifierList(key), t.Cosigned)
	if c.N > t.Cosigned.N && !errors.Is(err, witness.ErrInconsistent) {
		return err
	}
	if root, e := t.root(min(c.N, t.Tree.N)); e == nil && c.N <= t.Tree.N && root == c.Hash {
		if c.N < t.Cosigned.N {
			a.alarms.raise(t.Origin, &problem{kindRollback, errors.New("a checkpoint smaller than the one cosigned was pushed: the log was restored to an earlier state, or somebody sent an old checkpoint again"), c.Raw})
		}
		return err
	}
	a.alarms.raise(t.Origin, &problem{kindFork, errors.New("a checkpoint was pushed that is signed by the log's key and does not extend the one cosigned"), c.Raw})
	return err
}

// refuse raises the alarm and maps the problem to an answer: what may mend itself is asked again, what is false is not.
func (a *Auditor) refuse(t *tail, err error) error {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{kind: kindOwn, err: err}
	}
	a.alarms.raise(t.Origin, p)
	switch p.kind {
	case kindOwn, kindMissing, kindTruncated, kindTile:
		return fmt.Errorf("%w: %w", witness.ErrNotYet, p)
	}
	return fmt.Errorf("%w: %w", witness.ErrInconsistent, p)
}

// Look reads what every process has published and verifies what is new, so that little is left to do when a checkpoint is
// pushed, and what goes back is seen without one.
func (a *Auditor) Look() {
	trust := a.trusted()
	for process, from := range a.sources {
		volumes := from.volumes()
		for _, n := range volumes {
			if l, ok := trust.Chain(process, n); ok {
				a.look(trust, l, n, n == volumes[len(volumes)-1])
			}
		}
	}
}

// look reads the nth log of a process. One that has a successor may have been moved to an archive.
func (a *Auditor) look(trust *verify.Trust, l verify.Log, n int, last bool) {
	from, origin := a.sources[l.Process], l.Origin
	if n > 0 {
		from = folder(filepath.Join(string(from), strconv.Itoa(n)))
	}
	known := a.known(l)
	before := a.size(l) // a push may come after the file is read, and a log signs before it asks for cosignatures
	raw, err := from.read(signedFile)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) || last && known {
			a.alarms.raise(origin, &problem{kind: kindMissing, err: err})
		}
		return
	}
	c, err := trust.Checkpoint(raw)
	if err == nil && c.Log.Origin != origin {
		err = fmt.Errorf("the checkpoint in the place of %s is of %s", origin, c.Log.Origin)
	}
	if err != nil {
		a.alarms.raise(origin, &problem{kind: kindKey, err: err})
		return
	}
	t, err := a.tail(c.Log)
	if err != nil {
		a.log.Warn("log is not followed", "log", origin, "error", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.Tree
	err = t.advance(c)
	if err == nil && t.Tree != old {
		err = t.save(old)
	}
	if err == nil && c.N < before {
		err = &problem{kindRollback, fmt.Errorf("the published log has %d entries; %d were verified before", c.N, before), c.Raw}
	}
	if err != nil {
		a.refuse(t, err)
		return
	}
	if t.Cosigned == t.Tree {
		a.alarms.settle(origin)
	}
}

// known reports whether the log was read before, in this run or an earlier one, and opens its copy.
func (a *Auditor) known(l verify.Log) bool {
	if _, err := os.Stat(filepath.Join(a.state, "logs", entry.LogID(l.Key), "state.json")); err != nil {
		return false
	}
	if _, err := a.tail(l); err != nil {
		a.log.Warn("log is not followed", "log", l.Origin, "error", err)
	}
	return true
}

// size is how many entries of a log are verified, 0 when it is not followed.
func (a *Auditor) size(l verify.Log) int64 {
	a.mu.Lock()
	t := a.tails[l.Origin]
	a.mu.Unlock()
	if t == nil {
		return 0
	}
	return t.status().Size
}

// Log is the status of one log.
type Log struct {
	Process    string    `json:"process"`
	Origin     string    `json:"origin"`
	ID         string    `json:"id"`
	Size       int64     `json:"size"` // entries verified and stored
	Root       string    `json:"root"`
	Cosigned   int64     `json:"cosigned"` // entries in the newest checkpoint cosigned
	CosignedAt time.Time `json:"cosigned_at,omitzero"`
	Lag        int64     `json:"lag"` // entries signed by the log and not cosigned
	LastEntry  time.Time `json:"last_entry,omitzero"`
	Alarm      *Alarm    `json:"alarm,omitempty"` // the newest that stands
}

func (t *tail) status() Log {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Log{
		Process: t.process, Origin: t.Origin, ID: t.id, Size: t.Tree.N, Root: t.Tree.Hash.String(), Cosigned: t.Cosigned.N, CosignedAt: t.CosignedAt,
		Lag: max(t.published, t.Tree.N) - t.Cosigned.N, LastEntry: t.LastEntry,
	}
}

// Status is the answer of GET /v1/status.
type Status struct {
	Auditor string  `json:"auditor"`
	Logs    []Log   `json:"logs"`
	Alarms  []Alarm `json:"alarms"` // newest first, those that stand and those that are over

	Index *IndexStatus `json:"index,omitempty"` // none when none is kept
}

// Status reports every log and alarm.
func (a *Auditor) Status() Status {
	a.mu.Lock()
	tails := make([]*tail, 0, len(a.tails))
	for _, t := range a.tails {
		tails = append(tails, t)
	}
	a.mu.Unlock()
	s := Status{Auditor: a.id, Logs: []Log{}, Alarms: a.alarms.list()}
	if a.index != nil {
		index := a.index.status()
		s.Index = &index
	}
	for _, t := range tails {
		l := t.status()
		if i := slices.IndexFunc(s.Alarms, func(al Alarm) bool { return al.Log == l.Origin && al.Stands }); i >= 0 {
			l.Alarm = &s.Alarms[i]
		}
		s.Logs = append(s.Logs, l)
	}
	slices.SortFunc(s.Logs, func(x, y Log) int { return strings.Compare(x.Origin, y.Origin) })
	return s
}
