package vda

import (
	"strings"
	"testing"
)

func TestParseTraddr(t *testing.T) {
	for _, c := range []struct{ adrfam, traddr, family, canonical, says string }{
		{"ipv4", "192.168.0.14", "IPv4", "192.168.0.14", ""},
		{"IPv6", "FD00::A", "IPv6", "fd00::a", ""},
		{"ipv6", "0:0:0:0:0:0:0:1", "IPv6", "::1", ""},
		{"", "fd00:0:0::000a", "IPv6", "fd00::a", ""},
		{"", "0.0.0.0", "IPv4", "0.0.0.0", ""},
		{"ipv6", "::", "IPv6", "::", ""},
		{"ipv4", "cn0", "", "", `traddr "cn0" must be an ipv4 address, not a name`},
		{"", "", "", "", `traddr "" must be an IP address`},
		{"", "1.2.3", "", "", `traddr "1.2.3"`},
		{"", "[::1]", "", "", `traddr "[::1]"`},
		{"ib", "1.2.3.4", "", "", `adrfam "ib" must be "ipv4" or "ipv6"`},
		{"ipv6", "1.2.3.4", "", "", `adrfam "ipv6" does not fit traddr 1.2.3.4, which is ipv4`},
		{"ipv4", "fd00::1", "", "", `adrfam "ipv4" does not fit traddr fd00::1, which is ipv6`},
		{"ipv6", "::ffff:127.0.0.1", "", "", `it must be 127.0.0.1, with adrfam "ipv4"`},
		{"ipv4", "::ffff:127.0.0.1", "", "", `it must be 127.0.0.1, with adrfam "ipv4"`},
		{"ipv6", "fe80::1%lo", "", "", `traddr "fe80::1%lo" must be without the zone %lo`},
		{"ipv6", "fe80::1", "", "", "link-local"},
		{"ipv4", "255.255.255.255", "", "", "broadcast"},
		{"ipv4", "224.0.0.1", "", "", "multicast"},
		{"ipv6", "ff02::1", "", "", "multicast"},
		{"ipv4", strings.Repeat("9", 300), "", "", "9…"},
	} {
		family, canonical, err := ParseTraddr(c.adrfam, c.traddr)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || len(err.Error()) > 250) ||
			family != c.family || canonical != c.canonical {
			t.Errorf("%q %q: %q %q %v; want %q %q %q", c.adrfam, c.traddr, family, canonical, err, c.family, c.canonical, c.says)
		}
	}
	for _, any := range []string{"0.0.0.0", "::", "0::0"} {
		if _, _, err := ParseReachable("", any); err == nil || !strings.Contains(err.Error(), "connect to") {
			t.Errorf("%s: %v", any, err)
		}
	}
	if !SameTraddr("FD00::A", "fd00:0::a") || SameTraddr("fd00::a", "fd00::b") || !SameTraddr("x", "x") {
		t.Error("SameTraddr")
	}
}
