package ledger

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/reevehq/reeve/internal/durable"
)

// A payload is outside the tree, so that it can be erased: the leaf has only a salted commitment. It is sealed with its tenant's
// key and written in the record of its entry, so that one sync makes both durable; publication moves it to the payload files.
// Whoever destroys the tenant's key has erased all of it, copies and backups too: keys are in no backup.

const saltLen = 16

// commitTo gives the item its payload, and the entry the SHA-256 of a salt and the payload.
func (l *Log) commitTo(it *item, payload []byte) error {
	plain := make([]byte, saltLen, saltLen+len(payload))
	rand.Read(plain)
	plain = append(plain, payload...)
	return l.seal(it, plain, sha256.Sum256(plain))
}

// seal gives the entry a commitment and the item what opens it, sealed: 16 bytes that name the tenant's key, then AES-256-GCM
// with the commitment as additional data.
func (l *Log) seal(it *item, plain []byte, commit [sha256.Size]byte) error {
	if len(plain) > maxPayload-64 {
		return fmt.Errorf("payload of %d bytes is longer than a mebibyte", len(plain))
	}
	key, err := l.keys.of(it.e.Tenant)
	if err != nil {
		return fmt.Errorf("no key for the payload: %w", err)
	}
	name := tenantName(it.e.Tenant)
	it.e.Commit = hex.EncodeToString(commit[:])
	it.payload = key.Seal(append(make([]byte, 0, len(name)+len(plain)+key.Overhead()), name[:]...), nil, plain, commit[:])
	return nil
}

// tenantName names a tenant's key. Tenant ids are not file names.
func tenantName(tenant string) (name [16]byte) {
	sum := sha256.Sum256([]byte(tenant))
	copy(name[:], sum[:])
	return name
}

// keyring has the keys of tenants' payloads: files of 32 random bytes, made when a tenant's first payload is.
type keyring struct {
	dir  string
	mu   sync.Mutex
	keys map[string]cipher.AEAD // by tenant
}

func (k *keyring) path(tenant string) string {
	name := tenantName(tenant)
	return filepath.Join(k.dir, hex.EncodeToString(name[:]))
}

func (k *keyring) of(tenant string) (cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[tenant]; key != nil {
		return key, nil
	}
	b, err := os.ReadFile(k.path(tenant))
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, 32)
		rand.Read(b)
		err = durable.Replace(k.path(tenant), b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, err
	}
	key, err := cipher.NewGCMWithRandomNonce(block)
	if err == nil {
		k.keys[tenant] = key
	}
	return key, err
}

// destroy erases a tenant's payloads. The next one gets a new key.
func (k *keyring) destroy(tenant string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, tenant)
	if err := os.Remove(k.path(tenant)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.MkdirAll(k.dir, 0o700), durable.Sync(k.dir))
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
