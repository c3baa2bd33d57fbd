package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
)

// enrolled reports whether the charter in force has a log key of this custodian.
func (h *host) enrolled(key ledger.Key) bool {
	return slices.ContainsFunc(h.Set().ServiceKeys("log", h.Clock()), func(k statement.ServiceKey) bool {
		return k.Process == h.ID && slices.Contains(key.Verifiers(), k.Key)
	})
}

// openLedger opens the log with the witnesses that the charter names.
func (h *host) openLedger(ctx context.Context) error {
	h.rt.Ready.Set("ledger", "not open yet")
	set := h.Set()
	if !h.enrolled(h.logKey) {
		return fmt.Errorf("the charter does not name this custodian's log key (%s): what it writes would not be believed; have the root quorum add it", strings.Join(h.logKey.Verifiers(), ", "))
	}
	var witnesses []ledger.Witness
	for _, w := range h.cfg.Witnesses {
		witnesses = append(witnesses, &witness.Client{URL: w.URL, Keys: h.witnessKeys})
	}
	log, err := ledger.Open(ctx, ledger.Config{
		Key: h.logKey, Dir: h.dir.Path("ledger"), Tiles: h.cfg.TilesDir, Witnesses: witnesses, Need: max(set.Charter.Witnesses.Need, 1),
		Heartbeat: heartbeat, Logger: h.rt.Log, Retire: ledger.RetiredBy(set), Enrolled: h.enrolled,
	})
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if err := h.book.open(log); err != nil {
		return err
	}
	h.catchUp()
	h.Tell() // of what was closed before a crash
	h.rt.Ready.Set("ledger", "")
	return nil
}

// witnessKeys are those that the charter in force names.
func (h *host) witnessKeys() note.Verifiers {
	var keys []string
	for _, k := range h.Set().ServiceKeys("witness", h.Clock()) {
		keys = append(keys, k.Key)
	}
	verifiers, err := witness.Verifiers(keys)
	if err != nil {
		h.Log.Error("a witness key of the charter cannot be used", "error", err)
	}
	return verifiers
}

func (h *host) closeLedger() {
	if err := h.book.log.Load().Close(); err != nil {
		h.Log.Error("closing the ledger", "error", err)
	}
}
