package ledger

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/durable"
)

// Files of a published log beside its tiles.
const (
	cosignedFile = "checkpoint"        // the newest that enough witnesses have cosigned
	signedFile   = "checkpoint.signed" // the newest that the log has signed
)

// publisher turns durable records into tiles, payload files and checkpoints. It reads them back from the write-ahead log, which is the
// truth, and after an error begins anew at the oldest segment: writing a file twice changes nothing. It believes no segment's
// header: the oldest was verified against the signed checkpoint by recovery, each later one against the records before it.
type publisher struct {
	mu       sync.Mutex // guards what follows
	v        *volume
	tiles    shelf
	payloads shelf
	starts   []state // of the segments from the oldest to the cursor's
	cursor
	bundle, sealed []byte // entries and payloads of the unfinished bundle
	whole          bool   // they are all there: the oldest segment does not begin within the bundle

	signed checkpoint
	known  []int64 // by witness: the size that it has cosigned
	asked  bool    // enough witnesses have answered since the start

	published atomic.Int64 // entries in the newest checkpoint whose tiles this run has written; -1 before the first
	cosigned  atomic.Int64
	disputed  atomic.Int64           // witnesses that have seen more of this log, or another history
	reason    atomic.Pointer[string] // why the last round did not publish or cosign
}

// begin goes to the start of a volume that was recovered.
func (p *publisher) begin(cfg *Config, v *volume, signed, cosigned checkpoint) {
	p.v = v
	p.tiles = shelf{v.tiles, 0o750, 0o640, cfg.Group}
	p.payloads = shelf{filepath.Join(cfg.dir(v.n), "payload"), 0o700, 0o600, 0}
	p.starts, p.signed, p.known, p.asked = []state{v.start}, signed, make([]int64, len(cfg.Witnesses)), false
	p.published.Store(-1)
	p.cosigned.Store(cosigned.N)
	p.rewind()
}

// rewind goes back to the oldest segment.
func (p *publisher) rewind() {
	p.close()
	p.starts = p.starts[:1]
	p.cursor = cursor{disk: p.v.disk, state: p.starts[0].clone(), buf: p.buf}
	p.bundle, p.sealed, p.whole = p.bundle[:0], p.sealed[:0], p.Tree.Size%tileWidth == 0
}

// publishing publishes about once an interval until the log closes.
func (l *Log) publishing() {
	tick := time.NewTicker(l.cfg.Interval)
	defer tick.Stop()
	var beat <-chan time.Time
	if l.cfg.Heartbeat > 0 {
		t := time.NewTicker(l.cfg.Heartbeat)
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-beat:
			l.beat()
		case <-tick.C:
			var damaged *DamagedError
			if err := l.publish(l.ctx); errors.Is(err, ErrRolledBack) || errors.As(err, &damaged) {
				l.halt(err)
			} else if err != nil {
				l.cfg.Logger.Error("ledger not published; entries stay durable and are published when this is mended", "err", err)
			}
			l.checkSpace()
			if err := l.erase(); err != nil {
				l.cfg.Logger.Error("a tenant's payloads are not erased yet", "err", err)
			}
			if l.due() {
				if err := l.Rotate(); err != nil {
					l.cfg.Logger.Error("ledger", "err", err)
				}
			}
		}
	}
}

// Publish publishes what is durable now and has it cosigned, for who cannot wait for the next interval.
func (l *Log) Publish(ctx context.Context) error { return l.publish(ctx) }

// publish writes tiles for every durable entry, signs a checkpoint and has it cosigned. A witness that is away is no error.
func (l *Log) publish(ctx context.Context) (err error) {
	p := &l.pub
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if err != nil {
			p.say(err)
		}
	}()
	if err := p.write(l.size.Load()); err != nil {
		p.rewind()
		return err
	}
	if err := p.sign(l); err != nil {
		return err
	}
	if err := p.cosign(ctx, l); err != nil {
		return err
	}
	return p.prune()
}

