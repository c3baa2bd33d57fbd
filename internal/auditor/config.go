package auditor

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/serve"
)

// Config is auditor.yaml. Paths are absolute or relative to the working directory.
type Config struct {
	ID     string `yaml:"id"`     // as the charter's witness key names it
	Listen string `yaml:"listen"` // host:port of add-checkpoint (C2SP tlog-witness) and of the status
	Ops    string `yaml:"ops"`    // /healthz, /readyz and /metrics: unix:/path or 127.0.0.1:port

	TLS      serve.TLS `yaml:"tls"`       // of listen
	LogLevel string    `yaml:"log_level"` // debug, info (the default), warn or error

	StateDir   string `yaml:"state_dir"`   // mode 0700: a verified copy of every log, and what was cosigned
	Trust      string `yaml:"trust"`       // trust.json: the estate's log keys
	WitnessKey string `yaml:"witness_key"` // file with the cosigner's private key (note key of type 4), mode 0600

	Logs []Source `yaml:"logs"`

	Index Index `yaml:"index,omitempty"`
}

// Source is where a process publishes its log.
type Source struct {
	Process string `yaml:"process"` // as trust.json names it
	Tiles   string `yaml:"tiles"`   // its tiles_dir; only read
}

// App is the process.
func App() process.App[Config] {
	return process.App[Config]{
		Name:    "reeve-auditor",
		Default: Config{Listen: "127.0.0.1:7802"},
		Check:   (*Config).check,
		Ops:     func(c *Config) string { return c.Ops },
		Confine: (*Config).confine,
		Run:     run,

		LogLevel: func(c *Config) string { return c.LogLevel },
		Live:     []string{"log_level", "tls", "trust"},
	}
}

// check refuses a configuration that cannot work.
func (c *Config) check() error {
	for _, f := range []struct{ name, value string }{
		{"id", c.ID}, {"listen", c.Listen}, {"state_dir", c.StateDir}, {"trust", c.Trust}, {"witness_key", c.WitnessKey},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	if len(c.Logs) == 0 {
		return errors.New("logs is empty: name each process whose log is followed, with its tiles_dir")
	}
	seen := map[string]bool{}
	for _, s := range c.Logs {
		if s.Process == "" || s.Tiles == "" || seen[s.Process] {
			return fmt.Errorf("logs: process %q has no tiles, or stands twice", s.Process)
		}
		seen[s.Process] = true
	}
	if err := c.Index.check(); err != nil {
		return err
	}
	return c.TLS.Check()
}

// confine is what the auditor may still do once it runs: read logs, write its own state, listen. It dials nobody but the database of its
// index, where that is a server.
func (c *Config) confine() confine.Profile {
	p := confine.Profile{ReadOnly: confine.Folders(append(c.TLS.Files(), c.Trust, c.Index.PasswordFile)...), ReadWrite: []string{c.StateDir}}
	if c.Index.Connection != "" {
		p.Connect, p.Datagrams = c.Index.server().Ports(), true
	}
	for _, s := range c.Logs {
		p.ReadOnly = append(p.ReadOnly, s.Tiles)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			p.Bind = append(p.Bind, uint16(n))
		}
	}
	return p
}
