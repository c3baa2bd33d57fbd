package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Files of a published log beside its tiles.
const (
	cosignedFile = "checkpoint"        // the newest that enough witnesses have cosigned
	signedFile   = "checkpoint.signed" // the newest that the log has signed
)

// publisher turns durable records into tiles and checkpoints. It reads them back from the write-ahead log, which is the
// truth, and after an error or a restart begins anew at the oldest segment: writing a tile twice changes nothing.
type publisher struct {
	mu     sync.Mutex // guards what follows
	v      *volume    // nil: begin anew
	number int64      // segment being read
	file   file
	off    int64
	firsts []int64 // first entry of each segment from v.oldest on
	chain  tlog.Hash
	tree   tree
	buf    []byte
	bundle []byte // entries of the unfinished bundle
	whole  bool   // bundle holds all of them

	signed checkpoint
	known  []int64 // by witness: the size that it has cosigned
	asked  bool    // enough witnesses have answered since the start

	published atomic.Int64
	cosigned  atomic.Int64
	reason    atomic.Pointer[string] // why the last round did not cosign
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-l.stop
		cancel()
	}()
	for {
		select {
		case <-l.stop:
			return
		case <-beat:
			l.beat()
		case <-tick.C:
			if err := l.publish(ctx); errors.Is(err, ErrRolledBack) {
				l.halt(err)
			} else if err != nil {
				l.cfg.Logger.Error("ledger not published; entries stay durable and are published when this is mended", "err", err)
			}
			l.checkSpace()
			if l.due() {
				if err := l.Rotate(); err != nil {
					l.cfg.Logger.Error("ledger", "err", err)
				}
			}
		}
	}
}

// publish writes tiles for every durable entry, signs a checkpoint and has it cosigned. A witness that is away is no error.
func (l *Log) publish(ctx context.Context) error {
	p := &l.pub
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.tiles(l); err != nil {
		p.v = nil
		return err
	}
	if err := p.sign(l); err != nil {
		return err
	}
	if err := p.cosign(ctx, l); err != nil {
		return err
	}
	return p.prune(l)
}

// tiles reads new records and writes the tiles and bundles that they belong to.
func (p *publisher) tiles(l *Log) error {
	size := l.size.Load()
	fresh := p.v == nil
	if fresh {
		if err := p.begin(l); err != nil {
			return err
		}
	}
	if p.tree.Size == size && !fresh {
		return nil
	}
	if err := p.read(l, size); err != nil {
		return err
	}
	if n := size % tileWidth; n > 0 && p.whole {
		if err := p.put(l, tilePath(-1, size/tileWidth, int(n)), p.bundle); err != nil {
			return err
		}
	}
	for level, hashes := range p.tree.Levels {
		if len(hashes) == 0 {
			continue
		}
		if err := p.put(l, tilePath(level, size>>(8*(level+1)), len(hashes)), hashBytes(hashes)); err != nil {
			return err
		}
	}
	return nil
}

// begin places the publisher at the start of the oldest segment.
func (p *publisher) begin(l *Log) error {
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
	v := l.volume()
	p.number, p.firsts, p.tree, p.bundle = v.oldest-1, nil, tree{}, p.bundle[:0]
	if err := p.makeDir(l, v.tiles); err != nil {
		return err
	}
	p.v = v
	return nil
}

