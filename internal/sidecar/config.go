package sidecar

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// Config is the configuration of a sidecar. Unknown fields are refused. Paths are relative to the file's folder.
type Config struct {
	// Gateway is the gateway's public URL, exactly as the operations statement has it: requests are signed for it.
	Gateway string `yaml:"gateway"`
	Connect string `yaml:"connect"` // host:port to dial instead of the URL's own, such as a port forward; the signature stays for the URL
	CA      string `yaml:"ca"`      // file of PEM roots besides the system's, for an https gateway

	// Listen is a loopback address, where a client shows the key of this run, or unix:/path, a socket of mode 0600. By default any
	// free port of 127.0.0.1.
	Listen string `yaml:"listen"`
	Ops    string `yaml:"ops"` // host:port or unix:/path of /healthz and /readyz; empty for none

	// Key is the file with the workload's private key, PKCS #8 in PEM, mode 0600: Ed25519 or P-256 (reeve sidecar key makes one). With a key
	// every request is signed, and the token must be bound to it by cnf.jkt. Without one the token goes along alone: level W1.
	Key       string    `yaml:"key"`
	Token     Token     `yaml:"token"`
	Authority Authority `yaml:"authority"`

	Audience   string   `yaml:"audience"`   // custodian id that requests are signed for; by default what the gateway's /v1/reeve/me names
	Credential string   `yaml:"credential"` // that requests are signed for; by default the model that the body names
	Fallbacks  []string `yaml:"fallbacks"`  // credentials that the gateway may choose instead
	Memory     int64    `yaml:"memory"`     // bytes of request bodies held at one time; 256 MiB by default
}

// Token says where the token comes from: one of these.
type Token struct {
	Own     *Own     `yaml:"own"`     // signed with Key itself, whose public half the charter has as an issuer
	File    string   `yaml:"file"`    // read at every request, as Kubernetes projects it anew
	Command []string `yaml:"command"` // a program that prints it
	SPIFFE  *SPIFFE  `yaml:"spiffe"`  // from a SPIFFE Workload API
}

// Own is a token that the workload signs itself (RFC 7523): iss and sub are both Issuer.
type Own struct {
	Issuer   string `yaml:"issuer"`   // of the charter
	Audience string `yaml:"audience"` // of the workload's identity; with an authority it is the authority's issuer
}

// SPIFFE names a Workload API. An X.509-SVID signs every request with its own key (W2); a JWT-SVID is a token (W1).
type SPIFFE struct {
	Socket   string `yaml:"socket"`   // such as unix:///run/spire/agent.sock; by default $SPIFFE_ENDPOINT_SOCKET
	ID       string `yaml:"id"`       // SPIFFE id to choose when the workload has several
	Audience string `yaml:"audience"` // of a JWT-SVID; empty for the X.509-SVID
}

// Authority exchanges what Token gives for an access token, where its URL is set.
type Authority struct {
	URL    string `yaml:"url"`    // where its token endpoint is reached; it serves /v1/token
	Issuer string `yaml:"issuer"` // the charter's authority.issuer; by default URL
	CA     string `yaml:"ca"`     // file of PEM roots besides the system's
}

const defaultMemory = 256 << 20

// ReadConfig reads and checks a configuration file.
func ReadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the sidecar's configuration: %w", err)
	}
	c := &Config{Listen: "127.0.0.1:0", Memory: defaultMemory}
	if err := yaml.UnmarshalWithOptions(b, c, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("the sidecar's configuration %s is refused; mend the line and start again:\n%w", path, err)
	}
	for _, file := range []*string{&c.CA, &c.Key, &c.Token.File, &c.Authority.CA} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	if c.Authority.URL = strings.TrimSuffix(c.Authority.URL, "/"); c.Authority.Issuer == "" {
		c.Authority.Issuer = c.Authority.URL
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("the sidecar's configuration %s is refused: %w", path, err)
	}
	return c, nil
}

// Check says what a configuration lacks.
func (c *Config) Check() error {
	sources := 0
	for _, set := range []bool{c.Token.Own != nil, c.Token.File != "", len(c.Token.Command) > 0, c.Token.SPIFFE != nil} {
		if set {
			sources++
		}
	}
	svid := c.x509()
	switch {
	case !web(c.Gateway) || strings.HasSuffix(c.Gateway, "/"):
		return errors.New("gateway is not the gateway's public URL, such as https://gateway.example; the operations statement has it")
	case sources != 1:
		return fmt.Errorf("token names %d sources; name one of own, file, command and spiffe", sources)
	case c.Token.Own != nil && (c.Key == "" || c.Token.Own.Issuer == ""):
		return errors.New("a token of the workload's own needs key and token.own.issuer")
	case c.Token.Own != nil && c.Token.Own.Audience == "" && c.Authority.URL == "":
		return errors.New("token.own.audience is empty; the charter has it in the workload's identity")
	case svid && (c.Key != "" || c.Authority.URL != ""):
		return errors.New("an X.509-SVID brings its own key and needs no authority; leave key and authority out, or name token.spiffe.audience for a JWT-SVID")
	case c.Authority.URL != "" && !web(c.Authority.URL):
		return errors.New("authority.url is not a URL")
	case c.Memory <= 0:
		return errors.New("memory is not positive")
	}
	return loopback(c.Listen)
}

// x509 reports whether the workload proves itself by X.509-SVID.
func (c *Config) x509() bool { return c.Token.SPIFFE != nil && c.Token.SPIFFE.Audience == "" }

func web(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// loopback refuses an address that other machines reach.
func loopback(listen string) error {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("listen: %q is not unix: and an absolute path", listen)
		}
		return nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err == nil {
		var ip netip.Addr
		if ip, err = netip.ParseAddr(host); err == nil && ip.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("listen: %q is neither a loopback address such as 127.0.0.1:0 nor unix:/path: a sidecar answers in its workload's name, to programs of this machine only", listen)
}
