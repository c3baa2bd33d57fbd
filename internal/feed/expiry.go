package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// after is how long a workload key is kept when its time is over: longer than clocks differ.
const after = time.Hour

// Over reports whether a record is a workload key whose time is over: then it opens nothing any more, and nobody takes, keeps or publishes it again.
// Nothing is verified: who writes such a time into a record has no use of it.
func Over(env *statement.Envelope, kind string, now time.Time) bool {
	var k statement.WorkloadKey
	return kind == "workload-key" && json.Unmarshal(env.Payload, &k) == nil && !k.NotAfter.IsZero() && now.After(k.NotAfter.Add(after))
}

// expire drops the keys that are over and that the authority does not publish any more, so that what is held has its sum again. Callers hold mu.
func (f *Follower) expire() {
	now, before := f.cfg.Clock(), f.own.Len()
	for id, k := range f.keys {
		if now.After(k.ends.Add(after)) && !f.seen.records.Has(id) {
			f.own.drop(id)
			f.files.drop(k.file)
			delete(f.keys, id)
		}
	}
	if f.own.Len() != before {
		f.write(f.rewrite)
	}
}

// key is what a follower remembers of a workload key.
type key struct {
	file [sha256.Size]byte
	ends time.Time
}

// rewrite leaves the keys that are over out of the own copy.
func (f *Follower) rewrite() error {
	path := filepath.Join(f.cfg.Dir, "records")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	kept := make([]byte, 0, len(b))
	for line := range bytes.Lines(b) {
		frame, err := ParseFrame(line)
		if err != nil {
			continue // torn by a crash
		}
		if env, kind, err := ParseRecord(frame.Record); err != nil || !Over(env, kind, f.cfg.Clock()) {
			kept = append(kept, line...)
		}
	}
	return durable.Replace(path, kept, 0o600)
}
