package ledger

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// Requests are files in Config.Dir: only who may write there can make one. Package offline makes them.
const (
	RotateRequest = "rotate"      // empty: a running ledger rotates
	RetireRequest = "retire.json" // a signed statement.Retirement: the next Open closes the log that it names
	EraseRequest  = "erase"       // a tenant's id, or it and a subject's after a zero byte: a running ledger, or the next Open, destroys the key of those payloads
)

// rotateTimeout bounds how long appends wait for the final checkpoint's cosignatures.
const rotateTimeout = 2 * time.Second

// rotated is the reason in a successor's first entry when nothing was wrong with the log before it.
const rotated = "rotated"

// Rotate ends the current log with a signed and cosigned checkpoint and begins its successor, whose first entry names it.
// Appends wait meanwhile. Where the final checkpoint cannot be cosigned, nothing changes and an error says why.
func (l *Log) Rotate() error {
	reply := make(chan error, 1)
	select {
	case l.rotate <- reply:
		return <-reply
	case <-l.ctx.Done():
		return l.Err()
	}
}

// due reports whether the log should be rotated now: not while the witnesses are away, because appends wait for them then.
func (l *Log) due() bool {
	if l.pub.cosigned.Load() != l.pub.published.Load() {
		return false
	}
	if _, err := os.Stat(filepath.Join(l.cfg.Dir, RotateRequest)); err == nil {
		return true
	}
	size := l.size.Load()
	if size >= l.cfg.MaxSize {
		return true
	}
	now, first := l.cfg.Clock().UTC(), time.Unix(0, l.began.Load()).UTC()
	return l.cfg.Monthly && size > 1 && (now.Year() != first.Year() || now.Month() != first.Month())
}

// erase obeys a request to destroy the key of a tenant or of a subject, and writes down that it did.
func (l *Log) erase() error {
	path := filepath.Join(l.cfg.Dir, EraseRequest)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	tenant, subject, _ := strings.Cut(string(b), "\x00")
	if err := l.keys.destroy(tenant, subject); err != nil {
		return err
	}
	// The request stays until the entry is durable.
	if _, err := l.AppendClosing(&entry.Entry{Type: entry.Erasure, Tenant: tenant, Reason: Erased(tenant, subject)}); err != nil {
		return err
	}
	return os.Remove(path)
}

// Erased is the reason in the entry of an erasure. Whom the payloads were about is not said in the clear.
func Erased(tenant, subject string) string {
	if subject == "" {
		return "key of the payloads destroyed"
	}
	name := KeyName(tenant, subject)
	return "key " + hex.EncodeToString(name[:]) + " of the payloads about a subject destroyed"
}

// turn rotates the log; the writer calls it between two groups.
func (l *Log) turn() error {
	old := l.vol
	size := l.size.Load()
	if size == 0 {
		return errors.New("not rotated: the log is empty")
	}
	key, err := l.cfg.Key.reread()
	if err != nil {
		return fmt.Errorf("not rotated: %w", err)
	}
	if next := key.of(old.n + 1); l.cfg.Enrolled != nil && !l.cfg.Enrolled(next) {
		return fmt.Errorf("not rotated: the charter has no live log key %s for the successor; have the root quorum add it", next.Verifier())
	}
	ctx, cancel := context.WithTimeout(context.Background(), rotateTimeout)
	defer cancel()
	if err := l.publish(ctx); err != nil {
		return fmt.Errorf("not rotated: %w", err)
	}
	if cosigned := l.pub.cosigned.Load(); size != cosigned {
		return fmt.Errorf("not rotated: %d of %d entries are cosigned; the witnesses must be reachable", cosigned, size)
	}
	if err := l.pub.syncAll(); err != nil {
		return fmt.Errorf("not rotated: %w", err)
	}
	l.cfg.Key = key
	if err := l.succeed(old.n, old.origin, tlog.Tree{N: size, Hash: old.Tree.root()}, rotated); err != nil {
		l.halt(fmt.Errorf("rotating: %w", err))
		return err
	}
	// The old log's entries are all published, synced and cosigned.
	if err := errors.Join(old.close(), os.RemoveAll(filepath.Join(l.cfg.dir(old.n), "wal"))); err != nil {
		l.cfg.Logger.Warn("the closed log's write-ahead log stays", "err", err)
	}
	os.Remove(filepath.Join(l.cfg.Dir, RotateRequest))
	l.cfg.Logger.Info("ledger rotated", "from", old.origin, "size", size, "to", l.vol.origin)
	return l.publish(ctx)
}

// succeed begins the volume after n with a leaf that names n's origin and the tree that is vouched for.
func (l *Log) succeed(n int, origin string, prev tlog.Tree, reason string) error {
	l.pub.mu.Lock() // nothing is published of the successor before its first entry is durable
	defer l.pub.mu.Unlock()
	l.age.reset()
	if err := l.openVolume(n + 1); err != nil || l.vol.Tree.Size > 0 {
		return err
	}
	g := &group{items: []item{{closing: true, e: &entry.Entry{
		Type: entry.Retire, Reason: reason, PrevLog: origin, PrevSize: prev.N, PrevRoot: base64.StdEncoding.EncodeToString(prev.Hash[:]),
	}}}}
	l.prepare()
	return errors.Join(l.commit(g), g.items[0].err)
}

// retire handles a request to close the log of volume n. It reports whether a successor was begun.
func (l *Log) retire(n int) (bool, error) {
	path := filepath.Join(l.cfg.Dir, RetireRequest)
	envelope, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if l.cfg.Retire == nil {
		return false, fmt.Errorf("%s asks to retire the ledger, but this process cannot verify it", path)
	}
	r, err := l.cfg.Retire(envelope)
	if err != nil {
		return false, fmt.Errorf("%s does not hold, so the ledger is not retired; remove it or have it signed by two owners of different roles: %w", path, err)
	}
	root, err := tlog.ParseHash(r.Root)
	if err != nil {
		return false, fmt.Errorf("%s: root: %w", path, err)
	}
	begun := false
	for m := n; m >= max(n-1, 0); m-- { // n may be the successor that a crash interrupted
		v, err := publicVolume(l.cfg.Key.of(m).Verifier(), m, nil)
		if err != nil {
			return false, err
		}
		if v.id != r.Log {
			continue
		}
		if err := l.succeed(m, v.origin, tlog.Tree{N: r.Size, Hash: root}, r.Reason); err != nil {
			return false, err
		}
		begun = true
		l.cfg.Logger.Warn("ledger retired", "from", v.origin, "size", r.Size, "reason", r.Reason, "to", l.vol.origin)
		break
	}
	if !begun {
		return false, fmt.Errorf("%s names log %s, which is not the current one", path, r.Log)
	}
	// Kept as evidence. Not renamed: a confined process may not move files from one directory to another.
	if err := durable.Replace(filepath.Join(l.cfg.dir(l.vol.n), RetireRequest), envelope, 0o600); err != nil {
		return false, err
	}
	return true, os.Remove(path)
}

// RetiredBy is a Config.Retire that believes what two owners of the estate signed.
func RetiredBy(set *statement.Set) func(envelope []byte) (*statement.Retirement, error) {
	return func(envelope []byte) (*statement.Retirement, error) {
		env, err := statement.ParseEnvelope(envelope)
		if err != nil {
			return nil, err
		}
		return set.OpenRetirement(env, time.Now())
	}
}
