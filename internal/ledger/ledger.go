// Package ledger appends entries durably, publishes them as a C2SP tlog-tiles log with cosigned checkpoints, and proves them.
package ledger

import (
	"errors"

	"github.com/reevehq/reeve/entry"
)

var (
	// ErrClosed is returned after Close and after the first failed sync, which is fatal and never retried.
	ErrClosed = errors.New("ledger closed")
)

// Log is an append-only Merkle log with its own key.
type Log struct{}

// Durable is evidence that an entry is on disk. Only Append makes one; what must not happen before the entry is durable
// takes a Durable. The zero Durable is not valid.
type Durable struct {
	seq     int64
	leaf    [32]byte
	ok      bool
	receipt string
}

// Valid reports whether the Durable came from Append.
func (d Durable) Valid() bool { return d.ok }

// Seq is the entry's leaf index.
func (d Durable) Seq() int64 { return d.seq }

// Leaf is the entry's RFC 6962 leaf hash.
func (d Durable) Leaf() [32]byte { return d.leaf }

// Receipt is the value of the Reeve-Receipt header.
func (d Durable) Receipt() string { return d.receipt }

// Append sets V, Seq, TimeNS, Log and TenantSeq, writes the entry with whatever else is queued, and returns when it is durable.
// payload, if any, is kept outside the tree and committed to in Commit.
func (l *Log) Append(e *entry.Entry, payload []byte) (Durable, error) {
	return Durable{}, errors.New("ledger: not built")
}

// Enqueue is Append without the wait: for entries that do not gate (outcomes, closings). A closing entry may use the
// reserve when the disk is full.
func (l *Log) Enqueue(e *entry.Entry, closing bool) error { return errors.New("ledger: not built") }
