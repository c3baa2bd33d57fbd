package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// s10 is the owner of every credential leaving. Her deputy answers from that instant and uses go on; she hands nothing over any more. When the
// deputy leaves too, every credential is orphaned and none is used.
func (f *field) s10(ctx context.Context, r *Report, _ *doubled) error {
	f.say("S10: the owner of the credentials leaves, and then her deputy.")
	c, err := f.keyed(ctx, time.Hour)
	if err != nil {
		return err
	}
	credential := c.credentials[0]
	if err := f.ownedBy(ctx, credential, "cora"); err != nil {
		return err
	}
	took, err := f.leaves(ctx, "cora", func(owner string) bool { return owner == f.deputy.Person })
	if err != nil {
		return err
	}
	r.measure("deputy_answers_ms", took.Milliseconds())
	s := Line{ID: "S10", Place: "her deputy", Detail: fmt.Sprintf("answers %s after the signature", took.Round(time.Millisecond))}
	if err := c.call(ctx, credential); err != nil {
		s.hit("uses do not go on: " + err.Error())
	}
	r.add(s)
	if s, err = f.handsOver(ctx); err != nil {
		return err
	}
	r.add(s)

	took, err = f.leaves(ctx, f.deputy.Person, func(owner string) bool { return owner == "" })
	if err != nil {
		return err
	}
	r.measure("orphaned_ms", took.Milliseconds())
	s = Line{ID: "S10", Place: "nobody left", Detail: fmt.Sprintf("orphaned %s after the signature", took.Round(time.Millisecond))}
	for _, credential := range c.credentials {
		forgery := f.forgeries(credential, c, c)[0]
		forgery.Open.Proof.Value = []byte(c.key)
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		if err != nil {
			return err
		}
		if got.Answer.Refused == "" {
			s.hit(credential + " is used without an owner")
			continue
		}
		s.Detail += "; " + credential + " refused as " + got.Answer.how()
	}
	st, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	for _, x := range st.Credentials {
		if x.Owner != "" {
			s.hit(fmt.Sprintf("%s is said to be %s's", x.ID, x.Owner))
		}
	}
	s.Detail += fmt.Sprintf("; %d credentials without an owner", len(st.Credentials))
	r.add(s)
	return nil
}

// handsOver is a secret that she signs after she has left, and one of her deputy's.
func (f *field) handsOver(ctx context.Context) (Line, error) {
	s := Line{ID: "S10", Place: "a handover after she left", Detail: "refused; her deputy's is taken"}
	credential, dir := chain()[chained-1], estate.Dir(f.dir.Join("estate"))
	cora, err := estate.Open(f.dir.Join("people", "cora.key"), nil)
	if err != nil {
		return s, err
	}
	before, _, err := f.tokenSet() // as if she had not heard of it: her own program would not sign
	if err != nil {
		return s, err
	}
	hers, err := handover.Put(dir, before, credential, secret.New([]byte("one-of-hers-after-she-left")), cora, time.Now())
	if err != nil {
		return s, err
	}
	deputys, err := handover.Put(dir, before.Without("cora"), credential, secret.New([]byte("one-of-her-deputy-after-that")), f.deputy, time.Now())
	if err != nil {
		return s, err
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		st, err := f.admin().Status(ctx)
		if err != nil {
			return s, err
		}
		i := slices.IndexFunc(st.Credentials, func(c admin.Credential) bool { return c.ID == credential })
		switch {
		case i >= 0 && st.Credentials[i].Version == deputys.Version:
			return s, nil
		case i >= 0 && st.Credentials[i].Version == hers.Version:
			s.hit("hers is taken")
			return s, nil
		case time.Since(begun) > 30*time.Second:
			return s, errors.New("the custodian does not take the deputy's handover within 30 s, so that it does not take hers proves nothing")
		}
	}
}

// ownedBy checks who answers for a credential before anybody leaves.
func (f *field) ownedBy(ctx context.Context, credential, who string) error {
	st, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range st.Credentials {
		if c.ID == credential && c.Owner == who {
			return nil
		}
	}
	return fmt.Errorf("%s is not %s's before anybody leaves: nothing can be said of leaving", credential, who)
}

// leaves has a holder of root sign that a person has left, and waits until the custodian says of the first client's credential what it should.
func (f *field) leaves(ctx context.Context, person string, is func(owner string) bool) (time.Duration, error) {
	env, name, err := f.revocation(statement.Target{Kind: "person", ID: person})
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := f.publish(name, env); err != nil {
		return 0, err
	}
	for {
		st, err := f.admin().Status(ctx)
		if err != nil {
			return 0, err
		}
		for _, c := range st.Credentials {
			if c.ID == f.clients[0].credentials[0] && is(c.Owner) {
				return time.Since(begun), nil
			}
		}
		if time.Since(begun) > 30*time.Second {
			return 0, fmt.Errorf("the custodian does not know within 30 s that %s has left", person)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
