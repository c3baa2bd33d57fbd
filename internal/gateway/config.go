package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/confine"
)

// Config is gateway.yaml. Paths are absolute or relative to the working directory.
type Config struct {
	ID     string `yaml:"id"`     // as the operations statement names it
	Listen string `yaml:"listen"` // where clients connect: host:port, or unix:/path
	Ops    string `yaml:"ops"`    // /healthz, /readyz and /metrics: unix:/path or 127.0.0.1:port

	StateDir string `yaml:"state_dir"` // mode 0700: the ledger's write-ahead log, the last set and records
	TilesDir string `yaml:"tiles_dir"` // the published ledger, readable by the auditor

	EstateTrust Trust `yaml:"estate_trust"`
	// Authority is where sets, records and heartbeats come from: its URL, or a folder that holds the signed store.
	Authority string `yaml:"authority"`

	Hop Hop `yaml:"hop"`

	LogKey    string    `yaml:"log_key"`   // file with the ledger's note signer key, mode 0600
	Witnesses []Witness `yaml:"witnesses"` // those that its checkpoints are pushed to

	Drain     time.Duration `yaml:"drain"`       // how long streams may go on after SIGTERM
	KeepAlive time.Duration `yaml:"keep_alive"`  // silence in a stream of events before a comment is sent
	Memory    int64         `yaml:"body_memory"` // bytes of request bodies held at one time
}

// Trust is what the gateway believes before it has read anything.
type Trust struct {
	Estate        string   `yaml:"estate"`
	CharterSHA256 string   `yaml:"charter_sha256"` // hex, of the first charter's manifest; or RootKeys
	RootKeys      []string `yaml:"root_keys"`      // base64 Ed25519 public keys, at least the root threshold
	MinCharter    int64    `yaml:"min_charter"`    // lowest charter version that is accepted
}

// Hop is the way to the custodian.
type Hop struct {
	Socket string `yaml:"socket"` // path of its Unix socket
	Conns  int    `yaml:"conns"`  // connections kept to it
}

// Witness cosigns the ledger.
type Witness struct {
	URL string `yaml:"url"` // submission prefix of C2SP tlog-witness; its key stands in the charter
}

// defaults are what the file may leave out.
func defaults() Config {
	return Config{
		Listen: "127.0.0.1:7800", Hop: Hop{Conns: 2},
		Drain: 30 * time.Second, KeepAlive: 15 * time.Second, Memory: 512 << 20,
	}
}

// check refuses a configuration that cannot work.
func (c *Config) check() error {
	for _, f := range []struct{ name, value string }{
		{"id", c.ID}, {"listen", c.Listen}, {"state_dir", c.StateDir}, {"tiles_dir", c.TilesDir},
		{"estate_trust.estate", c.EstateTrust.Estate}, {"authority", c.Authority}, {"hop.socket", c.Hop.Socket}, {"log_key", c.LogKey},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	switch {
	case c.EstateTrust.CharterSHA256 == "" && len(c.EstateTrust.RootKeys) == 0:
		return errors.New("estate_trust needs charter_sha256 or root_keys: without them any estate would be believed")
	case c.Drain < 0 || c.KeepAlive < time.Second || c.Memory < 1<<20:
		return errors.New("drain, keep_alive (at least 1s) or body_memory (at least 1048576 bytes) is too small")
	}
	return nil
}

// folder returns the signed store's path when the authority is a folder.
func (c *Config) folder() (string, bool) {
	return c.Authority, !strings.HasPrefix(c.Authority, "http://") && !strings.HasPrefix(c.Authority, "https://")
}

// confine is what the gateway may still do once it runs: its own state, the authority and the witnesses. The custodian's
// socket needs no file right to connect to; its directory is left out, so that nothing else in it can be seen.
func (c *Config) confine() confine.Profile {
	p := confine.Profile{ReadWrite: []string{c.StateDir, c.TilesDir}}
	urls := make([]string, 0, len(c.Witnesses)+1)
	if folder, ok := c.folder(); ok {
		p.ReadOnly = append(p.ReadOnly, folder)
	} else {
		urls = append(urls, c.Authority)
	}
	for _, w := range c.Witnesses {
		urls = append(urls, w.URL)
	}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			continue // whoever dials it says so
		}
		p.Connect = append(p.Connect, port(u))
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			p.Datagrams = true // a name has to be resolved
		}
	}
	if path, isUnix := strings.CutPrefix(c.Listen, "unix:"); isUnix {
		p.ReadWrite = append(p.ReadWrite, filepath.Dir(path))
	}
	return p
}

func port(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}
