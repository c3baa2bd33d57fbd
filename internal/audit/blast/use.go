package blast

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
)

// Verdict is whether a credential was used.
type Verdict string

// The verdicts.
const (
	Used    Verdict = "used"
	None    Verdict = "none"    // every ledger that could tell of a use is complete, and none does
	Unknown Verdict = "unknown" // no entry tells of a use, and a ledger is not complete
)

// Use is uses of one kind: the same workload, gateway, proof and statements.
type Use struct {
	Type     entry.Type  `json:"type"` // intent, deny, mint or probe
	Tenant   string      `json:"tenant,omitempty"`
	Unit     string      `json:"unit,omitempty"`
	Workload string      `json:"workload,omitempty"`
	Gateway  string      `json:"gateway,omitempty"`
	Level    string      `json:"level,omitempty"`
	Proof    string      `json:"proof,omitempty"`
	Reason   string      `json:"reason,omitempty"` // of refusals and mints
	Estate   string      `json:"estate,omitempty"` // hex lock hash: the policy set
	Lock     int64       `json:"lock,omitempty"`   // its version; 0 when the signed store does not have it
	Policies []string    `json:"policies"`         // that decided the first and the last of them
	Count    int64       `json:"count"`
	Unknown  int64       `json:"unknown"` // without an outcome
	Failed   int64       `json:"failed"`  // without a 2xx or 3xx status
	First    time.Time   `json:"first"`
	Last     time.Time   `json:"last"`
	FirstRef control.Ref `json:"first_ref"`
	LastRef  control.Ref `json:"last_ref"`
}

// Witness is what one custodian's ledger says about the absence of uses.
type Witness struct {
	Log
	ID   string `json:"id"`             // of its newest log
	Root string `json:"root,omitempty"` // base64, of the verified checkpoint of that log
	N    int64  `json:"n,omitempty"`    // entries in that checkpoint
}

// Uses is what the ledgers say of a credential.
type Uses struct {
	Credential string    `json:"credential"`
	Unit       string    `json:"unit"` // whose it is
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Verdict    Verdict   `json:"verdict"`
	Uses       []Use     `json:"uses"`    // the most recent first
	Refused    []Use     `json:"refused"` // likewise
	Ledgers    []Witness `json:"ledgers"` // of every custodian that served or held it in the window
	Cannot     []string  `json:"cannot"`
}

// UsesOf is who used a credential in [from, to), from where, under which policies, by which proof; or that nobody did. Without an end the window ends
// with what all its ledgers have cosigned. The error wraps ErrUnknown and ErrWindow.
func UsesOf(ctx context.Context, b *books.Books, credential string, from, to time.Time, silence time.Duration) (*Uses, error) {
	end := to
	if end.IsZero() {
		end = b.Now
	}
	r := newRadius(b, Subject{Credential, credential}, from, end, time.Time{})
	err := r.open(ctx, Options{Silence: silence})
	if err != nil {
		return nil, err
	}
	d := &draft{Row: Row{Credential: credential}, keepers: map[string]bool{}}
	r.account(d)
	for _, v := range r.versions[credential] { // a custodian that serves it no more may still hold it
		d.keepers[r.ledgers.process[v.Log]] = true
	}
	u := &Uses{Credential: credential, Unit: r.owning(credential), Uses: []Use{}, Refused: []Use{}}
	if to.IsZero() {
		r.to = r.cosigned(d)
		r.ledgers.found = map[string]Log{}
		if r.ledgers, err = openLedgers(ctx, b, r.from, r.to, cmp.Or(silence, Silence)); err != nil {
			return nil, err
		}
	}
	if u.From, u.To = r.from, r.to; !u.From.Before(u.To) {
		return nil, fmt.Errorf("%w: from %s to %s", ErrWindow, stamp(u.From), stamp(u.To))
	}
	if err := r.list(ctx, u); err != nil {
		return nil, err
	}
	r.witnesses(u, d)
	return u, nil
}

// cosigned is up to when every custodian of the row is cosigned.
func (r *radius) cosigned(d *draft) time.Time {
	to := r.to
	for k := range d.keepers {
		if l := r.ledgers.judge(k); !l.Cosigned.IsZero() && l.Cosigned.Before(to) {
			to = l.Cosigned.Add(1) // that entry counts
		}
	}
	return to
}

