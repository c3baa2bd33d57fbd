package hop

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
)

// machine is the mark of the kernel that this process runs on, or empty when there is none. It says nothing but whether two
// processes share a kernel.
func machine() string {
	id := strings.TrimSpace(bootID())
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("reeve-hop machine " + id))
	return hex.EncodeToString(sum[:16])
}

// apart reports whether a peer at addr with that mark is on another machine. The address is measured: it must be none of this
// machine's own. The mark is the peer's word: it can only say no, for a container or a namespace that shares this kernel.
func apart(addr net.Addr, own, mark string) bool {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil || own == "" || mark == "" || mark == own {
		return false
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() {
		return false
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err != nil || p.Addr().Unmap().WithZone("") == ip {
			return false
		}
	}
	return true
}
