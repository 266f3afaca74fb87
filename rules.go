package vda

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest name of a pd, da, exp, snapshot or node.
const MaxName = 63

// The rules of what users may call and say. Each names the field, which is the
// request's, the value, and what would be right, in a vda.InvalidArgument.

func invalid(format string, args ...any) error { return Errorf(InvalidArgument, format, args...) }

// CheckName refuses what is not 1 to 63 letters, digits, '.', '-' or '_',
// beginning with a letter or digit. Such a name can stand in an NQN, a URL
// and a file name without escapes.
func CheckName(field, name string) error {
	const rule = "a name is 1 to 63 letters, digits, '.', '-' or '_' (ASCII) and begins with a letter or digit"
	switch bad := firstNot(name, nameByte); {
	case name == "":
		return invalid("%s is missing: %s", field, rule)
	case bad != "":
		return invalid("%s %q contains %q: %s", field, Shorten(name, 40), bad, rule)
	case len(name) > MaxName:
		return invalid("%s %q is %d characters long: %s", field, Shorten(name, 40), len(name), rule)
	case !alphanumeric(name[0]):
		return invalid("%s %q begins with %q: %s", field, name, name[:1], rule)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func nameByte(c byte) bool { return alphanumeric(c) || c == '.' || c == '-' || c == '_' }

// firstNot is the first character of s that is not ok, "" when all are.
func firstNot(s string, ok func(byte) bool) string {
	for i := range len(s) {
		if !ok(s[i]) {
			_, n := utf8.DecodeRuneInString(s[i:])
			return s[i : i+n]
		}
	}
	return ""
}

// CheckNodeName refuses what is neither a name as CheckName has it nor the
// host:port of an agent.
func CheckNodeName(field, name string) error {
	if name == "" || strings.ContainsAny(name, ":[]") {
		const rule = "a node is named by the host:port of its agent, " + agentExamples + ", or by a name like dn0"
		return checkAddr(field, name, rule)
	}
	return CheckName(field, name)
}

// CheckAgentAddr refuses what is not the host:port of an agent.
func CheckAgentAddr(field, addr string) error {
	return checkAddr(field, addr, "an agent is at host:port, "+agentExamples)
}

const agentExamples = "like 192.168.0.14:9720, node7.example:9720 or [fd00::14]:9720"

// checkNewNodeName refuses a name and an address that a new node cannot have. A name
// that looks like an address is that of its agent, so that nobody takes it for the
// name of another node.
func checkNewNodeName(k NodeKind, name, addr string) error {
	field, addrField := string(k)+"_name", string(k)+"_addr"
	if err := CheckNodeName(field, name); err != nil {
		return err
	}
	named := CheckAgentAddr(field, name) != nil
	switch {
	case addr == "" && named:
		return invalid("%s is missing: %s %q is not the host:port of an agent, so %s has to say where its agent is, %s", addrField, field,
			name, addrField, agentExamples)
	case addr == "":
		return nil
	case !named && name != addr:
		return invalid("%s %q is an address, and %s is %q: give the node a name like %s0, or its agent's address as the name", field, name,
			addrField, Shorten(addr, 60), k)
	}
	return CheckAgentAddr(addrField, addr)
}

func checkAddr(field, addr, rule string) error {
	if addr == "" {
		return invalid("%s is missing: %s", field, rule)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isHost(host) {
		return invalid("%s %q is not host:port: %s", field, Shorten(addr, 60), rule)
	}
	if _, err := parsePort(port); err != nil {
		return invalid("%s %q has the port %q: a port is 1 to 65535", field, Shorten(addr, 60), Shorten(port, 20))
	}
	return nil
}

// isHost reports whether s is an IP literal or a DNS name.
func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return !addr.IsUnspecified()
	}
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !alphanumeric(label[0]) || firstNot(label, nameByte) != "" {
			return false
		}
	}
	return true
}

// CheckLocation refuses what is not "" or up to 128 printable ASCII
// characters without spaces.
func CheckLocation(field, location string) error {
	const rule = "a location is empty or up to 128 printable ASCII characters without spaces"
	if bad := firstNot(location, func(c byte) bool { return c > ' ' && c < 0x7f }); bad != "" {
		return invalid("%s %q contains %q: %s", field, Shorten(location, 40), bad, rule)
	}
	if len(location) > 128 {
		return invalid("%s %q is %d characters long: %s", field, Shorten(location, 40), len(location), rule)
	}
	return nil
}

// Shorten is the first n characters of s, and how many there are, for messages.
func Shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return fmt.Sprintf("%s… (%d characters)", string(r[:n]), len(r))
}
