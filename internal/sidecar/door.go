package sidecar

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Door is where clients of this machine come in: a Unix socket that only its owner reaches, or a loopback port with a key of this
// run. A page in a browser comes in by neither: it does not know the key, its Origin is refused, and so is a Host that
// is a name which somebody's DNS points at this machine.
type Door struct {
	net.Listener
	key   string // empty on a Unix socket
	hosts []string
}

// Open opens the door: a loopback address or unix:/path.
func Open(listen string) (*Door, error) {
	if err := loopback(listen); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		l, err := private(path)
		return &Door{Listener: l}, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", listen, err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return &Door{Listener: l, key: "run_" + rand.Text() + rand.Text(), hosts: []string{l.Addr().String(), "localhost:" + port}}, err
}

// private makes a socket of mode 0600: in a folder that nobody else enters, and then moved, so that it is never open to others.
func private(path string) (net.Listener, error) {
	folder, err := os.MkdirTemp(filepath.Dir(path), ".reeve-")
	if err != nil {
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	defer os.RemoveAll(folder)
	first := filepath.Join(folder, "s")
	l, err := net.Listen("unix", first)
	if err != nil {
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		l.Close()
		return nil, fmt.Errorf("making the socket %s: something else has that name", path)
	}
	if err = os.Chmod(first, 0o600); err == nil {
		err = os.Rename(first, path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	return socket{l, path}, nil
}

// socket has the path that it was moved to, and removes it when it is closed.
type socket struct {
	net.Listener
	path string
}

// Addr implements net.Listener.
func (s socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close implements net.Listener.
func (s socket) Close() error {
	os.Remove(s.path) // what takes its place later is another's, and this one is closed once
	return s.Listener.Close()
}

// Key is the key of this run, empty on a Unix socket. It opens nothing but this door, while it is open.
func (d *Door) Key() string { return d.key }

// URL is where clients connect, http://host:port; empty on a Unix socket.
func (d *Door) URL() string {
	if d.key == "" {
		return ""
	}
	return "http://" + d.Addr().String()
}

// keyFields are where SDKs put their key. Canonical names.
var keyFields = [...]string{"Authorization", "X-Api-Key", "X-Goog-Api-Key", "Api-Key"}

// admit says why a request does not come in, or nil.
func (d *Door) admit(r *http.Request) *fault {
	if len(r.Header["Origin"]) > 0 {
		return &fault{http.StatusForbidden, "sidecar_origin", "The sidecar answers programs, and this request comes from a page in a browser. Nothing was sent."}
	}
	if d.key == "" {
		return nil
	}
	if !slices.Contains(d.hosts, r.Host) {
		return &fault{http.StatusForbidden, "sidecar_host", "The request's Host is not this sidecar's own address. Nothing was sent. Use the base URL as the sidecar printed it."}
	}
	shown := 0
	for _, name := range keyFields {
		for _, v := range r.Header[name] {
			if name == "Authorization" {
				scheme, rest, _ := strings.Cut(v, " ")
				if !strings.EqualFold(scheme, "Bearer") {
					rest = ""
				}
				v = strings.TrimLeft(rest, " ")
			}
			if !same(v, d.key) {
				return &fault{http.StatusUnauthorized, "sidecar_key", "A key that was sent in " + name + " is not the key of this run of the sidecar. Nothing was sent. Use the key that the sidecar set or printed, and no other: it proves the workload itself."}
			}
			shown++
		}
	}
	if shown == 0 {
		return &fault{http.StatusUnauthorized, "sidecar_key", "No key was sent. Nothing was sent on. Put the key of this run of the sidecar where the SDK has its API key."}
	}
	return nil
}

// same compares two keys in a time that tells neither content nor length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
