package ledger

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/reevehq/reeve/entry"
)

// lastVolume is the highest volume that exists, 0 for a new ledger.
func lastVolume(cfg *Config) (int, error) {
	entries, err := os.ReadDir(cfg.Dir)
	last := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() && strconv.Itoa(n) == e.Name() {
			last = max(last, n)
		}
	}
	return last, err
}

// openVolume recovers volume n and makes it the current one.
func (l *Log) openVolume(n int) error {
	v, err := newVolume(&l.cfg, n)
	if err != nil {
		return err
	}
	for _, dir := range []string{"wal", "payload"} {
		if err := os.MkdirAll(filepath.Join(l.cfg.dir(n), dir), 0o700); err != nil {
			return err
		}
	}
	signed, err := v.readCheckpoint(filepath.Join(l.cfg.dir(n), cosignedFile))
	if err != nil {
		return &DamagedError{v.origin, err.Error()}
	}
	published, err := v.readCheckpoint(filepath.Join(v.tiles, signedFile))
	if err != nil {
		// It is not synced: a crash may have torn it.
		l.cfg.Logger.Warn("publishing again", "err", err)
	}
	if published.raw == nil {
		published.N = -1 // to be published again, even if empty
	}
	cosigned, err := v.readCheckpoint(filepath.Join(v.tiles, cosignedFile))
	if err != nil {
		return &DamagedError{v.origin, err.Error()}
	}
	for _, c := range []checkpoint{published, cosigned} {
		if c.N > signed.N {
			signed = c
		}
	}
	err = v.recover(signed, func(e *entry.Entry) {
		if e.Seq >= cosigned.N {
			l.age.add(e.Seq, e.Seq+1, e.TimeNS)
		}
	})
	if err != nil {
		return err
	}
	l.vol = v
	l.current.Store(v)
	l.size.Store(v.tree.Size)
	l.pub.signed = signed
	l.pub.published.Store(published.N)
	l.pub.cosigned.Store(cosigned.N)
	return nil
}