// write writes the tiles, bundles and payloads of a log of size entries, as far as they are not there.
func (p *publisher) write(size int64) error {
	if p.published.Load() == size {
		return nil
	}
	for p.Tree.Size < size {
		if err := p.entry(); err != nil {
			return err
		}
	}
	if err := p.putBundle(size/tileWidth, int(size%tileWidth)); err != nil {
		return err
	}
	for level, hashes := range p.Tree.Levels {
		if len(hashes) == 0 {
			continue
		}
		if err := p.tiles.putTile(tilePath(level, size>>(8*(level+1)), len(hashes)), len(hashes), hashBytes(hashes)); err != nil {
			return err
		}
	}
	return nil
}

// entry reads the next durable record and writes the tiles and the bundle that it finishes.
func (p *publisher) entry() error {
	if p.file == nil {
		if ok, err := p.enter(p.Number, false); !ok {
			return cmp.Or(err, p.damaged("%s is gone or cannot be read", segmentName(p.Number)))
		}
	}
	r, leaf, ok, err := p.next()
	if !ok {
		return cmp.Or(err, p.damaged("durable entry %d is not there any more", p.Tree.Size))
	}
	if last := p.starts[len(p.starts)-1]; last.Number != p.Number {
		p.starts = append(p.starts, p.head)
	}
	p.bundle = append(binary.BigEndian.AppendUint16(p.bundle, uint16(len(r.body))), r.body...)
	if len(r.payload) > 0 {
		p.sealed = binary.BigEndian.AppendUint64(p.sealed, uint64(r.seq))
		p.sealed = append(binary.BigEndian.AppendUint32(p.sealed, uint32(len(r.payload))), r.payload...)
	}
	p.Tree.add(leaf, func(level int, n int64, hashes []tlog.Hash) {
		if level == 0 {
			err = errors.Join(err, p.putBundle(n, tileWidth))
			p.bundle, p.sealed, p.whole = p.bundle[:0], p.sealed[:0], true
		}
		err = errors.Join(err, p.tiles.putTile(tilePath(level, n, tileWidth), tileWidth, hashBytes(hashes)))
	})
	if err == nil && p.Tree.Size == p.signed.N && p.Tree.root() != p.signed.Hash {
		err = p.damaged("its first %d entries do not have the signed root any more", p.signed.N)
	}
	return err
}

// putBundle writes the n-th bundle of entries, of which there are width, and their payloads.
func (p *publisher) putBundle(n int64, width int) error {
	if width == 0 || !p.whole {
		return nil
	}
	err := p.tiles.putTile(tilePath(-1, n, width), width, p.bundle)
	if len(p.sealed) > 0 {
		err = errors.Join(err, p.payloads.putTile(PayloadPath(n, width), width, p.sealed))
	}
	return err
}

// PayloadPath is the path of a bundle's payloads below a volume's payload directory.
func PayloadPath(n int64, width int) string {
	return strings.TrimPrefix(tilePath(-1, n, width), "tile/entries/")
}

// shelf is a directory of files that are each written whole: the published log, or the payloads.
type shelf struct {
	root      string
	dir, file os.FileMode
	group     int // numeric; 0 leaves the process's own
}

// put writes a file. Tiles are not synced: until the segments that they came from are removed they can be written again.
func (s shelf) put(path string, data []byte, sync bool) error {
	path = filepath.Join(s.root, path)
	if err := s.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.Put(path, data, s.file, func(f *os.File) error {
		if s.group > 0 {
			if err := f.Chown(-1, s.group); err != nil {
				return err
			}
		}
		if sync {
			return f.Sync()
		}
		return nil
	})
}

// putTile writes a tile of some width, and lets the forerunners of a full one go.
func (s shelf) putTile(path string, width int, data []byte) error {
	if err := s.put(path, data, false); err != nil || width < tileWidth {
		return err
	}
	return os.RemoveAll(filepath.Join(s.root, path+".p"))
}

// makeDir makes a directory and its parents with the shelf's mode and group.
func (s shelf) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := s.makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, s.dir); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm() != s.dir { // the umask took the group's bits; a chmod that is not needed would take the set-group bit
		if err := os.Chmod(dir, s.dir); err != nil {
			return err
		}
	}
	if s.group > 0 {
		return os.Chown(dir, -1, s.group)
	}
	return nil
}