// read follows the records up to size.
func (p *publisher) read(l *Log, size int64) error {
	var err error
	full := func(level int, n int64, hashes []tlog.Hash) {
		if level == 0 {
			if p.whole {
				err = errors.Join(err, p.finish(l, -1, n, p.bundle))
			}
			p.bundle, p.whole = p.bundle[:0], true
		}
		err = errors.Join(err, p.finish(l, level, n, hashBytes(hashes)))
	}
	if p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	buf := p.buf
	for p.tree.Size < size {
		n := 0
		if p.file != nil {
			var rerr error
			n, rerr = p.file.ReadAt(buf, p.off)
			if rerr != nil && rerr != io.EOF {
				return rerr
			}
		}
		used := 0
		for p.tree.Size < size {
			r, m, ok := parseRecord(buf[used:n])
			if !ok {
				break
			}
			leaf := tlog.RecordHash(r.body)
			if r.seq != p.tree.Size || r.chain != nextChain(p.chain, r.seq, leaf) {
				return fmt.Errorf("%s: the hash chain breaks at entry %d", segmentName(p.number), p.tree.Size)
			}
			p.bundle = binary.BigEndian.AppendUint16(p.bundle, uint16(len(r.body)))
			p.bundle = append(p.bundle, r.body...)
			p.chain = r.chain
			p.tree.add(leaf, full)
			if err != nil {
				return err
			}
			used += m
		}
		p.off += int64(used)
		if used == 0 {
			if err := p.nextSegment(l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *publisher) nextSegment(l *Log) error {
	f, err := p.v.disk.open(segmentName(p.number + 1))
	if err != nil {
		return fmt.Errorf("after entry %d: %w", p.tree.Size-1, err)
	}
	state, off, err := readHeader(f)
	if err == nil && len(p.firsts) > 0 && (state.Tree.Size != p.tree.Size || state.Chain != p.chain) {
		err = fmt.Errorf("does not follow entry %d", p.tree.Size-1)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", segmentName(p.number+1), err)
	}
	if p.file != nil {
		p.file.Close()
	}
	if len(p.firsts) == 0 {
		p.tree, p.chain = state.Tree.clone(), state.Chain
		p.whole = p.tree.Size%tileWidth == 0
	}
	p.number, p.file, p.off = p.number+1, f, int64(off)
	p.firsts = append(p.firsts, state.Tree.Size)
	return nil
}

// finish writes a full tile and lets its partial forerunners go.
func (p *publisher) finish(l *Log, level int, n int64, data []byte) error {
	path := tilePath(level, n, tileWidth)
	if err := p.put(l, path, data); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(p.v.tiles, path+".p"))
}

// put writes one published file. It is not synced: until the segments that it came from are removed it can be written again.
func (p *publisher) put(l *Log, path string, data []byte) error {
	path = filepath.Join(p.v.tiles, path)
	if err := p.makeDir(l, filepath.Dir(path)); err != nil {
		return err
	}
	return writeFile(path, data, 0o640, l.cfg.Group, false)
}

// makeDir makes a directory and its parents readable by the group.
func (p *publisher) makeDir(l *Log, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := p.makeDir(l, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm() != 0o750 { // the umask took the group's bits; a chmod that is not needed would take the set-group bit
		if err := os.Chmod(dir, 0o750); err != nil {
			return err
		}
	}
	if l.cfg.Group > 0 {
		return os.Chown(dir, -1, l.cfg.Group)
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
	if p.signed.raw != nil && p.signed.N == p.tree.Size && p.published.Load() == p.tree.Size {
		return nil
	}
	t := tlog.Tree{N: p.tree.Size, Hash: p.tree.root()}
	raw, err := note.Sign(&note.Note{Text: string(checkpointText(p.v.origin, t))}, p.v.signer)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(l.cfg.dir(p.v.n), cosignedFile), raw, 0o600, 0, true); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(p.v.tiles, signedFile), raw, 0o640, l.cfg.Group, false); err != nil {
		return err
	}
	p.signed = checkpoint{t, raw}
	p.published.Store(t.N)
	return nil
}

// settle publishes a checkpoint that has what it needs. problem is what some witness said nevertheless.
func (p *publisher) settle(l *Log, raw []byte, problem error) error {
	if err := writeFile(filepath.Join(p.v.tiles, cosignedFile), raw, 0o640, l.cfg.Group, true); err != nil {
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

// prune removes segments whose entries are published and cosigned, after their tiles were synced.
func (p *publisher) prune(l *Log) error {
	for len(p.firsts) > keptSegments+1 {
		first, end := p.firsts[0], p.firsts[1]
		// The bundle that the next segment begins in must be full: only this segment has its first entries.
		if (end+tileWidth-1)/tileWidth*tileWidth > p.cosigned.Load() {
			return nil
		}
		if err := p.syncTiles(first, end); err != nil {
			return err
		}
		if err := p.v.disk.remove(segmentName(p.v.oldest)); err != nil {
			return err
		}
		p.v.oldest++
		p.firsts = p.firsts[1:]
	}
	return nil
}

// syncTiles makes the full tiles that entries from first up to end belong to durable, and the directories that name them.
func (p *publisher) syncTiles(first, end int64) error {
	var paths []string
	for n := first / tileWidth; n < (end+tileWidth-1)/tileWidth; n++ {
		paths = append(paths, tilePath(-1, n, tileWidth), tilePath(0, n, tileWidth))
	}
	for level := 1; end>>(8*(level+1)) > 0; level++ {
		for n := first >> (8 * (level + 1)); n < end>>(8*(level+1)); n++ {
			paths = append(paths, tilePath(level, n, tileWidth))
		}
	}
	return p.syncPaths(paths)
}

// syncAll makes everything durable that the write-ahead log still has, so that the write-ahead log can go.
func (p *publisher) syncAll() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.v == nil || len(p.firsts) == 0 {
		return errors.New("nothing is published")
	}
	size := p.tree.Size
	if err := p.syncTiles(p.firsts[0], size/tileWidth*tileWidth); err != nil {
		return err
	}
	var paths []string
	if n := size % tileWidth; n > 0 {
		paths = append(paths, tilePath(-1, size/tileWidth, int(n)))
	}
	for level, hashes := range p.tree.Levels {
		if len(hashes) > 0 {
			paths = append(paths, tilePath(level, size>>(8*(level+1)), len(hashes)))
		}
	}
	return p.syncPaths(paths)
}

func (p *publisher) syncPaths(paths []string) error {
	dirs := map[string]bool{".": true}
	for _, path := range paths {
		if err := syncDir(filepath.Join(p.v.tiles, path)); err != nil {
			return err
		}
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		if err := syncDir(filepath.Join(p.v.tiles, dir)); err != nil {
			return err
		}
	}
	return nil
}
