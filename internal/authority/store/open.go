package store

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/reevehq/reeve/internal/database"
)

// OpenFile opens a SQLite file, made when it is not there, and brings its tables up to date. Every write is synced.
func OpenFile(ctx context.Context, path string) (*Store, error) {
	db, err := database.File(path, "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "trusted_schema(0)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db, now: `CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)`}
	if err := s.migrate(ctx, `SELECT 1`); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return s, nil
}

// Copy returns a SQLite file as it is at one moment, also while an authority writes to it.
func Copy(path string) ([]byte, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "reeve-copy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	db, err := database.File(path, "busy_timeout(5000)")
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", path, err)
	}
	defer db.Close()
	to := filepath.Join(dir, "copy")
	if _, err := db.Exec(`VACUUM INTO $1`, to); err != nil {
		return nil, fmt.Errorf("copying %s: %w", path, err)
	}
	return os.ReadFile(to)
}

// OpenServer connects to PostgreSQL and brings the tables up to date. Several authorities may do so at once.
func OpenServer(ctx context.Context, at database.Server) (*Store, error) {
	db, err := at.Open(8)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, shared: true, now: `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`}
	if err := s.migrate(ctx, `SELECT pg_advisory_xact_lock(7801)`); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening %s: %w", at.Name(), err)
	}
	return s, nil
}

//go:embed migrations/*.sql
var migrations embed.FS

// migrate runs the migrations that the database has not seen, all in one transaction that lock keeps others out of.
func (s *Store) migrate(ctx context.Context, lock string) error {
	files, err := migrations.ReadDir("migrations") // sorted by name
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range []string{lock, `CREATE TABLE IF NOT EXISTS migration (version BIGINT PRIMARY KEY)`} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	var have int64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM migration`).Scan(&have); err != nil {
		return err
	}
	if have > int64(len(files)) {
		return fmt.Errorf("its tables are of version %d and this release knows %d: start the newer release, or restore a backup made before it", have, len(files))
	}
	for _, f := range files[have:] {
		number, _, _ := strings.Cut(f.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version != have+1 {
			return fmt.Errorf("migration %s is not number %d", f.Name(), have+1)
		}
		text, err := migrations.ReadFile("migrations/" + f.Name())
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO migration (version) VALUES ($1)`, version); err != nil {
			return err
		}
		have = version
	}
	return tx.Commit()
}
