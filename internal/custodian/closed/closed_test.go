package closed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/statement"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *Gate {
	t.Helper()
	d, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func use() *closing.Use {
	return &closing.Use{Workload: "w", Tenant: "t", Actors: []string{"a", "other-w"}, Tokens: [4]string{"feed0123", "jti-1"}, Parents: []string{"jti-00", "jti-0"}, Units: [2]string{"home", "owner"}, Credential: "c", Gateway: "g", Key: "0123456789abcdef",
		Cut: func(error) {}}
}

func TestEveryKindOfTarget(t *testing.T) {
	for _, tt := range []struct {
		target statement.Target
		closes bool
	}{
		{statement.Target{Kind: closing.Workload, ID: "w"}, true},
		{statement.Target{Kind: closing.Workload, ID: "other"}, false},
		{statement.Target{Kind: closing.Workload, ID: "other-w"}, true},
		{statement.Target{Kind: closing.Agent, ID: "a"}, true},
		{statement.Target{Kind: closing.Agent, ID: "w"}, false},
		{statement.Target{Kind: closing.Tenant, ID: "t"}, true},
		{statement.Target{Kind: closing.Tenant, ID: "home"}, false},
		{statement.Target{Kind: closing.Token, ID: "feed0123"}, true},
		{statement.Target{Kind: closing.Token, ID: "jti-1"}, true},
		{statement.Target{Kind: closing.Token, ID: "jti-0"}, true},
		{statement.Target{Kind: closing.Token, ID: "jti"}, false},
		{statement.Target{Kind: closing.Person, ID: "w"}, false},
		{statement.Target{Kind: closing.Unit, ID: "home"}, true},
		{statement.Target{Kind: closing.Unit, ID: "owner"}, true},
		{statement.Target{Kind: closing.Unit, ID: "w"}, false},
		{statement.Target{Kind: closing.Credential, ID: "c"}, true},
		{statement.Target{Kind: closing.Credential, ID: "w"}, false},
		{statement.Target{Kind: closing.Gateway, ID: "g"}, true},
		{statement.Target{Kind: closing.Key, ID: "0123456789abcdef"}, true},
		{statement.Target{Kind: closing.Key, ID: "1123456789abcdef"}, false},
		{statement.Target{Kind: closing.Everything}, true},
	} {
		g := open(t, t.TempDir()+"/state")
		var cause error
		u := use()
		u.Cut = func(err error) { cause = err }
		leave := g.Enter(u)
		if changed, err := g.Close(closing.Closed{Target: tt.target, Reason: "test", By: "admin", Time: noon}), g.Flush(); err != nil || !changed {
			t.Fatalf("%v: changed %v, error %v", tt.target, changed, err)
		}
		if closed := g.State().Of(u); (closed != nil) != tt.closes {
			t.Errorf("%v: closes the use: %v, want %v", tt.target, closed, tt.closes)
		}
		if errors.Is(cause, closing.ErrCut) != tt.closes {
			t.Errorf("%v: the stream was cut with %v, want a cut: %v", tt.target, cause, tt.closes)
		}
		again := open(t, string(g.dir))
		if diff := cmp.Diff(g.State().List(), again.State().List()); diff != "" {
			t.Errorf("%v: after a restart (-before +after):\n%s", tt.target, diff)
		}
		leave()
		if g.Live() != 0 {
			t.Errorf("%v: %d uses are left", tt.target, g.Live())
		}
	}
}

