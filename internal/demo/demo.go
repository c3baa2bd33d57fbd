// Package demo makes the demo estate and keeps it fresh: three people whose keys lie beside it, two business units, random keys
// for the demo upstream that only the custodian can open. Its charter says demo, so no process accepts it that was not
// started with --demo.
package demo

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/sidecar"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	// ID is the estate's id.
	ID = "demo"
	// Model and AnthropicModel are the names that the pasted commands use.
	Model          = "openai/demo-small"
	AnthropicModel = "anthropic/demo-claude"

	workload = "research-agent" // whose key stands in env

	statementLife = 90 * 24 * time.Hour
	lockLife      = 30 * 24 * time.Hour
	keyLife       = 30 * 24 * time.Hour
	attested      = 90 * 24 * time.Hour
	// margin is how long before its end something is renewed.
	margin = 7 * 24 * time.Hour
)

// Processes are the ids in the demo's statements.
var Processes = host.IDs{Gateway: "g1", Custodian: "c1", Authority: "a1", Auditor: "w1"}

// people are the demo's owners; each role is another one's.
var people = []string{"ada", "bea", "cora"} // policy, operations, lifecycle

// RandomKey makes the demo upstream's key for a credential. Nothing keeps it.
func RandomKey(string) secret.Value {
	return secret.New([]byte("demo-upstream-key-" + strings.ToLower(rand.Text()+rand.Text())))
}

// Create makes the estate in d, a new directory, writes what the processes and the user need, and finishes d. The upstream gives the
// custodian short-lived tokens in exchange for signed ones, and no key of it is anywhere. With mint, which makes a key for each credential,
// they are handed over instead; each is wiped once it is sealed.
func Create(d *host.Dir, now time.Time, mint func(credential string) secret.Value, edits ...func(*estate.Plan)) error {
	ca, err := upstream.OpenCA(d.Join(host.Upstream, "demo-ca"))
	if err != nil {
		return err
	}
	signers, err := makePeople(d)
	if err != nil {
		return err
	}
	public, err := d.MakeKeys(ID, Processes, now)
	if err != nil {
		return err
	}
	agent, err := sidecar.CreateKey(AgentKey(d), "ed25519")
	if err != nil {
		return err
	}
	var federations map[string]*statement.Federation
	if mint == nil {
		if federations, err = federate(d, public.Recipient, now); err != nil {
			return err
		}
	}
	plan := estate.Demo{
		Estate: ID, Policy: signers[0], Operations: signers[1], Lifecycle: signers[2],
		ServiceKeys: public.ServiceKeys, Recipient: public.Recipient, Gateway: public.Gateway, Custodian: public.Custodian,
		GatewayURL: "http://" + host.Local(d.Run.Ports.Gateway), Authority: "http://" + host.Local(d.Run.Ports.Authority), Origin: "https://" + host.Local(d.Run.Ports.Upstream),
		Networks: []string{"127.0.0.1/32"}, CA: string(ca.PEM), AgentKeys: agent, Until: now.Add(attested), Federations: federations,
	}.Plan()
	for _, edit := range edits {
		edit(plan)
	}
	dir := estate.Dir(d.Join("estate"))
	pin, set, err := plan.Create(dir, signers, now, estate.Lives{Statements: statementLife, Lock: lockLife})
	if err != nil {
		return fmt.Errorf("signing the demo estate: %w", err)
	}
	if err := handOver(d, dir, set, signers[2], now, mint); err != nil {
		return err
	}
	if err := trust(d, set); err != nil {
		return err
	}
	if err := issue(d, set, signers[0], now); err != nil {
		return err
	}
	if err := writeSidecar(d); err != nil {
		return err
	}
	if err := d.WriteConfigs(host.Estate{Pin: pin, Charter: &set.Charter, IDs: Processes}); err != nil {
		return err
	}
	return d.Finish(pin)
}

// agentKey is the file, beside env, of the key that research-agent signs its requests with.
const agentKey = workload + ".key"

