package daemon

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
)

// book is the ledger from before it is open: what must be durable is refused until then, what gates nothing is kept for it.
type book struct {
	log     atomic.Pointer[ledger.Log]
	mu      sync.Mutex // guards waiting
	waiting []entry.Entry
}

var errNotOpen = errors.New("the ledger is not open yet")

// open writes what has waited. It is called once.
func (b *book) open(log *ledger.Log) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log.Store(log)
	var err error
	for i := range b.waiting {
		err = errors.Join(err, log.Enqueue(&b.waiting[i], false))
	}
	b.waiting = nil
	return err
}

// Append implements custodian.Ledger.
func (b *book) Append(e *entry.Entry, payload []byte) (ledger.Durable, error) {
	if log := b.log.Load(); log != nil {
		return log.Append(e, payload)
	}
	return ledger.Durable{}, errNotOpen
}

// AppendClosing implements custodian.Ledger.
func (b *book) AppendClosing(e *entry.Entry) (ledger.Durable, error) {
	if log := b.log.Load(); log != nil {
		return log.AppendClosing(e)
	}
	return ledger.Durable{}, errNotOpen
}

// Enqueue implements custodian.Ledger.
func (b *book) Enqueue(e *entry.Entry, closing bool) error {
	if log := b.log.Load(); log != nil {
		return log.Enqueue(e, closing)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if log := b.log.Load(); log != nil {
		return log.Enqueue(e, closing)
	}
	b.waiting = append(b.waiting, *e)
	return nil
}

// Uncosigned implements custodian.Ledger.
func (b *book) Uncosigned() (oldest time.Duration, count int64) {
	if log := b.log.Load(); log != nil {
		return log.Uncosigned()
	}
	return 0, 0
}