func (s shelf) has(path string) bool {
	_, err := os.Stat(filepath.Join(s.root, path))
	return err == nil
}

// sync makes files durable, and the directories that name them.
func (s shelf) sync(paths []string) error {
	dirs := map[string]bool{".": true}
	for _, path := range paths {
		if err := durable.Sync(filepath.Join(s.root, path)); err != nil {
			return err
		}
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		if err := durable.Sync(filepath.Join(s.root, dir)); err != nil {
			return err
		}
	}
	return nil
}

func hashBytes(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// sign makes a checkpoint of what was published. A durable copy stays with the write-ahead log, to be held against it at the next start.
func (p *publisher) sign(l *Log) error {
	if p.published.Load() == p.Tree.Size {
		return nil
	}
	if p.Tree.Size < p.signed.N {
		return p.damaged("%d entries are published, %d were signed", p.Tree.Size, p.signed.N)
	}
	t := tlog.Tree{N: p.Tree.Size, Hash: p.Tree.root()}
	raw, err := note.Sign(&note.Note{Text: string(checkpointText(p.v.origin, t))}, signer{p.v.verifier, p.v.key})
	if err != nil {
		return err
	}
	if err := durable.Replace(filepath.Join(l.cfg.dir(p.v.n), cosignedFile), raw, 0o600); err != nil {
		return err
	}
	if err := p.tiles.put(signedFile, raw, false); err != nil {
		return err
	}
	p.signed = checkpoint{t, raw}
	p.published.Store(t.N)
	return nil
}

// settle publishes a checkpoint that has what it needs. problem is what some witness said nevertheless.
func (p *publisher) settle(l *Log, raw []byte, problem error) error {
	if err := p.tiles.put(cosignedFile, raw, true); err != nil {
		return err
	}
	p.cosigned.Store(p.signed.N)
	l.age.drop(p.signed.N)
	p.say(problem)
	return nil
}

func (p *publisher) say(problem error) {
	reason := ""
	if problem != nil {
		reason = problem.Error()
	}
	p.reason.Store(&reason)
}

// keptSegments is how many segments before the active one stay after all their entries were published and cosigned.
const keptSegments = 2

// prune removes segments whose entries are published and cosigned, after their files were synced.
func (p *publisher) prune() error {
	for len(p.starts) > keptSegments+1 {
		// The bundle that the next segment begins in must be full: only this segment has its first entries.
		first, end := p.starts[0].Tree.Size, (p.starts[1].Tree.Size+tileWidth-1)/tileWidth*tileWidth
		if end > p.cosigned.Load() {
			return nil
		}
		if err := p.sync(first, end, false); err != nil {
			return err
		}
		if err := p.v.disk.remove(segmentName(p.starts[0].Number)); err != nil {
			return err
		}
		p.starts = p.starts[1:]
	}
	return nil
}

// sync makes the full tiles durable that entries from first up to end belong to; with all, the unfinished ones too.
func (p *publisher) sync(first, end int64, all bool) error {
	var tiles, payloads []string
	for level := -1; end>>(8*max(level, 0)) > 0; level++ {
		there := end >> (8 * max(level, 0))
		for n := first >> (8 * max(level, 0)) / tileWidth; n*tileWidth < there; n++ {
			width := int(min(there-n*tileWidth, tileWidth))
			if width < tileWidth && !all {
				continue
			}
			tiles = append(tiles, tilePath(level, n, width))
			if path := PayloadPath(n, width); level < 0 && p.payloads.has(path) {
				payloads = append(payloads, path)
			}
		}
	}
	if len(payloads) > 0 {
		if err := p.payloads.sync(payloads); err != nil {
			return err
		}
	}
	return p.tiles.sync(tiles)
}

// syncAll makes everything durable that the write-ahead log still has, so that the write-ahead log can go.
func (p *publisher) syncAll() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sync(p.starts[0].Tree.Size, p.Tree.Size, true)
}
