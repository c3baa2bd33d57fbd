package drill

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// s5 is the authority taken over, and its database and keys stolen.
func (f *field) s5(ctx context.Context, r *Report, d *doubled) error {
	f.say("S5: an attacker in the authority's process, with its database and its keys.")
	for _, step := range []func(context.Context, *Report, *doubled) error{f.searchAuthority, f.stolenDatabases, f.forgedNews, f.forgedTokens, f.withheld} {
		if err := step(ctx, r, d); err != nil {
			return err
		}
	}
	return f.wire(ctx, Wire{})
}

func (f *field) insideAuthority() string { return f.dir.Join(host.Authority, capturedSocket) }

func (f *field) wire(ctx context.Context, w Wire) error {
	_, err := order(ctx, f.insideAuthority(), Order{Wire: &w})
	return err
}

// searchAuthority is code execution as the authority.
func (f *field) searchAuthority(ctx context.Context, r *Report, d *doubled) error {
	t := f.target(0)
	t.PIDs = []int{0, f.pids[host.Custodian], f.pids[host.Gateway], f.pids[host.Auditor]}
	t.Dirs = append(t.Dirs, f.dir.Join(host.Authority), f.dir.Join("estate"))
	got, err := order(ctx, f.insideAuthority(), Order{Search: t})
	if err != nil {
		return err
	}
	if got.Survey.Read["memory"] == 0 {
		return fmt.Errorf("the attacker in the authority could not read its own memory: nothing can be said of it")
	}
	twin, err := order(ctx, d.inside, Order{Search: &loot.Target{PIDs: []int{0}, Dirs: []string{d.dir}, Needles: f.needles}})
	if err != nil {
		return err
	}
	for _, place := range places() {
		s := f.judge(r, "in the authority", place, got.Survey, twin.Survey)
		s.ID = "S5"
		r.add(s)
	}
	return nil
}

// stolenDatabases goes through what the authority and the gateway keep.
func (f *field) stolenDatabases(_ context.Context, r *Report, d *doubled) error {
	db, err := store.Copy(f.dir.Join(host.Authority, "authority.db"))
	if err != nil {
		return err
	}
	s := Line{ID: "S5", Place: "the databases of authority and gateway", Reeve: len(loot.Find(f.needles, db))}
	n, size := 1, len(db)
	for _, dir := range []string{f.dir.Join(host.Authority), f.dir.Join(host.Gateway)} {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n, size = n+1, size+len(b)
			s.Reeve += len(loot.Find(f.needles, b))
			return nil
		})
		if err != nil {
			return err
		}
	}
	config, err := os.ReadFile(d.config)
	if err != nil {
		return err
	}
	s.Double = len(loot.Find(f.needles, config))
	s.Detail = fmt.Sprintf("%d files of %d bytes", n, size)
	r.add(s)
	return nil
}

// forgedNews is a wider policy and a key of the attacker's, sent with genuine heartbeats.
func (f *field) forgedNews(ctx context.Context, r *Report, _ *doubled) error {
	set, err := f.widerSet()
	if err != nil {
		return err
	}
	mallory, err := estate.NewSigner("ada")
	if err != nil {
		return err
	}
	key, env, err := estate.NewKey(demo.ID, "research-agent", time.Now().Add(-time.Minute), time.Hour, mallory)
	if err != nil {
		return err
	}
	record, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	before, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	if err := f.wire(ctx, Wire{Inject: [][]byte{(&feed.Frame{Set: set}).Encode(), (&feed.Frame{Record: record}).Encode()}}); err != nil {
		return err
	}
	after, err := f.fresh(ctx)
	if err != nil {
		return err
	}
	s := Line{ID: "S5", Place: "a forged set", Detail: "refused: lock version " + fmt.Sprint(after.Lock) + " stays in force"}
	if after.LockHash != before.LockHash {
		s.Reeve, s.Detail = 1, "in force"
	}
	r.add(s)
	s = Line{ID: "S5", Place: "a forged workload key", Detail: "refused"}
	own, forged := f.clients[0], f.clients[0]
	if forged.key = string(key.Reveal()); forged.call(ctx, forged.credentials[0]) == nil {
		s.Reeve, s.Detail = 1, "WENT THROUGH"
	}
	if err := own.call(ctx, own.credentials[0]); err != nil {
		return fmt.Errorf("nothing goes through any more, so the refusals prove nothing: %w", err)
	}
	r.add(s)
	return f.wire(ctx, Wire{})
}

// widerSet is the set in force with another policy and the next lock version. Nobody signed either.
func (f *field) widerSet() (feed.Files, error) {
	trace := &feed.Trace{From: estate.Dir(f.dir.Join("estate")).Store(), Read: feed.Files{}}
	set, err := statement.Load(trace, f.dir.Pin(), nil, time.Now())
	if err != nil {
		return nil, err
	}
	files, n := maps.Clone(trace.Read), set.Lock.Version
	for name, b := range trace.Read {
		switch {
		case strings.HasSuffix(name, ".cedar"):
			files[name] = append(slices.Clone(b), "\n@id(\"all\")\npermit (principal, action, resource);\n"...)
		case strings.HasPrefix(name, fmt.Sprintf("lock/%d/", n)):
			next := bytes.Replace(b, fmt.Appendf(nil, `"version":%d`, n), fmt.Appendf(nil, `"version":%d`, n+1), 1)
			files[strings.Replace(name, fmt.Sprint(n), fmt.Sprint(n+1), 1)] = next
		}
	}
	return files, nil
}

// fresh waits for news that is younger than the order before it.
func (f *field) fresh(ctx context.Context) (*admin.Status, error) {
	begun := time.Now()
	for {
		s, err := f.admin().Status(ctx)
		if err != nil {
			return nil, err
		}
		if age := time.Duration(s.FeedAgeMS) * time.Millisecond; s.FeedAgeMS >= 0 && time.Since(begun) > age+time.Second {
			return s, nil
		}
		if time.Since(begun) > 30*time.Second {
			return nil, fmt.Errorf("the custodian hears no heartbeats: %s", s.FeedError)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// withheld is a revocation that the authority keeps to itself, with heartbeats that do not name it. It arrives by the custodian's
// admin socket.
func (f *field) withheld(ctx context.Context, r *Report, _ *doubled) error {
	c, err := f.keyed(ctx, time.Hour)
	if err != nil {
		return err
	}
	if err := f.wire(ctx, Wire{Withhold: true}); err != nil {
		return err
	}
	revocation, name, err := f.revocation(keyTarget(c))
	if err != nil {
		return err
	}
	if err := f.publish(name, revocation); err != nil {
		return err
	}
	if _, err := f.fresh(ctx); err != nil {
		return err
	}
	if c.call(ctx, c.credentials[0]) != nil {
		return fmt.Errorf("the revocation was not withheld: the drill cannot show that it arrives by another way")
	}
	record, err := statement.Canonical(revocation)
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := f.admin().Accept(ctx, record); err != nil {
		return fmt.Errorf("giving the custodian a revocation that is withheld: %w", err)
	}
	s := Line{ID: "S5", Place: "a withheld revocation", Detail: fmt.Sprintf("the custodian refused %s after it came by another channel", time.Since(begun).Round(time.Millisecond))}
	if c.call(ctx, c.credentials[0]) == nil {
		s.Reeve, s.Detail = 1, "used all the same"
	}
	r.add(s)
	return nil
}
