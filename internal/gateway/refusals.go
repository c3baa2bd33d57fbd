package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// Ledger takes the gateway's own entries. They do not gate, and count as asserted by the gateway.
type Ledger interface {
	Enqueue(e *entry.Entry, closing bool) error
}

// refusals are what this gateway refused by itself since the last flush: one entry a second for each workload and reason, so
// that a flood cannot fill the disk. What the custodian refused is in the custodian's ledger.
type refusals struct {
	mu      sync.Mutex
	pending map[refusalKey]*entry.Entry
}

type refusalKey struct{ workload, reason string }

// count counts one refusal. The first of a second gives its entry the request's particulars.
func (r *refusals) count(c *call, f *dialect.Fault) {
	if c.entered || f.Code == gone {
		return
	}
	key := refusalKey{c.who.Workload, f.Code}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.pending[key]; e != nil {
		e.Count++
		return
	}
	e := &entry.Entry{
		Type: entry.Deny, Gateway: c.g.cfg.ID, Method: method(c.r.Method), Decision: "deny", Reason: f.Code, Status: f.Status, Count: 1,
		Credential: c.target.credential,
	}
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	hash := sha256.Sum256([]byte(path))
	e.PathHash = hex.EncodeToString(hash[:])
	if c.force != nil {
		e.Estate = c.force.estate
	}
	if c.who.Workload != "" {
		e.Tenant, e.Unit, e.Workload = c.who.Tenant, c.who.Unit, c.who.Workload
		e.Level, e.Proof = "W"+strconv.Itoa(c.who.Level), c.who.Proof
	}
	r.pending[key] = e
}

// flush writes what was counted, and returns the errors of what could not be written.
func (r *refusals) flush(l Ledger) (err error) {
	r.mu.Lock()
	pending := r.pending
	r.pending = map[refusalKey]*entry.Entry{}
	r.mu.Unlock()
	for _, e := range pending {
		if failed := l.Enqueue(e, false); failed != nil {
			err = errors.Join(err, fmt.Errorf("entering %d refusals (%s): %w", e.Count, e.Reason, failed))
		}
	}
	return err
}

// method keeps what a client can put into an entry to the methods that exist.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return m
	}
	return "other"
}
