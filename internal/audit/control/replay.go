package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/policy"
)

const (
	// Replays is how many uses RV-07 replays, unless Options say otherwise: all where there are no more.
	Replays = 2048
	ends    = 2         // that are replayed of all uses that are alike, however many ways there are
	stretch = 1024      // entries that are looked through for the next one of a kind
	most    = 1_000_000 // entries that are looked through for all of a kind
)

// alike are uses of which the ledgers say the same, and what became of those that were replayed.
type alike struct {
	*index.Uses
	policies *policy.Policies
	held     int64            // were replayed, and allowed
	denied   []Ref            // by the policy then in force
	blocked  map[string]int64 // that could not be replayed, by why
	done     map[int64]bool   // numbers of entries that were looked at
	share    int64            // how many are replayed where not all are
}

// left is how many were not looked at.
func (a *alike) left() int64 { return a.Count - int64(len(a.done)) }

// replayer replays uses of one log.
type replayer struct {
	*facts
	log   *logs.Log
	by    map[index.Key]*alike
	glass map[string][2]int64
}

// replay replays what partial evaluation leaves open, from what the decisions looked at. All of it, where that is no more than the limit and lies
// close enough; else the ends of each way of use, and uses spread between them, at places that the signed head of the log decides: whoever wrote the
// log could not know them.
func (f *facts) replay(ctx context.Context, all []*alike) error {
	total, limit := int64(0), int64(f.opts.Replays)
	by := map[string][]*alike{}
	for _, a := range all {
		a.blocked, a.done = map[string]int64{}, map[int64]bool{}
		total += a.Count
		by[a.Log] = append(by[a.Log], a)
	}
	if limit == 0 {
		limit = Replays
	}
	allot(all, limit)
	glass, err := f.glasses(ctx)
	if err != nil {
		return err
	}
	for id, list := range by {
		i := slices.IndexFunc(f.books.Logs, func(l *logs.Log) bool { return l.ID == id })
		if i < 0 {
			for _, a := range list {
				a.blocked["the auditor's copy of the log is not here"] = a.Count
			}
			continue
		}
		r := &replayer{f, f.books.Logs[i], map[index.Key]*alike{}, glass}
		first, last := list[0].FirstSeq, list[0].LastSeq
		for _, a := range list {
			r.by[a.Key] = a
			first, last = min(first, a.FirstSeq), max(last, a.LastSeq)
		}
		if limit < 0 || total <= limit && last-first < most {
			err = r.whole(ctx, first, last)
		} else {
			err = r.spread(ctx, list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole replays every one from first to last.
func (r *replayer) whole(ctx context.Context, first, last int64) error {
	return r.each(ctx, first, last, "", func(a *alike, e *entry.Entry) bool {
		r.one(a, e)
		return true
	})
}

// allot shares a limit out among ways of use: what those have too few uses for, the others get.
func allot(all []*alike, limit int64) {
	all = slices.SortedFunc(slices.Values(all), func(a, b *alike) int { return cmp.Compare(a.Count, b.Count) })
	for i, a := range all {
		a.share = min(a.Count, max(limit, 0)/int64(len(all)-i))
		limit -= a.share
	}
}

// spread replays a share of each way of use.
func (r *replayer) spread(ctx context.Context, list []*alike) error {
	var seed [32]byte
	copy(seed[:], r.log.Checkpoint.Hash[:])
	for _, a := range list {
		places := []int64{a.FirstSeq, a.LastSeq}
		binary.LittleEndian.PutUint64(seed[24:], uint64(a.FirstSeq))
		random := rand.New(rand.NewChaCha8(seed))
		n := a.share - ends
		for i := range max(n, 0) { // one in each of n parts of the way between
			width := (a.LastSeq - a.FirstSeq) / n
			places = append(places, a.FirstSeq+i*width+random.Int64N(width+1))
		}
		for _, at := range places {
			err := r.each(ctx, at, min(at+stretch, a.LastSeq), a.Credential, func(is *alike, e *entry.Entry) bool {
				if is == a && !a.done[e.Seq] {
					r.one(a, e)
					return false
				}
				return true
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

var errEnough = errors.New("enough")

// each calls do with the uses among the entries from first to last, of one credential where it is named, until it is false.
func (r *replayer) each(ctx context.Context, first, last int64, credential string, do func(*alike, *entry.Entry) bool) error {
	needle := []byte(`"type":"intent"`)
	if credential != "" {
		needle = []byte(`"credential":"` + credential + `"`)
	}
	err := r.log.Raw(first, func(seq int64, raw []byte) error {
		if seq > last {
			return errEnough
		}
		if !bytes.Contains(raw, needle) {
			return ctx.Err()
		}
		e, err := entry.Parse(raw)
		if err != nil {
			return err
		}
		if a := r.by[index.KeyOf(e).Only(ways...)]; a != nil && e.Type == entry.Intent && !do(a, e) {
			return errEnough
		}
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// one replays one use. One under a break-glass needs no permit: the ledger has to have opened that before, and not ended it.
func (r *replayer) one(a *alike, e *entry.Entry) {
	a.done[e.Seq] = true
	if e.Reason == glass {
		record := strings.TrimPrefix(strings.Join(e.Policies, " "), "break-glass:")
		if span, ok := r.glass[r.log.Process+" "+record+" "+e.Credential]; ok && span[0] <= e.TimeNS && e.TimeNS <= span[1] {
			a.held++
		} else {
			a.denied = append(a.denied, Ref{e.Log, e.Seq})
		}
		return
	}
	if r.opts.Payload == nil {
		a.blocked["what the decisions looked at lies with the custodian, sealed; run this where it can be read"]++
		return
	}
	b, err := r.opts.Payload(a.Log, e)
	if err != nil {
		a.blocked["what the decisions looked at was erased, or is not with this copy"]++
		return
	}
	q, err := request(e, b)
	switch {
	case err != nil:
		a.blocked["what the decisions looked at is not readable: "+err.Error()]++
	case a.policies.Decide(q).Allow:
		a.held++
	default:
		a.denied = append(a.denied, Ref{e.Log, e.Seq})
	}
}

// request is what a decision looked at: who, what and through which gateway by the entry, the rest by its payload (docs/formats/ledger.md).
func request(e *entry.Entry, payload []byte) (*policy.Request, error) {
	var in struct {
		Actors    []string          `json:"actors"`
		Asserted  map[string]string `json:"asserted"`
		Authority bool              `json:"authority_asserted"`
		Isolation string            `json:"isolation"`
		MaxTokens int64             `json:"max_tokens"`
		Method    string            `json:"method"`
		Model     string            `json:"model"`
		Stream    bool              `json:"stream"`
		Target    string            `json:"target"`
		Time      time.Time         `json:"time"`
	}
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	path, _, _ := strings.Cut(in.Target, "?")
	return &policy.Request{Workload: e.Workload, Level: level(e.Level), Proof: e.Proof, Actors: in.Actors, AuthorityAsserted: in.Authority, Credential: e.Credential,
		Gateway: e.Gateway, Method: in.Method, Path: path, Model: in.Model, MaxTokens: in.MaxTokens, Stream: in.Stream, Isolation: in.Isolation, Time: in.Time,
		Asserted: in.Asserted}, nil
}

// glass is the reason of a use that a break-glass let.
const glass = "break_glass"

// glasses are the break-glasses that processes wrote, by process, record and credential: from when to when.
func (f *facts) glasses(ctx context.Context) (map[string][2]int64, error) {
	events, err := f.events(ctx, 0, entry.BreakGlass)
	if err != nil {
		return nil, err
	}
	all := map[string][2]int64{}
	for _, e := range events {
		process, err := f.process(ctx, e.Log)
		if err != nil {
			return nil, err
		}
		at := process + " " + e.Record + " " + e.Credential
		switch word, _, _ := strings.Cut(e.Reason, ":"); word {
		case "open", "opened":
			all[at] = [2]int64{e.Time, f.asOf.UnixNano()}
		case "ended":
			if span, ok := all[at]; ok {
				all[at] = [2]int64{span[0], e.Time}
			}
		}
	}
	return all, nil
}
