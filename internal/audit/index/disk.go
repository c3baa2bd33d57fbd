package index

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/database"
)

var (
	// ErrKept means that another process keeps this index: an auditor that runs, or a rebuild.
	ErrKept = errors.New("another process keeps this index")
	// ErrRelease means that the index was written by another release. It can be rebuilt from the logs.
	ErrRelease = errors.New("the index was written by another release: rebuild it (reeve audit rebuild)")
)

// release of the tables. An older or newer one is not read: the index is rebuilt.
const release = 3

// Index is an index in a SQLite file or in PostgreSQL. It has one keeper, who adds to it (Batch, Extend), and any number of readers, who
// see each batch whole or not at all. A reader is safe for concurrent use.
type Index struct {
	db     *sql.DB
	server bool // PostgreSQL
	unlock func()
	tiles  map[string]*logs.Log // single entries are read from these
	step   func(string)         // tests stop the process at a step of a batch
	most   int                  // rows of a batch
	held   *sql.Tx              // in which the index stands still, or nil

	mu    sync.Mutex // guards what follows
	ids   map[string]int64
	words map[int64]string
	found map[subject]int64
	whole bool              // ids and found are all that there are
	parts map[int64]*topics // whole blocks of subjects
}

//go:embed schema.sql
var schema string

// OpenFile opens the index in a SQLite file to keep it, and makes it when it is not there. It returns ErrKept while another process does. What is
// committed survives the end of the process; a crash of the machine may take the newest batches, with the sizes that they led to.
func OpenFile(ctx context.Context, path string) (*Index, error) {
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := private(path)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		unlock()
		return nil, err
	}
	db, err := database.File(path, "journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", "trusted_schema(0)", "temp_store(MEMORY)", "cache_size(-65536)")
	if err != nil {
		unlock()
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return start(ctx, &Index{db: db, unlock: unlock}, path, true)
}

// ReadFile opens the index in a SQLite file to read it, also while an auditor adds to it.
func ReadFile(ctx context.Context, path string) (*Index, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := database.Existing(path, "busy_timeout(5000)", "trusted_schema(0)", "cache_size(-65536)")
	if err != nil {
		return nil, err
	}
	return start(ctx, &Index{db: db, unlock: func() {}}, path, false)
}

// keeperLock is the advisory lock of PostgreSQL that an index's keeper holds.
const keeperLock = 7805

// OpenServer opens the index in PostgreSQL to keep it, as OpenFile does. Its tables have names that begin with reeve_index.
func OpenServer(ctx context.Context, at database.Server) (*Index, error) {
	db, err := at.Open(4)
	if err != nil {
		return nil, err
	}
	held, err := db.Conn(ctx)
	free := false
	if err == nil {
		err = held.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, keeperLock).Scan(&free)
	}
	if err == nil && !free {
		err = ErrKept
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", at.Name(), err), db.Close())
	}
	return start(ctx, &Index{db: db, server: true, unlock: func() {
		held.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, keeperLock)
		held.Close()
	}}, at.Name(), true)
}

// ReadServer opens the index in PostgreSQL to read it.
func ReadServer(ctx context.Context, at database.Server) (*Index, error) {
	db, err := at.Open(4)
	if err != nil {
		return nil, err
	}
	return start(ctx, &Index{db: db, server: true, unlock: func() {}}, at.Name(), false)
}

// start makes the tables, for a keeper, and checks their release. On an error the index is closed.
func start(ctx context.Context, x *Index, name string, keep bool) (*Index, error) {
	x.step, x.most = func(string) {}, maxRows
	x.forget()
	err := x.check(ctx, keep)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the index in %s: %w", name, err), x.Close())
	}
	return x, nil
}

func (x *Index) check(ctx context.Context, keep bool) error {
	err := x.released(ctx)
	if keep && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRelease)) {
		return x.create(ctx, errors.Is(err, ErrRelease))
	}
	return err
}

// released returns fs.ErrNotExist where there is no index and ErrRelease where it is another release's.
func (x *Index) released(ctx context.Context) error {
	var have int
	err := x.db.QueryRowContext(ctx, `SELECT release FROM reeve_index_release`).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows), err != nil && strings.Contains(err.Error(), "reeve_index_release"): // no such table
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case err == nil && have != release:
		return ErrRelease
	}
	return err
}

// tables of the index that have rows of entries.
var tables = [...]string{"word", "subject", "sum", "open", "event", "version", "past", "log"}

// create makes the tables. Those of another release go first: what they have can be read again from the logs.
func (x *Index) create(ctx context.Context, anew bool) error {
	as := map[string]string{"{id}": "INTEGER PRIMARY KEY", "{bytes}": "BLOB", "{rowless}": "WITHOUT ROWID"}
	if x.server {
		as = map[string]string{"{id}": "BIGINT PRIMARY KEY", "{bytes}": "BYTEA", "{rowless}": ""}
	}
	text := schema
	for name, sql := range as {
		text = strings.ReplaceAll(text, name, sql)
	}
	return x.write(ctx, func(tx *sql.Tx) error {
		for _, t := range tables {
			if !anew {
				break
			}
			if _, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS reeve_index_`+t); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM reeve_index_release`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO reeve_index_release VALUES (%d)`, release))
		return err
	})
}

// write runs a transaction.
func (x *Index) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	x.step("before commit")
	return tx.Commit()
}

// Clear takes everything out of the index, so that it can be built anew.
func (x *Index) Clear(ctx context.Context) error {
	defer x.forget()
	return x.write(ctx, func(tx *sql.Tx) error {
		for _, t := range tables {
			if _, err := tx.ExecContext(ctx, `DELETE FROM reeve_index_`+t); err != nil {
				return err
			}
		}
		return nil
	})
}

// With gives the index the logs that it is of, so that windows which begin or end within an hour are exact.
func (x *Index) With(all []*logs.Log) *Index {
	x.tiles = map[string]*logs.Log{}
	for _, l := range all {
		x.tiles[l.ID] = l
	}
	return x
}

// Close ends the use of the index.
func (x *Index) Close() error {
	if x.held != nil {
		x.held.Rollback()
	}
	x.unlock()
	return x.db.Close()
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// reader is what is read from.
func (x *Index) reader() querier {
	if x.held != nil {
		return x.held
	}
	return x.db
}

// Logs implements Reader.
func (x *Index) Logs(ctx context.Context) ([]Log, error) { return readLogs(ctx, x.reader()) }

func readLogs(ctx context.Context, db querier) (list []Log, err error) {
	err = each(ctx, db, func(scan func(...any) error) error {
		var body string
		var l Log
		if err := scan(&body); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &l)
		list = append(list, l)
		return err
	}, `SELECT body FROM reeve_index_log`)
	slices.SortFunc(list, func(a, b Log) int { return strings.Compare(a.Origin, b.Origin) })
	return list, err
}

// each calls do with every row of a query.
func each(ctx context.Context, db querier, do func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows.Scan); err != nil {
			return fmt.Errorf("reading the index: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	return nil
}
