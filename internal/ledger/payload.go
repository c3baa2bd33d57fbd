package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Payloads live beside the tree, one file per tenant, so that a tenant's can be erased: the leaf holds only a salted hash.
// They are written after the entry is durable and not synced: a payload that a crash took is unknown, the tree is whole.

// payloadName is the file of a tenant's payloads. Tenant ids are not file names.
func payloadName(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:16])
}

// keepPayload copies an accepted entry's payload; savePayloads writes it. A record is length, seq, salt, payload.
func (l *Log) keepPayload(it *item) {
	if it.payload == nil {
		return
	}
	b := binary.BigEndian.AppendUint32(l.side[it.e.Tenant], uint32(len(it.payload)))
	b = binary.BigEndian.AppendUint64(b, uint64(it.seq))
	b = append(b, it.salt[:]...)
	l.side[it.e.Tenant] = append(b, it.payload...)
	l.sideBytes += len(it.payload)
}

// payloadBatch is how many bytes of payloads are written together, if the log is not idle before that.
const payloadBatch = 64 << 10

// payloadsDue fires when payloads that wait should be written. Without any it never does.
func (l *Log) payloadsDue() <-chan time.Time {
	if l.sideBytes == 0 {
		return nil
	}
	return time.After(linger)
}

func (l *Log) savePayloads() {
	l.sideBytes = 0
	for tenant, b := range l.side {
		if err := l.savePayload(tenant, b); err != nil {
			l.cfg.Logger.Warn("payloads not kept; their decisions cannot be replayed", "tenant", tenant, "err", err)
		}
		delete(l.side, tenant)
	}
}

func (l *Log) savePayload(tenant string, b []byte) error {
	dir := filepath.Join(l.cfg.dir(l.vol.n), "payload")
	f, err := os.OpenFile(filepath.Join(dir, payloadName(tenant)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(b)
	return err
}

// domainHeartbeat keeps the tenant map's hashes apart from others.
const domainHeartbeat = "reeve-heartbeat-v1\x00"

// heartbeat commits to the map from tenant to its last sequence number: Commit is the hex SHA-256 of the domain and the
// sorted leaves; a leaf is the SHA-256 of domain, 16 bytes of salt, 8 of the sequence number and the tenant's id. The
// payload is JSON of what opens it, so that one tenant can be shown all leaves and only its own salt.
func heartbeat(tenants map[string]int64) (commit string, payload []byte) {
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
	return hex.EncodeToString(sum[:]), payload
}
