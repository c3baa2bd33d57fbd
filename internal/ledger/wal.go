package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
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
	recordPrefix  = 60 // entry's length, checksum, sequence number, durable size, chain, payload's length
	maxPayload    = 1 << 20
	domainRecord  = "reeve-wal-record-v1\x00"
	segmentPrefix = "wal-"
	maxSegment    = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is where a log stands after some entry. It opens every segment, so that recovery and publication need no earlier one.
type state struct {
	Origin  string           `json:"origin"`
	Number  int64            `json:"number"` // of the segment, from 1
	Chain   tlog.Hash        `json:"chain"`
	Tenants map[string]int64 `json:"tenants"` // next sequence number
	Tree    tree             `json:"tree"`
	Began   int64            `json:"began"` // when the log's first entry was written, Unix nanoseconds; 0 before that
}

func firstState(origin string) state {
	return state{Origin: origin, Number: 1, Chain: firstChain(origin), Tenants: map[string]int64{}}
}

// clone copies the state; what it says of tenants is shared.
func (s *state) clone() state {
	c := *s
	c.Tree = s.Tree.clone()
	return c
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

// headerSize is the length that the header at the start of b claims to have, or 0 where none can begin.
func headerSize(b []byte) int {
	if len(b) < headerPrefix || string(b[:16]) != segmentMagic {
		return 0
	}
	if n := binary.BigEndian.Uint32(b[16:]); n < maxSegment {
		return headerPrefix + padded(int(n))
	}
	return 0
}

// parseHeader reads a segment's state and says where its records begin.
func parseHeader(b []byte) (*state, int, error) {
	end := headerSize(b)
	if end == 0 || end > len(b) || checksumOf(b[:end], 20) != binary.BigEndian.Uint32(b[20:]) {
		return nil, 0, errors.New("no segment header, or a damaged one")
	}
	n := int(binary.BigEndian.Uint32(b[16:]))
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

// record is one entry in the write-ahead log, with its sealed payload if it has one.
type record struct {
	seq     int64
	acked   int64 // entries that were durable when this one was written
	chain   tlog.Hash
	body    []byte // the entry's JSON
	payload []byte
}

func recordLen(body, payload int) int { return padded(recordPrefix + body + payload) }

func appendRecord(buf []byte, r *record) []byte {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(r.body)))
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.seq))
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.acked))
	buf = append(buf, r.chain[:]...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(r.payload)))
	buf = append(append(buf, r.body...), r.payload...)
	for len(buf)-start < recordLen(len(r.body), len(r.payload)) {
		buf = append(buf, 0)
	}
	binary.BigEndian.PutUint32(buf[start+4:], crc32.Checksum(buf[start:], castagnoli))
	return buf
}

// recordSize is the length that the record at the start of b claims to have, or 0 where none can begin.
func recordSize(b []byte) int {
	if len(b) < recordPrefix {
		return 0
	}
	body, payload := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[56:])
	if body < 1 || body > maxBody || payload > maxPayload {
		return 0
	}
	return recordLen(int(body), int(payload))
}

// parseRecord reads the record at the start of b. It knows nothing of the chain: see nextChain.
func parseRecord(b []byte) (r record, n int, ok bool) {
	if n = recordSize(b); n == 0 || n > len(b) || checksumOf(b[:n], 4) != binary.BigEndian.Uint32(b[4:]) {
		return r, 0, false
	}
	r.seq, r.acked = int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))
	copy(r.chain[:], b[24:])
	end := recordPrefix + int(binary.BigEndian.Uint32(b))
	r.body, r.payload = b[recordPrefix:end], b[end:end+int(binary.BigEndian.Uint32(b[56:]))]
	return r, n, r.seq >= 0 && r.acked >= 0 && r.acked <= r.seq
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

// sector is what a disk writes whole or not at all, in bytes. Segments are zeros before they are written.
const sector = 512

// torn reports whether the first n bytes of b, which a segment has from offset at on, can be what a crash left of a write:
// some sector of them is still all zero. Otherwise every sector was written, and what does not hold now was altered since.
func torn(b []byte, at int64, n int) bool {
	for n = min(n, len(b)); n > 0; {
		piece := min(n, sector-int(at%sector))
		if allZero(b[:piece]) {
			return true
		}
		b, at, n = b[piece:], at+int64(piece), n-piece
	}
	return false
}

// Cut zeroes what follows the last whole record in b, the bytes of a write-ahead log segment that was read while it was
// written. It leaves other files alone.
func Cut(path string, b []byte) {
	if _, ok := segmentNumber(path[strings.LastIndexByte(path, '/')+1:]); !ok {
		return
	}
	_, off, err := parseHeader(b)
	for n, ok := 0, err == nil; ok; off += n {
		_, n, ok = parseRecord(b[off:])
	}
	clear(b[off:])
}
