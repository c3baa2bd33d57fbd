package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/incident"
)

// writeFile writes a file by the function; it ends whole or with an error.
func writeFile(name string, write func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return err
	}
	return os.WriteFile(name, buf.Bytes(), 0o600)
}

// writeAnnex writes a business unit's annex as a page and as JSON, with its proofs.
func writeAnnex(dir string, x *blast.Annex) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := errors.Join(
		writeFile(filepath.Join(dir, "annex.html"), func(w io.Writer) error { return blast.WriteAnnex(w, x) }),
		writeFile(filepath.Join(dir, "annex.json"), func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(x)
		}))
	for _, p := range x.Proofs {
		err = errors.Join(err, writeFile(filepath.Join(dir, p.File), func(w io.Writer) error {
			_, err := w.Write(p.Bundle.Encode())
			return err
		}))
	}
	return err
}

// writeAnnexes writes the annexes of every business unit that an incident concerns, a folder each; of several subjects a folder of each in it.
// It returns how many units there are.
func writeAnnexes(ctx context.Context, dir string, b *books.Books, r *incident.Report, hash string) (int, error) {
	for _, u := range r.Units {
		for _, a := range r.Blast {
			x, err := blast.AnnexOf(ctx, b, a, u.Unit)
			if errors.Is(err, blast.ErrUnknown) {
				continue
			}
			if err != nil {
				return 0, err
			}
			x.Of = "incident " + r.Incident + ", report of SHA-256 " + hash
			to := filepath.Join(dir, u.Unit)
			if len(r.Blast) > 1 {
				to = filepath.Join(to, strings.ReplaceAll(a.Subject, ":", "-"))
			}
			if err := writeAnnex(to, x); err != nil {
				return 0, err
			}
		}
	}
	return len(r.Units), nil
}
