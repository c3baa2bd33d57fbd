package entry

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Receipt is a log's signed promise that an entry is durable: the value of the Reeve-Receipt header.
// Its bytes are described in docs/formats/receipt.md.
type Receipt struct {
	Log    string // log id
	Seq    int64
	Leaf   [32]byte // RFC 6962 leaf hash
	TimeNS int64    // when the commit group was written, Unix nanoseconds
	Index  int      // within the commit group
	Count  int      // entries in the commit group
	Path   [][32]byte
	Sig    [ed25519.SignatureSize]byte
}

// Domains keep these hashes and signatures apart from every other use of SHA-256 and of the log's key. A signed note
// (golang.org/x/mod/sumdb/note) cannot hold the zero byte that ends each of them.
const (
	domainPromise = "reeve-receipt-v1\x00"
	domainLeaf    = "reeve-receipt-leaf-v1\x00"
	domainNode    = "reeve-receipt-node-v1\x00"
)

// maxGroup is the largest commit group that a receipt can speak of.
const maxGroup = 1<<16 - 1

// ErrReceipt is wrapped by every error about a receipt.
var ErrReceipt = errors.New("receipt does not hold")

// LogID is the short name of a log: the first 16 hex digits of the SHA-256 of its note verifier key.
func LogID(verifierKey string) string {
	sum := sha256.Sum256([]byte(verifierKey))
	return hex.EncodeToString(sum[:8])
}

// Successor splits the origin of a log of the form reeve/<estate>/<process>[/<n>] into the origin of the ledger's first log and its number
// in the chain of logs; 0 is the first log itself.
func Successor(origin string) (first string, n int) {
	i := strings.LastIndexByte(origin, '/')
	if strings.Count(origin, "/") < 3 {
		return origin, 0
	}
	n, err := strconv.Atoi(origin[i+1:])
	if err != nil || n < 1 || strconv.Itoa(n) != origin[i+1:] {
		return origin, 0
	}
	return origin[:i], n
}

// Group is the Merkle tree over the (seq, leaf hash) pairs of one commit group, with one signature for all of them.
type Group struct {
	log    string
	first  int64
	timeNS int64
	levels [][][32]byte // from the leaves up to the root
	Sig    [ed25519.SignatureSize]byte
}

