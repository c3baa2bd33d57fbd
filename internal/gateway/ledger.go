package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
)

// openLedger opens the gateway's own log. Its key must be the one that the charter enrols; keys returns the charter's witness
// keys of the moment.
func openLedger(ctx context.Context, cfg *Config, key ledger.Key, sets func() *statement.Set, keys func() note.Verifiers, log *slog.Logger) (*ledger.Log, error) {
	set := sets()
	if !enrolled(set, cfg.ID, key) {
		return nil, fmt.Errorf("the charter has no live log key %s for %s: nobody would believe this ledger; have the key added under service_keys, or name the right file in log_key", key.Verifier(), cfg.ID)
	}
	var witnesses []ledger.Witness
	for _, w := range cfg.Witnesses {
		witnesses = append(witnesses, &witness.Client{URL: w.URL, Keys: keys, HTTP: &http.Client{Timeout: 10 * time.Second}})
	}
	return ledger.Open(ctx, ledger.Config{
		Key: key, Dir: filepath.Join(cfg.StateDir, "ledger"), Tiles: cfg.TilesDir,
		Witnesses: witnesses, Need: min(len(witnesses), max(1, set.Charter.Witnesses.Need)),
		Heartbeat: time.Minute, Logger: log, SegmentSize: 4 << 20, Retire: ledger.RetiredBy(set),
		Enrolled: func(k ledger.Key) bool { return enrolled(sets(), cfg.ID, k) },
	})
}

// enrolled reports whether the charter has a live key of the file for a process.
func enrolled(set *statement.Set, process string, key ledger.Key) bool {
	for _, k := range set.ServiceKeys("log", time.Now()) {
		if k.Process == process && slices.Contains(key.Verifiers(), k.Key) {
			return true
		}
	}
	return false
}
