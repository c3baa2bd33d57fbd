package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// The write-ahead log is a row of segment files of one size, written once with zeros and then with a header and records.
// docs/formats/ledger.md describes the bytes.
const (
	segmentMagic  = "reeve-wal-v1\n\x00\x00\x00"
	headerPrefix  = 24 // magic, length, checksum
	recordPrefix  = 56 // length, checksum, sequence number, durable size, chain
	domainRecord  = "reeve-wal-record-v1\x00"
	segmentPrefix = "wal-"
	maxSegment    = 1 << 30
	reserveName   = "reserve" // a zeroed segment kept for closing entries on a full disk
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is where a log stands after some entry. It opens every segment, so that recovery and publication need no earlier one.
type state struct {
	Origin  string           `json:"origin"`
	Number  int64            `json:"number"` // of the segment, from 1
	Chain   tlog.Hash        `json:"chain"`
	Tenants map[string]int64 `json:"tenants"` // next sequence number
	Tree    tree             `json:"tree"`
	Began   int64            `json:"began"`             // when the log's first entry was written, Unix nanoseconds; 0 before that
	Reserve bool             `json:"reserve,omitempty"` // for closing entries only
}

// take moves the state past the next entry.
func (s *state) take(e *entry.Entry, leaf, chain tlog.Hash) {
	if s.Tree.Size == 0 {
		s.Began = e.TimeNS
	}
	s.Tree.add(leaf, nil)
	s.Chain = chain
	if e.Tenant != "" {
		s.Tenants[e.Tenant]++
	}
}

func segmentName(n int64) string { return fmt.Sprintf(segmentPrefix+"%08d", n) }

func segmentNumber(name string) (int64, bool) {
	s, ok := strings.CutPrefix(name, segmentPrefix)
	n, err := strconv.ParseInt(s, 10, 64)
	return n, ok && err == nil && n > 0 && segmentName(n) == name
}

// padded rounds up to the 8 bytes to which headers and records are aligned.
func padded(n int) int { return (n + 7) &^ 7 }

func appendHeader(buf []byte, s *state) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	start := len(buf)
	buf = append(buf, segmentMagic...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(body)))
	buf = append(buf, 0, 0, 0, 0)
	buf = append(buf, body...)
	buf = append(buf, make([]byte, padded(len(body))-len(body))...)
	binary.BigEndian.PutUint32(buf[start+20:], crc32.Checksum(buf[start:], castagnoli))
	return buf, nil
}

// checksumOf is the CRC-32C of b with the four bytes at off taken as zero.
func checksumOf(b []byte, off int) uint32 {
	c := crc32.Update(0, castagnoli, b[:off])
	c = crc32.Update(c, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(c, castagnoli, b[off+4:])
}

// parseHeader reads a segment's state and says where its records begin.
func parseHeader(b []byte) (*state, int, error) {
	if len(b) < headerPrefix || string(b[:16]) != segmentMagic {
		return nil, 0, errors.New("no segment header")
	}
	n := int(binary.BigEndian.Uint32(b[16:]))
	if n < 0 || n > len(b)-headerPrefix || headerPrefix+padded(n) > len(b) {
		return nil, 0, errors.New("segment header is longer than the segment")
	}
	end := headerPrefix + padded(n)
	if checksumOf(b[:end], 20) != binary.BigEndian.Uint32(b[20:]) {
		return nil, 0, errors.New("segment header is damaged")
	}
	s := state{Tenants: map[string]int64{}}
	d := json.NewDecoder(bytes.NewReader(b[headerPrefix : headerPrefix+n]))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, 0, fmt.Errorf("segment header: %w", err)
	}
	if !s.Tree.valid() || s.Number < 1 || s.Tenants == nil {
		return nil, 0, errors.New("segment header is inconsistent")
	}
	return &s, end, nil
}

// record is one entry in the write-ahead log.
type record struct {
	seq   int64
	acked int64 // entries that were durable when this one was written
	chain tlog.Hash
	body  []byte // the entry's JSON
}

func recordLen(body int) int { return padded(recordPrefix + body) }

