package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/reevehq/reeve/internal/secret"
)

// OpenFile opens a SQLite file, made when it is not there, and brings its tables up to date. Every write is synced.
func OpenFile(ctx context.Context, path string) (*Store, error) {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "trusted_schema(0)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", location(path, pragmas))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
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
	db, err := sql.Open("sqlite", location(path, url.Values{"_pragma": {"busy_timeout(5000)"}}))
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

// location is a file as the driver names it.
func location(path string, query url.Values) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// Server says where a PostgreSQL database is.
type Server struct {
	// Connection is a connection string of libpq, as a URL or as words, without a password.
	Connection string
	// PasswordFile has the password and nothing else, mode 0600. Without it passfile, client certificates or the server's
	// own rules decide.
	PasswordFile string
}

// Check refuses a connection string that is none, or that has a password in it: it would stand in the configuration.
func (s Server) Check() error {
	_, err := s.config()
	return err
}

func (s Server) config() (*pgx.ConnConfig, error) {
	if u, err := url.Parse(s.Connection); err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			return nil, fmt.Errorf("the connection string has a password in it: put it into a file of mode 0600 and name that as password_file")
		}
	}
	if strings.Contains(strings.ToLower(s.Connection), "password") {
		return nil, fmt.Errorf("the connection string has a password in it: put it into a file of mode 0600 and name that as password_file")
	}
	c, err := pgx.ParseConfig(s.Connection)
	if err != nil {
		return nil, fmt.Errorf("the connection string is none that libpq would take: %w", err)
	}
	return c, nil
}

// OpenServer connects to PostgreSQL and brings the tables up to date. Several authorities may do so at once.
func OpenServer(ctx context.Context, at Server) (*Store, error) {
	c, err := at.config()
	if err != nil {
		return nil, err
	}
	if at.PasswordFile != "" {
		password, err := secret.ReadFile(at.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("the database's password: %w", err)
		}
		c.Password = strings.TrimRight(string(password.Reveal()), "\r\n")
	}
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(8)
	s := &Store{db: db, shared: true, now: `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`}
	if err := s.migrate(ctx, `SELECT pg_advisory_xact_lock(7801)`); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the database %s on %s: %w", c.Database, c.Host, err)
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
