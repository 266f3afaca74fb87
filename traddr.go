package vda

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseTraddr reads a transport address, of a listener or to connect to. All
// programs read what users give them by this, so that they agree on what is an
// address, and on its spelling. adrfam is "ipv4" or "ipv6" in any case,
// or "" for that of the address. It returns "IPv4" or "IPv6" and the canonical
// spelling (RFC 5952). The error names the field, the value and what would be
// right.
func ParseTraddr(adrfam, traddr string) (family, canonical string, err error) {
	shown := traddr
	if len(shown) > 60 {
		shown = shown[:60] + "…"
	}
	bad := func(what string, args ...any) (string, string, error) {
		return "", "", fmt.Errorf("traddr %q "+what, append([]any{shown}, args...)...)
	}
	want := strings.ToLower(adrfam)
	switch want {
	case "", "ipv4", "ipv6":
	default:
		return "", "", fmt.Errorf(`adrfam %.40q must be "ipv4" or "ipv6"`, adrfam)
	}
	ip, err := netip.ParseAddr(traddr)
	switch {
	case err != nil && want == "":
		return bad("must be an IP address, not a name")
	case err != nil:
		return bad("must be an %s address, not a name", want)
	case ip.Zone() != "":
		return bad("must be without the zone %%%s, which means nothing on other machines", ip.Zone())
	case ip.Is4In6():
		return bad(`is an IPv4 address in the spelling of IPv6; it must be %s, with adrfam "ipv4"`, ip.Unmap())
	}
	family = "IPv4"
	if ip.Is6() {
		family = "IPv6"
	}
	switch {
	case want != "" && want != strings.ToLower(family):
		return "", "", fmt.Errorf("adrfam %q does not fit traddr %s, which is %s", adrfam, ip, strings.ToLower(family))
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return bad("is the broadcast address; it must be that of one machine")
	case ip.IsMulticast():
		return bad("is a multicast address; it must be that of one machine")
	case ip.Is6() && ip.IsLinkLocalUnicast():
		return bad("is a link-local address, which is one only together with an interface; " +
			"it must be a global or unique local one, like fd00::14")
	}
	return family, ip.String(), nil
}

// ParseReachable is ParseTraddr of an address that others are to connect to,
// which the unspecified one, of all interfaces, is not.
func ParseReachable(adrfam, traddr string) (family, canonical string, err error) {
	family, canonical, err = ParseTraddr(adrfam, traddr)
	if err == nil && netip.MustParseAddr(canonical).IsUnspecified() {
		return "", "", fmt.Errorf("traddr %s is not an address that others can connect to; it must be one of the machine's", canonical)
	}
	return family, canonical, err
}

// SameTraddr reports whether two addresses are one, however they are spelt.
func SameTraddr(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err1 == nil && err2 == nil && x.Unmap() == y.Unmap()
}
