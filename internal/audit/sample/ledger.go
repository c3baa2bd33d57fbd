package sample

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
)

// The time between two heartbeats. Around what is asked about it is what a process keeps; for the rest of the month it is longer, so that the
// ledgers stay small.
const (
	heartbeat = 10 * time.Second
	sparse    = 5 * time.Minute
)

const width = 256 // of a full tile (C2SP tlog-tiles)

// journal is what a process would have appended, in any order. An outcome names its intent.
type journal struct {
	process, origin, id string
	key                 ed25519.PrivateKey
	entries             []*line
}

type line struct {
	entry.Entry
	intent *line
}

func (c *company) journal(process string) *journal {
	return &journal{process: process, origin: "reeve/" + ID + "/" + process, id: entry.LogID(c.vkey("log", process)), key: c.service["log "+process]}
}

// add appends an entry at t, and an outcome of an earlier one when intent is not nil.
func (j *journal) add(t time.Time, e entry.Entry, intent *line) *line {
	e.TimeNS = t.UnixNano()
	l := &line{e, intent}
	j.entries = append(j.entries, l)
	return l
}

// write writes the journal as an auditor's verified copy: tiles, entry bundles, the newest checkpoint, signed by the log and cosigned by the
// witness, and the auditor's own state. Heartbeats fill it from start to end, and densely between two times. It returns the number of entries.
func (j *journal) write(state string, start, end time.Time, dense [2]time.Time, witness note.Signer) (int64, error) {
	sort.SliceStable(j.entries, func(a, b int) bool { return j.entries[a].TimeNS < j.entries[b].TimeNS })
	b := &builder{dir: filepath.Join(state, "logs", j.id)}
	tenants := map[string]int64{}
	next := start.UnixNano()
	put := func(e *entry.Entry) error {
		e.V, e.Seq, e.Log = 1, b.size, j.id
		if e.Tenant != "" {
			e.TenantSeq = tenants[e.Tenant]
			tenants[e.Tenant]++
		}
		if err := e.Validate(); err != nil {
			return fmt.Errorf("%s: %w", j.process, err)
		}
		return b.add(e.AppendJSON(nil))
	}
	beat := func(until int64) error {
		for next < until {
			commit := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(j.id), uint64(next)))
			if err := put(&entry.Entry{TimeNS: next, Type: entry.Heartbeat, Commit: hex.EncodeToString(commit[:])}); err != nil {
				return err
			}
			if t := time.Unix(0, next); t.Before(dense[0]) || t.After(dense[1]) {
				next += int64(sparse)
			} else {
				next += int64(heartbeat)
			}
		}
		return nil
	}
	for _, l := range j.entries {
		if err := beat(l.TimeNS); err != nil {
			return 0, err
		}
		if l.intent != nil {
			l.HasIntent, l.IntentSeq = true, l.intent.Seq
		}
		if err := put(&l.Entry); err != nil {
			return 0, err
		}
	}
	if err := beat(end.UnixNano() + 1); err != nil {
		return 0, err
	}
	root, err := b.finish()
	if err != nil {
		return 0, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", j.origin, b.size, root)
	own, err := note.NewSigner(estate.NoteSigner(j.origin, 1, j.key))
	if err != nil {
		return 0, err
	}
	signed, err := note.Sign(&note.Note{Text: text}, own)
	if err != nil {
		return 0, err
	}
	cosigned, err := note.Sign(&note.Note{Text: text}, own, witness)
	if err != nil {
		return 0, err
	}
	tree := tlog.Tree{N: b.size, Hash: root}
	memory, err := json.Marshal(struct { // as package auditor keeps it
		Origin     string           `json:"origin"`
		Tree       tlog.Tree        `json:"tree"`
		Signed     string           `json:"signed"`
		Cosigned   tlog.Tree        `json:"cosigned"`
		CosignedAt time.Time        `json:"cosigned_at"`
		Tenants    map[string]int64 `json:"tenants"`
		LastEntry  time.Time        `json:"last_entry"`
	}{j.origin, tree, string(signed), tree, end.UTC(), tenants, end.UTC()})
	if err != nil {
		return 0, err
	}
	for name, text := range map[string][]byte{"checkpoint.signed": signed, "checkpoint": cosigned, "state.json": memory} {
		if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
			return 0, err
		}
	}
	return b.size, nil
}

