package netguard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/reevehq/reeve/internal/netguard"
)

func TestGuard(t *testing.T) {
	for _, c := range []struct {
		addr     string
		networks []string
		ok       bool
	}{
		{"104.18.7.192", nil, true}, {"2606:4700::6812:7c0", nil, true}, {"64:ff9b::6812:7c0", nil, true},
		{"127.0.0.1", nil, false}, {"127.0.0.1", []string{"127.0.0.1/32"}, true}, {"127.0.0.2", []string{"127.0.0.1/32"}, false},
		{"10.1.2.3", nil, false}, {"10.1.2.3", []string{"10.1.0.0/16"}, true}, {"172.16.0.1", nil, false}, {"172.31.255.255", nil, false},
		{"192.168.1.1", nil, false}, {"100.64.0.1", nil, false}, {"169.254.1.1", nil, false}, {"0.0.0.0", nil, false}, {"0.1.2.3", nil, false},
		{"224.0.0.1", nil, false}, {"255.255.255.255", nil, false}, {"198.18.0.1", nil, false}, {"192.0.2.1", nil, false},
		{"169.254.169.254", []string{"0.0.0.0/0"}, false}, {"100.100.100.200", []string{"0.0.0.0/0"}, false}, {"168.63.129.16", nil, false},
		{"169.254.170.2", []string{"169.254.0.0/16"}, false},
		{"::1", nil, false}, {"::", nil, false}, {"fe80::1", nil, false}, {"fc00::1", nil, false}, {"fc00::1", []string{"fc00::/7"}, true},
		{"fd00:ec2::254", []string{"::/0"}, false}, {"fd00:ec2::23", []string{"fd00::/8"}, false}, {"fd20:ce::254", []string{"::/0"}, false},
		{"ff02::1", nil, false}, {"2001:db8::1", nil, false}, {"2001::1", nil, false}, {"3fff::1", nil, false}, {"64:ff9b:1::1", nil, false},
		{"::ffff:127.0.0.1", nil, false}, {"::ffff:127.0.0.1", []string{"127.0.0.0/8"}, true}, {"::ffff:104.18.7.192", nil, true},
		{"::ffff:169.254.169.254", []string{"::/0", "0.0.0.0/0"}, false},
		{"64:ff9b::7f00:1", nil, false}, {"64:ff9b::a9fe:a9fe", []string{"::/0"}, false}, {"2002:7f00:1::", nil, false}, {"2002:6812:7c0::", nil, true},
		{"2002:a9fe:a9fe::1", []string{"::/0"}, false}, {"::7f00:1", nil, false}, {"::a9fe:a9fe", []string{"::/0"}, false},
		{"fe80::1%eth0", []string{"fe80::/10"}, false},
	} {
		g, err := netguard.New(c.networks)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Check(netip.MustParseAddr(c.addr)); (err == nil) != c.ok || err != nil && !errors.Is(err, netguard.ErrAddress) {
			t.Errorf("%s with %v: %v", c.addr, c.networks, err)
		}
	}
	if err := new(netguard.Guard).Check(netip.MustParseAddr("104.18.7.192")); !errors.Is(err, netguard.ErrAddress) {
		t.Errorf("the zero guard: %v", err)
	}
}
