package drill

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/reevehq/reeve/entry"
)

// honeyTold is how long an owner may not know that bait was taken.
const honeyTold = 10 * time.Second

// s7 is a honey credential in an attacker's hands: refused like any other, alarmed, its owner told, and with freeze whoever took it closed.
func (f *field) s7(ctx context.Context, r *Report, d *doubled) error {
	f.say("S7: an attacker in the gateway uses bait.")
	own := f.clients[0]
	call := func(c client, credential string) (*Answer, error) {
		forgery := f.forgeries(credential, c, c)[0]
		forgery.Open.Proof.Value = []byte(c.key)
		forgery.Open.Header = headerOf(own.credentials[0])
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		return got.Answer, err
	}
	begun := time.Now()
	taken, err := call(own, bait)
	if err != nil {
		return err
	}
	plain, err := call(own, f.clients[1].credentials[0])
	if err != nil {
		return err
	}
	used := Line{ID: "S7", Place: "bait, used", Detail: "refused as " + taken.how()}
	if taken.Refused == "" {
		used.hit("the use went through")
	} else if taken.Refused != plain.Refused || taken.Status != plain.Status {
		used.hit(fmt.Sprintf("it is told from other refusals (%s, not %s)", taken.how(), plain.how()))
	}
	if err := f.entered(ctx, []refusal{{&used, "bait", "honey", taken.Receipt}}, own.workload); err != nil {
		return err
	}
	if used.Double, err = d.take(ctx, bait); err != nil {
		return err
	}
	r.add(used)

	told := Line{ID: "S7", Place: "its owner"}
	for f.pager.find("honey", bait) == nil && time.Since(begun) < honeyTold {
		time.Sleep(5 * time.Millisecond)
	}
	if page := f.pager.find("honey", bait); page == nil {
		told.hit(fmt.Sprintf("nobody was told within %s", honeyTold))
	} else if page.Person != "cora" || page.Workload != own.workload {
		told.hit(fmt.Sprintf("%q was told of %q", page.Person, page.Workload))
	} else {
		r.measure("owner_told_ms", page.at.Sub(begun).Milliseconds())
		told.Detail = "told " + page.at.Sub(begun).Round(time.Millisecond).String() + " after the use"
	}
	r.add(told)

	alarm := Line{ID: "S7", Place: "the alarm"}
	e, err := f.find(ctx, func(e *entry.Entry) bool { return e.Type == entry.Alarm && e.Reason == "honey" && e.Credential == bait })
	if err != nil {
		return err
	}
	if alarm.Detail = "in the ledger"; e == nil {
		alarm.Detail = ""
		alarm.hit("no alarm in the ledger")
	}
	r.add(alarm)

	caught, err := f.as(thief, own.credentials...)
	if err != nil {
		return err
	}
	closed := Line{ID: "S7", Place: "bait that closes"}
	if a, err := call(caught, own.credentials[0]); err != nil || a.Refused != "" {
		return fmt.Errorf("%s is refused before it took bait, so that it is afterwards proves nothing: %w", thief, err)
	}
	a, err := call(caught, trap)
	if err != nil {
		return err
	}
	if a.Refused == "" {
		closed.hit("the use went through")
	}
	if a, err = call(caught, own.credentials[0]); err != nil {
		return err
	}
	if a.Refused == "" {
		closed.hit("whoever took it goes on")
	}
	closed.Detail += "whoever took it is refused everything: " + a.how()
	r.add(closed)
	return nil
}

// take has the attacker in the double use a key that he found in it, and returns 1 when that went through without anybody being told.
func (d *doubled) take(ctx context.Context, credential string) (int, error) {
	for _, c := range d.idle {
		if c.credentials[0] == credential {
			resp, err := c.do(ctx, credential, bodyOf(credential), nil)
			if err != nil {
				return 0, fmt.Errorf("%s by the double: %w", credential, err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return 0, fmt.Errorf("%s by the double: status %d", credential, resp.StatusCode)
			}
			return 1, nil
		}
	}
	return 0, fmt.Errorf("the double has no route for %s", credential)
}
