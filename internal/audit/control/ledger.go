package control

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/verify"
)

// before judges RV-08. Numbers have no gap where the index has every entry that was signed and each log goes on where the one before it ended;
// egress is what the custodian says became of each intent.
func before(ctx context.Context, f *facts, t *tally) error {
	t.of = "uses and logs"
	list, err := f.ledger(ctx, t)
	if err != nil {
		return err
	}
	signed := map[string]int64{}
	for _, l := range f.books.Logs {
		signed[l.ID] = l.Checkpoint.N
	}
	byOrigin := map[string]index.Log{}
	for _, l := range list {
		byOrigin[l.Origin] = l
	}
	for _, l := range list {
		finding := Finding{Subject: "log:" + l.Origin, Owner: f.operator(), Refs: []Ref{{l.ID, l.Size - 1}}}
		prev, known := byOrigin[l.PrevOrigin]
		switch {
		case signed[l.ID] > l.Size:
			finding.What = fmt.Sprintf("the index has %d of %d entries; run reeve audit rebuild", l.Size, signed[l.ID])
			t.unknown(finding)
		case l.PrevOrigin != "" && !known:
			finding.What = "the log before it, " + l.PrevOrigin + ", is not here"
			t.unknown(finding)
		case l.PrevOrigin != "" && prev.Size != l.PrevSize:
			finding.Refs = []Ref{{l.ID, 0}, {prev.ID, l.PrevSize}}
			finding.What = fmt.Sprintf("it vouches for %d entries of %s, which has %d: numbers have a gap there", l.PrevSize, l.PrevOrigin, prev.Size)
			t.fail(finding)
		default:
			t.pass("", 1)
		}
	}
	return f.outcomes(ctx, t)
}

// outcomes holds intents against what became of them. What began less than a quarter of an hour ago may still go on.
func (f *facts) outcomes(ctx context.Context, t *tally) error {
	by := []index.Column{index.ByLog, index.ByCredential, index.ByUnit}
	intents := []entry.Type{entry.Intent}
	all, err := f.books.Index.Uses(ctx, index.Filter{From: f.from, To: f.end(), Types: intents}, by...)
	if err != nil {
		return err
	}
	young := f.asOf.Add(-settled).Truncate(time.Hour)
	recent, err := f.books.Index.Uses(ctx, index.Filter{From: young, To: f.end(), Types: intents}, by...)
	if err != nil {
		return err
	}
	going := map[index.Key]int64{}
	for i := range recent {
		going[recent[i].Key] = recent[i].Count - recent[i].Done
	}
	for i := range all {
		u := &all[i]
		open := u.Count - u.Done
		moving := min(open, going[u.Key])
		t.pass(u.Unit, int(u.Done))
		finding := Finding{Subject: "credential:" + u.Credential, Unit: u.Unit, Owner: f.ownerOf(u.Credential), Refs: refs(u)}
		if moving > 0 {
			finding.What = fmt.Sprintf("%d uses since %s have no outcome yet", moving, young.UTC().Format(time.RFC3339))
			t.unknown(finding)
		}
		if open > moving {
			finding.What = fmt.Sprintf("%d of %d uses were written down and nothing says what became of them at egress", open-moving, u.Count)
			t.fail(finding)
		}
	}
	return nil
}

// maxVerified bounds the entries of a chain of logs that is verified whole.
const maxVerified = 2_000_000

// ledgers judges RV-09: the auditor's copies verify from the first entry to the last, enough witnesses have cosigned them, and no witness is of the
// process, the key or the hands that the log is of.
func ledgers(ctx context.Context, f *facts, t *tally) error {
	t.of, t.note = "ledgers and witnesses", "on whose hosts the keys lie is not known here"
	if len(f.books.Logs) == 0 {
		t.unknown(Finding{Subject: "ledger", What: "the auditor has no copy of any ledger"})
		return nil
	}
	for _, chain := range chains(f.books.Logs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		process := chain[0].Process
		finding, size := Finding{Subject: "ledger:" + process, Owner: f.operator(), Refs: []Ref{{chain[0].ID, 0}}}, int64(0)
		for _, l := range chain {
			size += l.Checkpoint.N
		}
		if size > maxVerified {
			finding.What = fmt.Sprintf("%d entries are too many to verify in passing; run reeve verify on the published ledger", size)
			t.unknown(finding)
			continue
		}
		r, err := f.books.Trust.Directory(folder(chain), verify.Options{})
		switch {
		case err != nil:
			finding.What = "it cannot be verified: " + err.Error()
			t.unknown(finding)
		case len(r.Findings) > 0:
			finding.What = "it does not verify: " + strings.Join(r.Findings, "; ")
			t.fail(finding)
		case r.Level < verify.Cosigned:
			finding.What = "it verifies, and not enough witnesses have cosigned it: its key alone could have signed another past"
			t.unknown(finding)
		default:
			t.pass("", 1)
		}
	}
	return f.witnesses(t)
}

// witnesses judges whether log keys and witness keys are in different domains, as far as the charter shows it: of different processes, and different
// keys. On whose hosts they are it does not say.
func (f *facts) witnesses(t *tally) error {
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	witnesses := set.ServiceKeys("witness", f.asOf)
	if len(witnesses) == 0 {
		t.fail(Finding{Subject: "estate", Owner: f.operator(), What: "the charter has no witness: every log vouches for itself"})
	}
	for _, w := range witnesses {
		same := ""
		for _, l := range set.ServiceKeys("log", f.asOf) {
			if l.Process == w.Process || material(l.Key) == material(w.Key) {
				same = l.Process
			}
		}
		if same == "" {
			t.pass("", 1)
			continue
		}
		t.fail(Finding{Subject: "witness:" + w.Process, Owner: f.operator(), What: fmt.Sprintf("it has the process or the key of the log of %s: one hand writes and vouches", same)})
	}
	return nil
}

// material is the key itself of a note verifier key, without its algorithm.
func material(vkey string) string {
	_, key, _ := strings.Cut(vkey, "+")
	_, key, _ = strings.Cut(key, "+")
	if len(key) < 2 {
		return vkey
	}
	return key[2:] // the algorithm is the first byte of what the base64 holds
}

// chains are the logs of each process, the first and its successors.
func chains(all []*logs.Log) (list [][]*logs.Log) {
	for _, l := range all {
		if n := len(list); n > 0 && list[n-1][0].Process == l.Process {
			list[n-1] = append(list[n-1], l)
			continue
		}
		list = append(list, []*logs.Log{l})
	}
	return list
}

// folder shows a chain of logs in the layout in which a process publishes it: successors in folders by their number.
type folder []*logs.Log

// Open implements fs.FS.
func (f folder) Open(name string) (fs.File, error) {
	first, rest, _ := strings.Cut(name, "/")
	if n, err := strconv.Atoi(first); err == nil {
		if n < 1 || n >= len(f) || first != strconv.Itoa(n) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return f[n].Folder.Open(path.Join(".", rest))
	}
	return f[0].Folder.Open(name)
}
