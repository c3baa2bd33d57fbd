package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Witness cosigns checkpoints (C2SP tlog-witness).
type Witness interface {
	// Cosign asks for a cosignature on checkpoint, a signed note. proof shows that it extends the tree of oldSize entries,
	// the last size that this witness is known to have. It returns the signature lines ("— name base64\n") after it has
	// verified them. A witness that knows another size answers with a *ConflictError.
	Cosign(ctx context.Context, oldSize int64, checkpoint []byte, proof []tlog.Hash) ([]byte, error)
}

// ConflictError is a witness's answer that the last size it has seen is not the one it was told (HTTP status 409).
type ConflictError struct{ Size int64 }

func (e *ConflictError) Error() string { return fmt.Sprintf("the witness has seen %d entries", e.Size) }

// cosignTimeout bounds one round of witnesses.
const cosignTimeout = 10 * time.Second

// publisher turns durable records into tiles and checkpoints. It reads them back from the write-ahead log, which is the
// truth, and after an error or a restart begins anew at the oldest segment: writing a tile twice changes nothing.
type publisher struct {
	mu     sync.Mutex // guards what follows
	v      *volume    // nil: begin anew
	number int64      // segment being read
	file   file
	off    int64
	firsts []int64 // first entry of each segment from v.oldest on
	chain  [32]byte
	tree   tree
	buf    []byte
	bundle []byte // entries of the unfinished bundle
	whole  bool   // bundle holds all of them

	signed checkpoint
	known  []int64 // by witness: the size that it has cosigned
	seen   []bool  // by witness: it has answered since the start

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
	err := p.tiles(l)
	if err == nil {
		err = p.sign(l)
	}
	if err == nil {
		err = p.cosign(ctx, l)
	}
	if err == nil {
		err = p.prune(l)
	}
	if err != nil && !errors.Is(err, ErrRolledBack) {
		p.v = nil
	}
	return err
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
	if err == nil && len(p.firsts) > 0 && (state.Tree.Size != p.tree.Size || [32]byte(state.Chain) != p.chain) {
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
		p.tree, p.chain = state.Tree.clone(), [32]byte(state.Chain)
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

// settle publishes a checkpoint that has what it needs.
func (p *publisher) settle(l *Log, raw []byte) error {
	if err := writeFile(filepath.Join(p.v.tiles, cosignedFile), raw, 0o640, l.cfg.Group, true); err != nil {
		return err
	}
	p.cosigned.Store(p.signed.N)
	l.age.drop(p.signed.N)
	p.say("")
	return nil
}

func (p *publisher) say(reason string) { p.reason.Store(&reason) }

// cosign asks every witness at once and counts distinct keys.
func (p *publisher) cosign(ctx context.Context, l *Log) error {
	n := len(l.cfg.Witnesses)
	if p.known == nil {
		p.known, p.seen = make([]int64, n), make([]bool, n)
	}
	if p.cosigned.Load() == p.signed.N && !slices.Contains(p.seen, false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cosignTimeout)
	defer cancel()
	lines, errs := make([][]byte, n), make([]error, n)
	var wg sync.WaitGroup
	for i, w := range l.cfg.Witnesses {
		wg.Go(func() { lines[i], errs[i] = p.ask(ctx, w, &p.known[i]) })
	}
	wg.Wait()
	raw, keys := p.signed.raw[:len(p.signed.raw):len(p.signed.raw)], map[string]bool{}
	for i := range lines {
		if errors.Is(errs[i], ErrRolledBack) {
			return errs[i]
		}
		if errs[i] == nil {
			p.seen[i] = true
		}
		for line := range strings.Lines(string(lines[i])) {
			if key := signatureKey(line); key != "" && !keys[key] {
				keys[key] = true
				raw = append(raw, line...)
			}
		}
	}
	if len(keys) < l.cfg.Need {
		p.say(fmt.Sprintf("%d of %d cosignatures: %v", len(keys), l.cfg.Need, errors.Join(errs...)))
		return nil
	}
	return p.settle(l, raw)
}

// ask gets one witness's cosignature. known is the size that it has; a conflict corrects it once.
func (p *publisher) ask(ctx context.Context, w Witness, known *int64) ([]byte, error) {
	for try := 0; ; try++ {
		proof, err := p.prove(*known)
		if err != nil {
			return nil, err
		}
		lines, err := w.Cosign(ctx, *known, p.signed.raw, proof)
		var conflict *ConflictError
		if err == nil {
			*known = p.signed.N
			return lines, nil
		}
		if !errors.As(err, &conflict) || try > 0 {
			return nil, err
		}
		if conflict.Size > p.signed.N {
			return nil, fmt.Errorf("%w: %s has %d entries on this disk, but a witness has seen %d; an older copy was restored, or the disk lost what it had promised to keep. "+
				"Nothing is appended, because that would make a second history. Bring the newer files back, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor",
				ErrRolledBack, p.v.origin, p.signed.N, conflict.Size)
		}
		*known = conflict.Size
	}
}

// prove makes the consistency proof from old to the signed checkpoint, from the published tiles.
func (p *publisher) prove(old int64) ([]tlog.Hash, error) {
	if old == 0 || old == p.signed.N {
		return nil, nil
	}
	return tlog.ProveTree(p.signed.N, old, tlog.TileHashReader(p.signed.Tree, tileFiles(p.v.tiles)))
}

// signatureKey is the name and key hash of a note signature line, or "".
func signatureKey(line string) string {
	n, err := note.Open([]byte("x\n\n"+line), note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n = unverified.Note
	} else if err != nil {
		return ""
	}
	if len(n.UnverifiedSigs) != 1 {
		return ""
	}
	return fmt.Sprintf("%s+%08x", n.UnverifiedSigs[0].Name, n.UnverifiedSigs[0].Hash)
}

// tileFiles reads published tiles.
type tileFiles string

func (tileFiles) Height() int                     { return 8 }
func (tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (d tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		b, err := os.ReadFile(filepath.Join(string(d), tilePath(t.L, t.N, t.W)))
		if os.IsNotExist(err) { // the tile has become full since
			b, err = os.ReadFile(filepath.Join(string(d), tilePath(t.L, t.N, tileWidth)))
		}
		if err != nil {
			return nil, err
		}
		if len(b) < t.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %s is too short", t.Path())
		}
		all = append(all, b[:t.W*tlog.HashSize])
	}
	return all, nil
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
