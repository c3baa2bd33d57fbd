// Package isolation judges how far a gateway is kept from the custodian's memory.
package isolation

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// The levels, weakest first.
const (
	None        = "none"         // nothing keeps the peer from this process's memory
	OneUID      = "one-uid"      // same user, but this process is not dumpable and the peer is confined
	SeparateUID = "separate-uid" // the kernel keeps users apart
	Host        = "host"         // mutual TLS from another machine, with a key that the owners signed
)

func rank(level string) int {
	for i, l := range [...]string{None, OneUID, SeparateUID, Host} {
		if l == level {
			return i
		}
	}
	return -1
}

// Reaches reports whether a level is at least as strong as what is needed.
func Reaches(level, need string) bool { return rank(level) >= rank(need) }

// Need is the level below which a credential is not used. Real secrets need separate users at least, whatever the charter
// says, unless the credential's own record accepts less; a demo's secrets are not real.
func Need(charter *statement.Charter, accepted string) string {
	need := charter.RequireIsolation
	if !charter.Demo && rank(need) < rank(SeparateUID) {
		need = SeparateUID
	}
	if rank(accepted) >= 0 && rank(accepted) < rank(need) {
		need = accepted
	}
	return need
}

// Judge judges peers and remembers each for a second. Safe for concurrent use.
type Judge struct {
	// Undumpable says that other processes of this process's user cannot read its memory. Set it before the first peer.
	Undumpable bool
	judged     atomic.Pointer[map[hop.Peer]judgement]
}

type judgement struct {
	level string
	until time.Time
}

// Level is the peer's level.
func (j *Judge) Level(peer hop.Peer, now time.Time) string {
	var old map[hop.Peer]judgement
	if m := j.judged.Load(); m != nil {
		old = *m
	}
	if known, ok := old[peer]; ok && now.Before(known.until) {
		return known.level
	}
	next := map[hop.Peer]judgement{peer: {j.judge(peer), now.Add(time.Second)}}
	for other, known := range old {
		if other != peer && now.Before(known.until) {
			next[other] = known
		}
	}
	j.judged.Store(&next) // of two at once one is lost and judged again
	return next[peer].level
}

// Seen is the level of each gateway that was judged lately: the weakest of its connections.
func (j *Judge) Seen() map[string]string {
	seen := map[string]string{}
	if m := j.judged.Load(); m != nil {
		for peer, known := range *m {
			if other, ok := seen[peer.Name]; !ok || Reaches(other, known.level) {
				seen[peer.Name] = known.level
			}
		}
	}
	return seen
}

func (j *Judge) judge(peer hop.Peer) string {
	switch {
	case peer.Key != "": // the kernel says nothing of whose it is
		if peer.Apart {
			return Host
		}
		return None
	case peer.UID > 0 && peer.UID != os.Getuid(): // root is no other user: it reads any memory
		return SeparateUID
	case j.Undumpable && confined(peer.PID):
		return OneUID
	}
	return None
}

// confined reports whether a process runs under a seccomp filter (proc(5): Seccomp 2).
func confined(pid int) bool {
	if pid <= 0 {
		return false
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return err == nil && bytes.Contains(text, []byte("\nSeccomp:\t2\n"))
}
