package custodian

import (
	"context"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
)

// instant is a ledger that has been written already: what is measured is the pipeline alone.
type instant struct{ d ledger.Durable }

func (l instant) Append(*entry.Entry, []byte) (ledger.Durable, error) { return l.d, nil }
func (l instant) AppendClosing(*entry.Entry) (ledger.Durable, error)  { return l.d, nil }
func (l instant) Enqueue(*entry.Entry, bool) error                    { return nil }
func (l instant) Uncosigned() (time.Duration, int64)                  { return 0, 0 }

type discard struct{}

func (discard) Head(int, []hop.Field) error { return nil }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) End([]hop.Field) error       { return nil }
func (discard) Break(string)                {}
func (discard) Refuse(r *hop.Refusal) error { panic(r.Message) }

type echo struct{}

func (echo) Send(context.Context, *egress.Request) (*egress.Response, error) {
	return reply(200, `{"id":"x","choices":[{"message":{"role":"assistant","content":"hello"}}]}`), nil
}
func (echo) Close()  {}
func (echo) Retire() {}

// BenchmarkServe is one allowed use with everything but ledger, hop and upstream.
func BenchmarkServe(b *testing.B) {
	w := newWorld(b)
	d, err := w.ledger.Log.Append(&entry.Entry{Type: entry.Alarm, Reason: "bench"}, nil)
	must(b, err)
	d.Receipt() // signed once for its group, as in a commit of many
	w.Custodian.Ledger = instant{d}
	for _, cr := range w.view.Load().credentials {
		cr.link = &link{pool: echo{}}
	}
	open := w.chat()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			o := *open
			w.Serve(context.Background(), g1, &o, discard{})
		}
	})
}
