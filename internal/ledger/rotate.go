package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// rotateRequest is a file in Config.Dir with which the directory's owner asks a running ledger to rotate.
const rotateRequest = "rotate"

// rotateTimeout bounds how long appends wait for the final checkpoint's cosignatures.
const rotateTimeout = 5 * time.Second

// Rotate ends the current log with a signed and cosigned checkpoint and begins its successor, whose first entry names it.
// Appends wait meanwhile. Where the final checkpoint cannot be cosigned, nothing changes and an error says why.
func (l *Log) Rotate() error {
	reply := make(chan error, 1)
	select {
	case l.rotate <- reply:
		return <-reply
	case <-l.stop:
		return l.Err()
	}
}

// RequestRotation asks the process that has the ledger in dir open to rotate it within its next publications.
func RequestRotation(dir string) error {
	return writeFile(filepath.Join(dir, rotateRequest), nil, 0o600, 0, false)
}

// due reports whether the log should be rotated now.
func (l *Log) due() bool {
	if _, err := os.Stat(filepath.Join(l.cfg.Dir, rotateRequest)); err == nil {
		return true
	}
	size := l.size.Load()
	if size >= l.cfg.MaxSize {
		return true
	}
	now, first := l.cfg.Clock().UTC(), time.Unix(0, l.volume().began.Load()).UTC()
	return l.cfg.Monthly && size > 1 && (now.Year() != first.Year() || now.Month() != first.Month())
}

// turn rotates the log; the writer calls it between two groups.
func (l *Log) turn() error {
	old := l.vol
	if l.size.Load() == 0 {
		return errors.New("not rotated: the log is empty")
	}
	ctx, cancel := context.WithTimeout(context.Background(), rotateTimeout)
	defer cancel()
	if err := l.publish(ctx); err != nil {
		return fmt.Errorf("not rotated: %w", err)
	}
	if size, cosigned := l.size.Load(), l.pub.cosigned.Load(); size != cosigned {
		return fmt.Errorf("not rotated: %d of %d entries are cosigned; the witnesses must be reachable", cosigned, size)
	}
	if err := l.pub.syncAll(); err != nil {
		return fmt.Errorf("not rotated: %w", err)
	}
	last := tlog.Tree{N: old.tree.Size, Hash: old.tree.root()}
	if err := l.succeed(old, last, "rotated", nil); err != nil {
		l.halt(fmt.Errorf("rotating: %w", err))
		return err
	}
	// The old log's entries are all published, synced and cosigned.
	if err := os.RemoveAll(filepath.Join(l.cfg.dir(old.n), "wal")); err != nil {
		l.cfg.Logger.Warn("the closed log's write-ahead log stays", "err", err)
	}
	os.Remove(filepath.Join(l.cfg.Dir, rotateRequest))
	l.cfg.Logger.Info("ledger rotated", "from", old.origin, "size", last.N, "to", l.vol.origin)
	return nil
}

// succeed begins the volume after old with a leaf that names old's origin and prev.
func (l *Log) succeed(old *volume, prev tlog.Tree, reason string, actors []string) error {
	l.pub.mu.Lock()
	old.stopPreparing()
	if old.file != nil {
		old.file.Close()
	}
	l.age.reset()
	l.pub.v, l.pub.known, l.pub.seen = nil, nil, nil
	err := l.openVolume(old.n + 1)
	l.pub.mu.Unlock()
	if err != nil {
		return err
	}
	l.prepare()
	e := &entry.Entry{
		Type: entry.Retire, Reason: reason, Actor: actors,
		PrevLog: old.origin, PrevSize: prev.N, PrevRoot: base64.StdEncoding.EncodeToString(prev.Hash[:]),
	}
	g := &group{items: []item{{e: e, closing: true}}, done: make(chan struct{})}
	if err := errors.Join(l.commit(g), g.items[0].err); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), rotateTimeout)
	defer cancel()
	return l.publish(ctx)
}
