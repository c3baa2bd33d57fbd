package up

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/host"
)

// Isolation says how far the gateway is kept from the custodian's secrets on this machine, and what is not defended there.
type Isolation struct {
	Level   string   `json:"level"` // separate-uid, one-uid or none; empty when the custodian cannot be asked
	Holds   string   `json:"holds"`
	NotHeld []string `json:"not_held"`
}

// isolationOf asks the custodian how it is confined, and the kernel about the gateway.
func isolationOf(ctx context.Context, d *host.Dir, gateway int) Isolation {
	s, err := admin.New(d.Socket(host.Custodian, "admin")).Status(ctx)
	if err != nil {
		return Isolation{Holds: "unknown: the custodian cannot be asked"}
	}
	switch {
	case host.Separate():
		return Isolation{Level: "separate-uid", Holds: "the kernel keeps the gateway's user from the custodian's memory and files",
			NotHeld: []string{"against root on this host"}}
	case s.Confinement.NotDumpable && filtered(gateway):
		return Isolation{Level: "one-uid", Holds: "the custodian's memory cannot be read and the gateway is confined by Landlock and seccomp", NotHeld: []string{
			"against other programs of this user, who can read the custodian's key file (start as root for users of their own)"}}
	}
	return Isolation{Level: "none", Holds: "nothing", NotHeld: []string{"this system cannot keep the gateway from the custodian's memory and files"}}
}

// filtered reports whether a process runs under a seccomp filter (proc(5)).
func filtered(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && bytes.Contains(b, []byte("\nSeccomp:\t2\n"))
}