// builder writes the tiles of a log.
type builder struct {
	dir    string
	size   int64
	levels [][]tlog.Hash // of the unfinished tiles
	bundle []byte
	err    error
}

func (b *builder) add(leaf []byte) error {
	b.bundle = append(binary.BigEndian.AppendUint16(b.bundle, uint16(len(leaf))), leaf...)
	h := tlog.RecordHash(leaf)
	b.size++
	if b.size%width == 0 {
		b.write(-1, b.size/width-1, width, b.bundle)
		b.bundle = b.bundle[:0]
	}
	for l := 0; b.err == nil; l++ {
		if l == len(b.levels) {
			b.levels = append(b.levels, nil)
		}
		b.levels[l] = append(b.levels[l], h)
		if len(b.levels[l]) < width {
			break
		}
		b.hashes(l, b.size>>(8*(l+1))-1, b.levels[l])
		h = perfect(b.levels[l])
		b.levels[l] = b.levels[l][:0]
	}
	return b.err
}

// finish writes the partial tiles and returns the root.
func (b *builder) finish() (tlog.Hash, error) {
	if n := b.size % width; n > 0 {
		b.write(-1, b.size/width, int(n), b.bundle)
	}
	for l, hashes := range b.levels {
		if len(hashes) > 0 {
			b.hashes(l, b.size>>(8*(l+1)), hashes)
		}
	}
	if b.err != nil {
		return tlog.Hash{}, b.err
	}
	return tlog.TreeHash(b.size, tlog.TileHashReader(tlog.Tree{N: b.size, Hash: b.root()}, b)) // the reader checks every tile against the root
}

func (b *builder) root() (h tlog.Hash) {
	some := false
	for _, hashes := range b.levels {
		for n, bit := len(hashes), 1; n > 0; bit *= 2 {
			if n&bit == 0 {
				continue
			}
			sub := perfect(hashes[n-bit : n])
			if some {
				sub = tlog.NodeHash(sub, h)
			}
			h, some = sub, true
			n -= bit
		}
	}
	return h
}

func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	return tlog.NodeHash(perfect(hashes[:len(hashes)/2]), perfect(hashes[len(hashes)/2:]))
}

func (b *builder) hashes(level int, n int64, hashes []tlog.Hash) {
	var raw []byte
	for _, h := range hashes {
		raw = append(raw, h[:]...)
	}
	b.write(level, n, len(hashes), raw)
}

func (b *builder) write(level int, n int64, w int, raw []byte) {
	file := filepath.Join(b.dir, filepath.FromSlash(tilePath(level, n, w)))
	if b.err == nil {
		b.err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if b.err == nil {
		b.err = os.WriteFile(file, raw, 0o600)
	}
}

func tilePath(level int, n int64, w int) string {
	p := strings.Replace(tlog.Tile{H: 8, L: level, N: n, W: w}.Path(), "tile/8/", "tile/", 1)
	return strings.Replace(p, "tile/data/", "tile/entries/", 1)
}

// Height, SaveTiles and ReadTiles implement tlog.TileReader.
func (*builder) Height() int                     { return 8 }
func (*builder) SaveTiles([]tlog.Tile, [][]byte) {}
func (b *builder) ReadTiles(tiles []tlog.Tile) (all [][]byte, err error) {
	for _, t := range tiles {
		raw, err := os.ReadFile(filepath.Join(b.dir, filepath.FromSlash(tilePath(t.L, t.N, t.W))))
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// cosigner signs as a witness does (C2SP tlog-cosignature, cosignature/v1).
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
	at   time.Time
}

func (c *company) witness(at time.Time) (note.Signer, error) {
	part := strings.SplitN(c.vkey("witness", "w1"), "+", 3)
	var hash uint32
	if _, err := fmt.Sscanf(part[1], "%08x", &hash); err != nil {
		return nil, err
	}
	return &cosigner{part[0], hash, c.service["witness w1"], at}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Sign(text []byte) ([]byte, error) {
	now := uint64(c.at.Unix())
	sig := ed25519.Sign(c.key, append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", now), text...))
	return append(binary.BigEndian.AppendUint64(nil, now), sig...), nil
}

// fingerprint is a custodian's of a secret: keyed per custodian.
func fingerprint(custodian, credential, lease string) string {
	sum := sha256.Sum256([]byte("sample " + custodian + "\x00" + credential + "\x00" + lease))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
