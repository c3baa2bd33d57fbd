package daemon

import (
	"os"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/custodian/unitkey"
)

// openUnits opens the keys with which the custodian federates. The error tells of those that cannot be used; without the book of the
// others the custodian cannot start.
func openUnits(cfg *Config, dir state.Dir, secrets *sealed.Store) (*unitkey.Book, error) {
	if cfg.FederationDir != "" {
		if err := os.MkdirAll(cfg.FederationDir, 0o755); err != nil { // before the process confines itself to what is there
			return nil, err
		}
	}
	keys, err := dir.Sub("federation")
	if err != nil {
		return nil, err
	}
	var helper *unitkey.Helper
	if cfg.FederationHelper != "" {
		helper = &unitkey.Helper{Socket: cfg.FederationHelper}
	}
	return unitkey.Open(keys, cfg.ID, secrets, helper, time.Now)
}

// ownUnits tells people when the keys of a unit's federation come to their end.
func (h *host) ownUnits() {
	h.rt.Ready.Note("federation", strings.Join(h.units.Problems(h.Clock()), "; "))
}
