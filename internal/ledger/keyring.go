package ledger

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// The keys of payloads are in one file of slots, each 64 bytes: name (16), key (32), CRC-32C (4), zeros. A slot is within a sector, which a disk
// writes whole or not at all. A slot of zeros is free. docs/formats/ledger.md.
const (
	keysDir   = "keys"
	keysFile  = "slots"
	slotLen   = 64
	keyLen    = 32
	sumAt     = nameLen + keyLen
	slotsStep = 64 << 10 // bytes by which the file grows
)

const (
	maxHeld   = 1 << 14 // keys in memory
	maxActors = 1000    // of a tenant that get a key in one minute: they are whoever a token names
)

// ErrActors refuses an entry about an actor whom the ledger has not met, when too many of the tenant's came in this minute. Those that it knows go on.
var ErrActors = errors.New("too many new actors of this tenant in this minute")

type keyName = [nameLen]byte

// keyring makes a key durable before anything is sealed with it. Who needs a new one waits for its sync, together with whoever else does; nobody
// else waits.
type keyring struct {
	disk  disk
	clock func() time.Time
	halt  func(error) // what the disk holds is not known any more

	write sync.Mutex // spans changes of the file, and what follows
	file  file       // nil before the first key
	size  int64
	free  []int64 // slots of zeros
	dead  error   // why nothing is written any more

	mu     sync.Mutex // guards what follows; taken after write
	slots  map[keyName]int64
	whole  map[string]cipher.AEAD // what the keys of these names are together
	now    *batch                 // that is being made
	next   *batch                 // that takes more
	minute int64
	met    map[keyName]int // new actors in it, by the name of their tenant's key
}

// batch is keys that become durable with one sync.
type batch struct {
	names map[keyName]bool
	done  bool // under write
	err   error
}

// openKeyring reads which keys there are. It returns how many slots cannot be read: payloads sealed with those are lost.
func openKeyring(d disk, clock func() time.Time, halt func(error)) (k *keyring, lost int, err error) {
	k = &keyring{disk: d, clock: clock, halt: halt, slots: map[keyName]int64{}, whole: map[string]cipher.AEAD{}}
	f, err := d.open(keysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return k, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	k.file = f
	k.size, err = eachSlot(k.file, func(at int64, slot []byte) error {
		if allZero(slot) {
			k.free = append(k.free, at)
		} else if name, _, ok := parseSlot(slot); !ok {
			lost++
		} else if _, ok := k.slots[name]; !ok {
			k.slots[name] = at
		}
		return nil
	})
	return k, lost, err
}

// eachSlot visits every whole slot of a file, and returns where the last one ends.
func eachSlot(f file, visit func(at int64, slot []byte) error) (end int64, err error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	size -= size % slotLen
	buf := make([]byte, min(slotsStep, size))
	for at := int64(0); at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if n, err := f.ReadAt(buf, at); n < len(buf) {
			return 0, fmt.Errorf("reading the keys of payloads: %w", err)
		}
		for i := 0; i < len(buf); i += slotLen {
			if err := visit(at+int64(i), buf[i:i+slotLen]); err != nil {
				return 0, err
			}
		}
	}
	return size, nil
}

func parseSlot(slot []byte) (name keyName, key []byte, ok bool) {
	return keyName(slot), slot[nameLen:sumAt], checksumOf(slot, sumAt) == binary.BigEndian.Uint32(slot[sumAt:])
}

// sync makes durable what an earlier process may have written and not synced.
func (k *keyring) sync() error {
	if k.file == nil {
		return nil
	}
	return k.file.Sync()
}

func (k *keyring) close() error {
	if k.file == nil {
		return nil
	}
	return k.file.Close()
}

// of returns the key that the keys of these names are together, and makes those that are not there: names are a tenant's, a workload's, and
// those of actors.
func (k *keyring) of(names []byte) (cipher.AEAD, error) {
	for {
		key, b, err := k.have(names)
		if b == nil {
			return key, err
		}
		if err := k.make(b); err != nil {
			return nil, err
		}
	}
}

// have returns the key, or a batch to wait for, with some that are missing.
func (k *keyring) have(names []byte) (cipher.AEAD, *batch, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.whole[string(names)]; key != nil {
		return key, nil, nil
	}
	var parts [][]byte
	var missing []keyName
	var coming *batch
	strange := 0
	for i := 0; i < len(names); i += nameLen {
		name := keyName(names[i:])
		at, ok := k.slots[name]
		if !ok {
			switch {
			case k.now != nil && k.now.names[name]:
				coming = k.now
			case k.next != nil && k.next.names[name]:
				missing = append(missing, name)
			default:
				if missing = append(missing, name); i >= 2*nameLen {
					strange++
				}
			}
			continue
		}
		slot := make([]byte, slotLen)
		if _, err := k.file.ReadAt(slot, at); err != nil {
			return nil, nil, err
		}
		is, part, ok := parseSlot(slot)
		if !ok || is != name {
			return nil, nil, errors.New("a key of payloads was altered on disk")
		}
		parts = append(parts, part)
	}
	if len(missing) > 0 {
		b, err := k.want(keyName(names), missing, strange)
		return nil, b, err
	}
	if coming != nil {
		return nil, coming, nil
	}
	key, err := OpenKey(parts)
	if err == nil {
		if len(k.whole) >= maxHeld {
			clear(k.whole)
		}
		k.whole[string(names)] = key
	}
	return key, nil, err
}

