package daemon

import (
	"crypto/tls"
	"net"
	"os"
	"slices"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/process"
)

// peer names the gateway that a peer is: on the socket by its user, as the configuration says, from another machine by its key,
// as the operations statement in force says.
func (h *host) peer(p hop.Peer) string {
	for _, g := range h.cfg.Hop.Gateways {
		if p.Key == "" && g.UID == p.UID {
			p.Name = g.ID
		}
	}
	for _, g := range h.Set().Operations.Gateways {
		if p.Key != "" && g.Peer == p.Key {
			p.Name = g.ID
		}
	}
	if p.Name != "" {
		h.Isolation.Level(p, h.Clock()) // shows in the status before the first use
	}
	return p.Name
}

// open opens what gateways connect to. It returns what is open also with an error.
func (c *Hop) open(key *hop.Key) (all []net.Listener, err error) {
	if c.Socket != "" {
		l, err := process.Listen("unix:" + c.Socket)
		if err != nil {
			return all, err
		}
		all = append(all, l)
		if slices.ContainsFunc(c.Gateways, func(g Gateway) bool { return g.UID != os.Getuid() }) { // another user has to reach it
			if err := os.Chmod(c.Socket, 0o666); err != nil {
				return all, err
			}
		}
	}
	if c.Listen != "" {
		l, err := process.Listen(c.Listen)
		if err != nil {
			return all, err
		}
		all = append(all, tls.NewListener(l, hop.ServerTLS(key)))
	}
	return all, nil
}
