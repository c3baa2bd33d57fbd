package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/witness"
	"github.com/reevehq/reeve/verify"
)

// auditing measures what an auditor does.
type auditing struct {
	bin     string
	out     io.Writer
	entries int64
	dir     string
	begun   time.Time
}

// audit measures with real entries: a ledger on disk, its tiles, an auditor's process, the index, questions.
func (a *auditing) audit(ctx context.Context) (err error) {
	if a.dir, err = os.MkdirTemp("/var/tmp", "reeve-bench-audit-"); err != nil {
		return err
	}
	defer os.RemoveAll(a.dir)
	a.header("entries written to a ledger on disk, published, verified and cosigned by an auditor's process, and indexed")
	w, err := a.start(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	progress("appending %d entries", a.entries)
	begun := time.Now()
	t := &traffic{step: 1}
	for i := range a.entries {
		e := t.entry(i)
		e.Log, e.TimeNS = "", 0
		for {
			if err = w.ledger.Enqueue(e, false); !errors.Is(err, ledger.ErrBusy) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	appended := time.Since(begun)
	cosigned, indexed, err := w.wait(ctx, a.entries, begun)
	if err != nil {
		return err
	}
	usage := cpuOf([]int{w.cmd.Process.Pid})[0]
	memory := memoryOf([]int{w.cmd.Process.Pid})
	w.stop()
	all, err := logs.Open(filepath.Join(a.dir, "auditor"), w.trust)
	if err != nil {
		return err
	}
	kept := index.Place{File: filepath.Join(a.dir, "auditor", "index.db")}
	a.rates([]rate{{"appended to the ledger, durable", appended}, {"published, verified and cosigned", cosigned}, {"indexed", indexed}})
	fmt.Fprintf(a.out, "\nThe second and third run beside the appending, on the same CPUs. The auditor's process took %.0f s of CPU and %s at the end.\n\n", usage.Seconds(), mib(memory))
	n := float64(a.entries)
	fmt.Fprintf(a.out, "Bytes an entry: write-ahead log %.0f, published tiles %.0f, the auditor's copy %.0f, index %.2f.\n\n",
		float64(size(filepath.Join(a.dir, "ledger")))/n, float64(size(filepath.Join(a.dir, "tiles")))/n, float64(size(filepath.Join(a.dir, "auditor", "logs")))/n, float64(size(kept.File))/n)
	progress("rebuilding")
	fresh := index.Place{File: filepath.Join(a.dir, "rebuilt.db")}
	begun = time.Now()
	r, err := fresh.Rebuild(ctx, all, nil)
	if err != nil {
		return err
	}
	rebuilt := time.Since(begun)
	progress("verifying offline")
	begun = time.Now()
	checked, err := logs.Check(w.trust, all, 0)
	if err != nil || len(checked) != 1 || !checked[0].Report.Holds(verify.Cosigned) {
		return errors.Join(errors.New("the copy does not verify"), err)
	}
	verified := time.Since(begun)
	a.rates([]rate{{"`reeve audit rebuild`", rebuilt}, {"`reeve audit verify`", verified}})
	x, err := kept.Usable(ctx, all)
	if err != nil {
		return err
	}
	defer x.Close()
	if hash, err := x.Hash(ctx); err != nil || hash != r.Hash {
		return errors.Join(fmt.Errorf("the auditor's index has the hash %s, the one rebuilt %s", hash, r.Hash), err)
	}
	fmt.Fprintf(a.out, "\nThe index that the auditor kept and the one rebuilt have the same hash.\n")
	have, err := x.Logs(ctx)
	if err != nil {
		return err
	}
	first, last := time.Unix(0, have[0].First), time.Unix(0, have[0].Last)
	err = a.ask(ctx, x, first.Truncate(time.Hour), last.Truncate(time.Hour).Add(time.Hour))
	if third := last.Sub(first) / 3; err == nil {
		err = a.cut(ctx, x, first.Add(third), last.Add(-third))
	}
	if err == nil {
		err = a.commands(ctx)
	}
	if err == nil {
		a.all()
	}
	return err
}

// large verifies and indexes generated entries that are stored nowhere.
func (a *auditing) large(ctx context.Context) (err error) {
	if a.dir, err = os.MkdirTemp("/var/tmp", "reeve-bench-audit-"); err != nil {
		return err
	}
	defer os.RemoveAll(a.dir)
	a.header("generated entries of one month, each encoded, hashed into the tree, parsed and indexed as an auditor does. Their leaves are NOT stored")
	place := index.Place{File: filepath.Join(a.dir, "index.db")}
	x, err := place.Keep(ctx)
	if err != nil {
		return err
	}
	defer x.Close()
	t := &traffic{log: "00000000000000c1", step: 30 * 86400 * 1e9 / a.entries}
	name := index.Log{ID: t.log, Process: "custodian", Origin: "reeve/bench/c1"}
	b, err := x.Batch(ctx, name)
	if err != nil {
		return err
	}
	var tree stack
	var raw []byte
	bytes, begun, said := int64(0), time.Now(), time.Now()
	commits := time.Duration(0)
	for i := range a.entries {
		raw = t.entry(i).AppendJSON(raw[:0])
		bytes += int64(len(raw)) + 2
		tree.add(tlog.RecordHash(raw))
		e, err := entry.Parse(raw)
		if err == nil {
			err = b.Add(e)
		}
		if err == nil && (b.Full() || i == a.entries-1) {
			now := time.Now()
			if err = b.Commit(ctx); err == nil {
				b, err = x.Batch(ctx, name)
			}
			commits += time.Since(now)
		}
		if err != nil {
			return err
		}
		if i%(1<<16) == 0 && time.Since(said) > 20*time.Second {
			said = time.Now()
			progress("%d entries, %.0f a second", i, float64(i)/time.Since(begun).Seconds())
		}
	}
	took := time.Since(begun)
	a.rates([]rate{{"generated, hashed, parsed and indexed", took}})
	if err := x.Close(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\nOf that %.0f s are the index's transactions. Root of the tree: %s. Memory at the end: %s.\n", commits.Seconds(), tree.root(), mib(memoryOf([]int{os.Getpid()})))
	fmt.Fprintf(a.out, "Bytes an entry: leaves that were not stored %.0f, index %.2f (%s in all).\n\n", float64(bytes)/float64(a.entries), float64(size(place.File))/float64(a.entries), mib(size(place.File)))
	if x, err = place.Read(ctx); err != nil {
		return err
	}
	defer x.Close()
	begun = time.Now()
	hash, err := x.Hash(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "Hash of the index: %s, in %.1f s.\n", hash, time.Since(begun).Seconds())
	err = a.ask(ctx, x, time.Unix(0, began), time.Unix(0, began+30*86400*1e9))
	if err == nil {
		a.all()
	}
	return err
}

// all ends the report.
func (a *auditing) all() { fmt.Fprintf(a.out, "\nIn all: %.0f s.\n", time.Since(a.begun).Seconds()) }

// asked is the credential of which questions are asked.
const asked = "unit-20-credential-5123"

// ask measures questions over a window of whole hours.
func (a *auditing) ask(ctx context.Context, x index.Reader, from, to time.Time) error {
	f := index.Filter{From: from, To: to}
	with := func(set func(*index.Filter)) index.Filter {
		g := f
		set(&g)
		return g
	}
	fmt.Fprintf(a.out, "\nQuestions over %s, milliseconds of five turns:\n\n| question | rows | median | slowest |\n|---|--:|--:|--:|\n", to.Sub(from).Round(time.Millisecond))
	for _, q := range []struct {
		name string
		f    index.Filter
		by   []index.Column
	}{
		{"who used one credential, by workload, gateway and proof", with(func(f *index.Filter) { f.Credential = asked }), []index.Column{index.ByWorkload, index.ByGateway, index.ByProof}},
		{"one credential hour by hour", with(func(f *index.Filter) { f.Credential = asked }), []index.Column{index.ByHour}},
		{"what one workload used", with(func(f *index.Filter) { f.Workload = "spiffe://example.org/unit-20/workload-1024" }), []index.Column{index.ByCredential}},
		{"what went through one gateway, by credential and unit", with(func(f *index.Filter) { f.Gateway = "gateway-1" }), []index.Column{index.ByCredential, index.ByUnit}},
		{"denials by unit", with(func(f *index.Filter) { f.Types = []entry.Type{entry.Deny} }), []index.Column{index.ByUnit}},
		{"everything by unit and decision", f, []index.Column{index.ByUnit, index.ByDecision}},
		{"everything by credential", f, []index.Column{index.ByCredential}},
	} {
		var took []time.Duration
		rows := 0
		for range 5 {
			begun := time.Now()
			list, err := x.Uses(ctx, q.f, q.by...)
			if err != nil {
				return err
			}
			took, rows = append(took, time.Since(begun)), len(list)
		}
		slices.Sort(took)
		fmt.Fprintf(a.out, "| %s | %d | %d | %d |\n", q.name, rows, took[2].Milliseconds(), took[4].Milliseconds())
	}
	return nil
}

// cut measures one question over a window that ends within an hour, whose entries are then read one by one.
func (a *auditing) cut(ctx context.Context, x index.Reader, from, to time.Time) error {
	begun := time.Now()
	list, err := x.Uses(ctx, index.Filter{From: from, To: to, Credential: asked}, index.ByWorkload, index.ByGateway, index.ByProof)
	if err == nil {
		fmt.Fprintf(a.out, "\nThe first of them over %s within these hours, for which single entries are read: %d ms for %d rows, asked once.\n", to.Sub(from).Round(time.Millisecond), time.Since(begun).Milliseconds(), len(list))
	}
	return err
}

func (a *auditing) header(what string) {
	a.begun = time.Now()
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(a.out, "Measured %s on %s/%s, %d CPUs (%s), kernel %s; load average at the start %s. %d %s.\n\n", time.Now().UTC().Format("2006-01-02"), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), cpuModel(), kernel(), strings.Join(strings.Fields(string(load))[:1], ""), a.entries, what)
}

type rate struct {
	what string
	took time.Duration
}

func (a *auditing) rates(list []rate) {
	fmt.Fprintf(a.out, "| | seconds | entries a second |\n|---|--:|--:|\n")
	for _, r := range list {
		fmt.Fprintf(a.out, "| %s | %.1f | %.0f |\n", r.what, r.took.Seconds(), float64(a.entries)/r.took.Seconds())
	}
}

// watched is a ledger with an auditor's process that follows it.
type watched struct {
	ledger *ledger.Log
	trust  *verify.Trust
	cmd    *exec.Cmd
	url    string
	ended  bool
}

func (a *auditing) start(ctx context.Context) (*watched, error) {
	key, err := ledger.GenerateKey("reeve/bench/c1")
	if err != nil {
		return nil, err
	}
	skey, vkey, err := cosigner.GenerateKey(rand.Reader, "reeve/bench/witness/w1")
	if err != nil {
		return nil, err
	}
	w := &watched{trust: &verify.Trust{Estate: "bench", Logs: []verify.Log{{Process: "c1", Origin: key.Origin(), Key: key.Verifier()}},
		Witnesses: []verify.Witness{{Name: "reeve/bench/witness/w1", Key: vkey}}}}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	w.url = "http://" + address
	free.Close()
	trust, err := json.Marshal(w.trust)
	if err != nil {
		return nil, err
	}
	at := func(name string) string { return filepath.Join(a.dir, name) }
	config := fmt.Sprintf("id: w1\nlisten: %s\nstate_dir: %s\ntrust: %s\nwitness_key: %s\nlog_level: warn\nlogs:\n- process: c1\n  tiles: %s\n",
		address, at("auditor"), at("trust.json"), at("witness.key"), at("tiles"))
	err = errors.Join(os.Mkdir(at("tiles"), 0o700), os.WriteFile(at("trust.json"), trust, 0o600), os.WriteFile(at("witness.key"), []byte(skey+"\n"), 0o600), os.WriteFile(at("auditor.yaml"), []byte(config), 0o600))
	if err != nil {
		return nil, err
	}
	w.cmd = exec.Command(filepath.Join(a.bin, "reeve-auditor"), "--config", at("auditor.yaml"))
	w.cmd.Stderr = os.Stderr
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	keys, err := witness.Verifiers([]string{vkey})
	if err == nil {
		w.ledger, err = ledger.Open(ctx, ledger.Config{Key: key, Dir: at("ledger"), Tiles: at("tiles"), Need: 1,
			Witnesses: []ledger.Witness{&witness.Client{URL: w.url, Keys: func() note.Verifiers { return keys }}}})
	}
	if err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// stop ends the ledger and the process, once.
func (w *watched) stop() {
	if w.ended {
		return
	}
	w.ended = true
	if w.ledger != nil {
		w.ledger.Close()
	}
	w.cmd.Process.Signal(syscall.SIGTERM)
	w.cmd.Wait()
}

// wait waits until the auditor has cosigned and indexed everything.
func (w *watched) wait(ctx context.Context, entries int64, begun time.Time) (cosigned, indexed time.Duration, err error) {
	for indexed == 0 {
		var status struct {
			Logs []struct {
				Cosigned int64 `json:"cosigned"`
			} `json:"logs"`
			Index struct {
				Entries int64 `json:"entries"`
			} `json:"index"`
		}
		resp, err := http.Get(w.url + "/v1/status")
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&status)
			resp.Body.Close()
		}
		if err != nil {
			return 0, 0, err
		}
		if cosigned == 0 && len(status.Logs) == 1 && status.Logs[0].Cosigned >= entries {
			cosigned = time.Since(begun)
		}
		if status.Index.Entries >= entries {
			indexed = time.Since(begun)
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return cosigned, indexed, nil
}

// size is the bytes of files below a path.
func size(path string) (sum int64) {
	filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
