package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
)

// openLedger opens the gateway's own log with the witnesses of the set. The key must be the one that the charter enrols.
func openLedger(ctx context.Context, cfg *Config, set *statement.Set, log *slog.Logger) (*ledger.Log, error) {
	key, err := ledger.LoadKey(cfg.LogKey)
	if err != nil {
		return nil, err
	}
	if !enrolled(set, cfg.ID, key.Verifier()) {
		return nil, fmt.Errorf("the charter has no live log key %s for %s: nobody would believe this ledger; have the key added under service_keys, or name the right file in log_key", key.Verifier(), cfg.ID)
	}
	witnesses, err := witnesses(cfg.Witnesses, set)
	if err != nil {
		return nil, err
	}
	return ledger.Open(ctx, ledger.Config{
		Key: key, Dir: filepath.Join(cfg.StateDir, "ledger"), Tiles: cfg.TilesDir,
		Witnesses: witnesses, Need: min(len(witnesses), max(1, set.Charter.Witnesses.Need)),
		Heartbeat: time.Minute, Logger: log,
	})
}

func enrolled(set *statement.Set, process, verifier string) bool {
	for _, k := range set.ServiceKeys("log", time.Now()) {
		if k.Process == process && k.Key == verifier {
			return true
		}
	}
	return false
}

// witnesses finds the charter's key of each witness that is configured.
func witnesses(list []Witness, set *statement.Set) ([]ledger.Witness, error) {
	keys := set.ServiceKeys("witness", time.Now())
	client := &http.Client{Timeout: 10 * time.Second}
	var out []ledger.Witness
	for _, w := range list {
		var found []statement.ServiceKey
		for _, k := range keys {
			if k.Process == w.ID || w.ID == "" && len(keys) == 1 {
				found = append(found, k)
			}
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("the charter has %d live witness keys for the witness %q at %s, want one: name the auditor's id under witnesses", len(found), w.ID, w.URL)
		}
		key, err := witness.NewVerifier(found[0].Key)
		if err != nil {
			return nil, fmt.Errorf("the charter's witness key of %s: %w", found[0].Process, err)
		}
		out = append(out, cosigner{&witness.Client{URL: w.URL, Key: key, HTTP: client}})
	}
	return out, nil
}

// cosigner lets a witness cosign a ledger.
type cosigner struct{ client *witness.Client }

func (c cosigner) Cosign(ctx context.Context, oldSize int64, checkpoint []byte, proof []tlog.Hash) ([]byte, error) {
	sig, err := c.client.AddCheckpoint(ctx, oldSize, proof, checkpoint)
	var conflict *witness.Conflict
	if errors.As(err, &conflict) {
		return nil, &ledger.ConflictError{Size: conflict.Size}
	}
	return sig, err
}
