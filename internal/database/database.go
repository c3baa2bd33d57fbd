// Package database opens a SQLite file or a database of PostgreSQL for database/sql.
package database

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/reevehq/reeve/internal/secret"
)

// File opens a SQLite file with pragmas such as "journal_mode(WAL)", and makes it when it is not there. Transactions begin as writing ones.
func File(path string, pragmas ...string) (*sql.DB, error) {
	return open(path, url.Values{"_pragma": pragmas, "_txlock": {"immediate"}})
}

// Existing opens a SQLite file to read what is there.
func Existing(path string, pragmas ...string) (*sql.DB, error) {
	return open(path, url.Values{"_pragma": pragmas, "mode": {"ro"}})
}

func open(path string, query url.Values) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return db, nil
}

// Server says where a PostgreSQL database is.
type Server struct {
	// Connection is a connection string of libpq, as a URL or as words, without a password.
	Connection string
	// PasswordFile has the password and nothing else, mode 0600. Without it passfile, client certificates or the server's
	// own rules decide.
	PasswordFile string
	// Owner is the user (numeric id) to whom the password file has to belong: who names a file in a configuration of his has root read no other's.
	// 0 for anybody.
	Owner int
}

// errPassword says where a password goes.
var errPassword = errors.New("the connection string has a password in it: put it into a file of mode 0600 and name that as password_file")

// errPlain says how a connection is made that nobody can read or answer in the server's place.
func errPlain(host string) error {
	return fmt.Errorf("the connection to the database at %s may be read, or answered by another: write sslmode=verify-full (and sslrootcert=FILE for a CA of your own); less is for this machine alone", host)
}

// Check refuses a connection string that is none, that has a password in it, which would stand in the configuration, or that lets data go to another
// machine without TLS that proves who it is.
func (s Server) Check() error {
	_, err := s.config()
	return err
}

func (s Server) config() (*pgx.ConnConfig, error) {
	if u, err := url.Parse(s.Connection); err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			return nil, errPassword
		}
	}
	if strings.Contains(strings.ToLower(s.Connection), "password") {
		return nil, errPassword
	}
	c, err := pgx.ParseConfig(s.Connection)
	if err != nil {
		return nil, fmt.Errorf("the connection string is none that libpq would take: %w", err)
	}
	if !proven(c.Host, c.TLSConfig) {
		return nil, errPlain(c.Host)
	}
	for _, f := range c.Fallbacks {
		if !proven(f.Host, f.TLSConfig) {
			return nil, errPlain(f.Host)
		}
	}
	return c, nil
}

// proven is whether a connection stays on this machine, or is one of TLS in which the server's certificate is verified (verify-ca, verify-full).
func proven(host string, c *tls.Config) bool {
	if strings.HasPrefix(host, "/") || host == "localhost" || net.ParseIP(host).IsLoopback() {
		return true
	}
	return c != nil && (!c.InsecureSkipVerify || c.VerifyPeerCertificate != nil)
}

// Name is the database as people know it, or nothing when the connection string is none.
func (s Server) Name() string {
	c, err := s.config()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("the database %s on %s", c.Database, c.Host)
}

// Open connects, with up to that many connections.
func (s Server) Open(connections int) (*sql.DB, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	if s.PasswordFile != "" {
		password, err := s.password()
		if err != nil {
			return nil, fmt.Errorf("the database's password: %w", err)
		}
		c.Password = strings.TrimRight(string(password.Reveal()), "\r\n")
	}
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	return db, nil
}

// password reads the password file, of which the owner is looked at once it is open.
func (s Server) password() (secret.Value, error) {
	if s.Owner == 0 {
		return secret.ReadFile(s.PasswordFile)
	}
	f, err := os.Open(s.PasswordFile)
	if err != nil {
		return secret.Value{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Value{}, err
	}
	if own := int(info.Sys().(*syscall.Stat_t).Uid); own != s.Owner {
		return secret.Value{}, fmt.Errorf("%s belongs to user %d, and who names it is user %d: it is not sent to a database", s.PasswordFile, own, s.Owner)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	return secret.New(b), err
}

// Ports are the TCP ports that Open connects to, none when the server is reached through a socket of this machine.
func (s Server) Ports() (ports []uint16) {
	c, err := s.config()
	if err != nil {
		return nil
	}
	if !strings.HasPrefix(c.Host, "/") {
		ports = append(ports, c.Port)
	}
	for _, f := range c.Fallbacks {
		if !strings.HasPrefix(f.Host, "/") {
			ports = append(ports, f.Port)
		}
	}
	return ports
}
