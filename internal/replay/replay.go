// Package replay makes a signed request good for once, at the process that it is made to: that process's nonces, which bound when and for whom it was
// signed, and the memory of the clients' nonces that were spent.
package replay

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/pop"
)

const (
	// Life is how long a nonce is taken after it was made.
	Life = 2 * time.Minute

	step   = 10 * time.Second             // for which one nonce is given out
	memory = pop.Life + 2*pop.Skew + step // a signature is taken for less
	size   = 24                           // bytes of a nonce: 8 of Unix time, 16 of its HMAC-SHA256
)

// What Spend returns.
var (
	ErrReplayed = errors.New("the request was seen before")
	ErrFull     = errors.New("no room to remember another signed request")
)

// Guard gives nonces out and remembers what was spent. Its key dies with the process: after a restart no older nonce is taken,
// so that what was forgotten cannot be spent again. Safe for concurrent use.
type Guard struct {
	key    [32]byte
	newest atomic.Pointer[nonce]
	room   int // of one generation
	share  int // of the room, that one key has

	mu           sync.Mutex
	began        time.Time // of the generation spent
	spent, older map[[16]byte]struct{}
	by           map[string]int // of the generation spent, by key
}

type nonce struct {
	time int64
	text string
}

// New returns a guard that remembers at least room signed requests, those of the last 80 seconds, an eighth of them by one key: whoever
// signs without end shuts out itself.
func New(room int) *Guard {
	g := &Guard{room: room, share: (room + 7) / 8, spent: map[[16]byte]struct{}{}, by: map[string]int{}}
	rand.Read(g.key[:]) // never fails
	return g
}

// Nonce is the one to give out now. Many requests get the same: that each is signed once is Spend's to see.
func (g *Guard) Nonce(now time.Time) string {
	t := now.Truncate(step).Unix()
	if n := g.newest.Load(); n != nil && n.time == t {
		return n.text
	}
	n := &nonce{t, g.make(t)}
	g.newest.Store(n)
	return n.text
}

func (g *Guard) make(t int64) string {
	var b [size]byte
	binary.BigEndian.PutUint64(b[:], uint64(t))
	mac := hmac.New(sha256.New, g.key[:])
	mac.Write(b[:8])
	copy(b[8:], mac.Sum(nil))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Fresh reports whether a nonce was given out here, at most Life ago.
func (g *Guard) Fresh(text string, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != size {
		return false
	}
	t := int64(binary.BigEndian.Uint64(b))
	age := now.Sub(time.Unix(t, 0))
	return hmac.Equal([]byte(text), []byte(g.make(t))) && age >= -step && age < Life+step
}

// Spend takes a signed request once: key and clientNonce name it. The errors are ErrReplayed and ErrFull.
func (g *Guard) Spend(key, clientNonce string, now time.Time) error {
	sum := sha256.Sum256([]byte(key + " " + clientNonce)) // neither has a space
	id := [16]byte(sum[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := now.Sub(g.began); age >= memory {
		g.older, g.spent, g.by, g.began = g.spent, map[[16]byte]struct{}{}, map[string]int{}, now
		if age >= 2*memory {
			g.older = nil
		}
	}
	_, one := g.spent[id]
	_, other := g.older[id]
	switch {
	case one || other:
		return ErrReplayed
	case len(g.spent) >= g.room, g.by[key] >= g.share:
		return ErrFull
	}
	g.spent[id] = struct{}{}
	g.by[key]++
	return nil
}
