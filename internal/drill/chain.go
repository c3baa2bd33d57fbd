package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/drills"
)

// stopWithin is how soon chaining has to be stopped (RV-17).
const stopWithin = 10 * time.Second

// s9 is one workload's proof used over as many credentials as it may use, as fast as an attacker in the gateway can.
func (f *field) s9(ctx context.Context, r *Report, d *doubled) error {
	f.say("S9: an attacker in the gateway goes through %d credentials with one workload's key.", chained)
	w, err := f.as(batch, chain()...)
	if err != nil {
		return err
	}
	use := func(credential string) (*Answer, error) {
		forgery := f.forgeries(credential, w, w)[0]
		forgery.Open.Proof.Value = []byte(w.key)
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		return got.Answer, err
	}
	s := Line{ID: "S9", Place: "credentials, one after another"}
	begun, used, unledgered := time.Now(), 0, 0
	var stopped time.Duration
	for _, credential := range w.credentials {
		a, err := use(credential)
		if err != nil {
			return err
		}
		switch {
		case a.Refused == "":
			if used++; a.Receipt == "" {
				unledgered++
			}
		case stopped == 0:
			stopped = time.Since(begun)
		}
	}
	s.Detail = fmt.Sprintf("%d of %d used, stopped after %s", used, len(w.credentials), stopped.Round(time.Millisecond))
	switch {
	case used == 0:
		return fmt.Errorf("%s is refused its first credential: that it is refused others proves nothing", batch)
	case stopped == 0 || stopped > stopWithin:
		s.Detail = ""
		s.hit(fmt.Sprintf("%d of %d used, and not stopped within %s", used, len(w.credentials), stopWithin))
	case used > chainable:
		s.hit(fmt.Sprintf("policy permits %d in a minute", chainable))
	}
	for range unledgered {
		s.hit("a use without an entry")
	}
	r.measure(drills.Stopped, max(1, stopped.Milliseconds()))
	r.measure("used_count", int64(used))
	for _, credential := range w.credentials {
		n, err := d.take(ctx, credential)
		if err != nil {
			return err
		}
		s.Double += n
	}
	r.add(s)

	closed := Line{ID: "S9", Place: "the workload afterwards"}
	a, err := use(w.credentials[0])
	if err != nil {
		return err
	}
	if closed.Detail = "closed: " + a.how(); a.Refused == "" {
		closed.hit("a credential that it used before is not refused")
	}
	const reason = "ceiling_credentials_per_minute"
	e, err := f.find(ctx, func(e *entry.Entry) bool { return e.Type == entry.Alarm && e.Reason == reason && e.Workload == batch })
	if err != nil {
		return err
	}
	if e == nil {
		closed.hit("no alarm in the ledger")
	}
	r.add(closed)
	return nil
}
