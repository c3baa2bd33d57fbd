package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Life is how long a lease of a shared store lasts when it is not renewed. Who renews four times as often and who else
// asks as often hands over within half of 2 s, the smallest bound that a charter may set for news.
const Life = time.Second

// Lease is the right to publish, to issue and to sign heartbeats, which one authority has at a time.
type Lease struct {
	Holder string // unique to the process's run
	Epoch  int64  // rises with every holder; followers refuse an older one
	until  time.Time
}

// Live reports whether the lease still lasts at now, which must have a monotonic reading. It ends for its holder before it does
// for the database, whatever the two clocks say.
func (l Lease) Live(now time.Time) bool {
	return l.Epoch > 0 && (l.until.IsZero() || now.Before(l.until))
}

// Acquire takes the lease with the next epoch, or returns ErrHeld, wrapped with who has it. A store that is not shared has one
// authority at a time by other means (its ledger's lock): there the lease is always free and does not end.
func (s *Store) Acquire(ctx context.Context, holder string, now time.Time) (Lease, error) {
	free := `TRUE`
	if s.shared {
		free = `until < ` + s.now
	}
	l := Lease{Holder: holder, until: now.Add(Life * 9 / 10)}
	err := s.db.QueryRowContext(ctx, `UPDATE lease SET holder = $1, epoch = epoch + 1, until = `+s.now+` + $2
		WHERE one = 1 AND `+free+` RETURNING epoch`, holder, Life.Milliseconds()).Scan(&l.Epoch)
	if errors.Is(err, sql.ErrNoRows) {
		var other string
		if err := s.db.QueryRowContext(ctx, `SELECT holder FROM lease WHERE one = 1`).Scan(&other); err != nil {
			return Lease{}, fmt.Errorf("reading the lease: %w", err)
		}
		return Lease{}, fmt.Errorf("%w: %s", ErrHeld, other)
	}
	if err != nil {
		return Lease{}, fmt.Errorf("taking the lease: %w", err)
	}
	if !s.shared {
		l.until = time.Time{}
	}
	return l, nil
}

// Renew makes the lease last from now, or returns ErrLost when somebody else has taken it.
func (s *Store) Renew(ctx context.Context, l Lease, now time.Time) (Lease, error) {
	if !s.shared {
		return l, nil
	}
	done, err := s.db.ExecContext(ctx, `UPDATE lease SET until = `+s.now+` + $1 WHERE one = 1 AND holder = $2 AND epoch = $3`,
		Life.Milliseconds(), l.Holder, l.Epoch)
	if err != nil {
		return l, fmt.Errorf("renewing the lease: %w", err)
	}
	if n, err := done.RowsAffected(); err != nil || n != 1 {
		return l, errors.Join(ErrLost, err)
	}
	l.until = now.Add(Life * 9 / 10)
	return l, nil
}

// Release lets another authority take the lease at once. Only its holder's next Renew would tell otherwise.
func (s *Store) Release(ctx context.Context, l Lease) error {
	_, err := s.db.ExecContext(ctx, `UPDATE lease SET until = 0 WHERE one = 1 AND holder = $1 AND epoch = $2`, l.Holder, l.Epoch)
	if err != nil {
		return fmt.Errorf("letting the lease go: %w", err)
	}
	return nil
}
