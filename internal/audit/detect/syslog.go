package detect

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Syslog sends each finding as one RFC 5424 message: a datagram over UDP (RFC 5426) or a Unix socket, with its length before it over TCP (RFC 6587).
// Neither is answered: over UDP a finding may be lost, over TCP what the connection took counts as arrived.
type Syslog struct {
	network, address string
	conn             net.Conn // TCP and Unix connections stay open
}

// NewSyslog reads an address: udp://host:514, tcp://host:601 or unix:/dev/log.
func NewSyslog(address string) (*Syslog, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return &Syslog{network: "unixgram", address: u.Path}, nil
	case (u.Scheme == "udp" || u.Scheme == "tcp") && u.Port() != "" && u.Path == "":
		return &Syslog{network: u.Scheme, address: u.Host}, nil
	}
	return nil, fmt.Errorf("%q is not udp://host:port, tcp://host:port or unix:/path", address)
}

// Send implements Sink.
func (s *Syslog) Send(ctx context.Context, f *Finding) (err error) {
	if s.conn == nil {
		d := net.Dialer{Timeout: patience}
		if s.conn, err = d.DialContext(ctx, s.network, s.address); err != nil {
			return fmt.Errorf("the syslog receiver cannot be reached: %w", err)
		}
	}
	text := f.syslog(time.Now())
	if s.network == "tcp" {
		text = strconv.Itoa(len(text)) + " " + text
	}
	s.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.Close()
		return fmt.Errorf("the syslog receiver did not take a finding: %w", err)
	}
	return nil
}

// Close ends the connection.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	c := s.conn
	s.conn = nil
	return c.Close()
}

// enterprise is the number in names of structured data that RFC 5612 keeps for examples and documentation.
const enterprise = "32473"

// syslog is the finding as an RFC 5424 message: facility 13 (log audit), severity 2 (critical) or 4 (warning), the rule as its MSGID.
func (f *Finding) syslog(now time.Time) string {
	priority := 13*8 + 4
	if f.Severity == High {
		priority = 13*8 + 2
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	var owners []string
	for _, o := range f.Owners {
		owners = append(owners, o.Person+" ("+o.For+")")
	}
	data := ""
	for _, p := range [][2]string{{"id", f.ID}, {"subject", f.Subject}, {"unit", f.Unit}, {"count", strconv.FormatInt(f.Count, 10)}, {"owners", strings.Join(owners, ", ")}} {
		data += fmt.Sprintf(` %s="%s"`, p[0], strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(p[1])) // RFC 5424, section 6.3.3
	}
	return fmt.Sprintf("<%d>1 %s %s reeve-audit %d %s [finding@%s%s] %s", priority, now.UTC().Format("2006-01-02T15:04:05.000000Z"), host, os.Getpid(), f.Rule, enterprise, data, f.What)
}
