package books

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
)

// Entered is a record of evidence as an authority entered it in its ledger.
type Entered struct {
	Record string        // hex SHA-256, its name in the signed store
	Kind   string        // of the document, such as drill
	By     []string      // people who signed it, as the authority verified
	Log    string        // id
	Seq    int64         // of the entry
	Time   time.Time     // of the entry, which nobody can set back
	Span   *history.Span // in force then
}

// Entered lists the records of evidence that authorities entered, in the order of time. An entry in the log of a process that was no authority then
// gives nothing a time.
func (b *Books) Entered(ctx context.Context) (list []Entered, err error) {
	events, err := b.Index.Events(ctx, index.Filter{Types: []entry.Type{entry.Attest}})
	if err != nil || len(events) == 0 {
		return nil, err
	}
	all, err := b.Index.Logs(ctx)
	if err != nil {
		return nil, err
	}
	process := map[string]string{}
	for _, l := range all {
		process[l.ID] = l.Process
	}
	for _, e := range events {
		x := Entered{Record: e.Record, Kind: e.Reason, By: e.Actor, Log: e.Log, Seq: e.Seq, Time: time.Unix(0, e.Time).UTC()}
		if x.Span = b.History.Of(e.Estate); x.Span == nil {
			if x.Span, err = b.History.At(x.Time); err != nil { // who was what then is not known
				continue
			}
		}
		if register.KindOf(x.Span.Set, process[e.Log], x.Time) == register.Authority {
			list = append(list, x)
		}
	}
	return list, nil
}

// First are the entries of each record: the first, where it was entered again.
func First(list []Entered) map[string]Entered {
	all := map[string]Entered{}
	for _, e := range list {
		if _, again := all[e.Record]; !again {
			all[e.Record] = e
		}
	}
	return all
}

// Lacks says what is not known of components, a sentence each: records that the ledgers have evidence of and the register's journal has not, records
// that no ledger has, and components that the ledgers of [from, to) name and neither the statements then in force nor the register do.
func (b *Books) Lacks(ctx context.Context, from, to time.Time) (list []string, err error) {
	if b.Register == nil {
		return []string{"There is no register of components."}, nil
	}
	if err := b.Register.Lacks(); err != nil {
		list = append(list, "What the register says may be less than was said: "+err.Error()+".")
	}
	all, err := b.Register.At(to, to)
	if err != nil {
		return append(list, "What the register has cannot be said: "+err.Error()+"."), nil
	}
	known := map[string]bool{}
	for _, c := range all {
		if known[c.ID] = true; !c.Anchored {
			list = append(list, fmt.Sprintf("What was said of the %s %s is in no ledger yet: its time is its signers' word (reeve audit anchor).", c.Kind, c.ID))
		}
	}
	named := map[string]bool{}
	say := func(kind, id string) {
		if !named[id] {
			named[id] = true
			list = append(list, fmt.Sprintf("The ledgers name the %s %s, and neither the statements nor the register do: whose it is and what it can do is not known.", kind, id))
		}
	}
	uses, err := b.Index.Uses(ctx, index.Filter{From: from, To: to, Types: []entry.Type{entry.Intent, entry.Deny}}, index.ByGateway, index.ByEstate)
	if err != nil {
		return nil, err
	}
	for i := range uses {
		if u := &uses[i]; u.Gateway != "" && !known[u.Gateway] && !b.names(u.Estate, u.Gateway) {
			say("gateway", u.Gateway)
		}
	}
	logs, err := b.Index.Logs(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range logs {
		if l.Size == 0 || known[l.Process] || l.Last < from.UnixNano() || l.First >= to.UnixNano() {
			continue
		}
		owned := false
		for _, s := range b.History.In(from, to) {
			owned = owned || register.KindOf(s.Set, l.Process, s.From) != ""
		}
		if !owned {
			say("process", l.Process)
		}
	}
	return list, nil
}

// names reports whether the set of a lock has the gateway.
func (b *Books) names(lock, gateway string) bool {
	s := b.History.Of(lock)
	if s == nil {
		return false
	}
	_, ok := s.Gateway(gateway)
	return ok
}
