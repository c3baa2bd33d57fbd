package drill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

func (f *field) admin() *operator.Client { return operator.New(f.dir.Socket(host.Custodian, "admin")) }

// close closes a target and returns once the custodian says that it is closed.
func (f *field) close(ctx context.Context, target statement.Target, signed bool) (time.Duration, error) {
	begun := time.Now()
	if signed {
		file, name, err := f.revocation(target)
		if err != nil {
			return 0, err
		}
		if err := f.publish(name, file); err != nil {
			return 0, err
		}
	} else if _, err := f.admin().Freeze(ctx, target, "drill"); err != nil {
		return 0, fmt.Errorf("freezing %s %s: %w", target.Kind, target.ID, err)
	}
	for {
		s, err := f.admin().Status(ctx)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(s.Closed, func(c admin.Closed) bool { return c.Target == target }) {
			return time.Since(begun), nil
		}
		if time.Since(begun) > 30*time.Second {
			return 0, fmt.Errorf("the custodian has not closed %s %s within 30 s", target.Kind, target.ID)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// revocation is the policy owner's next, and the name that its file has in the store.
func (f *field) revocation(target statement.Target) (*statement.Envelope, string, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return nil, "", err
	}
	f.revoked++
	env, err := estate.Seal("revocation", statement.Revocation{
		Estate: demo.ID, Signer: "ada", Number: f.revoked, Target: target, Reason: "drill", Time: time.Now().UTC().Truncate(time.Second),
	}, ada)
	return env, fmt.Sprintf("ada-%d", f.revoked), err
}

// publish writes a record where the authority reads it.
func (f *field) publish(name string, env *statement.Envelope) error {
	return estate.Dir(f.dir.Join("estate")).WriteRecord(name, env)
}
