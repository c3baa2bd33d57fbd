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
// now, and remembers it over restarts.
func (f *Follower) hear(sha256 string) time.Time {
	path := filepath.Join(f.cfg.Dir, "heard-"+sha256)
	if b, err := os.ReadFile(path); err == nil {
		if t, err := time.Parse(time.RFC3339Nano, string(b)); err == nil {
			return t
		}
	}
	now := f.cfg.Clock().UTC()
	if err := durable.Replace(path, now.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
		f.cfg.Log.Error("when a recovery was announced is not on disk: its notice begins again after a restart", "error", err)
	}
	return now
}
