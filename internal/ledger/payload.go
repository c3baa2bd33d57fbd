package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
)

// A payload is outside the tree, so that it can be erased: the leaf has only a salted commitment. It is sealed with the keys of its tenant and of
// whom it is about, together, and written in the record of its entry, so that one sync makes both durable; publication moves it to the payload
// files. Whoever destroys one of the keys has erased all that it sealed, copies and backups too: keys are in no backup.

const saltLen = 16

// commitTo gives the item its payload, and the entry the SHA-256 of a salt and the payload.
func (l *Log) commitTo(it *item, payload []byte) error {
	plain := make([]byte, saltLen, saltLen+len(payload))
	rand.Read(plain)
	plain = append(plain, payload...)
	return l.seal(it, plain, sha256.Sum256(plain))
}

// seal gives the entry a commitment and the item what opens it, sealed: how many keys, 16 bytes that name each, then AES-256-GCM
// with the commitment as additional data.
func (l *Log) seal(it *item, plain []byte, commit [sha256.Size]byte) error {
	if len(plain) > maxPayload-4096 {
		return fmt.Errorf("payload of %d bytes is longer than a mebibyte", len(plain))
	}
	names := keyNames(it.e)
	key, err := l.keys.of(names)
	if err != nil {
		return fmt.Errorf("no key for the payload: %w", err)
	}
	it.e.Commit = hex.EncodeToString(commit[:])
	it.payload = key.Seal(append(make([]byte, 0, 1+len(names)+len(plain)+key.Overhead()), append([]byte{byte(len(names) / nameLen)}, names...)...), nil, plain, commit[:])
	return nil
}

const (
	nameLen     = 16 // of a key's name
	maxSubjects = 32 // that a payload has keys of
)

// KeyName names the key of a tenant's payloads or, with a subject, of those about it. Ids are not file names.
func KeyName(tenant, subject string) (name [nameLen]byte) {
	if subject != "" {
		tenant += "\x00" + subject
	}
	sum := sha256.Sum256([]byte(tenant))
	copy(name[:], sum[:])
	return name
}

// keyNames are the names of the keys that an entry's payload is sealed with: its tenant's, its workload's, and those of who acts for that.
func keyNames(e *entry.Entry) []byte {
	name := KeyName(e.Tenant, "")
	names := name[:]
	if e.Workload == "" {
		return names
	}
	subjects := []string{e.Workload}
	for _, a := range e.Actor {
		if who, ok := strings.CutPrefix(a, "act:"); ok && who != "" && !slices.Contains(subjects, who) && len(subjects) < maxSubjects {
			subjects = append(subjects, who)
		}
	}
	for _, s := range subjects {
		name := KeyName(e.Tenant, s)
		names = append(names, name[:]...)
	}
	return names
}

// domainHeartbeat keeps the tenant map's hashes apart from others.
const domainHeartbeat = "reeve-heartbeat-v1\x00"

// heartbeat commits to the map from tenant to its last sequence number: the commitment is the SHA-256 of the domain and the
// sorted leaves; a leaf is the SHA-256 of domain, 16 bytes of salt, 8 of the sequence number and the tenant's id. The
// payload is JSON of what opens it, so that one tenant can be shown all leaves and only its own salt.
func heartbeat(tenants map[string]int64) (payload []byte, commit [sha256.Size]byte) {
	type opening struct {
		Salt []byte `json:"salt"`
		Last int64  `json:"last"`
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	open := make(map[string]opening, len(tenants))
	leaves := make([][]byte, 0, len(tenants))
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(tenant))
		o := opening{Salt: m.Sum(nil)[:saltLen], Last: tenants[tenant] - 1}
		open[tenant] = o
		b := append([]byte(domainHeartbeat), o.Salt...)
		b = binary.BigEndian.AppendUint64(b, uint64(o.Last))
		sum := sha256.Sum256(append(b, tenant...))
		leaves = append(leaves, sum[:])
	}
	slices.SortFunc(leaves, slices.Compare[[]byte])
	sum := sha256.Sum256(append([]byte(domainHeartbeat), slices.Concat(leaves...)...))
	payload, _ = json.Marshal(open) // strings, bytes and integers always marshal
	return payload, sum
}
