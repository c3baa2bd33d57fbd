package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/serve"
)

// Config is gateway.yaml. Paths are absolute or relative to the working directory.
type Config struct {
	ID       string    `yaml:"id"`        // as the operations statement names it
	Listen   string    `yaml:"listen"`    // where clients connect: host:port, or unix:/path
	TLS      serve.TLS `yaml:"tls"`       // of listen
	LogLevel string    `yaml:"log_level"` // debug, info (the default), warn or error
	Ops      string    `yaml:"ops"`       // /healthz, /readyz and /metrics: unix:/path or 127.0.0.1:port

	StateDir string `yaml:"state_dir"` // mode 0700: the ledger's write-ahead log, the last set and records
	TilesDir string `yaml:"tiles_dir"` // the published ledger, readable by the auditor

	EstateTrust Trust `yaml:"estate_trust"`
	// Authority is where sets, records and heartbeats come from: its URL, those of several that stand in for one another, or a
	// folder that holds the signed store.
	Authority []string `yaml:"authority"`

	Hop Hop `yaml:"hop"`

	// IssuerPorts are the TCP ports at which token issuers with discovery are asked for their keys, such as 443: once it is confined
	// the gateway connects to no others.
	IssuerPorts []uint16 `yaml:"issuer_ports"`

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
	RootKeys      []string `yaml:"root_keys"`      // public keys as in the charter, at least the root threshold
	MinCharter    int64    `yaml:"min_charter"`    // lowest charter version that is accepted
}

// Hop is the ways to the custodians.
type Hop struct {
	Custodians []HopCustodian `yaml:"custodians"`
	Key        string         `yaml:"key"`   // file with the key that the operations statement names as this gateway's peer, mode 0600; for addresses
	Conns      int            `yaml:"conns"` // connections kept to each
}

// HopCustodian is where one custodian is: a Unix socket on this machine or an address on another.
type HopCustodian struct {
	ID      string `yaml:"id"`      // as the custody statements name it
	Socket  string `yaml:"socket"`  // path of its Unix socket
	Address string `yaml:"address"` // host:port of its hop.listen; it is believed by the peer key in its custody statement
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
		{"estate_trust.estate", c.EstateTrust.Estate}, {"authority", strings.Join(c.Authority, "")}, {"log_key", c.LogKey},
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
	return errors.Join(c.TLS.Check(), c.Hop.check())
}

func (h *Hop) check() error {
	if len(h.Custodians) == 0 {
		return errors.New("hop.custodians is empty: name each custodian with its id and its socket or address")
	}
	seen := map[string]bool{}
	for _, k := range h.Custodians {
		switch {
		case k.ID == "" || seen[k.ID]:
			return fmt.Errorf("hop.custodians: the id %q is empty or stands twice", k.ID)
		case (k.Socket == "") == (k.Address == ""):
			return fmt.Errorf("hop.custodians: %s needs exactly one of socket and address", k.ID)
		case k.Address != "" && h.Key == "":
			return fmt.Errorf("hop.key is missing: %s is on another machine, which knows this gateway by its key; make one: reeve host key", k.ID)
		}
		if k.Address != "" {
			if _, _, err := splitAddress(k.Address); err != nil {
				return fmt.Errorf("hop.custodians: the address of %s: %w", k.ID, err)
			}
		}
		seen[k.ID] = true
	}
	return nil
}

// splitAddress is host and port of a TCP address.
func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q has no port number", address)
	}
	return host, uint16(n), nil
}

// folder returns the signed store's path when the authority is a folder.
func (c *Config) folder() (string, bool) {
	return c.Authority[0], len(c.Authority) == 1 && !strings.HasPrefix(c.Authority[0], "http://") && !strings.HasPrefix(c.Authority[0], "https://")
}

// confine is what the gateway may still do once it runs: its own state, the authority, the witnesses and the custodians. A
// custodian's socket needs no file right to connect to; its directory is left out, so that nothing else in it can be seen.
func (c *Config) confine() confine.Profile {
	p := confine.Profile{ReadOnly: confine.Folders(c.TLS.Files()...), ReadWrite: []string{c.StateDir, c.TilesDir}}
	urls := make([]string, 0, len(c.Witnesses)+1)
	if folder, ok := c.folder(); ok {
		p.ReadOnly = append(p.ReadOnly, folder)
	} else {
		urls = append(urls, c.Authority...)
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
		p.Datagrams = p.Datagrams || named(u.Hostname())
	}
	for _, k := range c.Hop.Custodians {
		if host, port, err := splitAddress(k.Address); err == nil {
			p.Connect = append(p.Connect, port)
			p.Datagrams = p.Datagrams || named(host)
		}
	}
	p.Connect = append(p.Connect, c.IssuerPorts...)
	p.Datagrams = p.Datagrams || len(c.IssuerPorts) > 0 // issuers have names
	if path, isUnix := strings.CutPrefix(c.Listen, "unix:"); isUnix {
		p.ReadWrite = append(p.ReadWrite, filepath.Dir(path))
	}
	return p
}

// named reports whether a host is a name that has to be resolved.
func named(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
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
