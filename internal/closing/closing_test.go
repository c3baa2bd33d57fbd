package closing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/statement"
)

// sample is a use that has something of everything that can be closed.
func sample() *Use {
	return &Use{Workload: "agent", Tenant: "acme", Units: [2]string{"research", "support"}, Credential: "openai", Gateway: "g1", Key: "k", Actors: []string{"helper", "other-agent"},
		Tokens: [4]string{"t0", "t1", "t2", "t3"}, Parents: []string{"p0", "p1"}, Cut: func(error) {}}
}

// Each thing that a use is of closes it, whatever else is closed, and nothing else does.
func TestOf(t *testing.T) {
	closes := []statement.Target{
		{Kind: Everything}, {Kind: Workload, ID: "agent"}, {Kind: Workload, ID: "other-agent"}, {Kind: Agent, ID: "helper"}, {Kind: Tenant, ID: "acme"}, {Kind: Unit, ID: "research"},
		{Kind: Unit, ID: "support"}, {Kind: Credential, ID: "openai"}, {Kind: Gateway, ID: "g1"}, {Kind: Key, ID: "k"}, {Kind: Token, ID: "t0"}, {Kind: Token, ID: "t1"},
		{Kind: Token, ID: "t2"}, {Kind: Token, ID: "t3"}, {Kind: Token, ID: "p0"}, {Kind: Token, ID: "p1"},
	}
	others := []statement.Target{
		{Kind: Workload, ID: "openai"}, {Kind: Credential, ID: "agent"}, {Kind: Token, ID: "k"}, {Kind: Key, ID: "t0"}, {Kind: Agent, ID: "agent"}, {Kind: Unit, ID: "acme"},
		{Kind: Person, ID: "agent"}, {Kind: Gateway, ID: "g2"},
	}
	var rest []Closed
	for _, x := range others {
		rest = append(rest, Closed{Target: x})
	}
	if c := NewState(1, rest).Of(sample()); c != nil {
		t.Errorf("closed by %s", c.Target)
	}
	for _, x := range closes {
		s := NewState(1, append([]Closed{{Target: x, By: "ada", Reason: "test"}}, rest...))
		if c := s.Of(sample()); c == nil || c.Target != x || !errors.Is(c, ErrCut) || s.At(x) != c {
			t.Errorf("%s does not close it: %v", x, c)
		}
	}
	s := NewState(1, rest)
	if diff := cmp.Diff([]string{"agent"}, s.People()); diff != "" {
		t.Error(diff)
	}
	if list := s.List(); len(list) != len(others) {
		t.Errorf("%d of %d listed", len(list), len(others))
	}
}

// A use that enters while something is closed either sees it or is cut: no order of the two lets it through.
func TestNothingSlipsThrough(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		g := NewGate(NewState(0, nil))
		var all sync.WaitGroup
		begin := make(chan struct{})
		for range 1 + r.IntN(4) {
			all.Go(func() {
				ctx, cut := context.WithCancelCause(t.Context())
				u := sample()
				u.Cut = cut
				<-begin
				leave := g.Enter(u)
				defer leave()
				if g.State().Of(u) != nil {
					return // it was seen
				}
				select {
				case <-ctx.Done():
					if err := context.Cause(ctx); !errors.Is(err, ErrCut) {
						t.Errorf("cut with %v", err)
					}
				case <-time.After(30 * time.Second):
					t.Error("a use went on")
				}
			})
		}
		for n := range 1 + r.IntN(3) {
			all.Go(func() {
				<-begin
				g.Close(Closed{Target: statement.Target{Kind: Key, ID: fmt.Sprint("other", n)}})
			})
		}
		all.Go(func() { <-begin; g.Close(Closed{Target: statement.Target{Kind: Credential, ID: "openai"}}) })
		close(begin)
		all.Wait()
		if g.Live() != 0 {
			t.Fatalf("%d uses left", g.Live())
		}
	}
}

// What is opened is open, each change has its generation, and what was closed twice has the later reason.
func TestGenerations(t *testing.T) {
	g := NewGate(NewState(7, nil))
	x := statement.Target{Kind: Credential, ID: "openai"}
	g.Close(Closed{Target: x, Reason: "first"})
	first := g.State()
	g.Close(Closed{Target: x, Reason: "second"})
	if s := g.State(); s.Generation != 9 || s.At(x).Reason != "second" || first.At(x).Reason != "first" {
		t.Errorf("generation %d, closed for %q; before for %q", s.Generation, s.At(x).Reason, first.At(x).Reason)
	}
	g.Open(x)
	if s := g.State(); s.Generation != 10 || s.Of(sample()) != nil || len(s.List()) != 0 {
		t.Errorf("generation %d, %d closed", s.Generation, len(s.List()))
	}
	// Cut asks of each use, and those that it names end.
	var cut []string
	for _, id := range []string{"a", "b"} {
		u := sample()
		u.Workload, u.Cut = id, func(error) { cut = append(cut, id) }
		defer g.Enter(u)()
	}
	n := g.Cut(func(u *Use) error {
		if u.Workload == "b" {
			return ErrCut
		}
		return nil
	})
	if diff := cmp.Diff([]string{"b"}, cut); diff != "" || n != 1 || g.Live() != 2 {
		t.Errorf("%s, %d cut, %d live", diff, n, g.Live())
	}
}
