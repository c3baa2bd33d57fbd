package host

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/plain"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// Estate is what the processes' configurations take from the estate.
type Estate struct {
	Pin     statement.Pin
	Charter *statement.Charter
	IDs     IDs
}

type witness struct {
	ID  string `yaml:"id,omitempty"`
	URL string `yaml:"url"`
}

// WriteConfigs writes every process's configuration file. The processes read them strictly, so a mistake here stops them with
// file, line and column.
func (d *Dir) WriteConfigs(e Estate) error {
	believed := TrustOf(e.Pin)
	authority := []string{"http://" + Local(d.Run.Ports.Authority)}
	witnesses := []witness{{URL: "http://" + Local(d.Run.Ports.Auditor)}}
	own := os.Geteuid()
	gatewayUID := UID(Gateway)
	if gatewayUID < 0 {
		gatewayUID = own
	}
	configs := map[string]yaml.MapSlice{
		Gateway: append(d.common(Gateway, e.IDs.Gateway, believed),
			yaml.MapItem{Key: "listen", Value: Local(d.Run.Ports.Gateway)},
			yaml.MapItem{Key: "authority", Value: authority},
			yaml.MapItem{Key: "hop", Value: yaml.MapSlice{{Key: "custodians", Value: []yaml.MapSlice{{
				{Key: "id", Value: e.IDs.Custodian}, {Key: "socket", Value: d.Hop()}}}}}},
			yaml.MapItem{Key: "log_key", Value: d.Join(Gateway, "log.key")},
			yaml.MapItem{Key: "witnesses", Value: witnesses}),
		Custodian: append(d.common(Custodian, e.IDs.Custodian, believed),
			yaml.MapItem{Key: "authority", Value: authority},
			yaml.MapItem{Key: "relays", Value: []string{witnesses[0].URL}},
			yaml.MapItem{Key: "hop", Value: yaml.MapSlice{{Key: "socket", Value: d.Hop()},
				{Key: "gateways", Value: []yaml.MapSlice{{{Key: "id", Value: e.IDs.Gateway}, {Key: "uid", Value: gatewayUID}}}}}},
			yaml.MapItem{Key: "admin", Value: d.Socket(Custodian, "admin")},
			yaml.MapItem{Key: "identity", Value: yaml.MapSlice{{Key: "file", Value: d.Join(Custodian, "identity.age")}}},
			yaml.MapItem{Key: "federation_dir", Value: d.Join("federation")},
			yaml.MapItem{Key: "log_key", Value: d.Join(Custodian, "log.key")},
			yaml.MapItem{Key: "witnesses", Value: witnesses}),
		Authority: append(d.common(Authority, e.IDs.Authority, believed),
			yaml.MapItem{Key: "listen", Value: Local(d.Run.Ports.Authority)},
			yaml.MapItem{Key: "estate", Value: d.Join("estate", ".signed")},
			yaml.MapItem{Key: "feed_key", Value: d.Join(Authority, "feed.key")},
			yaml.MapItem{Key: "token_key", Value: d.Join(Authority, "token.key")},
			yaml.MapItem{Key: "log_key", Value: d.Join(Authority, "log.key")},
			yaml.MapItem{Key: "witnesses", Value: []witness{{ID: e.IDs.Auditor, URL: witnesses[0].URL}}}),
	}
	configs[Auditor] = d.auditor(e)
	for process, c := range configs {
		b, err := yaml.MarshalWithOptions(c, yaml.IndentSequence(true))
		if err != nil {
			return err
		}
		if err := durable.Replace(d.Config(process), b, 0o600); err != nil {
			return fmt.Errorf("writing the %s's configuration: %w", process, err)
		}
	}
	return d.WriteTrust(e.Charter)
}

// PassphraseFD is the descriptor that the passphrase of the custodian's identity comes by, as the custodian's configuration says; 0 for none.
func (d *Dir) PassphraseFD() (int, error) {
	f, err := plain.Open(d.Config(Custodian), os.O_RDONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("reading the custodian's configuration: %w", err)
	}
	defer f.Close()
	var c struct {
		Identity struct {
			PassphraseFD int `yaml:"passphrase_fd"`
		} `yaml:"identity"`
	}
	if yaml.NewDecoder(f).Decode(&c) != nil {
		return 0, nil // the custodian refuses it, and names the line
	}
	return c.Identity.PassphraseFD, nil
}

// WriteTrust writes trust.json, the keys of the charter that receipts and logs are checked with, and the auditor's copy of it.
func (d *Dir) WriteTrust(c *statement.Charter) error {
	t := verify.Trust{Estate: c.Estate, Need: c.Witnesses.Need}
	for _, k := range c.ServiceKeys {
		name, _, _ := strings.Cut(k.Key, "+")
		switch k.Use {
		case "log":
			t.Logs = append(t.Logs, verify.Log{Process: k.Process, Origin: name, Key: k.Key})
		case "witness":
			t.Witnesses = append(t.Witnesses, verify.Witness{Name: name, Key: k.Key})
		}
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	for _, path := range []string{d.Trust(), d.Join(Auditor, "trust.json")} {
		if err := durable.Replace(path, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing the trust file: %w", err)
		}
	}
	return nil
}

// auditor is the auditor's configuration: it has no ledger and trusts keys, not an estate.
func (d *Dir) auditor(e Estate) yaml.MapSlice {
	source := func(process, id string) yaml.MapSlice {
		return yaml.MapSlice{{Key: "process", Value: id}, {Key: "tiles", Value: d.Join("tiles", process)}}
	}
	return yaml.MapSlice{
		{Key: "id", Value: e.IDs.Auditor}, {Key: "listen", Value: Local(d.Run.Ports.Auditor)},
		{Key: "ops", Value: "unix:" + d.Socket(Auditor, "ops")}, {Key: "state_dir", Value: d.Join(Auditor)},
		{Key: "trust", Value: d.Join(Auditor, "trust.json")}, {Key: "witness_key", Value: d.Join(Auditor, "witness.key")},
		{Key: "logs", Value: []yaml.MapSlice{source(Gateway, e.IDs.Gateway), source(Custodian, e.IDs.Custodian), source(Authority, e.IDs.Authority)}},
	}
}

// common are the members that the other configurations share.
func (d *Dir) common(process, id string, believed Trust) yaml.MapSlice {
	return yaml.MapSlice{
		{Key: "id", Value: id}, {Key: "ops", Value: "unix:" + d.Socket(process, "ops")},
		{Key: "state_dir", Value: d.Join(process)}, {Key: "tiles_dir", Value: d.Join("tiles", process)},
		{Key: "estate_trust", Value: believed},
	}
}
