// Package closing holds what may not be used now, and cuts the streams that use it. Custodian and gateway each have a Gate;
// what closes and opens it, and what of it outlives a restart, is theirs.
package closing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// The kinds of target, as in statement.Target.
const (
	Workload   = "workload"
	Agent      = "agent"
	Person     = "person"
	Tenant     = "tenant"
	Unit       = "unit"
	Credential = "credential"
	Gateway    = "gateway"
	Key        = "key"
	Token      = "token"
	Everything = "everything"
)

// ErrCut is wrapped by the cause of every context that a closing cancelled.
var ErrCut = errors.New("cut")

// Closed is one thing that is closed, and why.
type Closed struct {
	Target statement.Target `json:"target"`
	Reason string           `json:"reason"`
	By     string           `json:"by"`   // a person, or what closed it: "admin", "ceiling", "guard"
	Time   time.Time        `json:"time"` // when it was signed or asked for
}

func (c *Closed) Error() string {
	return fmt.Sprintf("%s is closed by %s: %s", c.Target, c.By, c.Reason)
}

// Unwrap makes every Closed an ErrCut.
func (c *Closed) Unwrap() error { return ErrCut }

// Use is one request while it lasts, by everything that can be closed about it. A closed person is not looked up here: the
// statements are then read as if he had left (statement.Set.Without), and uses are decided by those.
type Use struct {
	Workload   string
	Tenant     string
	Units      [2]string // the workload's and the credential's
	Credential string
	Gateway    string
	Key        string                  // hex SHA-256 of the workload's key
	Actors     []string                // those who act for the workload, as the token's delegation chain names them
	Tokens     [4]string               // hex SHA-256 of the token without its signature, and its jti; then those of the token that it was exchanged for
	Parents    []string                // the same of the tokens that it came from by exchange
	Cut        context.CancelCauseFunc // ends the request's stream
	Of         any                     // the request itself, for the caller of Gate.Cut
}

// State is what is closed at one instant. It is immutable.
type State struct {
	// Generation rises with every change.
	Generation int64
	closed     map[statement.Target]*Closed
}

// NewState returns a state in which these are closed.
func NewState(generation int64, closed []Closed) *State {
	s := &State{Generation: generation, closed: make(map[statement.Target]*Closed, len(closed))}
	for i := range closed {
		s.closed[closed[i].Target] = &closed[i]
	}
	return s
}

// Of returns what closes the use, or nil. A workload is closed wherever it acts, also for another.
func (s *State) Of(u *Use) *Closed {
	if len(s.closed) == 0 {
		return nil
	}
	for _, t := range [...]statement.Target{
		{Kind: Everything}, {Kind: Credential, ID: u.Credential}, {Kind: Workload, ID: u.Workload}, {Kind: Key, ID: u.Key},
		{Kind: Unit, ID: u.Units[0]}, {Kind: Unit, ID: u.Units[1]}, {Kind: Tenant, ID: u.Tenant}, {Kind: Gateway, ID: u.Gateway},
		{Kind: Token, ID: u.Tokens[0]}, {Kind: Token, ID: u.Tokens[1]}, {Kind: Token, ID: u.Tokens[2]}, {Kind: Token, ID: u.Tokens[3]},
	} {
		if c := s.closed[t]; c != nil {
			return c
		}
	}
	for _, p := range u.Parents {
		if c := s.closed[statement.Target{Kind: Token, ID: p}]; c != nil {
			return c
		}
	}
	for _, a := range u.Actors {
		for _, kind := range [...]string{Agent, Workload} {
			if c := s.closed[statement.Target{Kind: kind, ID: a}]; c != nil {
				return c
			}
		}
	}
	return nil
}

// At returns what closes the target itself, or nil.
func (s *State) At(t statement.Target) *Closed { return s.closed[t] }

// List returns what is closed, sorted by target.
func (s *State) List() []Closed {
	list := make([]Closed, 0, len(s.closed))
	for _, c := range s.closed {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Closed) int { return strings.Compare(a.Target.String(), b.Target.String()) })
	return list
}

// People are the ids of those who are closed.
func (s *State) People() (ids []string) {
	for t := range s.closed {
		if t.Kind == Person {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// Gate is the state in force and the uses that are open. Safe for concurrent use.
type Gate struct {
	state atomic.Pointer[State]
	mu    sync.Mutex // spans changes of state
	live  [16]shard
	next  atomic.Uint32 // spreads uses over the shards
}

type shard struct {
	mu   sync.Mutex
	uses map[*Use]struct{}
}

// NewGate returns a gate with a state in force.
func NewGate(s *State) *Gate {
	g := new(Gate)
	for i := range g.live {
		g.live[i].uses = map[*Use]struct{}{}
	}
	g.state.Store(s)
	return g
}

// State returns what is closed now.
func (g *Gate) State() *State { return g.state.Load() }

// Enter registers a use that may be cut, until the function that it returns is called. Enter first and look at State
// after: then a closing either is seen there or finds the use here.
func (g *Gate) Enter(u *Use) (leave func()) {
	s := &g.live[g.next.Add(1)%uint32(len(g.live))]
	s.mu.Lock()
	s.uses[u] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.uses, u)
		s.mu.Unlock()
	}
}

// Cut ends every open use for which reason returns an error, with that error as its cause, and returns how many.
func (g *Gate) Cut(reason func(*Use) error) (n int) {
	var uses []*Use
	for i := range g.live {
		g.live[i].mu.Lock()
		uses = slices.AppendSeq(uses, maps.Keys(g.live[i].uses))
		g.live[i].mu.Unlock()
	}
	for _, u := range uses { // without a lock: reason may take its time, and one that has left is cut in vain
		if err := reason(u); err != nil {
			u.Cut(err)
			n++
		}
	}
	return n
}

// Live returns the number of open uses.
func (g *Gate) Live() (n int) {
	for i := range g.live {
		g.live[i].mu.Lock()
		n += len(g.live[i].uses)
		g.live[i].mu.Unlock()
	}
	return n
}

// Close closes the target now, in place of what closed it before, and cuts its streams.
func (g *Gate) Close(c Closed) {
	g.put(c.Target, &c)
	g.Cut(func(u *Use) error {
		if closed := g.State().Of(u); closed != nil {
			return closed
		}
		return nil
	})
}

// Open opens the target.
func (g *Gate) Open(t statement.Target) { g.put(t, nil) }

// put publishes the next state, with the target closed or, for nil, open.
func (g *Gate) put(t statement.Target, c *Closed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.State()
	next := &State{Generation: old.Generation + 1, closed: make(map[statement.Target]*Closed, len(old.closed)+1)}
	maps.Copy(next.closed, old.closed)
	if next.closed[t] = c; c == nil {
		delete(next.closed, t)
	}
	g.state.Store(next)
}
