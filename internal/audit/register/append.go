package register

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// Append signs a record of what is said of a component and adds it to the journal in dir's signed store, after it was verified as every reader will.
// It returns the record's hash and file: anchor the file (internal/evidence, by the component's id). Two who append at once do not get between each
// other: the second is refused with fs.ErrExist.
func Append(dir estate.Dir, h *history.History, said Said, now time.Time, by ...*estate.Signer) (record string, file []byte, err error) {
	j, err := Open(dir.Store(), h, now)
	if err != nil {
		return "", nil, err
	}
	said.Declared, said.Discovered, said.Observed = union(said.Declared), union(said.Discovered), union(said.Observed)
	r := Record{Estate: h.Newest().Charter.Estate, Number: int64(j.Len()) + 1, Recorded: now.UTC().Truncate(time.Second), Said: said}
	if n := len(j.links); n > 0 {
		if r.Prev = j.links[n-1].hash; r.Recorded.Before(j.links[n-1].Recorded) { // this machine's clock is behind
			r.Recorded = j.links[n-1].Recorded
		}
	}
	env, err := estate.Seal(RecordKind, r, by...)
	if err != nil {
		return "", nil, err
	}
	if file, err = statement.Canonical(env); err != nil {
		return "", nil, err
	}
	if err := j.add(file); err != nil {
		return "", nil, err
	}
	if err := j.Verify(h, now); err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir.Signed(), Folder, fileName(r.Number))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", nil, err
	}
	if err := durable.Create(path, file, 0o644); err != nil {
		return "", nil, fmt.Errorf("adding record %d to the register: %w", r.Number, err)
	}
	return j.links[len(j.links)-1].hash, file, nil
}
