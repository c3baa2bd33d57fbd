package auditor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/verify"
)

// Kinds of alarm. Each is a way in which a log is not what it was or what it says.
const (
	kindFork      = "fork"      // another history than the one verified before
	kindRollback  = "rollback"  // fewer entries than before
	kindTile      = "tile"      // the tiles do not have the signed root
	kindLeaf      = "leaf"      // an entry is not the one in the tree
	kindGap       = "gap"       // a number is missing or doubled, or an entry is malformed or of another log
	kindLink      = "link"      // a successor does not continue the log before it
	kindKey       = "key"       // a checkpoint that no key of the log signed
	kindMissing   = "missing"   // a tile or bundle is not there
	kindTruncated = "truncated" // an entry bundle ends early
	kindOwn       = "own"       // the auditor's own copy cannot be read or written
)

// problem is what is wrong with a log. It becomes an alarm.
type problem struct {
	kind string
	err  error
	raw  []byte // the signed checkpoint that shows it
}

func (p *problem) Error() string { return p.kind + ": " + p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func wrong(kind, format string, args ...any) *problem {
	return &problem{kind: kind, err: fmt.Errorf(format, args...)}
}

// tail is one log as far as it has been verified: every leaf below its size was fetched, checked and stored.
type tail struct {
	process string
	log     verify.Log
	id      string
	from    folder // published; not trusted
	own     folder
	before  *tail // the log that this one succeeds, or nil

	mu sync.Mutex // guards what follows, and the files in own
	state
	published int64 // newest signed size that was seen
}

// state is what survives a restart: state.json in the log's folder.
type state struct {
	Origin     string           `json:"origin"`
	Tree       tlog.Tree        `json:"tree"`     // verified and stored
	Signed     string           `json:"signed"`   // the signed checkpoint of Tree
	Cosigned   tlog.Tree        `json:"cosigned"` // at most Tree
	CosignedAt time.Time        `json:"cosigned_at"`
	Tenants    map[string]int64 `json:"tenants"`    // next number of each
	LastEntry  time.Time        `json:"last_entry"` // when the newest entry was made, as it says
}

// openTail reads what was verified before. A copy that does not have its root is refused: without it a rollback could not
// be told from a new log.
func openTail(process string, log verify.Log, from, own folder, before *tail) (*tail, error) {
	t := &tail{process: process, log: log, id: entry.LogID(log.Key), from: from, own: own, before: before}
	t.Origin, t.Tenants = log.Origin, map[string]int64{}
	t.Tree.Hash, _ = tlog.TreeHash(0, nil) // the empty tree's needs no reader
	t.Cosigned = t.Tree
	b, err := os.ReadFile(filepath.Join(string(own), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return t, os.MkdirAll(string(own), 0o700)
	}
	if err == nil {
		err = json.Unmarshal(b, &t.state)
	}
	if err == nil && t.Origin != log.Origin {
		err = fmt.Errorf("it is of %s", t.Origin)
	}
	if err == nil {
		_, err = t.root(t.Tree.N) // the reader checks every tile against the root
	}
	if err != nil {
		return nil, fmt.Errorf("the auditor's own copy of %s in %s cannot be believed: %w. Nothing of this log is cosigned; restore the folder from a backup, never delete it while the log goes on", log.Origin, own, err)
	}
	return t, nil
}

// root is the root of the first n verified leaves.
func (t *tail) root(n int64) (tlog.Hash, error) {
	return tlog.TreeHash(n, tlog.TileHashReader(t.Tree, t.own))
}

// advance verifies the checkpoint against everything below it and stores what is new. The state is in memory only until
// save. It returns a *problem when anything is not as it must be; then the state is as before.
func (t *tail) advance(c *verify.Checkpoint) error {
	t.published = max(t.published, c.N)
	if c.N <= t.Tree.N {
		root, err := t.root(c.N)
		if err != nil {
			return wrong(kindOwn, "%w", err)
		}
		if root != c.Hash {
			return &problem{kindFork, fmt.Errorf("the signed root of %d entries is not the one verified before", c.N), c.Raw}
		}
		return nil
	}
	hashes := tlog.TileHashReader(c.Tree, t.from)
	if _, err := tlog.TreeHash(c.N, hashes); err != nil { // the reader checks every tile against the signed root
		return t.unreadable(kindTile, fmt.Errorf("tiles of the signed tree of %d entries: %w", c.N, err), c)
	}
	if t.Tree.N > 0 {
		old, err := tlog.TreeHash(t.Tree.N, hashes)
		if err != nil {
			return t.unreadable(kindTile, fmt.Errorf("tiles of the first %d entries: %w", t.Tree.N, err), c)
		}
		if old != t.Tree.Hash {
			return &problem{kindFork, fmt.Errorf("the signed tree of %d entries does not begin with the %d verified before", c.N, t.Tree.N), c.Raw}
		}
	}
	next := t.state
	next.Tenants = make(map[string]int64, len(t.Tenants))
	for tenant, n := range t.Tenants {
		next.Tenants[tenant] = n
	}
	dirs := map[string]bool{}
	if err := t.fetch(&next, c, hashes, dirs); err != nil {
		return err
	}
	for _, tile := range tlog.NewTiles(8, t.Tree.N, c.N) {
		b, err := tlog.ReadTileData(tile, hashes)
		if err != nil {
			return t.unreadable(kindTile, err, c)
		}
		if err := t.store(path(tile.L, tile.N, tile.W), b, dirs); err != nil {
			return err
		}
	}
	if err := t.own.sync(dirs); err != nil {
		return wrong(kindOwn, "%w", err)
	}
	next.Tree, next.Signed = c.Tree, string(c.Raw)
	t.state = next
	return nil
}

// fetch checks and stores the entries from the state's size up to the checkpoint's. hashes are tied to the signed root.
func (t *tail) fetch(next *state, c *verify.Checkpoint, hashes tlog.HashReader, dirs map[string]bool) error {
	for n := t.Tree.N / width; n*width < c.N; n++ {
		count := int(min(c.N-n*width, width))
		entries, err := t.from.bundle(n, count)
		if err != nil {
			return t.unreadable(kindTruncated, err, c)
		}
		indexes := make([]int64, count)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, n*width+int64(i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return t.unreadable(kindTile, err, c)
		}
		for i, raw := range entries {
			seq := n*width + int64(i)
			if tlog.RecordHash(raw) != leaves[i] {
				return &problem{kindLeaf, fmt.Errorf("entry %d is not the one in the signed tree", seq), c.Raw}
			}
			if seq < t.Tree.N {
				continue // verified before
			}
			if err := t.check(next, raw, seq); err != nil {
				return &problem{err.kind, err.err, c.Raw}
			}
		}
		if err := t.store(path(-1, n, count), join(entries), dirs); err != nil {
			return err
		}
	}
	return nil
}

// check judges one entry by those before it.
func (t *tail) check(next *state, raw []byte, seq int64) *problem {
	e, err := entry.Parse(raw)
	if err != nil {
		return wrong(kindGap, "entry %d is malformed: %w", seq, err)
	}
	if e.Seq != seq || e.Log != t.id {
		return wrong(kindGap, "the entry at %d says that it is number %d of %s", seq, e.Seq, e.Log)
	}
	if e.Tenant != "" {
		if e.TenantSeq != next.Tenants[e.Tenant] {
			return wrong(kindGap, "entry %d is number %d of tenant %s, expected %d", seq, e.TenantSeq, e.Tenant, next.Tenants[e.Tenant])
		}
		next.Tenants[e.Tenant]++
	}
	next.LastEntry = time.Unix(0, e.TimeNS).UTC()
	if seq == 0 && t.before != nil {
		return t.before.precedes(e)
	}
	return nil
}

// precedes checks that the first entry of a successor names this log as it was verified.
func (t *tail) precedes(e *entry.Entry) *problem {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Type != entry.Retire || e.PrevLog != t.Origin {
		return wrong(kindLink, "the successor's first entry is a %s that names %q, expected %q", e.Type, e.PrevLog, t.Origin)
	}
	if e.PrevSize > t.Tree.N {
		return wrong(kindMissing, "the successor says that %s ended with %d entries, of which %d are verified", t.Origin, e.PrevSize, t.Tree.N)
	}
	root, err := t.root(e.PrevSize)
	if err != nil {
		return wrong(kindOwn, "%w", err)
	}
	if base64.StdEncoding.EncodeToString(root[:]) != e.PrevRoot {
		return wrong(kindLink, "the successor names another root of the first %d entries of %s", e.PrevSize, t.Origin)
	}
	return nil
}

// unreadable tells a file that is not there from one that is wrong.
func (t *tail) unreadable(kind string, err error, c *verify.Checkpoint) *problem {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = kindMissing
	case errors.Is(err, errBundle):
		kind = kindTruncated
	}
	return &problem{kind, err, c.Raw}
}

func (t *tail) store(name string, b []byte, dirs map[string]bool) error {
	if err := t.own.write(name, b); err != nil {
		return wrong(kindOwn, "storing %s: %w", name, err)
	}
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		if dirs[dir] = true; dir == "." {
			return nil
		}
	}
}

// save makes the state durable, then lets partial tiles of smaller trees go.
func (t *tail) save(old tlog.Tree) error {
	b, err := json.Marshal(&t.state)
	if err == nil {
		err = durable.Replace(filepath.Join(string(t.own), "state.json"), b, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(string(t.own), signedFile), []byte(t.Signed), 0o600) // for people and verify
	}
	if err != nil {
		return wrong(kindOwn, "%w", err)
	}
	for level := -1; old.N>>(8*max(level, 0)) > 0; level++ {
		hashes, now := old.N>>(8*max(level, 0)), t.Tree.N>>(8*max(level, 0))
		if w := int(hashes % width); w > 0 && now > hashes {
			os.Remove(filepath.Join(string(t.own), path(level, hashes/width, w)))
		}
	}
	return nil
}

// origin is that of the nth log of a process; 0 is the first.
func origin(base string, n int) string {
	if n == 0 {
		return base
	}
	return base + "/" + strconv.Itoa(n)
}
