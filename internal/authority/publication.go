package authority

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// prove shows the lock in force to those who start from their pin alone, once a cosigned checkpoint holds its entry. What was shown once is in
// the journal, for every later run and every other authority; whoever finds nothing there enters the lock in its own log. It reports whether nothing
// is left to do.
func (a *Authority) prove() (done bool, err error) {
	a.admit.Lock()
	defer a.admit.Unlock()
	a.mu.Lock()
	set, leads := a.set, a.leading
	a.mu.Unlock()
	if set == nil || !leads || !a.unproven(set) {
		return true, nil
	}
	p := a.publications[set.LockHash]
	if p.Check(set.Set, a.clock()) != nil {
		if p, err = a.collect(set.Set); p == nil || err != nil {
			return false, err
		}
		body, err := json.Marshal(p)
		if err != nil {
			return false, err
		}
		if err := a.write(store.Line{Kind: store.Proven, ID: set.LockHash, Body: body}); err != nil {
			return false, err
		}
	}
	a.show(set, p)
	return true, nil
}

// unproven reports whether a set's lock has to be shown in a cosigned log and was not yet.
func (a *Authority) unproven(set *edition) bool {
	return set.frame.Published == nil && len(set.ServiceKeys("witness", a.clock())) > 0
}

// collect makes the publication of a set's lock; nil while no cosigned checkpoint holds it.
func (a *Authority) collect(set *statement.Set) (*feed.Publication, error) {
	if a.promise == "" {
		d, err := a.ledger.Append(publishes(set), nil)
		if err != nil {
			return nil, fmt.Errorf("entering the lock that is in force: %w", err)
		}
		a.promise = d.Receipt()
	}
	trust := verify.Trust{Estate: set.Charter.Estate, Need: set.Charter.Witnesses.Need}
	for _, k := range set.Charter.ServiceKeys {
		name, _, _ := strings.Cut(k.Key, "+")
		switch {
		case k.Use == "log" && k.Process == a.id:
			trust.Logs = append(trust.Logs, verify.Log{Process: k.Process, Origin: name, Key: k.Key})
		case k.Use == "witness":
			trust.Witnesses = append(trust.Witnesses, verify.Witness{Name: name, Key: k.Key})
		}
	}
	b, err := trust.Collect(os.DirFS(a.tiles), a.promise)
	if errors.Is(err, verify.ErrUndecided) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &feed.Publication{Entry: []byte(b.Leaf.Entry), Proof: b.Leaf.Proof, Checkpoint: []byte(b.Checkpoint)}
	return p, p.Check(set, a.clock())
}

// publishes is the entry of a lock.
func publishes(set *statement.Set) *entry.Entry {
	return &entry.Entry{Type: entry.Publish, Estate: hex.EncodeToString(set.LockHash[:]), Reason: fmt.Sprintf("lock version %d", set.Lock.Version)}
}

// show adds a publication to the set in force, and sends both to those who wait for it.
func (a *Authority) show(e *edition, p *feed.Publication) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set != e {
		return
	}
	shown := *e
	shown.frame.Published = p
	shown.line = shown.frame.Encode()
	a.set = &shown
	a.turn()
	for f := range a.followers {
		if f.bare {
			a.queue(f, shown.line)
		}
	}
}

// proven reads a publication from the journal.
func (a *Authority) proven(l store.Line) error {
	p := new(feed.Publication)
	if err := json.Unmarshal(l.Body, p); err != nil {
		return fmt.Errorf("line %d of the authority's database: %w", l.Seq, err)
	}
	a.publications = map[id]*feed.Publication{l.ID: p}
	return nil
}

// promptly is the first pause between two attempts to prove a lock that no witness has cosigned; each is twice as long, up to a second.
const promptly = 20 * time.Millisecond

// proving proves each lock as soon as it can until ctx ends, and has the log published for it: whoever starts anew waits.
func (a *Authority) proving(ctx context.Context, publish func(context.Context) error) {
	said := ""
	for pause := promptly; ; {
		turned := a.turned()
		done, err := a.prove()
		if !done && err == nil {
			if err = publish(ctx); err == nil {
				done, err = a.prove()
			}
		}
		reason := ""
		if err != nil && ctx.Err() == nil {
			reason = err.Error()
		}
		if reason != said && reason != "" {
			a.log.Error("the lock in force cannot be shown to processes that start anew", "error", reason)
		}
		said = reason
		var again <-chan time.Time
		if pause = min(2*pause, time.Second); done {
			pause = promptly
		} else {
			again = time.After(pause / 2)
		}
		select {
		case <-ctx.Done():
			return
		case <-turned:
		case <-again:
		}
	}
}
