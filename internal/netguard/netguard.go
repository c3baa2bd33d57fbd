// Package netguard decides which addresses may be dialled by who must not be led into a private network: public ones, and those that
// a signed record allows.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ErrAddress means that a name led to an address that may not be dialled.
var ErrAddress = errors.New("address refused")

// metadata are the addresses of cloud instance services, which hand out credentials to whoever asks. No record can allow
// them. Sources: the providers' documentation of AWS (EC2, ECS, EKS), Google Cloud, Azure, Oracle and Alibaba.
var metadata = [...]netip.Addr{
	netip.AddrFrom4([4]byte{169, 254, 169, 254}), // EC2, Google Cloud, Azure, Oracle and most others
	netip.AddrFrom4([4]byte{169, 254, 170, 2}),   // ECS task credentials
	netip.AddrFrom4([4]byte{169, 254, 170, 23}),  // EKS pod identity
	netip.AddrFrom4([4]byte{100, 100, 100, 200}), // Alibaba
	netip.AddrFrom4([4]byte{168, 63, 129, 16}),   // Azure wire server
	netip.AddrFrom4([4]byte{192, 0, 0, 192}),     // Oracle classic
	netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54}),
	netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 15: 0x23}),
	netip.AddrFrom16([16]byte{0xfd, 0x20, 0x00, 0xce, 14: 0x02, 15: 0x54}),
}

// special4 are the IPv4 blocks of the IANA special-purpose registry, multicast and the reserved class E.
var special4 = [...]string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
}

// special6 are the blocks inside 2000::/3 that are not ordinary public addresses: IETF protocols with Teredo, documentation.
// What is outside 2000::/3 is not public at all.
var special6 = [...]string{"2001::/23", "2001:db8::/32", "3fff::/20"}

// Guard decides which addresses may be dialled. The zero value allows none.
type Guard struct {
	allowed []netip.Prefix // private networks of the record
	special []netip.Prefix
	global  netip.Prefix // 2000::/3
}

// New returns a guard that allows public addresses and, besides, the private networks of a record, such as 10.1.0.0/16.
func New(networks []string) (Guard, error) {
	g := Guard{global: netip.MustParsePrefix("2000::/3")}
	for _, s := range special4 {
		g.special = append(g.special, netip.MustParsePrefix(s))
	}
	for _, s := range special6 {
		g.special = append(g.special, netip.MustParsePrefix(s))
	}
	for _, s := range networks {
		p, err := netip.ParsePrefix(s)
		if err != nil || p != p.Masked() {
			return Guard{}, fmt.Errorf("network %q is not a CIDR block such as 10.1.0.0/16", s)
		}
		g.allowed = append(g.allowed, p)
	}
	return g, nil
}

// Check refuses an address that is not public, unless the record allows its network, and metadata addresses always. An
// IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) counts as itself.
func (g *Guard) Check(a netip.Addr) error {
	if !a.IsValid() || g.special == nil {
		return fmt.Errorf("%w: none is allowed", ErrAddress)
	}
	a = a.Unmap()
	inner := embedded(a)
	for _, m := range metadata {
		if a == m || inner == m {
			return fmt.Errorf("%w: %v is a cloud metadata service, which no record can allow", ErrAddress, a)
		}
	}
	for _, p := range g.allowed {
		if p.Contains(a) {
			return nil
		}
	}
	if inner.IsValid() {
		a = inner
	}
	if a.Is6() && !g.global.Contains(a) {
		return fmt.Errorf("%w: %v is not a public address", ErrAddress, a)
	}
	for _, p := range g.special {
		if p.Contains(a) {
			return fmt.Errorf("%w: %v is in %v, which is not public. If the destination is meant to be there, its record's networks must say so",
				ErrAddress, a, p)
		}
	}
	return nil
}

// Dial resolves a host once, checks every address and dials those very addresses in turn. A nil resolve is the system's.
func (g *Guard) Dial(ctx context.Context, resolve func(ctx context.Context, host string) ([]netip.Addr, error), host string, port uint16) (net.Conn, error) {
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	var addrs []netip.Addr
	a, err := netip.ParseAddr(host)
	if err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = resolve(ctx, host); err != nil {
		return nil, fmt.Errorf("resolving %s: %w", host, err)
	}
	for _, a := range addrs {
		if err := g.Check(a); err != nil {
			return nil, fmt.Errorf("%s: %w", host, err)
		}
	}
	err = fmt.Errorf("%s has no address", host)
	deadline, bounded := ctx.Deadline()
	for i, a := range addrs {
		var d net.Dialer
		if bounded {
			d.Timeout = time.Until(deadline) / time.Duration(min(len(addrs)-i, 3))
		}
		var nc net.Conn
		if nc, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(a.Unmap(), port).String()); err == nil {
			return nc, nil
		}
	}
	return nil, err
}

// embedded returns the IPv4 address inside a, or the zero Addr: NAT64 (RFC 6052 and 8215, /96 form), 6to4 (RFC 3056),
// IPv4-compatible (RFC 4291).
func embedded(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return netip.Addr{}
	}
	b := a.As16()
	hi := func(prefix ...byte) bool { return string(b[:len(prefix)]) == string(prefix) }
	switch {
	case hi(0x20, 0x02):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case hi(0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0), hi(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) && !a.IsLoopback() && !a.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.Addr{}
}
