package vda

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxNQN is the longest NVMe Qualified Name, bytes (NVM Express base
// specification 2.0, 4.5).
const MaxNQN = 223

var (
	datedNQN = regexp.MustCompile(`^nqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:.+$`)
	hostNQN  = regexp.MustCompile(`^nqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[^.].*$`)
	uuidNQN  = regexp.MustCompile(`^nqn\.2014-08\.org\.nvmexpress:uuid:([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32})$`)
)

// CheckNQN refuses what is neither of the two forms that the base
// specification defines: a date and a reversed domain with a name in it, or a
// UUID under nvmexpress.org.
func CheckNQN(field, nqn string) error { return checkForm(field, nqn, datedNQN) }

// CheckHostNQN is CheckNQN for a host. Linux sends whatever its
// /etc/nvme/hostnqn has, and data planes compare: neither a name behind a colon
// nor the letters of a domain are asked for, and a UUID may be without dashes.
func CheckHostNQN(field, nqn string) error { return checkForm(field, nqn, hostNQN) }

func checkForm(field, nqn string, dated *regexp.Regexp) error {
	const rule = "an NQN is nqn.YYYY-MM.REVERSED.DOMAIN:NAME, like nqn.2016-06.io.spdk:host0, " +
		"or nqn.2014-08.org.nvmexpress:uuid:UUID, at most 223 bytes"
	switch {
	case nqn == "":
		return invalid("%s is missing: %s", field, rule)
	case len(nqn) > MaxNQN:
		return invalid("%s %q is %d bytes long: %s", field, Shorten(nqn, 40), len(nqn), rule)
	case !utf8.ValidString(nqn) || firstNot(nqn, func(c byte) bool { return c > ' ' && c != 0x7f }) != "":
		return invalid("%s %q contains a space, a control character or broken UTF-8: %s", field, Shorten(nqn, 60), rule)
	case strings.HasPrefix(nqn, "nqn.2014-08.org.nvmexpress:uuid:"):
		if !uuidNQN.MatchString(nqn) {
			return invalid("%s %q does not end in a UUID: %s", field, Shorten(nqn, 60), rule)
		}
	case !dated.MatchString(nqn):
		return invalid("%s %q is not an NQN: %s", field, Shorten(nqn, 60), rule)
	}
	return nil
}

// CheckInitiator is CheckHostNQN for a host that an exporter admits. The names
// that VDA's own nodes use among each other would open an array's back door.
func CheckInitiator(field, nqn string) error {
	if err := CheckHostNQN(field, nqn); err != nil {
		return err
	}
	if strings.HasPrefix(nqn, OwnNQNPrefix) {
		return invalid("%s %q: names that begin with %s belong to VDA's own nodes; give the host's NQN, see /etc/nvme/hostnqn there",
			field, Shorten(nqn, 60), OwnNQNPrefix)
	}
	return nil
}