// want puts names into the next batch; so many of them are new actors of a tenant. It needs mu.
func (k *keyring) want(tenant keyName, names []keyName, strange int) (*batch, error) {
	if m := k.clock().Unix() / 60; m != k.minute {
		k.minute, k.met = m, map[keyName]int{}
	}
	if strange > 0 && k.met[tenant]+strange > maxActors {
		return nil, ErrActors
	}
	k.met[tenant] += strange
	if k.next == nil {
		k.next = &batch{names: map[keyName]bool{}}
	}
	for _, name := range names {
		k.next.names[name] = true
	}
	return k.next, nil
}

// make returns once a batch is durable. The first who comes makes it for all.
func (k *keyring) make(b *batch) error {
	k.write.Lock()
	defer k.write.Unlock()
	if b.done {
		return b.err
	}
	k.mu.Lock()
	k.now, k.next = b, nil // nobody adds to it any more
	k.mu.Unlock()
	made, err := k.put(b)
	b.done, b.err = true, err
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.slots, made)
	k.now = nil
	return err
}

// put writes a key for each name of a batch, and syncs once. It needs write.
func (k *keyring) put(b *batch) (map[keyName]int64, error) {
	if k.dead != nil {
		return nil, k.dead
	}
	for len(k.free) < len(b.names) {
		if err := k.grow(); err != nil {
			return nil, err
		}
	}
	made := make(map[keyName]int64, len(b.names))
	for name := range b.names {
		slot := make([]byte, slotLen)
		copy(slot, name[:])
		rand.Read(slot[nameLen:sumAt]) // never fails
		binary.BigEndian.PutUint32(slot[sumAt:], crc32.Checksum(slot, castagnoli))
		made[name], k.free = k.free[0], k.free[1:]
		if _, err := k.file.WriteAt(slot, made[name]); err != nil {
			return nil, k.broken(err)
		}
	}
	if err := k.file.Sync(); err != nil {
		return nil, k.broken(err)
	}
	return made, nil
}

// grow appends free slots to the file. Without room on the disk it changes nothing. It needs write.
func (k *keyring) grow() error {
	var err error
	if k.file == nil {
		var f file
		if f, err = createSegment(k.disk, keysFile, slotsStep, atOnce); err == nil {
			k.mu.Lock()
			k.file = f
			k.mu.Unlock()
		}
	} else {
		err = zero(k.file, k.size, k.size+slotsStep, atOnce)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case err != nil:
		return k.broken(err)
	}
	for end := k.size + slotsStep; k.size < end; k.size += slotLen {
		k.free = append(k.free, k.size)
	}
	return nil
}

// broken closes the ledger: after a failed write or sync nobody knows what is on disk. It needs write.
func (k *keyring) broken(err error) error {
	k.dead = fmt.Errorf("writing the keys of payloads: %w", err)
	k.halt(k.dead)
	return k.dead
}

// destroy erases the payloads of a tenant, or of it about a subject: its slot is zeros when destroy returns. The next payload gets a new key.
func (k *keyring) destroy(tenant, subject string) error {
	k.write.Lock()
	defer k.write.Unlock()
	name := KeyName(tenant, subject)
	k.mu.Lock()
	delete(k.slots, name)
	clear(k.whole)
	k.mu.Unlock()
	if k.file == nil || k.dead != nil {
		return k.dead
	}
	// It looks at every slot, and does not go by what it remembers: it may be asked again after it failed.
	var gone []int64
	_, err := eachSlot(k.file, func(at int64, slot []byte) error {
		if keyName(slot) != name {
			return nil
		}
		gone = append(gone, at)
		_, err := k.file.WriteAt(make([]byte, slotLen), at)
		return err
	})
	if err == nil {
		err = k.file.Sync()
	}
	if err != nil {
		return k.broken(err)
	}
	k.free = append(k.free, gone...)
	return nil
}

// OpenKey makes the key of a payload from its keys, in the order of their names: none of them opens it without the others.
func OpenKey(keys [][]byte) (cipher.AEAD, error) {
	sum := sha256.Sum256(append([]byte("reeve-payload-v1\x00"), slices.Concat(keys...)...))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// KeysPath is where the keys of payloads are, below a ledger's folder.
const KeysPath = keysDir + "/" + keysFile

// ReadKeys reads the keys of these names from the open file of a ledger, which may be running. One that was destroyed, or was never made, is missing
// from what it returns.
func ReadKeys(f *os.File, names ...[nameLen]byte) (map[[nameLen]byte][]byte, error) {
	found := map[[nameLen]byte][]byte{}
	_, err := eachSlot(osFile{f}, func(_ int64, slot []byte) error {
		if name, key, ok := parseSlot(slot); ok && found[name] == nil && slices.Contains(names, name) {
			found[name] = slices.Clone(key)
		}
		return nil
	})
	return found, err
}
