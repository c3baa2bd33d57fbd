package feed

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// lastLock has the version and the hash of the last lock in force: after a restart neither an older one is taken nor one that
// does not descend from it.
const lastLock = "lock"

// readLast reads what writeLast wrote into a folder; the zero Locked when it wrote nothing.
func readLast(dir string) (last statement.Locked, err error) {
	path := filepath.Join(dir, lastLock)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return last, err
	}
	n, err := fmt.Sscanf(string(b), "%d %64s\n", &last.Version, &last.SHA256)
	if hash, bad := hex.DecodeString(last.SHA256); err != nil || n != 2 || last.Version < 1 || bad != nil || len(hash) != 32 {
		return last, fmt.Errorf("%s does not hold the version and hash of the last lock in force: put it back from a backup, or write those that the owners confirm ('reeve estate log lock'); without it an older estate could be taken", path)
	}
	return last, nil
}

// writeLast keeps the lock of the set in force.
func writeLast(dir string, last statement.Locked) error {
	return durable.Replace(filepath.Join(dir, lastLock), fmt.Appendf(nil, "%d %s\n", last.Version, last.SHA256), 0o600)
}

// hear returns when the follower first heard of a charter that recovery keys announced. One that it has not heard of it hears of
// now, and remembers it over restarts. Callers hold mu.
func (f *Follower) hear(sha256 string) time.Time {
	if t, ok := f.heard[sha256]; ok {
		return t
	}
	path := filepath.Join(f.cfg.Dir, "heard-"+sha256)
	t := f.cfg.Clock().UTC()
	if b, err := os.ReadFile(path); err == nil {
		if before, err := time.Parse(time.RFC3339Nano, string(b)); err == nil {
			f.heard[sha256] = before
			return before
		}
	}
	f.heard[sha256] = t
	f.write(func() error {
		if err := durable.Replace(path, t.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
			return fmt.Errorf("the notice of a recovery begins again after a restart: %w", err)
		}
		return nil
	})
	return t
}