func TestRecords(t *testing.T) {
	c := statement.Target{Kind: closing.Credential, ID: "c"}
	record := func(signer string, number int64, open bool, at time.Duration) Change {
		kind := entry.Revoke
		if open {
			kind = entry.Unfreeze
		}
		return Change{Closed: closing.Closed{Target: c, Reason: "test", By: signer, Time: noon.Add(at)}, Type: kind,
			Record: fmt.Sprintf("%s %d %v %v", signer, number, open, at)}
	}
	closed, opened := record("ada", 1, false, 0), record("ada", 2, true, time.Minute)
	for _, tt := range []struct {
		name    string
		records []Change
		closes  bool
		err     error // of the last
	}{
		{"closed", []Change{closed}, true, nil},
		{"opened again", []Change{closed, opened}, false, nil},
		{"a replayed closing does not close again", []Change{closed, opened, closed}, false, nil},
		{"a replayed opening does not open again", []Change{closed, opened, record("bea", 1, false, 2*time.Minute), opened}, true, nil},
		{"an opening signed before the closing", []Change{record("bea", 1, false, 2*time.Minute), opened}, true, ErrOpen},
		{"an opening signed between two closings", []Change{closed, record("bea", 1, false, 2*time.Minute), opened}, true, ErrOpen},
		{"another closing under the same number closes", []Change{
			{Closed: closing.Closed{Target: statement.Target{Kind: closing.Unit, ID: "elsewhere"}, Reason: "test", By: "ada", Time: noon}, Type: entry.Revoke, Record: "ada 1"}, closed}, true, nil},
		{"an opening that comes before its closing leaves the late one in force", []Change{opened, closed}, true, nil},
	} {
		g := open(t, t.TempDir()+"/state")
		var err error
		for _, r := range tt.records {
			_, err = g.Apply(r)
			if err := g.Flush(); err != nil {
				t.Fatal(err)
			}
			g = open(t, string(g.dir)) // every step survives a restart
		}
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if got := g.State().Of(use()) != nil; got != tt.closes {
			t.Errorf("%s: closed %v, want %v", tt.name, got, tt.closes)
		}
	}
}

// TestClosingDoesNotWaitForTheDisk: what cannot be written is in force, and written when it can be.
func TestClosingDoesNotWaitForTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	g := open(t, dir)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	g.Close(closing.Closed{Target: statement.Target{Kind: closing.Everything}, Reason: "test", By: "admin", Time: noon})
	if g.Flush() == nil {
		t.Error("the directory is gone and Flush did not say so")
	}
	if g.State().Of(use()) == nil {
		t.Error("not in force because it could not be written")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := g.Flush(); err != nil {
		t.Fatal(err)
	}
	if open(t, dir).State().Of(use()) == nil {
		t.Error("lost in a restart after Flush")
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	d, err := state.Open(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Replace(fileName, []byte(`{"closed":[{"tar`)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d); err == nil {
		t.Error("a file cut short was read as nothing closed")
	}
}

// TestNoUseSlipsThrough runs closings against uses that enter and then look: each either sees the closing or is cut by it.
func TestNoUseSlipsThrough(t *testing.T) {
	g := open(t, t.TempDir()+"/state")
	target := statement.Target{Kind: closing.Credential, ID: "c"}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ctx, cut := context.WithCancelCause(context.Background())
			defer cut(nil)
			u := use()
			u.Cut = cut
			<-start
			time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Millisecond))))
			defer g.Enter(u)()
			if g.State().Of(u) != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
				t.Error("a use entered before the closing, did not see it, and was not cut")
			}
		}()
	}
	close(start)
	time.Sleep(time.Millisecond)
	g.Close(closing.Closed{Target: target, Reason: "test", By: "admin", Time: noon})
	wg.Wait()
}

// TestOwedChangesOutliveARestart: what the ledger does not tell of yet is kept with what is closed, in order.
func TestOwedChangesOutliveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	g := open(t, dir)
	flush := func() {
		t.Helper()
		if err := g.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	target := statement.Target{Kind: closing.Workload, ID: "w"}
	g.Close(closing.Closed{Target: target, Reason: "one", By: "admin", Time: noon})
	if g.Close(closing.Closed{Target: target, Reason: "again", By: "admin", Time: noon}) {
		t.Fatal("closed twice")
	}
	for n, opens := range []bool{true, false} {
		c := Change{Closed: closing.Closed{Target: target, Reason: "two", By: "ada", Time: noon.Add(time.Duration(n+1) * time.Second)}, Type: entry.Revoke, Record: fmt.Sprint(n)}
		if opens {
			c.Type = entry.Unfreeze
		}
		if _, err := g.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	for _, want := range []entry.Type{entry.Freeze, entry.Unfreeze, entry.Revoke} {
		g = open(t, dir)
		c, ok := g.Owed()
		if !ok || c.Type != want || c.Target != target {
			t.Fatalf("owed: %+v, %v; want %s", c, ok, want)
		}
		g.Paid()
		flush()
	}
	if c, ok := open(t, dir).Owed(); ok {
		t.Errorf("told everything, and yet owed: %+v", c)
	}
}
