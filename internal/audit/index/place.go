package index

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/database"
)

// Place is where an index is: in PostgreSQL when Server has a connection, in a SQLite file otherwise.
type Place struct {
	File   string
	Server database.Server
}

// Name is the place as people know it.
func (p Place) Name() string {
	if p.Server.Connection != "" {
		return p.Server.Name()
	}
	return p.File
}

// Keep opens the index to add to it, and makes it when it is not there.
func (p Place) Keep(ctx context.Context) (*Index, error) {
	if p.Server.Connection != "" {
		return OpenServer(ctx, p.Server)
	}
	return OpenFile(ctx, p.File)
}

// Read opens the index to read it.
func (p Place) Read(ctx context.Context) (*Index, error) {
	if p.Server.Connection != "" {
		return ReadServer(ctx, p.Server)
	}
	return ReadFile(ctx, p.File)
}

// Usable opens the index as it is now together with what the copies have more, which is read from them. Where no index is kept, or one that is
// not of these copies, a passing one is made.
func (p Place) Usable(ctx context.Context, all []*logs.Log) (*Current, error) {
	x, err := p.Read(ctx)
	if err == nil {
		c, err := x.current(ctx, all)
		if err == nil || !errors.Is(err, ErrAhead) {
			return c, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrRelease) {
		return nil, err
	}
	x, gone, err := passing(ctx, "")
	if err != nil {
		return nil, err
	}
	if err = x.Extend(ctx, all, nil); err != nil {
		return nil, errors.Join(err, x.Close(), gone())
	}
	if err := gone(); err != nil { // open files stay readable, and nothing is left behind
		return nil, errors.Join(err, x.Close())
	}
	return x.current(ctx, all)
}

// passing makes an index in a folder that gone takes away.
func passing(ctx context.Context, in string) (x *Index, gone func() error, err error) {
	dir, err := os.MkdirTemp(in, ".reeve-index-")
	if err != nil {
		return nil, nil, err
	}
	gone = func() error { return os.RemoveAll(dir) }
	if x, err = OpenFile(ctx, dir+"/index.db"); err == nil {
		_, err = x.db.ExecContext(ctx, `PRAGMA synchronous = OFF`)
	}
	if err != nil {
		return nil, nil, errors.Join(err, gone())
	}
	return x, gone, nil
}
