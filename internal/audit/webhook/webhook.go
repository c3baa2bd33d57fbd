// Package webhook says where what the ledgers hold may be posted to, and how: to an https address, or to this machine, and nowhere else.
package webhook

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Check refuses an address that is neither https nor on this machine, or that has a secret in it.
func Check(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the webhook's address is none: %w", err)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Hostname() == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return fmt.Errorf("%s is no https address: http is for this machine alone, and secrets belong into a header", u.Redacted())
	}
	return nil
}

// Client posts. It follows no redirect: the page that one leads to answers 2xx without having taken anything, and what is posted, and the secret in
// its header, are for nobody else.
func Client(patience time.Duration) *http.Client {
	return &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
