package authority

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/authority/token"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
	"github.com/reevehq/reeve/internal/workload/issuer"
)

// issuing is what tokens are judged by: the records that were published, and what follows from them and the set in force.
type issuing struct {
	records []*statement.Envelope                      // of W0 keys: who signed one may leave
	closed  map[statement.Target]*statement.Revocation // the record that decides, of each target
	given   map[string][]time.Time                     // when tokens were given up, by their reason
	numbers map[string]int64                           // the last of each signer
	keys    *workload.Keys                             // as the set in force without the people who are closed has them; nil until it is asked for
	tokens  *workload.Tokens                           // of the set in force; nil until it is asked for
	view    *token.View                                // of all this; nil until it is asked for
}

// What bounds the revocations that whoever has a token may ask for, of one workload's tokens, since the estate has a bounded number of
// records: at one time, which is for as long as a token can live, and for ever.
const (
	maxGivenUp     = 50
	maxGivenUpEver = 1000
)

// givenUp begins the reason of such a revocation. The workload follows.
const givenUp = "given up by who has it: a token of "

// judgeBy takes a record that is published into account. Callers hold mu.
func (a *Authority) judgeBy(env *statement.Envelope, record any) {
	x := &a.issue
	switch v := record.(type) {
	case *statement.WorkloadKey:
		x.records, x.keys = append(x.records, env), nil
	case *statement.Revocation:
		if x.closed == nil {
			x.closed = map[statement.Target]*statement.Revocation{}
		}
		// The latest decides, and of two of the same time the closing.
		if old := x.closed[v.Target]; old == nil || v.Time.After(old.Time) || v.Time.Equal(old.Time) && !v.Open {
			x.closed[v.Target] = v
		}
		x.number(v.Signer, v.Number)
		x.left(v.Target)
		if v.Target.Kind == closing.Token && strings.HasPrefix(v.Reason, givenUp) {
			if x.given == nil {
				x.given = map[string][]time.Time{}
			}
			x.given[v.Reason] = append(x.given[v.Reason], v.Time)
		}
	case *statement.Closing:
		x.close(v)
	default:
		return
	}
	x.view = nil
}

// close takes a signal into account.
func (x *issuing) close(v *statement.Closing) {
	if x.closed == nil {
		x.closed = map[statement.Target]*statement.Revocation{}
	}
	for _, t := range v.Targets {
		x.left(t)
		if old := x.closed[t]; old == nil || v.Time.After(old.Time) {
			x.closed[t] = &statement.Revocation{Signer: "signal:" + v.Signal, Target: t, Reason: v.Reason, Time: v.Time}
		}
	}
}

// left has the keys opened anew where a person is closed or opened: those that he alone signed hold no longer, or again.
func (x *issuing) left(t statement.Target) {
	if t.Kind == closing.Person {
		x.keys = nil
	}
}

// gone are the people whom revocations say have left.
func (a *Authority) gone() (people []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for target, r := range a.issue.closed {
		if target.Kind == closing.Person && !r.Open {
			people = append(people, target.ID)
		}
	}
	return people
}

// number notes that a signer has used a number.
func (x *issuing) number(signer string, n int64) {
	if x.numbers == nil {
		x.numbers = map[string]int64{}
	}
	x.numbers[signer] = max(x.numbers[signer], n)
}

// view is what a request for a token is judged by now; nil without a set.
func (a *Authority) view() *token.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := &a.issue
	if a.set == nil || x.view != nil {
		return x.view
	}
	if x.tokens == nil {
		var err error
		if x.tokens, err = workload.NewTokens(a.set.Set, a.issuers.Keys, nil); err != nil {
			a.log.Error("no tokens are issued under this set", "error", err)
			return nil
		}
	}
	var closed []closing.Closed
	for target, r := range x.closed {
		if !r.Open {
			closed = append(closed, closing.Closed{Target: target, Reason: r.Reason, By: r.Signer, Time: r.Time})
		}
	}
	state := closing.NewState(0, closed)
	if x.keys == nil {
		x.keys = x.open(a.set.Without(state.People()...), a.clock())
	}
	x.view = &token.View{Set: a.set.Set, Tokens: x.tokens, Keys: x.keys, Closed: state}
	return x.view
}

// open opens the records of W0 keys with a set, as a custodian does: one that the set does not allow any more is left out.
func (x *issuing) open(set *statement.Set, now time.Time) *workload.Keys {
	records := make([]*statement.WorkloadKey, 0, len(x.records))
	for _, env := range x.records {
		if r, err := set.OpenWorkloadKey(env, now); err == nil {
			records = append(records, r)
		}
	}
	return workload.NewKeys(set, records)
}