func appendRecord(buf []byte, r *record) []byte {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(r.body)))
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.seq))
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.acked))
	buf = append(buf, r.chain[:]...)
	buf = append(buf, r.body...)
	for len(buf)-start < recordLen(len(r.body)) {
		buf = append(buf, 0)
	}
	binary.BigEndian.PutUint32(buf[start+4:], crc32.Checksum(buf[start:], castagnoli))
	return buf
}

// parseRecord reads the record at the start of b. It knows nothing of the chain: see nextChain.
func parseRecord(b []byte) (r record, n int, ok bool) {
	if len(b) < recordPrefix {
		return r, 0, false
	}
	size := int(binary.BigEndian.Uint32(b))
	r.seq, r.acked = int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))
	if size < 1 || size > maxBody || r.seq < 0 || r.acked < 0 || r.acked > r.seq {
		return r, 0, false
	}
	n = recordLen(size)
	if n > len(b) || checksumOf(b[:n], 4) != binary.BigEndian.Uint32(b[4:]) {
		return r, 0, false
	}
	copy(r.chain[:], b[24:])
	r.body = b[recordPrefix : recordPrefix+size]
	return r, n, true
}

// nextChain binds an entry to all before it.
func nextChain(prev tlog.Hash, seq int64, leaf tlog.Hash) tlog.Hash {
	var b [len(domainRecord) + 2*sha256.Size + 8]byte
	n := copy(b[:], domainRecord)
	n += copy(b[n:], prev[:])
	binary.BigEndian.PutUint64(b[n:], uint64(seq))
	copy(b[n+8:], leaf[:])
	return sha256.Sum256(b[:])
}

// firstChain is the chain before a log's first entry.
func firstChain(origin string) tlog.Hash {
	return sha256.Sum256([]byte(domainRecord + origin))
}

// readSegment returns a segment's bytes, in buf if it has room.
func readSegment(f file, buf []byte) ([]byte, error) {
	size, err := f.Size()
	if err != nil || size > maxSegment {
		return nil, fmt.Errorf("WAL segment of %d bytes: %w", size, err)
	}
	return readFull(f, buf, size)
}

// readHeader reads no more of a segment than its header.
func readHeader(f file) (*state, int, error) {
	b, err := readFull(f, nil, headerPrefix)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	if b, err = readFull(f, nil, min(size, headerPrefix+int64(padded(int(binary.BigEndian.Uint32(b[16:])))))); err != nil {
		return nil, 0, err
	}
	return parseHeader(b)
}

func readFull(f file, buf []byte, size int64) ([]byte, error) {
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	n, err := f.ReadAt(buf[:size], 0)
	if err == io.EOF && int64(n) == size {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading WAL segment: %w", err)
	}
	return buf[:size], nil
}

// allZero reports whether nothing was ever written to b.
func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// acknowledged looks in what follows the last good record for proof that entry seq had become durable: a later record
// says how many entries were durable when it was written. Without such a record the bytes are a torn write.
func acknowledged(b []byte, seq int64) bool {
	for ; len(b) >= recordPrefix; b = b[8:] {
		if r, _, ok := parseRecord(b); ok && r.acked > seq {
			return true
		}
	}
	return false
}

// IsCheckpoint reports whether a path below a ledger's state or published tree names a checkpoint.
func IsCheckpoint(path string) bool {
	base := filepath.Base(path)
	return base == cosignedFile || base == signedFile
}

// IsTransient reports whether a path below a ledger's state or published tree means nothing to a copy of it: locks,
// requests, files that are being written.
func IsTransient(path string) bool {
	base := filepath.Base(path)
	return path == lockFile || path == rotateRequest || strings.HasSuffix(base, newSuffix) || strings.HasPrefix(base, tmpPrefix)
}

// Cut zeroes what follows the last whole record in b, the bytes of a write-ahead log segment that was read while it was
// written. It leaves other files alone.
func Cut(path string, b []byte) {
	if _, ok := segmentNumber(filepath.Base(path)); !ok {
		return
	}
	_, off, err := parseHeader(b)
	for n, ok := 0, err == nil; ok; off += n {
		_, n, ok = parseRecord(b[off:])
	}
	clear(b[off:])
}