// AgentKey is the path of that file.
func AgentKey(d *host.Dir) string { return filepath.Join(d.Path, agentKey) }

// writeSidecar writes the configuration that `reeve exec` takes by default: research-agent with a key of its own.
func writeSidecar(d *host.Dir) error {
	text := fmt.Sprintf(`# How reeve exec and reeve sidecar prove requests of %s; docs/sidecar.md.
gateway: http://%s
key: %s
token:
  own:
    issuer: %s
    audience: %s
`, workload, host.Local(d.Run.Ports.Gateway), agentKey, estate.AgentIssuer(ID), estate.AgentAudience(ID))
	if err := os.WriteFile(filepath.Join(d.Path, "sidecar.yaml"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the sidecar's configuration: %w", err)
	}
	return nil
}

// makePeople makes the owners' keys. They lie unprotected beside the estate: that is what makes it a demo.
func makePeople(d *host.Dir) ([]*estate.Signer, error) {
	var all []*estate.Signer
	for _, person := range people {
		s, err := estate.NewSigner(person)
		if err != nil {
			return nil, err
		}
		if err := s.Save(keyFile(d, person), secret.Value{}); err != nil {
			return nil, fmt.Errorf("saving %s's key: %w", person, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func keyFile(d *host.Dir, person string) string { return d.Join("people", person+".key") }

// handOver makes a key for each credential that is handed over, tells the upstream its hash and seals it to the custodian.
func handOver(d *host.Dir, dir estate.Dir, set *statement.Set, owner *estate.Signer, now time.Time, mint func(string) secret.Value) error {
	var accepted []upstream.Key
	for _, u := range set.Charter.Units {
		for _, c := range set.Custody[u.ID].Credentials {
			if c.Source != "sealed" {
				continue
			}
			value := mint(c.ID)
			accepted = append(accepted, upstream.HashKey(c.ID, c.Dialect, value.Reveal()))
			_, err := handover.Put(dir, set, c.ID, value, owner, now)
			value.Wipe()
			if err != nil {
				return err
			}
		}
	}
	return upstream.WriteKeys(d.Join(host.Upstream), accepted)
}

// issue makes every workload a key and writes it where its user finds it: env, and env.<workload> for the others.
func issue(d *host.Dir, set *statement.Set, by *estate.Signer, now time.Time) error {
	dir := estate.Dir(d.Join("estate"))
	for _, w := range set.Charter.Workloads {
		key, env, err := estate.NewKey(ID, w.ID, now.Add(-time.Minute), keyLife, by)
		if err != nil {
			return err
		}
		name, err := estate.KeyName(env)
		if err != nil {
			return err
		}
		if err := dir.WriteRecord(name, env); err != nil {
			return fmt.Errorf("writing the key record of %s: %w", w.ID, err)
		}
		if err := writeEnv(EnvFile(d, w.ID), "http://"+host.Local(d.Run.Ports.Gateway), key); err != nil {
			return err
		}
	}
	return nil
}

// EnvFile is the file with a workload's settings.
func EnvFile(d *host.Dir, w string) string {
	if w == workload {
		return d.Env()
	}
	return d.Env() + "." + w
}

// writeEnv writes what a shell sources and every SDK reads.
func writeEnv(path, url string, key secret.Value) error {
	var b strings.Builder
	for _, v := range [][2]string{
		{"REEVE_URL", url}, {"REEVE_KEY", string(key.Reveal())},
		{"OPENAI_BASE_URL", url + "/v1"}, {"OPENAI_API_KEY", string(key.Reveal())},
		{"ANTHROPIC_BASE_URL", url}, {"ANTHROPIC_AUTH_TOKEN", string(key.Reveal())},
		{"REEVE_MODEL", Model}, {"REEVE_ANTHROPIC_MODEL", AnthropicModel},
	} {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], v[1])
	}
	if err := durable.Replace(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	return nil
}
