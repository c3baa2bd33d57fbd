package faults

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// TestClosingOutlivesKill kills the custodian the moment it has acknowledged a freeze or a signed revocation. After the restart
// the target must be closed, and the ledger must say so.
func TestClosingOutlivesKill(t *testing.T) {
	s := start(t)
	l := s.load("closing", 4, time.Millisecond)
	ctx := context.Background()
	var targets []statement.Target
	for n := range 10 {
		sum := sha256.Sum256(fmt.Appendf(nil, "key %d", n))
		target := statement.Target{Kind: "key", ID: hex.EncodeToString(sum[:])}
		targets = append(targets, target)
		var err error
		if n%2 == 0 {
			_, err = s.admin.Freeze(ctx, target, fmt.Sprintf("freeze %d", n))
		} else {
			_, err = s.admin.Accept(ctx, s.revocation(int64(n/2+1), target, "ada"))
		}
		if err != nil {
			t.Fatalf("closing %v: %v", target, err)
		}
		s.kill(host.Custodian)
		s.restart(host.Custodian)
		if !closedAt(s.status(), target) {
			t.Errorf("%v was acknowledged as closed and is open after the restart", target)
		}
	}
	answers := l.end()
	s.usable(10 * time.Second)
	if _, err := s.admin.Freeze(ctx, statement.Target{Kind: "workload", ID: "research-agent"}, "seen in a public place"); err != nil {
		t.Fatal(err)
	}
	s.kill(host.Custodian)
	s.restart(host.Custodian)
	s.mustRefuse("frozen", "workload research-agent is closed by admin: seen in a public place", "signed by an owner and one other role")
	s.settled()
	s.mustHold(answers)

	written := map[string]int{}
	for _, log := range s.gather(nil).logs {
		for _, e := range log {
			if e.Type == entry.Freeze || e.Type == entry.Revoke {
				written[e.Actor[len(e.Actor)-1]+e.Workload]++
			}
		}
	}
	for _, target := range targets {
		// Twice is right where the kill came between the entry and the note that it is written: too much is told, never too little.
		if n := written["key:"+target.ID[:16]]; n < 1 || n > 2 {
			t.Errorf("the ledger has %d entries of the closing of %v", n, target)
		}
	}
	if n := written["adminresearch-agent"]; n < 1 || n > 2 {
		t.Errorf("the ledger's closings: %v", written)
	}
}
