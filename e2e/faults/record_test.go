package faults

import (
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/statement"
)

// revocation is a signed revocation record's file. Ada owns the policy of both units: she closes their workloads alone.
func (s *site) revocation(number int64, target statement.Target, people ...string) []byte {
	s.Helper()
	return s.seal("revocation", statement.Revocation{Estate: "demo", Signer: people[0], Number: number, Target: target,
		Reason: fmt.Sprintf("test %d", number), Time: time.Now().UTC()}, people...)
}

// closedAt reports whether a custodian lists the target as closed.
func closedAt(st *admin.Status, target statement.Target) bool {
	return slices.ContainsFunc(st.Closed, func(c admin.Closed) bool { return c.Target == target })
}
