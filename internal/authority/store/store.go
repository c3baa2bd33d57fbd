// Package store keeps what an authority must still know after a restart: what it received, what it published and what its
// ledger has an entry of; who holds the lease among several authorities; and what was used once. It holds no secret and
// decides nothing.
//
// It is one set of SQL statements over SQLite, a file in the state directory, or PostgreSQL, which several authorities share.
package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrHeld is returned by Acquire while another authority holds the lease.
	ErrHeld = errors.New("another authority holds the lease")
	// ErrLost is returned to who no longer holds the lease that he names. Nothing was written.
	ErrLost = errors.New("the lease was lost to another authority")
)

// Store is an open database. Safe for concurrent use.
type Store struct {
	db     *sql.DB
	now    string // an SQL expression: milliseconds since 1970 by the database's clock
	shared bool   // several authorities may use it at once
}

// Shared reports whether several authorities may use the store at once, so that the lease must be renewed.
func (s *Store) Shared() bool { return s.shared }

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// Kind says what a line of the journal is.
type Kind string

// The kinds of line. A newer Published, and a newer Proven, supersedes the older ones.
const (
	Received  Kind = "received"  // a record that came by POST; the body is its frame
	Published Kind = "published" // a statement set; the body is its frame
	Proven    Kind = "proven"    // that the log has a lock; the body is its feed.Publication
	Entered   Kind = "entered"   // the ledger has an entry of the record or set; no body
)

// Line is one line of the journal. Kind and ID together are there once.
type Line struct {
	Seq  int64 // rises; set by Append
	Kind Kind
	ID   [sha256.Size]byte // of a record's file or of a lock's manifest
	Body []byte
}

// Append writes a line, durable when it returns. One that is there already changes nothing. With an epoch other than 0 it
// writes only while the lease has this epoch, and else returns ErrLost.
func (s *Store) Append(ctx context.Context, epoch int64, l Line) error {
	if l.Body == nil {
		l.Body = []byte{}
	}
	return s.write(ctx, epoch, func(tx *sql.Tx) error {
		var last int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM journal`).Scan(&last); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `INSERT INTO journal (seq, kind, id, body) VALUES ($1, $2, $3, $4) ON CONFLICT (kind, id) DO NOTHING`,
			last+1, string(l.Kind), l.ID[:], l.Body)
		if err != nil || l.Kind != Published && l.Kind != Proven {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM journal WHERE kind = $1 AND id <> $2`, string(l.Kind), l.ID[:])
		return err
	})
}

// Forget takes a received record out of the journal, while the lease has the epoch. What else the journal says of it stays.
func (s *Store) Forget(ctx context.Context, epoch int64, id [sha256.Size]byte) error {
	return s.write(ctx, epoch, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM journal WHERE kind = $1 AND id = $2`, string(Received), id[:])
		return err
	})
}

// Read calls do with every line after a sequence number, oldest first, until do returns an error.
func (s *Store) Read(ctx context.Context, after int64, do func(Line) error) error {
	rows, err := s.db.QueryContext(ctx, `SELECT seq, kind, id, body FROM journal WHERE seq > $1 ORDER BY seq`, after)
	if err != nil {
		return fmt.Errorf("reading the authority's database: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Line
		var kind string
		var id []byte
		if err := rows.Scan(&l.Seq, &kind, &id, &l.Body); err != nil {
			return fmt.Errorf("reading the authority's database: %w", err)
		}
		if len(id) != sha256.Size {
			return fmt.Errorf("the authority's database is damaged: line %d has an id of %d bytes; restore it from a backup", l.Seq, len(id))
		}
		l.Kind, l.ID = Kind(kind), [sha256.Size]byte(id)
		if err := do(l); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the authority's database: %w", err)
	}
	return nil
}

// Once reports whether this is the first use of an id. It is remembered until a time after which it could not be used anyway.
// The epoch is as for Append: of two authorities that both believe to hold the lease, one is told that it does not.
func (s *Store) Once(ctx context.Context, epoch int64, id [sha256.Size]byte, until time.Time) (first bool, err error) {
	err = s.write(ctx, epoch, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM used WHERE until < `+s.now); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `INSERT INTO used (id, until) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id[:], until.UnixMilli())
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		first = n == 1
		return err
	})
	return first && err == nil, err
}

// write runs a transaction that holds the lease's row, so that writers come one after the other and an old holder none at all.
func (s *Store) write(ctx context.Context, epoch int64, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("writing to the authority's database: %w", err)
	}
	defer tx.Rollback()
	var now int64
	if err := tx.QueryRowContext(ctx, `UPDATE lease SET one = 1 WHERE one = 1 RETURNING epoch`).Scan(&now); err != nil {
		return fmt.Errorf("writing to the authority's database: %w", err)
	}
	if epoch != 0 && epoch != now {
		return ErrLost
	}
	if err := do(tx); err != nil {
		return fmt.Errorf("writing to the authority's database: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("writing to the authority's database: %w", err)
	}
	return nil
}
