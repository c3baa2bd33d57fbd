package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// replays is how often each captured proof is used again in one step of S3.
const replays = 20

// s3 is the replay of captured proofs. Of bearer proofs it is possible within grants and ledgered, and reported; outside the grants,
// after expiry, after revocation it is a hit. Of signed requests it always is.
func (f *field) s3(ctx context.Context, r *Report, _ *doubled) error {
	f.say("S3: captured proofs are replayed: within grants, after expiry, after revocation.")
	replay := func(c client) (through, unledgered int, err error) {
		for i := range replays {
			credential := c.credentials[i%len(c.credentials)]
			forgery := f.forgeries(credential, c, c)[0]
			forgery.Open.Proof.Value = []byte(c.key)
			got, err := order(ctx, f.inside(), Order{Forge: &forgery})
			if err != nil {
				return 0, 0, err
			}
			if got.Answer.Refused == "" {
				through++
				if got.Answer.Receipt == "" {
					unledgered++
				}
			}
		}
		return through, unledgered, nil
	}
	within := Line{ID: "S3", Place: "replay within grants"}
	for _, c := range f.clients {
		through, unledgered, err := replay(c)
		if err != nil {
			return err
		}
		r.Replayed += through
		within.Reeve += unledgered
	}
	within.Detail = fmt.Sprintf("%d went through, each with its ledger entry; %d without", r.Replayed, within.Reeve)
	r.add(within)

	if err := f.signedRequests(ctx, r); err != nil {
		return err
	}
	rotated, err := f.rotatedClient(ctx)
	if err != nil {
		return err
	}
	stolen := Line{ID: "S3", Place: "replay of a stolen key after its rotation", Detail: "refused"}
	if stolen.Reeve, _, err = replay(rotated); err != nil {
		return err
	}
	r.add(stolen)

	brief, err := f.briefClient(ctx)
	if err != nil {
		return err
	}
	expired := Line{ID: "S3", Place: "replay after expiry", Detail: "refused"}
	if expired.Reeve, _, err = replay(brief); err != nil {
		return err
	}
	r.add(expired)

	for _, closing := range []struct {
		name   string
		target func(client) statement.Target
		signed bool
	}{
		{"replay after a signed revocation of the key", keyTarget, true},
		{"replay after a freeze of the unit at the admin socket", unitTarget, false},
	} {
		s := Line{ID: "S3", Place: closing.name, Detail: "refused"}
		victim := f.clients[0]
		if !closing.signed {
			victim = f.clients[1]
		}
		took, err := f.close(ctx, closing.target(victim), closing.signed)
		if err != nil {
			return err
		}
		if s.Reeve, _, err = replay(victim); err != nil {
			return err
		}
		s.Detail = fmt.Sprintf("refused; the custodian knew after %s", took.Round(time.Millisecond))
		r.add(s)
	}
	return nil
}

// rotatedClient is a workload whose key was seen by an attacker and then rotated without overlap.
func (f *field) rotatedClient(ctx context.Context) (client, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return client{}, err
	}
	c, life := f.clients[0], time.Hour
	from := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	key, env, err := estate.NewKey(demo.ID, c.workload, from, life, ada)
	if err != nil {
		return client{}, err
	}
	name, err := estate.KeyName(env)
	if err == nil {
		err = f.publish(name, env)
	}
	c.key = string(key.Reveal())
	if err == nil {
		err = f.untilAccepted(ctx, c)
	}
	if err != nil {
		return client{}, err
	}
	// Another record of the same key with an earlier end, beside the one of the new key: what a rotation is.
	var k statement.WorkloadKey
	if err := json.Unmarshal(env.Payload, &k); err != nil {
		return client{}, err
	}
	k.NotAfter = time.Now().UTC().Truncate(time.Second)
	shorter, err := estate.Seal("workload-key", k, ada)
	if err == nil {
		err = f.publish(name+"-rotated", shorter)
	}
	if err != nil {
		return client{}, err
	}
	return c, f.untilRefused(ctx, c)
}

// keyed is research-agent with a new key that lives so long from now, once it works.
func (f *field) keyed(ctx context.Context, life time.Duration) (client, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return client{}, err
	}
	c := f.clients[0]
	key, env, err := estate.NewKey(demo.ID, c.workload, time.Now().Add(-time.Minute), time.Minute+life, ada)
	if err != nil {
		return client{}, err
	}
	name, err := estate.KeyName(env)
	if err == nil {
		err = f.publish(name, env)
	}
	if err != nil {
		return client{}, err
	}
	c.key = string(key.Reveal())
	return c, f.untilAccepted(ctx, c)
}

// briefClient is a workload with a key that has expired by the time it returns.
func (f *field) briefClient(ctx context.Context) (client, error) {
	c, err := f.keyed(ctx, 4*time.Second)
	if err == nil {
		time.Sleep(5 * time.Second)
	}
	return c, err
}

// untilAccepted waits until the key works: an expired key that never worked would prove nothing.
func (f *field) untilAccepted(ctx context.Context, c client) error {
	var last error
	for range 100 {
		if last = c.call(ctx, c.credentials[0]); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("a new key never worked: %w", last)
}

// untilRefused waits until the custodian itself refuses the key: it hears of a rotation from its own feed.
func (f *field) untilRefused(ctx context.Context, c client) error {
	for range 50 {
		forgery := f.forgeries(c.credentials[0], c, c)[0]
		forgery.Open.Proof.Value = []byte(c.key)
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		if err != nil || got.Answer.Refused != "" {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the custodian still takes a key that was rotated 5 s ago")
}

func keyTarget(c client) statement.Target { return statement.Target{Kind: "key", ID: hashOf(c.key)} }

func unitTarget(c client) statement.Target { return statement.Target{Kind: "unit", ID: c.unit} }
