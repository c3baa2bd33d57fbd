package authority

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/database"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
)

// Config is authority.yaml. Paths are absolute or relative to the working directory.
type Config struct {
	ID     string `yaml:"id"`     // as the charter's service keys name it
	Listen string `yaml:"listen"` // host:port of the stream, which the estate's processes are given, and of records and tokens
	Ops    string `yaml:"ops"`    // /healthz, /readyz and /metrics: unix:/path or 127.0.0.1:port

	TLS      serve.TLS `yaml:"tls"`       // of listen
	LogLevel string    `yaml:"log_level"` // debug, info (the default), warn or error

	StateDir   string `yaml:"state_dir"`   // mode 0700: database, write-ahead log
	TilesDir   string `yaml:"tiles_dir"`   // the published log, readable by the auditor
	TilesGroup int    `yaml:"tiles_group"` // numeric group of the published log; 0 leaves the process's own

	// Database is PostgreSQL, for several authorities that stand in for one another. Without it the authority is alone and
	// keeps its state in state_dir/authority.db.
	Database Database `yaml:"database,omitempty"`

	Estate      string `yaml:"estate"` // the signed store (estate/.signed); only read
	EstateTrust Trust  `yaml:"estate_trust"`

	FeedKey   string    `yaml:"feed_key"`            // file with the note signer key of heartbeats, mode 0600
	TokenKey  string    `yaml:"token_key,omitempty"` // file with the note signer key of access tokens, mode 0600; without it none are issued
	LogKey    string    `yaml:"log_key"`             // file with the ledger's note signer key, mode 0600
	Witnesses []Witness `yaml:"witnesses"`

	SCIM []SCIM `yaml:"scim"` // identity providers that may deactivate people and agents by SCIM 2.0

	Followers int `yaml:"followers"` // streams at once; more get 503
}

// Database says where PostgreSQL is.
type Database struct {
	Connection   string `yaml:"connection,omitempty"`    // of libpq, as a URL or as words, without a password; to another machine with sslmode=verify-full
	PasswordFile string `yaml:"password_file,omitempty"` // mode 0600; else the connection's passfile, certificate or the server's rules
}

func (d Database) server() database.Server {
	return database.Server{Connection: d.Connection, PasswordFile: d.PasswordFile}
}

// Trust is what the authority believes before it has read anything.
type Trust struct {
	Estate        string   `yaml:"estate"`
	CharterSHA256 string   `yaml:"charter_sha256"` // hex, of the first charter's manifest; or RootKeys
	RootKeys      []string `yaml:"root_keys"`      // public keys as in the charter, at least the root threshold
	MinCharter    int64    `yaml:"min_charter"`    // lowest charter version that is accepted
}

// Witness cosigns the ledger.
type Witness struct {
	ID  string `yaml:"id"`  // process id of its keys in the charter
	URL string `yaml:"url"` // submission prefix of C2SP tlog-witness
}

// App is the process.
func App() process.App[Config] {
	return process.App[Config]{
		Name:    "reeve-authority",
		Default: Config{Listen: "127.0.0.1:7801", Followers: 4096},
		Check:   (*Config).check,
		Ops:     func(c *Config) string { return c.Ops },
		Confine: (*Config).confine,
		Run:     run,

		LogLevel: func(c *Config) string { return c.LogLevel },
		Live:     []string{"log_level", "tls"},
	}
}

// check refuses a configuration that cannot work.
func (c *Config) check() error {
	for _, f := range []struct{ name, value string }{
		{"id", c.ID}, {"listen", c.Listen}, {"state_dir", c.StateDir}, {"tiles_dir", c.TilesDir}, {"estate", c.Estate},
		{"estate_trust.estate", c.EstateTrust.Estate}, {"feed_key", c.FeedKey}, {"log_key", c.LogKey},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	switch {
	case c.EstateTrust.CharterSHA256 == "" && len(c.EstateTrust.RootKeys) == 0:
		return errors.New("estate_trust needs charter_sha256 or root_keys: without them any estate would be believed")
	case len(c.Witnesses) == 0:
		return errors.New("witnesses is empty: a ledger that nobody cosigns proves nothing; name the auditor's URL")
	case c.Followers < 1:
		return errors.New("followers must be at least 1")
	case c.Database.Connection == "" && c.Database.PasswordFile != "":
		return errors.New("database has a password_file and no connection")
	case c.Database.Connection != "":
		if err := c.Database.server().Check(); err != nil {
			return fmt.Errorf("database: %w", err)
		}
	}
	return c.TLS.Check()
}

func (c *Config) pin(demo bool) statement.Pin {
	t := c.EstateTrust
	return statement.Pin{Estate: t.Estate, CharterSHA256: t.CharterSHA256, RootKeys: t.RootKeys, MinCharter: t.MinCharter, AllowDemo: demo}
}

// openStore opens the database that the configuration names.
func (c *Config) openStore(ctx context.Context) (*store.Store, error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, err
	}
	if c.Database.Connection != "" {
		return store.OpenServer(ctx, c.Database.server())
	}
	return store.OpenFile(ctx, filepath.Join(c.StateDir, "authority.db"))
}

// confine is what the authority may still do once it runs. No path leads to a secret that is not its own.
func (c *Config) confine() confine.Profile {
	p := confine.Profile{
		ReadOnly:   append(confine.Folders(c.TLS.Files()...), c.Estate),
		ReadWrite:  []string{c.StateDir, c.TilesDir},
		ConnectAny: true, // witnesses come with the configuration, by name
		Datagrams:  true,
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			p.Bind = append(p.Bind, uint16(n))
		}
	}
	return p
}
