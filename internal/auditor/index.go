package auditor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/database"
)

// Index says where the index is over everything that was verified: questions are answered from it (`reeve blast` and others). It can be rebuilt
// at any time. Without anything it is a SQLite file, index.db, in the state directory.
type Index struct {
	Off          bool   `yaml:"off,omitempty"`           // none is kept: commands index the copies themselves, each time
	Connection   string `yaml:"connection,omitempty"`    // of PostgreSQL, as a URL or as words, without a password; to another machine with sslmode=verify-full
	PasswordFile string `yaml:"password_file,omitempty"` // mode 0600; else the connection's passfile, certificate or the server's rules
}

// server is the PostgreSQL database, if it is one.
func (i Index) server() database.Server {
	return database.Server{Connection: i.Connection, PasswordFile: i.PasswordFile}
}

func (i Index) check() error {
	switch {
	case i.Off && i.Connection != "", i.Connection == "" && i.PasswordFile != "":
		return errors.New("index is off and has a connection, or has a password_file and no connection")
	case i.Connection != "":
		if err := i.server().Check(); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// place is where the index is.
func (c *Config) place() index.Place {
	return index.Place{File: filepath.Join(c.StateDir, "index.db"), Server: c.Index.server()}
}

// IndexStatus is how far the index is.
type IndexStatus struct {
	Entries int64  `json:"entries"`
	Lag     int64  `json:"lag"`             // entries verified and not indexed
	Error   string `json:"error,omitempty"` // why it does not go on; cosigning does
}

// keeper adds to the index what was verified, beside the cosigning. What goes wrong with it is an alarm and stops nothing else.
type keeper struct {
	a     *Auditor
	place index.Place

	mu    sync.Mutex // guards what follows
	sizes map[string]int64
	why   error
}

const (
	look      = 500 * time.Millisecond // between two looks for what is new
	indexName = "index"                // in place of a log's name in alarms
	kindIndex = "index"                // the index cannot be kept
)

// keep follows until ctx ends.
func (k *keeper) keep(ctx context.Context) {
	var x *index.Index
	defer func() {
		if x != nil {
			x.Close()
		}
	}()
	next := time.NewTicker(look)
	defer next.Stop()
	for {
		var err error
		if x == nil {
			x, err = k.place.Keep(ctx)
		}
		if err == nil {
			err = k.extend(ctx, x)
		}
		if ctx.Err() != nil {
			return
		}
		k.report(err)
		if err != nil && x != nil {
			x.Close()
			x = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
	}
}

// extend indexes what the copies have more.
func (k *keeper) extend(ctx context.Context, x *index.Index) error {
	if k.status().Lag == 0 && k.known() {
		return nil
	}
	all, err := logs.Open(k.a.state, k.a.trusted())
	if err != nil {
		return err
	}
	if err := k.read(ctx, x); err != nil {
		return err
	}
	return x.Extend(ctx, all, func(p index.Progress) {
		if err := k.read(ctx, x); err != nil {
			k.a.log.Warn("how far the index is cannot be read", "error", err)
		}
		if left := p.Total - p.Done; left > 100_000 {
			k.a.log.Info("indexing", "entries", p.Done, "left", left)
		}
	})
}

// read takes note of how far the index is.
func (k *keeper) read(ctx context.Context, x *index.Index) error {
	have, err := x.Logs(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sizes = map[string]int64{}
	for _, l := range have {
		k.sizes[l.ID] = l.Size
	}
	return nil
}

func (k *keeper) known() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sizes != nil && k.why == nil
}

// report raises or ends the alarm.
func (k *keeper) report(err error) {
	k.mu.Lock()
	was := k.why
	k.why = err
	k.mu.Unlock()
	switch {
	case err != nil:
		k.a.alarms.raise(indexName, &problem{kind: kindIndex, err: err})
	case was != nil:
		k.a.alarms.settle(indexName)
	}
}

// status is how far the index is.
func (k *keeper) status() IndexStatus {
	verified := k.a.verified()
	k.mu.Lock()
	defer k.mu.Unlock()
	var s IndexStatus
	for _, n := range k.sizes {
		s.Entries += n
	}
	for id, n := range verified {
		s.Lag += max(n-k.sizes[id], 0)
	}
	if k.why != nil {
		s.Error = k.why.Error()
	}
	return s
}

// verified is how many entries of each log are.
func (a *Auditor) verified() map[string]int64 {
	a.mu.Lock()
	tails := make([]*tail, 0, len(a.tails))
	for _, t := range a.tails {
		tails = append(tails, t)
	}
	a.mu.Unlock()
	sizes := map[string]int64{}
	for _, t := range tails {
		sizes[t.id] = t.status().Size
	}
	return sizes
}
