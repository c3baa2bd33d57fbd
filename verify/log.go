package verify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// Options say what a published log is held against.
type Options struct {
	Since   []byte // an earlier checkpoint, kept by the one who verifies: shows that the log was only appended to
	Receipt string // a promise that the log must have kept
}

// Report is what a published log, with its successors, was found to be.
type Report struct {
	Logs     []LogReport `json:"logs"`
	Findings []string    `json:"findings,omitempty"` // what does not hold
	Unknown  []string    `json:"unknown,omitempty"`  // what cannot be known from what was given
	Level    Level       `json:"level"`              // proven for every log: Included, or Cosigned (but for the tails)

	// Incomplete names intervals of logs that were retired as damaged: what happened then cannot be known.
	Incomplete []string `json:"incomplete,omitempty"`
}

// LogReport is one log of the chain.
type LogReport struct {
	Origin     string           `json:"origin"`
	ID         string           `json:"id"`
	Size       int64            `json:"size"` // entries in the newest signed checkpoint
	Root       string           `json:"root"`
	Cosigned   int64            `json:"cosigned"` // entries in the newest cosigned checkpoint
	Cosigners  []string         `json:"cosigners,omitempty"`
	CosignedAt string           `json:"cosigned_at,omitempty"`
	Types      map[string]int64 `json:"types"`             // entries by type
	Tenants    map[string]int64 `json:"tenants,omitempty"` // entries by tenant
	Open       int64            `json:"open_intents"`      // intents without an outcome at the end of this log
}

// Holds reports whether everything that could be checked holds at the level asked for.
func (r *Report) Holds(need Level) bool { return len(r.Findings) == 0 && r.Level >= need }

// intentID names an intent across the chain of logs.
type intentID struct {
	log string
	seq int64
}

// audit goes through a chain of logs.
type audit struct {
	trust *Trust
	opts  Options
	rep   *Report
	open  map[intentID]bool // intents without an outcome so far
}

// rotated is the reason in a successor's first entry when nothing was wrong with the log before it.
const rotated = "rotated"

// maxFindings bounds a report: a wholly broken log does not need a million lines.
const maxFindings = 100

func (a *audit) finding(format string, args ...any) {
	if len(a.rep.Findings) < maxFindings {
		a.rep.Findings = append(a.rep.Findings, fmt.Sprintf(format, args...))
	}
}

func (a *audit) unknown(format string, args ...any) {
	if len(a.rep.Unknown) < maxFindings {
		a.rep.Unknown = append(a.rep.Unknown, fmt.Sprintf(format, args...))
	}
}

// Directory verifies a published log and its successors: every byte of every tile, entry bundle and checkpoint, signatures,
// cosignatures, the tree, sequence numbers without gaps in the log and in each tenant, one outcome for each intent, and the
// links from log to log. An error means that the directory could not be read or judged; what does not hold is in the report.
func (t *Trust) Directory(dir fs.FS, opts Options) (*Report, error) {
	a := &audit{trust: t, opts: opts, rep: &Report{Level: Cosigned}, open: map[intentID]bool{}}
	var prev *Checkpoint
	before := published{dir}
	for n := 0; ; n++ {
		d, err := published{dir}.volume(n)
		if n > 0 && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		c, err := a.log(d, n)
		if errors.Is(err, ErrDoesNotHold) {
			a.finding("%s", bare(err))
			a.rep.Level = 0
			return a.rep, nil
		}
		if err != nil {
			return nil, err
		}
		if n > 0 {
			a.link(before, prev, d, c)
		}
		prev, before = c, d
	}
	a.strays(dir, len(a.rep.Logs))
	if len(a.open) > 0 {
		a.unknown("used, outcome unknown: %d intents without an outcome%s", len(a.open), a.examples())
	}
	if err := a.since(dir); err != nil {
		return nil, err
	}
	return a.rep, a.receipt(dir)
}

func (a *audit) examples() string {
	ids := make([]intentID, 0, len(a.open))
	for id := range a.open {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y intentID) int {
		return cmp.Or(strings.Compare(x.log, y.log), cmp.Compare(x.seq, y.seq))
	})
	s := ""
	for i, id := range ids {
		if i == 10 {
			return s + " …"
		}
		s += fmt.Sprintf(" %s/%d", id.log, id.seq)
	}
	return s
}

