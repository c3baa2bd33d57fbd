package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/durable"
)

const keysFile = "keys.json"

// Key is one key that the upstream accepts. It knows the hash only.
type Key struct {
	Account string `json:"account"` // named in answers and in the record, such as research-openai
	Dialect string `json:"dialect"` // openai or anthropic
	SHA256  string `json:"sha256"`  // hex, of the whole key
}

// HashKey makes the Key that accepts the bytes of key.
func HashKey(account, dialect string, key []byte) Key {
	sum := sha256.Sum256(key)
	return Key{Account: account, Dialect: dialect, SHA256: hex.EncodeToString(sum[:])}
}

// WriteKeys replaces the keys that the upstream with this state folder accepts; a running one takes them up by itself.
func WriteKeys(state string, keys []Key) error {
	b, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(state, keysFile)
	if err := durable.Replace(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the demo upstream's keys: %w", err)
	}
	return nil
}

// keyring reads the keys file when it changes.
type keyring struct {
	path string

	mu      sync.Mutex
	changed time.Time
	size    int64
	keys    []Key
}

// find returns the account whose key this is. The file is looked at again only for a key that is not known.
func (k *keyring) find(d dialect, key string) (account string, ok bool) {
	if key == "" {
		return "", false
	}
	want := HashKey("", string(d), []byte(key))
	k.mu.Lock()
	defer k.mu.Unlock()
	if account, ok = k.lookup(want); ok {
		return account, true
	}
	k.reload()
	return k.lookup(want)
}

func (k *keyring) lookup(want Key) (string, bool) {
	for _, key := range k.keys {
		if key.Dialect == want.Dialect && key.SHA256 == want.SHA256 {
			return key.Account, true
		}
	}
	return "", false
}

// reload keeps the old keys when the file cannot be read.
func (k *keyring) reload() {
	info, err := os.Stat(k.path)
	if err != nil || info.ModTime().Equal(k.changed) && info.Size() == k.size {
		return
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return
	}
	var keys []Key
	if json.Unmarshal(b, &keys) != nil {
		return
	}
	k.keys, k.changed, k.size = keys, info.ModTime(), info.Size()
}