// serveTokens makes the token endpoint over a key. It is called before Handler.
func (a *Authority) serveTokens(key token.Key) {
	a.tokenKey.Store(&key)
	a.issuers = issuer.NewBook(issuer.Config{Log: a.log})
	a.refusals.enter = func(e *entry.Entry) {
		if err := a.ledger.Enqueue(e, false); err != nil {
			a.log.Error("a refusal has no entry", "workload", e.Workload, "reason", e.Reason, "error", err)
		}
	}
	a.tokens = &token.Endpoint{Config: token.Config{
		Authority: a.id, Key: func() token.Key { return *a.tokenKey.Load() }, View: a.view, Once: a.once, Enter: a.enterToken, Refused: a.refusals.take, Close: func(jti, workloadID string) error {
			return a.closeToken(*a.tokenKey.Load(), jti, workloadID)
		}, Clock: a.clock, Log: a.log,
	}}
}

// once implements token.Config.
func (a *Authority) once(sum id, until time.Time) (bool, error) {
	epoch := a.epoch()
	if epoch == 0 || !a.holds() {
		return false, fmt.Errorf("%w: %w", token.ErrAway, ErrStandby)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	first, err := a.store.Once(ctx, epoch, sum, until)
	if err != nil {
		err = fmt.Errorf("%w: %w", token.ErrAway, err)
	}
	return first, err
}

// enterToken writes the entry of a token that is about to be issued.
func (a *Authority) enterToken(e *entry.Entry) (string, error) {
	a.mu.Lock()
	ready := a.leading && a.lease.Live(time.Now())
	a.mu.Unlock()
	if !ready {
		return "", fmt.Errorf("%w: %w", token.ErrAway, ErrStandby)
	}
	d, err := a.ledger.Append(e, nil)
	if err != nil {
		return "", err
	}
	if !a.holds() { // it was lost while the disk was slow
		return "", fmt.Errorf("%w: %w", token.ErrAway, ErrStandby)
	}
	return d.Receipt(), nil
}

// closeToken publishes, in this authority's own name, that a token is closed.
func (a *Authority) closeToken(key token.Key, jti, workloadID string) error {
	reason := givenUp + workloadID
	a.admit.Lock()
	defer a.admit.Unlock()
	target := statement.Target{Kind: closing.Token, ID: jti}
	a.mu.Lock()
	set, number, known, before := a.set, a.issue.numbers[a.id]+1, a.issue.closed[target], a.issue.given[reason]
	a.mu.Unlock()
	switch {
	case set == nil:
		return ErrNoSet
	case known != nil && !known.Open:
		return nil
	case len(before) >= maxGivenUpEver, len(before) >= maxGivenUp && a.clock().Sub(before[len(before)-maxGivenUp]) < workload.AccessLife*time.Second:
		return fmt.Errorf("%w: %d tokens of this workload were given up already; they end within 15 minutes by themselves, or a policy owner revokes the workload", token.ErrAway, len(before))
	}
	file, err := key.Close(statement.Revocation{
		Estate: set.Charter.Estate, Signer: a.id, Number: number, Target: target, Reason: reason, Time: a.clock().UTC().Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	if _, err = a.take(&feed.Frame{Record: file}, "post"); err == nil {
		a.mu.Lock()
		a.issue.number(a.id, number) // also while the record is left to another authority
		a.mu.Unlock()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", token.ErrAway, err)
	}
	return err
}

// refusals are the refusals of this second. The first of a kind is entered at once, the others as one entry with their number:
// whoever knocks often fills no disk.
type refusals struct {
	enter func(*entry.Entry)
	mu    sync.Mutex
	kinds map[refusal]*entry.Entry
}

type refusal struct{ workload, reason string }

// maxKinds bounds the kinds of refusal that are told apart in one second.
const maxKinds = 100

// take notes a refusal.
func (r *refusals) take(e *entry.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds == nil {
		r.kinds = map[refusal]*entry.Entry{}
	}
	kind := refusal{e.Workload, e.Reason}
	if e.Workload != "" && len(r.kinds) >= maxKinds && r.kinds[kind] == nil {
		kind = refusal{"", "token: of many kinds"}
		e = &entry.Entry{Type: entry.Deny, Decision: "deny", Reason: kind.reason, FeedAgeMS: -1}
	}
	if more := r.kinds[kind]; more != nil {
		more.Count++
		return
	}
	rest := *e
	rest.Count = 0
	if r.kinds[kind] = &rest; e.Workload == "" {
		rest.Count = 1 // entered with the others
		return
	}
	r.enter(e)
}

// flush enters what came since the last time.
func (r *refusals) flush() {
	r.mu.Lock()
	kinds := r.kinds
	r.kinds = nil
	r.mu.Unlock()
	for _, e := range kinds {
		if e.Count > 0 {
			r.enter(e)
		}
	}
}
