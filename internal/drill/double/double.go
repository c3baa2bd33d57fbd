// Package double is what reeve is compared with: a gateway of one process with the keys in it, as most gateways are. It exists
// so that the drill is seen to turn red, and as the benchmark's public measure; it is never part of an estate.
package double

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config is the double's whole configuration: a file with the keys in it.
type Config struct {
	Upstream string           `json:"upstream"` // https://host:port
	CA       string           `json:"ca"`       // PEM of the upstream's authority
	Routes   map[string]Route `json:"routes"`   // by the client's key
}

// Route is the provider's key that a client's key stands for.
type Route struct {
	Credential string `json:"credential"` // name
	Header     string `json:"header"`     // Authorization or X-Api-Key
	Key        string `json:"key"`        // the provider's key itself
}

// Load reads a configuration file.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return &c, nil
}

// Handler is the gateway: look up the client's key, put the provider's key into the header, pass on.
func (c *Config) Handler() (http.Handler, error) {
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, errors.New("no certificate in ca")
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			route := c.Routes[bearer(r.In)]
			r.Out.Header.Del("Authorization")
			r.Out.Header.Set(route.Header, route.Key)
		},
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 4096,
			DisableCompression:  true,
		},
		FlushInterval: -1,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := c.Routes[bearer(r)]; !ok {
			http.Error(w, "unknown key", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

// Serve serves until the listener is closed.
func (c *Config) Serve(l net.Listener) error {
	h, err := c.Handler()
	if err != nil {
		return err
	}
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

func bearer(r *http.Request) string {
	if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return key
	}
	return r.Header.Get("X-Api-Key")
}