// NewGroup builds the tree of 1 to 65535 leaves whose sequence numbers begin with first. The caller signs Message and sets Sig.
func NewGroup(log string, first, timeNS int64, leaves [][32]byte) *Group {
	level := make([][32]byte, len(leaves))
	for i, leaf := range leaves {
		level[i] = promiseLeaf(first+int64(i), leaf)
	}
	g := &Group{log: log, first: first, timeNS: timeNS, levels: [][][32]byte{level}}
	for len(level) > 1 {
		up := make([][32]byte, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			up = append(up, promiseNode(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		level = up
		g.levels = append(g.levels, level)
	}
	return g
}

// Message is what the log signs with its Ed25519 key.
func (g *Group) Message() []byte {
	return promise(g.log, g.timeNS, len(g.levels[0]), g.levels[len(g.levels)-1][0])
}

// Receipt returns the receipt of one sequence number of the group.
func (g *Group) Receipt(seq int64, leaf [32]byte) *Receipt {
	r := &Receipt{Log: g.log, Seq: seq, Leaf: leaf, TimeNS: g.timeNS, Index: int(seq - g.first), Count: len(g.levels[0]), Sig: g.Sig}
	i := r.Index
	for _, level := range g.levels[:len(g.levels)-1] {
		if sibling := i ^ 1; sibling < len(level) {
			r.Path = append(r.Path, level[sibling])
		}
		i /= 2
	}
	return r
}

// Verify checks the signature with the log's public key. It says nothing about whether the entry is in the published log.
func (r *Receipt) Verify(key ed25519.PublicKey) error {
	if r.Count < 1 || r.Count > maxGroup || r.Index < 0 || r.Index >= r.Count || len(r.Path) != pathLen(r.Index, r.Count) {
		return fmt.Errorf("%w: malformed path", ErrReceipt)
	}
	h, path := promiseLeaf(r.Seq, r.Leaf), r.Path
	for i, n := r.Index, r.Count; n > 1; i, n = i/2, (n+1)/2 {
		switch {
		case i%2 == 1:
			h, path = promiseNode(path[0], h), path[1:]
		case i+1 < n:
			h, path = promiseNode(h, path[0]), path[1:]
		}
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, promise(r.Log, r.TimeNS, r.Count, h), r.Sig[:]) {
		return fmt.Errorf("%w: the signature is not this log's", ErrReceipt)
	}
	return nil
}

// String is the receipt as sent in the Reeve-Receipt header.
func (r *Receipt) String() string {
	blob := binary.BigEndian.AppendUint64(make([]byte, 0, 12+32*len(r.Path)+len(r.Sig)), uint64(r.TimeNS))
	blob = binary.BigEndian.AppendUint16(blob, uint16(r.Index))
	blob = binary.BigEndian.AppendUint16(blob, uint16(r.Count))
	for _, h := range r.Path {
		blob = append(blob, h[:]...)
	}
	blob = append(blob, r.Sig[:]...)
	s := append(make([]byte, 0, 96+len(blob)*4/3), "v1."...)
	s = append(append(s, r.Log...), '.')
	s = append(strconv.AppendInt(s, r.Seq, 10), '.')
	s = append(base64.RawURLEncoding.AppendEncode(s, r.Leaf[:]), '.')
	return string(base64.RawURLEncoding.AppendEncode(s, blob))
}

// ParseReceipt reads the header's value. It accepts only the spelling that String writes; it does not verify.
func ParseReceipt(s string) (*Receipt, error) {
	part := strings.Split(s, ".")
	if len(part) != 5 || part[0] != "v1" {
		return nil, fmt.Errorf("%w: it does not have the form v1.LOG.SEQ.LEAF.SIGNATURE", ErrReceipt)
	}
	seq, err1 := strconv.ParseInt(part[2], 10, 64)
	leaf, err2 := base64.RawURLEncoding.Strict().DecodeString(part[3])
	blob, err3 := base64.RawURLEncoding.Strict().DecodeString(part[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if !isHex(part[1], 8) || seq < 0 || seq > maxInt || len(leaf) != 32 || len(blob) < 12+ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: malformed log id, sequence number, leaf hash or signature", ErrReceipt)
	}
	r := &Receipt{
		Log: part[1], Seq: seq, Leaf: [32]byte(leaf),
		TimeNS: int64(binary.BigEndian.Uint64(blob)),
		Index:  int(binary.BigEndian.Uint16(blob[8:])),
		Count:  int(binary.BigEndian.Uint16(blob[10:])),
	}
	path := blob[12 : len(blob)-ed25519.SignatureSize]
	if r.Index >= r.Count || r.TimeNS < 0 || len(path) != 32*pathLen(r.Index, r.Count) {
		return nil, fmt.Errorf("%w: malformed path", ErrReceipt)
	}
	for ; len(path) > 0; path = path[32:] {
		r.Path = append(r.Path, [32]byte(path))
	}
	r.Sig = [ed25519.SignatureSize]byte(blob[len(blob)-ed25519.SignatureSize:])
	if r.String() != s {
		return nil, fmt.Errorf("%w: not in canonical form", ErrReceipt)
	}
	return r, nil
}

// pathLen counts the siblings between leaf i of n and the root. A node without a sibling moves up unchanged.
func pathLen(i, n int) (length int) {
	for ; n > 1; i, n = i/2, (n+1)/2 {
		if i%2 == 1 || i+1 < n {
			length++
		}
	}
	return length
}

func promise(log string, timeNS int64, count int, root [32]byte) []byte {
	m := append(make([]byte, 0, 96), domainPromise...)
	m = append(m, log...)
	m = binary.BigEndian.AppendUint64(m, uint64(timeNS))
	m = binary.BigEndian.AppendUint16(m, uint16(count))
	return append(m, root[:]...)
}

func promiseLeaf(seq int64, leaf [32]byte) [32]byte {
	var b [len(domainLeaf) + 8 + 32]byte
	copy(b[:], domainLeaf)
	binary.BigEndian.PutUint64(b[len(domainLeaf):], uint64(seq))
	copy(b[len(domainLeaf)+8:], leaf[:])
	return sha256.Sum256(b[:])
}

func promiseNode(left, right [32]byte) [32]byte {
	var b [len(domainNode) + 64]byte
	copy(b[:], domainNode)
	copy(b[len(domainNode):], left[:])
	copy(b[len(domainNode)+32:], right[:])
	return sha256.Sum256(b[:])
}