// list reads the uses.
func (r *radius) list(ctx context.Context, u *Uses) error {
	f := index.Filter{From: r.from, To: r.to, Credential: u.Credential, Types: []entry.Type{entry.Intent, entry.Deny, entry.Mint}}
	sums, err := r.b.Index.Uses(ctx, f, index.ByLog, index.ByType, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByEstate, index.ByLevel, index.ByProof, index.ByReason)
	if err != nil {
		return err
	}
	for _, s := range sums {
		one := Use{Type: s.Type, Tenant: s.Tenant, Unit: s.Unit, Workload: s.Workload, Gateway: s.Gateway, Level: s.Level, Proof: s.Proof, Reason: s.Reason, Estate: s.Estate,
			Count: s.Count, Failed: s.Failed, First: instant(s.First), Last: instant(s.Last), FirstRef: control.Ref{Log: s.Log, Seq: s.FirstSeq}, LastRef: control.Ref{Log: s.Log, Seq: s.LastSeq},
			Policies: r.policies(s.Log, s.FirstSeq, s.LastSeq)}
		if span := r.b.History.Of(s.Estate); span != nil {
			one.Lock = span.Lock.Version
		}
		if s.Type == entry.Deny {
			u.Refused = append(u.Refused, one)
			continue
		}
		one.Unknown = s.Count - s.Done
		u.Uses = append(u.Uses, one)
	}
	f.Types = []entry.Type{entry.Probe}
	probes, err := r.b.Index.Events(ctx, f)
	if err != nil {
		return err
	}
	for _, p := range probes {
		at := control.Ref{Log: p.Log, Seq: p.Seq}
		u.Uses = append(u.Uses, Use{Type: entry.Probe, Tenant: p.Tenant, Unit: p.Unit, Reason: p.Reason, Estate: p.Estate, Policies: []string{}, Count: 1, First: instant(p.Time), Last: instant(p.Time),
			FirstRef: at, LastRef: at})
	}
	recent := func(a, b Use) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Workload, b.Workload)) }
	slices.SortStableFunc(u.Uses, recent)
	slices.SortStableFunc(u.Refused, recent)
	return nil
}

// policies are those that decided entries, where the auditor's copy has them.
func (r *radius) policies(log string, seqs ...int64) []string {
	list := []string{}
	held := copyOf(r.b, log)
	if held == nil {
		return list
	}
	for _, seq := range seqs {
		if e, _, err := held.Entry(seq); err == nil {
			list = union(list, e.Policies)
		}
	}
	return list
}

// witnesses says what the ledgers prove.
func (r *radius) witnesses(u *Uses, d *draft) {
	u.Ledgers, u.Cannot = []Witness{}, slices.Clone(r.cannot)
	complete := len(d.keepers) > 0
	for _, k := range slices.Sorted(maps.Keys(d.keepers)) {
		w := Witness{Log: r.ledgers.judge(k)}
		if chain := r.ledgers.of[k]; len(chain) > 0 {
			w.ID = chain[len(chain)-1].ID
			if held := copyOf(r.b, w.ID); held != nil {
				w.Root, w.N = held.Checkpoint.Hash.String(), held.Checkpoint.N
			}
		}
		if late := r.to.Sub(w.Cosigned); w.Complete && late > 1 {
			w.Complete, w.Why = false, fmt.Sprintf("the last %s of the window are not cosigned yet", late.Round(time.Millisecond))
		}
		if complete = complete && w.Complete; !w.Complete {
			u.Cannot = append(u.Cannot, fmt.Sprintf("Whether %s did more than its ledger says: %s.", k, w.Why))
		}
		u.Ledgers = append(u.Ledgers, w)
	}
	used := slices.ContainsFunc(u.Uses, func(x Use) bool { return x.Type == entry.Intent })
	switch {
	case used:
		u.Verdict = Used
	case complete && len(r.cannot) == 0:
		u.Verdict = None
	default:
		u.Verdict = Unknown
	}
	u.Cannot = append(u.Cannot, "Uses outside every custodian: the provider's own records alone show them ('reeve reconcile' compares them).")
}
