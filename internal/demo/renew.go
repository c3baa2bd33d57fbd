package demo

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// Renew signs anew what would run out within a week: attestations, statements, the lock, the workloads' keys and the upstream's.
// The owners' files are taken as they stand, so that an edited demo stays edited. It reports whether it changed anything.
func Renew(d *host.Dir, now time.Time) (bool, error) {
	dir := estate.Dir(d.Join("estate"))
	pin := d.Pin()
	set, err := statement.Load(dir.Store(), pin, nil, now.Add(margin))
	if err == nil && keysLast(dir, set, now.Add(margin)) && secretsLast(dir, set, now.Add(margin)) && federationsLast(set, now.Add(margin)) {
		return false, nil
	}
	signers, err := openPeople(d)
	if err != nil {
		return false, err
	}
	if set == nil || !federationsLast(set, now.Add(margin)) {
		if err := rekey(d, now); err != nil {
			return false, err
		}
		if set, err = resign(dir, pin, signers, now); err != nil {
			return false, fmt.Errorf("signing the demo estate anew: %w", err)
		}
		if err := trust(d, set); err != nil {
			return false, err
		}
	}
	if !secretsLast(dir, set, now.Add(margin)) {
		if err := handOver(d, dir, set, signers[2], now, RandomKey); err != nil {
			return false, err
		}
	}
	if keysLast(dir, set, now.Add(margin)) {
		return true, nil
	}
	return true, issue(d, set, signers[0], now)
}

func openPeople(d *host.Dir) ([]*estate.Signer, error) {
	var all []*estate.Signer
	for _, person := range people {
		s, err := estate.Open(keyFile(d, person), nil)
		if err != nil {
			return nil, fmt.Errorf("opening %s's key: %w", person, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// resign attests everybody for another period and has every statement signed.
func resign(dir estate.Dir, pin statement.Pin, signers []*estate.Signer, now time.Time) (*statement.Set, error) {
	charter, err := attestAll(dir, now)
	if err != nil {
		return nil, err
	}
	names := []string{"charter", "operations"}
	for _, u := range charter.Units {
		names = append(names, "policy-"+u.ID, "custody-"+u.ID)
	}
	lives := estate.Lives{Statements: statementLife, Lock: lockLife}
	if err := dir.SignAll(charter, append(names, "lock"), signers, now, lives); err != nil {
		return nil, err
	}
	return dir.Publish(pin, now)
}

func attestAll(dir estate.Dir, now time.Time) (*statement.Charter, error) {
	files, err := dir.Files("charter")
	if err != nil {
		return nil, err
	}
	var charter statement.Charter
	if err := yaml.UnmarshalWithOptions(files["charter.yaml"], &charter, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("charter.yaml:\n%w", err)
	}
	for i := range charter.People {
		charter.People[i].AttestedUntil = now.Add(attested).UTC().Truncate(time.Second)
	}
	for i := range charter.ServiceKeys {
		if k := &charter.ServiceKeys[i]; k.NotAfter.Before(now.Add(lockLife)) {
			k.NotAfter = now.Add(host.ServiceLife).UTC().Truncate(time.Second)
		}
	}
	b, err := estate.Marshal(charter, "charter.yaml")
	if err != nil {
		return nil, err
	}
	return &charter, durable.Replace(string(dir)+"/charter.yaml", b, 0o644)
}

// keysLast reports whether every workload has a key that is good at t.
func keysLast(dir estate.Dir, set *statement.Set, t time.Time) bool {
	records, err := estate.ReadRecords(dir.Store(), "workload-key")
	if err != nil {
		return false
	}
	good := map[string]bool{}
	for _, env := range records {
		if k, err := set.OpenWorkloadKey(env, t); err == nil {
			good[k.Workload] = good[k.Workload] || t.Before(k.NotAfter)
		}
	}
	for _, w := range set.Charter.Workloads {
		if !good[w.ID] {
			return false
		}
	}
	return true
}

// secretsLast reports whether every secret that is handed over was so lately that it may be used at t.
func secretsLast(dir estate.Dir, set *statement.Set, t time.Time) bool {
	records, err := estate.ReadRecords(dir.Store(), "handover")
	if err != nil {
		return false
	}
	made := map[string]time.Time{}
	for _, env := range records {
		h, err := set.OpenHandover(env, Processes.Custodian, t)
		if err == nil && h.Created.After(made[h.Credential]) {
			made[h.Credential] = h.Created
		}
	}
	for _, u := range set.Charter.Units {
		for _, c := range set.Custody[u.ID].Credentials {
			if c.Source == "sealed" && t.Sub(made[c.ID]) > time.Duration(c.MaxLifetime) {
				return false
			}
		}
	}
	return true
}