// log verifies one log of the chain and returns its newest signed checkpoint.
func (a *audit) log(d published, n int) (*Checkpoint, error) {
	// The cosigned checkpoint is read first: a running log may sign a newer one at any time, and that must not look like a rollback.
	k, kerr := d.checkpoint(a.trust, cosignedFile)
	c, err := d.checkpoint(a.trust, signedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, undecided("there is no published log here: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if c.Log.n != n {
		return nil, fails("successor %d holds the log %s", n, c.Log.Origin)
	}
	r := LogReport{Origin: c.Log.Origin, ID: entry.LogID(c.Log.Key), Size: c.N, Root: c.Hash.String(), Types: map[string]int64{}, Tenants: map[string]int64{}}
	// The tree first: every hash that is used below comes from tiles that this ties to the signed root.
	root, err := tlog.TreeHash(c.N, d.hashes(c.Tree))
	if err != nil || root != c.Hash {
		return nil, fails("%s: the tiles do not have the root of the signed checkpoint: %v", c.Log.Origin, err)
	}
	if err := a.cosigned(d, c, k, kerr, &r); err != nil {
		return nil, err
	}
	if err := a.entries(d, c, &r); err != nil {
		return nil, err
	}
	if err := a.tiles(d, c); err != nil {
		return nil, err
	}
	r.Open = int64(len(a.open))
	a.rep.Logs = append(a.rep.Logs, r)
	return c, nil
}

// cosigned judges the cosigned checkpoint k, or the error of reading it: the signed tree must extend it.
func (a *audit) cosigned(d published, c, k *Checkpoint, err error, r *LogReport) error {
	if errors.Is(err, fs.ErrNotExist) {
		a.rep.Level = min(a.rep.Level, Included)
		a.unknown("%s: no checkpoint was cosigned: the log's key alone could have signed another tree too", c.Log.Origin)
		return nil
	}
	if err != nil {
		return err
	}
	if k.Log.Origin != c.Log.Origin {
		return fails("the cosigned checkpoint is of %s, not %s", k.Log.Origin, c.Log.Origin)
	}
	if err := d.extends(c, k); err != nil {
		return err
	}
	r.Cosigned, r.Cosigners = k.N, k.Cosigners
	if level := a.trust.level(k); level < Cosigned {
		a.rep.Level = min(a.rep.Level, level)
		a.unknown("%s: %d of %d cosignatures", c.Log.Origin, len(k.Cosigners), a.trust.need())
		r.Cosigned = 0
		return nil
	}
	r.CosignedAt = k.Time.Format("2006-01-02T15:04:05Z")
	if k.N < c.N {
		a.unknown("%s: the last %d entries, from %d on, are signed but not cosigned yet", c.Log.Origin, c.N-k.N, k.N)
	}
	return nil
}

// entries reads every entry in order.
func (a *audit) entries(d published, c *Checkpoint, r *LogReport) error {
	for n := int64(0); n*tileWidth < c.N; n++ {
		count := int(min(c.N-n*tileWidth, tileWidth))
		raw, err := d.bundle(n, count)
		if err != nil {
			return err
		}
		tile, err := d.tile(0, n, count)
		if err != nil {
			return err
		}
		for i, b := range raw {
			seq := n*tileWidth + int64(i)
			if h := tlog.RecordHash(b); !bytes.Equal(h[:], tile[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
				return fails("%s: entry %d is not the one in the tree", c.Log.Origin, seq)
			}
			e, err := entry.Parse(b)
			if err != nil {
				a.finding("%s: entry %d: %v", c.Log.Origin, seq, err)
				continue
			}
			a.entry(e, seq, r)
		}
	}
	return nil
}

// entry checks what one entry says against those before it.
func (a *audit) entry(e *entry.Entry, seq int64, r *LogReport) {
	if e.Seq != seq || e.Log != r.ID {
		a.finding("%s: the leaf at %d says that it is number %d of %s", r.Origin, seq, e.Seq, e.Log)
	}
	r.Types[string(e.Type)]++
	if e.Tenant != "" {
		if e.TenantSeq != r.Tenants[e.Tenant] {
			a.finding("%s: entry %d is number %d of tenant %s, expected %d", r.Origin, seq, e.TenantSeq, e.Tenant, r.Tenants[e.Tenant])
		}
		r.Tenants[e.Tenant] = e.TenantSeq + 1
	}
	switch e.Type {
	case entry.Intent, entry.Mint, entry.Probe:
		a.open[intentID{r.ID, seq}] = true
	case entry.Outcome:
		id := intentID{e.IntentLog, e.IntentSeq}
		if id.log == "" {
			id.log = r.ID
		}
		if !a.open[id] {
			a.finding("%s: entry %d is an outcome of %s/%d, which is no intent or has one already", r.Origin, seq, id.log, id.seq)
		}
		delete(a.open, id)
	}
}

// tiles checks every file of the tree: each full tile against the tiles below it, each partial one against its successor.
func (a *audit) tiles(d published, c *Checkpoint) error {
	for level := 1; c.N>>(8*level) > 0; level++ {
		hashes := c.N >> (8 * level)
		for i := int64(0); i < hashes; i++ {
			below, err := d.tile(level-1, i, tileWidth)
			if err != nil {
				return err
			}
			own, err := d.tile(level, i/tileWidth, int(min(hashes-i/tileWidth*tileWidth, tileWidth)))
			if err != nil {
				return err
			}
			if h := fold(below); !bytes.Equal(h[:], own[i%tileWidth*tlog.HashSize:][:tlog.HashSize]) {
				return fails("%s: tile %s does not belong to %s", c.Log.Origin, tilePath(level-1, i, tileWidth), tilePath(level, i/tileWidth, tileWidth))
			}
		}
	}
	return fs.WalkDir(d.FS, "tile", func(p string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an empty log, or a partial tile that became full meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		return a.file(d, c, p)
	})
}

// fold is the root over a full tile's hashes.
func fold(b []byte) (h tlog.Hash) {
	if len(b) == tlog.HashSize {
		copy(h[:], b)
		return h
	}
	return tlog.NodeHash(fold(b[:len(b)/2]), fold(b[len(b)/2:]))
}

// file checks one file below tile/ that is not read on the way through the tree.
func (a *audit) file(d published, c *Checkpoint, p string) error {
	if strings.HasPrefix(path.Base(p), ".new-") {
		return nil // being written
	}
	level, n, width, ok := parsePath(p)
	if !ok {
		a.finding("%s: %s is not a file of a log", c.Log.Origin, p)
		return nil
	}
	there := c.N >> (8 * max(level, 0)) // hashes or entries at this level
	if n*tileWidth+int64(width) > there {
		a.unknown("%s: %s is beyond the signed checkpoint of %d entries", c.Log.Origin, p, c.N)
		return nil
	}
	if now := min(there-n*tileWidth, tileWidth); width == tileWidth || int64(width) == now {
		return nil // read already
	}
	old, err := d.read(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if level >= 0 {
		tile, err := d.tile(level, n, int(min(there-n*tileWidth, tileWidth)))
		if err != nil {
			return err
		}
		if !bytes.Equal(old, tile[:width*tlog.HashSize]) {
			return fails("%s: %s is not the beginning of its tile", c.Log.Origin, p)
		}
		return nil
	}
	entries, err := d.bundle(n, int(min(there-n*tileWidth, tileWidth)))
	if err != nil {
		return err
	}
	split, err := splitBundle(old)
	if err != nil || len(split) != width || !slices.EqualFunc(split, entries[:width], bytes.Equal) {
		return fails("%s: %s is not the beginning of its bundle", c.Log.Origin, p)
	}
	return nil
}

// bare is an error's text without the sentinel before it: a finding stands in a list of what does not hold.
func bare(err error) string {
	return strings.ReplaceAll(err.Error(), ErrDoesNotHold.Error()+": ", "")
}

// receipt looks for a promise in the log.
func (a *audit) receipt(dir fs.FS) error {
	if a.opts.Receipt == "" {
		return nil
	}
	if _, err := a.trust.Published(dir, a.opts.Receipt); errors.Is(err, ErrDoesNotHold) {
		a.finding("%s", bare(err))
	} else if err != nil {
		return err
	}
	return nil
}
