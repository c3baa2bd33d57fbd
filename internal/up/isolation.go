package up

import (
	"context"
	"maps"
	"slices"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/host"
)

// Isolation says how far the gateway is kept from the custodian's secrets, and what is not defended there.
type Isolation struct {
	Level   string   `json:"level"` // host, separate-uid, one-uid or none; empty when the custodian has not met a gateway
	Holds   string   `json:"holds"`
	NotHeld []string `json:"not_held"`
}

// ask puts what the custodian says into the status.
func (s *Status) ask(ctx context.Context, d *host.Dir) {
	st, err := operator.New(d.Socket(host.Custodian, "admin")).Status(ctx)
	if err != nil {
		s.Isolation = Isolation{Holds: "unknown: the custodian cannot be asked"}
		return
	}
	s.Isolation, s.BreakGlass = isolationOf(st), st.Glass
}

// isolationOf is the weakest level at which the custodian sees its gateways. It judges them when they connect and at each use.
func isolationOf(s *admin.Status) Isolation {
	seen := slices.Collect(maps.Values(s.Isolation))
	for _, i := range levels() {
		if slices.Contains(seen, i.Level) {
			return i
		}
	}
	return Isolation{Holds: "unknown: no gateway has connected to the custodian yet"}
}

// levels are the isolation levels, weakest first.
func levels() []Isolation {
	return []Isolation{
		{Level: "none", Holds: "nothing", NotHeld: []string{
			"against the gateway: the custodian cannot tell whose process it is, or cannot keep it from its memory and files (on one machine use the socket, on Linux)"}},
		{Level: "one-uid", Holds: "the custodian's memory cannot be read and the gateway is confined by Landlock and seccomp", NotHeld: []string{
			"against other programs of this user, who can read the custodian's key file (start as root for users of their own)"}},
		{Level: "separate-uid", Holds: "the kernel keeps the gateway's user from the custodian's memory and files", NotHeld: []string{"against root on this host"}},
		{Level: "host", Holds: "the gateway is on another machine and is known by a key that the owners signed", NotHeld: []string{"against root on the custodian's host"}},
	}
}
