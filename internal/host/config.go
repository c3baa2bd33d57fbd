package host

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/statement"
)

// Estate is what the processes' configurations take from the estate.
type Estate struct {
	Pin statement.Pin
	Set *statement.Set
	IDs IDs
}

type witness struct {
	URL string `yaml:"url"`
}

// WriteConfigs writes every process's configuration file. The processes read them strictly, so a mistake here stops them with
// file, line and column.
func (d *Dir) WriteConfigs(e Estate) error {
	believed := Trust{Estate: e.Pin.Estate, CharterSHA256: e.Pin.CharterSHA256}
	authority := "http://" + Local(d.Run.Ports.Authority)
	witnesses := []witness{{"http://" + Local(d.Run.Ports.Auditor)}}
	own := os.Geteuid()
	gatewayUID := UID(Gateway)
	if gatewayUID < 0 {
		gatewayUID = own
	}
	configs := map[string]yaml.MapSlice{
		Custodian: {
			{Key: "id", Value: e.IDs.Custodian}, {Key: "ops", Value: "unix:" + d.Socket(Custodian, "ops")},
			{Key: "state_dir", Value: d.Join(Custodian)}, {Key: "tiles_dir", Value: d.Join("tiles", Custodian)},
			{Key: "estate_trust", Value: believed}, {Key: "authority", Value: authority},
			{Key: "hop", Value: yaml.MapSlice{{Key: "socket", Value: d.Hop()},
				{Key: "gateways", Value: []yaml.MapSlice{{{Key: "id", Value: e.IDs.Gateway}, {Key: "uid", Value: gatewayUID}}}}}},
			{Key: "admin", Value: d.Socket(Custodian, "admin")},
			{Key: "identity", Value: yaml.MapSlice{{Key: "file", Value: d.Join(Custodian, "identity.age")}}},
			{Key: "log_key", Value: d.Join(Custodian, "log.key")}, {Key: "witnesses", Value: witnesses},
		},
	}
	for process, c := range configs {
		b, err := yaml.MarshalWithOptions(c, yaml.IndentSequence(true))
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.Config(process), b, 0o600); err != nil {
			return fmt.Errorf("writing the %s's configuration: %w", process, err)
		}
	}
	return nil
}
