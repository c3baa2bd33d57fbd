// Package daemon runs a custodian as a process: configuration, start order, sockets, readiness.
package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/custodian/sealed"
)

// Config is custodian.yaml. Paths are absolute or relative to the working directory.
type Config struct {
	ID  string `yaml:"id"`  // as the custody statements name it
	Ops string `yaml:"ops"` // /healthz, /readyz and /metrics: unix:/path or 127.0.0.1:port

	LogLevel string `yaml:"log_level"` // debug, info (the default), warn or error

	StateDir string `yaml:"state_dir"` // mode 0700: write-ahead log, sealed secrets, what is closed, the last set
	TilesDir string `yaml:"tiles_dir"` // the published log, readable by the auditor

	EstateTrust Trust `yaml:"estate_trust"`
	// Authority is where sets, records and heartbeats come from: its URL, those of several that stand in for one another, or a
	// folder that holds the signed store.
	Authority []string `yaml:"authority"`

	// Relays are where signed records come from besides the authority, which could withhold them: the auditors' URLs.
	Relays []string `yaml:"relays"`

	Hop   Hop    `yaml:"hop"`
	Admin string `yaml:"admin"` // path of the admin socket, which can only close

	Identity sealed.Identity `yaml:"identity"`
	// FederationDir is where the two files for the providers of each unit that federates are written, for its owners to publish;
	// readable by everybody. Empty for nowhere.
	FederationDir string `yaml:"federation_dir"`
	// FederationHelper is the Unix socket of a helper that keeps federation keys; docs/formats/helper.md. Empty for none.
	FederationHelper string `yaml:"federation_helper"`

	// TokenDir is where the platform puts tokens that it makes for this process, such as that of a Kubernetes service account. A custody record
	// may name a file in the folder <unit> in it, and no other: who writes a unit's records also says where its tokens are shown. Empty for nowhere.
	TokenDir string `yaml:"token_dir"`

	LogKey    string    `yaml:"log_key"`   // file with the ledger's note signer key, mode 0600
	Witnesses []Witness `yaml:"witnesses"` // those that its checkpoints are pushed to; at least one
}

// Trust is what the custodian believes before it has read anything.
type Trust struct {
	Estate        string   `yaml:"estate"`
	CharterSHA256 string   `yaml:"charter_sha256"` // hex, of the first charter's manifest; or RootKeys
	RootKeys      []string `yaml:"root_keys"`      // public keys as in the charter, at least the root threshold
	MinCharter    int64    `yaml:"min_charter"`    // lowest charter version that is accepted
}

// Hop is where gateways connect: a Unix socket, an address for those on other machines, or both.
type Hop struct {
	Socket   string    `yaml:"socket"`
	Gateways []Gateway `yaml:"gateways"` // who may use the socket
	Listen   string    `yaml:"listen"`   // host:port; gateways are told by the peer keys in the operations statement
	Key      string    `yaml:"key"`      // file with the key that the custody statements name as this custodian's peer, mode 0600; for listen
}

// Gateway is a peer on the socket, told by its user as the kernel names it.
type Gateway struct {
	ID  string `yaml:"id"` // as the operations statement names it
	UID int    `yaml:"uid"`
}

// Witness cosigns the ledger.
type Witness struct {
	URL string `yaml:"url"` // submission prefix of C2SP tlog-witness; its key stands in the charter
}

// check refuses a configuration that cannot work.
func (c *Config) check() error {
	for _, f := range []struct{ name, value string }{
		{"id", c.ID}, {"state_dir", c.StateDir}, {"tiles_dir", c.TilesDir}, {"estate_trust.estate", c.EstateTrust.Estate},
		{"authority", strings.Join(c.Authority, "")}, {"admin", c.Admin}, {"log_key", c.LogKey},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	switch {
	case c.EstateTrust.CharterSHA256 == "" && len(c.EstateTrust.RootKeys) == 0:
		return errors.New("estate_trust needs charter_sha256 or root_keys: without them any estate would be believed")
	case (c.Identity.File == "") == (c.Identity.Credential == ""):
		return errors.New("identity needs exactly one of file and credential")
	case c.Hop.Socket == "" && c.Hop.Listen == "":
		return errors.New("hop needs a socket for gateways on this machine, or listen for those on others")
	case (c.Hop.Socket == "") != (len(c.Hop.Gateways) == 0):
		return errors.New("hop.socket and hop.gateways go together: name each gateway that uses the socket with its id and uid")
	case (c.Hop.Listen == "") != (c.Hop.Key == ""):
		return errors.New("hop.listen and hop.key go together: gateways on other machines know the custodian by its key; make one: reeve host key")
	case len(c.Witnesses) == 0:
		return errors.New("witnesses is empty: a ledger that nobody cosigns proves nothing; name the auditor's URL")
	}
	return nil
}

// folder returns the signed store's path when the authority is a folder.
func (c *Config) folder() (string, bool) {
	return c.Authority[0], len(c.Authority) == 1 && !strings.HasPrefix(c.Authority[0], "http://") && !strings.HasPrefix(c.Authority[0], "https://")
}

// confine is what the custodian may still do once it runs.
func (c *Config) confine() confine.Profile {
	p := confine.Profile{
		ReadOnly:   append(confine.Folders(c.Identity.Path()), "/proc"), // a peer's confinement is read from /proc/PID/status
		ReadWrite:  []string{c.StateDir, c.TilesDir, filepath.Dir(c.Admin)},
		ConnectAny: true, // destinations come with the estate
		Datagrams:  true, // and their names have to be resolved
	}
	if c.Hop.Socket != "" {
		p.ReadWrite = append(p.ReadWrite, filepath.Dir(c.Hop.Socket))
	}
	if c.FederationDir != "" {
		p.ReadWrite = append(p.ReadWrite, c.FederationDir)
	}
	if c.TokenDir != "" {
		p.ReadOnly = append(p.ReadOnly, c.TokenDir)
	}
	if folder, ok := c.folder(); ok {
		p.ReadOnly = append(p.ReadOnly, folder)
	}
	return p
}
