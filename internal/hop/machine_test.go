package hop

import (
	"net"
	"testing"
)

func TestApart(t *testing.T) {
	own := machine()
	if own == "" {
		t.Fatal("this machine has no mark")
	}
	address := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	cases := []struct {
		name      string
		addr      net.Addr
		own, mark string
		want      bool
	}{
		{"another machine", address("192.0.2.7:1"), own, "other", true}, // RFC 5737: no machine has it
		{"loopback", address("127.0.0.1:1"), own, "other", false},
		{"loopback in IPv6", address("[::1]:1"), own, "other", false},
		{"loopback written in IPv6", address("[::ffff:127.0.0.1]:1"), own, "other", false},
		{"the same kernel", address("192.0.2.7:1"), own, own, false},
		{"a peer without a mark", address("192.0.2.7:1"), own, "", false},
		{"no mark here", address("192.0.2.7:1"), "", "other", false},
		{"no address", &net.UnixAddr{Name: "/x", Net: "unix"}, own, "other", false},
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range local {
		cases = append(cases, struct {
			name      string
			addr      net.Addr
			own, mark string
			want      bool
		}{"own address " + a.String(), &net.TCPAddr{IP: a.(*net.IPNet).IP, Port: 1}, own, "other", false})
	}
	for _, c := range cases {
		if got := apart(c.addr, c.own, c.mark); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
