package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// volume is one log of the chain of logs that a ledger is: a new one begins at each rotation. Its origin is the key's
// name, with "/<n>" for the nth successor.
type volume struct {
	n        int
	origin   string
	verifier note.Verifier
	id       string // log id
	key      Key
	disk     disk
	tiles    string // directory

	// The writer owns what follows.
	state       // after the last record that was written
	file  file  // the active segment; nil before the first
	off   int64 // where its next record goes
	room  int64 // its size in bytes
	ahead file  // the next segment, of zeros; nil when it is not there yet

	start state // of the oldest segment, as recovery verified it; the publisher's from then on

	spares    chan spare  // from prepare to the writer
	urgent    atomic.Bool // the writer waits for one, or prepare is to end
	stop      chan struct{}
	starting  sync.Once
	stopping  sync.Once
	preparing sync.WaitGroup
}

// publicVolume is a volume that can be read but not written; verifierKey is its own or that of a log before it.
func publicVolume(verifierKey string, n int, d disk) (*volume, error) {
	part := strings.SplitN(verifierKey, "+", 3)
	if first, from := entry.Successor(part[0]); n > from && len(part) == 3 {
		part[0] = fmt.Sprintf("%s/%d", first, n)
		if raw, err := base64.StdEncoding.DecodeString(part[2]); err == nil && len(raw) > 0 {
			verifierKey, _ = note.NewEd25519VerifierKey(part[0], raw[1:]) // of a wrong length: empty, and refused below
		}
	}
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return nil, err
	}
	v := &volume{n: n, origin: part[0], verifier: verifier, id: entry.LogID(verifierKey), disk: d}
	v.state, v.start = firstState(v.origin), firstState(v.origin)
	v.Number = 0 // of no segment yet
	return v, nil
}

func newVolume(cfg *Config, n int) (*volume, error) {
	key := cfg.Key.of(n)
	if _, from := entry.Successor(key.name); from > n {
		return nil, fmt.Errorf("the key %s is of a later log than number %d: put the key of that one before it into the key file", key.name, n)
	}
	v, err := publicVolume(key.Verifier(), n, cfg.disk(n))
	if err != nil {
		return nil, err
	}
	v.key, v.tiles = key, cfg.Tiles
	if n > 0 {
		v.tiles = filepath.Join(cfg.Tiles, strconv.Itoa(n))
	}
	v.spares, v.stop = make(chan spare), make(chan struct{})
	return v, nil
}

// close lets the files go.
func (v *volume) close() error {
	v.stopPreparing()
	var err error
	for _, f := range []file{v.file, v.ahead} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	v.file, v.ahead = nil, nil
	return err
}

// lastVolume is the highest volume that exists below dir, 0 for a new ledger.
func lastVolume(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
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
	if err := os.MkdirAll(filepath.Join(l.cfg.dir(n), "wal"), 0o700); err != nil {
		return err
	}
	signed, err := v.readCheckpoint(filepath.Join(l.cfg.dir(n), cosignedFile))
	if err != nil {
		return err
	}
	cosigned, err := v.readCheckpoint(filepath.Join(v.tiles, cosignedFile))
	if err != nil {
		return err
	}
	published, err := v.readCheckpoint(filepath.Join(v.tiles, signedFile))
	if err != nil {
		// It is not synced: a crash may have torn it.
		l.cfg.Logger.Warn("publishing again", "err", err)
	}
	for _, c := range []checkpoint{published, cosigned} {
		if c.N > signed.N {
			signed = c
		}
	}
	err = l.recover(v, signed, func(e *entry.Entry) {
		if e.Seq >= cosigned.N {
			l.age.add(e.Seq, e.Seq+1, unixNano(e.TimeNS))
		}
	})
	if err != nil {
		return err
	}
	l.vol = v
	l.current.Store(v)
	l.size.Store(v.Tree.Size)
	l.began.Store(v.Began)
	l.pub.begin(&l.cfg, v, signed, cosigned)
	return nil
}

// checkpoint is a signed statement of a log's size and root.
type checkpoint struct {
	tlog.Tree
	raw []byte // the note, with whatever cosignatures were gathered
}

// readCheckpoint reads and verifies a checkpoint of this volume; a missing file is the zero checkpoint.
func (v *volume) readCheckpoint(path string) (checkpoint, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, err
	}
	n, err := note.Open(raw, note.VerifierList(v.verifier))
	if err != nil {
		return checkpoint{}, v.damaged("checkpoint %s: %v", path, err)
	}
	t, err := ParseCheckpoint(v.origin, n.Text)
	if err != nil {
		return checkpoint{}, v.damaged("checkpoint %s: %v", path, err)
	}
	return checkpoint{t, raw}, nil
}

// ParseCheckpoint reads the text of a checkpoint (C2SP tlog-checkpoint): origin, size, root.
func ParseCheckpoint(origin, text string) (tlog.Tree, error) {
	line := strings.Split(text, "\n")
	if len(line) != 4 {
		return tlog.Tree{}, errors.New("not a checkpoint")
	}
	n, err := strconv.ParseInt(line[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	h, err := tlog.ParseHash(line[2])
	if err != nil {
		return tlog.Tree{}, err
	}
	t := tlog.Tree{N: n, Hash: h}
	if n < 0 || string(checkpointText(origin, t)) != text {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of %s in canonical form", origin)
	}
	return t, nil
}

func checkpointText(origin string, t tlog.Tree) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, t.N, t.Hash)
}
