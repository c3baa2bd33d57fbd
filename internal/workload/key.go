package workload

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"hash/crc32"
	"maps"
	"net/netip"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// A bearer key is "rv_" and 58 characters: the lower-case base32 of 32 random bytes and their CRC-32 (IEEE, big endian), so
// that a mistyped or made-up key is told apart from an unknown one without a look-up.
const (
	prefix    = "rv_"
	randBytes = 32
	length    = len(prefix) + 58
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Encode writes a bearer key from 32 random bytes.
func Encode(random [randBytes]byte) []byte {
	raw := make([]byte, randBytes, randBytes+4)
	copy(raw, random[:])
	sum := crc32.ChecksumIEEE(raw)
	raw = append(raw, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	return encoding.AppendEncode([]byte(prefix), raw)
}

// wellFormed reports whether b is a bearer key with a right checksum.
func wellFormed(b []byte) bool {
	if len(b) != length || string(b[:len(prefix)]) != prefix {
		return false
	}
	var raw [randBytes + 4]byte
	if n, err := encoding.Decode(raw[:], b[len(prefix):]); err != nil || n != len(raw) {
		return false
	}
	sum := crc32.ChecksumIEEE(raw[:randBytes])
	return [4]byte(raw[randBytes:]) == [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// Keys is an immutable snapshot of the workload keys in force, by hash. Safe for concurrent use.
type Keys struct {
	byHash map[[sha256.Size]byte]key
}

type key struct {
	identity  Identity
	notBefore time.Time
}

// NewKeys takes records that statement.Set.OpenWorkloadKey has verified against the same set. Records of workloads that
// the set does not have are left out. So is a key that two workloads claim: hashes are public, and a record may be signed over
// another's. Of two records of one workload's key both hold: the later
// beginning and the earlier end, with the networks of that one. So a record can cut a key's life short and none can draw it out.
func NewKeys(set *statement.Set, records []*statement.WorkloadKey) *Keys {
	k := &Keys{byHash: make(map[[sha256.Size]byte]key, len(records))}
	claimed := map[[sha256.Size]byte]bool{}
	for _, r := range records {
		w, unit, ok := set.Workload(r.Workload)
		raw, err := hex.DecodeString(r.SHA256)
		if !ok || err != nil || len(raw) != sha256.Size {
			continue
		}
		hash := [sha256.Size]byte(raw)
		old, twice := k.byHash[hash]
		claimed[hash] = claimed[hash] || twice && old.identity.Workload != w.ID
		from := r.NotBefore
		if twice {
			if from.Before(old.notBefore) {
				from = old.notBefore
			}
			if !r.NotAfter.Before(old.identity.NotAfter) {
				old.notBefore = from
				k.byHash[hash] = old
				continue
			}
		}
		k.byHash[hash] = key{notBefore: from, identity: Identity{
			Networks: networks(r.Networks), Workload: w.ID, Unit: unit.ID, Tenant: unit.Tenant, Proof: Bearer, Issuer: statement.IssuerReeve, KeyID: r.SHA256[:16], SHA256: r.SHA256, NotAfter: r.NotAfter,
		}}
	}
	maps.DeleteFunc(k.byHash, func(hash [sha256.Size]byte, _ key) bool { return claimed[hash] })
	return k
}

// networks are those of a record, which was checked.
func networks(list []string) (nets []netip.Prefix) {
	if len(list) > 0 {
		nets = []netip.Prefix{} // bound, whatever becomes of the list
	}
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			nets = append(nets, p)
		}
	}
	return nets
}

// Len is the number of keys.
func (k *Keys) Len() int { return len(k.byHash) }

// Verify returns who presents a bearer key, or ErrProof, ErrUnknown or ErrExpired. A key is looked up by its SHA-256, so the
// time taken tells nothing about other keys.
func (k *Keys) Verify(p Proof, now time.Time) (Identity, error) {
	if k == nil || p.Kind != Bearer || !wellFormed(p.Value) {
		return Identity{}, ErrProof
	}
	return k.at(sha256.Sum256(p.Value), now)
}

// named returns whose key has this hex SHA-256, or ErrUnknown or ErrExpired.
func (k *Keys) named(sum string, now time.Time) (Identity, error) {
	raw, err := hex.DecodeString(sum)
	if k == nil || err != nil || len(raw) != sha256.Size {
		return Identity{}, ErrUnknown
	}
	return k.at([sha256.Size]byte(raw), now)
}

func (k *Keys) at(hash [sha256.Size]byte, now time.Time) (Identity, error) {
	e, ok := k.byHash[hash]
	switch {
	case !ok:
		return Identity{}, ErrUnknown
	case now.Before(e.notBefore) || !now.Before(e.identity.NotAfter):
		return Identity{}, ErrExpired
	}
	return e.identity, nil
}
