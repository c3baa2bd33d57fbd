package founding

import (
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// Found writes the draft of the estate, the keys of people who bring none, the processes' keys and their configurations into d,
// a new directory, and finishes it. ask is called for the passphrase that protects a person's new key.
func Found(d *host.Dir, a *Answers, ask func(person string) (secret.Value, error), now time.Time) error {
	keys, err := peopleKeys(d, a, ask)
	if err != nil {
		return err
	}
	public, err := d.MakeKeys(a.Estate, Processes, now)
	if err != nil {
		return err
	}
	plan := a.Plan(keys, public, now)
	if err := plan.Write(estate.Dir(d.Join("estate"))); err != nil {
		return fmt.Errorf("writing the draft: %w", err)
	}
	pin := statement.Pin{Estate: a.Estate}
	for _, id := range plan.Charter.Roles.Root {
		pin.RootKeys = append(pin.RootKeys, keys[id].Public)
	}
	if err := d.WriteConfigs(host.Estate{Pin: pin, Charter: &plan.Charter, IDs: Processes}); err != nil {
		return err
	}
	return d.Finish(pin)
}

func peopleKeys(d *host.Dir, a *Answers, ask func(string) (secret.Value, error)) (map[string]statement.Key, error) {
	keys := map[string]statement.Key{}
	for _, p := range []Person{a.Policy, a.Operations, a.Lifecycle} {
		if p.Key != nil {
			keys[p.ID] = *p.Key
			continue
		}
		s, err := estate.NewSigner(p.ID)
		if err != nil {
			return nil, err
		}
		pass, err := ask(p.ID)
		if err != nil {
			return nil, err
		}
		if pass.Empty() {
			return nil, fmt.Errorf("the key of %s needs a passphrase: %w", p.ID, ErrAnswer)
		}
		if err := s.Save(d.Join("people", p.ID+".key"), pass); err != nil {
			return nil, fmt.Errorf("saving the key of %s: %w", p.ID, err)
		}
		keys[p.ID] = s.Key()
	}
	return keys, nil
}
