package nvme

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// uuidPrefix begins an NQN that is made of a UUID (base 2.0, section 4.7).
const uuidPrefix = "nqn.2014-08.org.nvmexpress:uuid:"

// CheckSubsystemNQN reports what is wrong with the name of a subsystem that is
// to be made, or nil. It wants one of the two forms of base 2.0, section 4.7,
// which are all that SPDK takes:
//
//	nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555
//	nqn.yyyy-mm.reversed.domain:name
//
// or the discovery subsystem's. A host's name is checked by CheckNQN alone:
// hosts choose it, and not all keep to the forms.
func CheckSubsystemNQN(nqn string) error {
	if err := CheckNQN(nqn); err != nil {
		return err
	}
	if nqn == DiscoveryNQN {
		return nil
	}
	if id, ok := strings.CutPrefix(nqn, uuidPrefix); ok {
		if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
			return fmt.Errorf("NQN %q: %q is not a UUID of 36 characters, such as 11111111-2222-3333-4444-555555555555", nqn, id)
		}
		return nil
	}
	if !utf8.ValidString(nqn) {
		return fmt.Errorf("NQN %q is not UTF-8", nqn)
	}
	const form = "nqn.yyyy-mm.reversed.domain:name"
	date, rest, _ := strings.Cut(strings.TrimPrefix(nqn, "nqn."), ".")
	domain, name, _ := strings.Cut(rest, ":")
	switch {
	case !isMonth(date):
		return fmt.Errorf("NQN %q: %q is not a year and month; it must be %s", nqn, date, form)
	case name == "":
		return fmt.Errorf("NQN %q has no name behind a colon; it must be %s", nqn, form)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !isLabel(label) {
			return fmt.Errorf("NQN %q: %q in the domain must begin with a letter, end with a letter or digit and have up to 63 of these and -", nqn,
				label)
		}
	}
	return nil
}

// isMonth reports whether s is yyyy-mm. As in SPDK, any two digits are a month.
func isMonth(s string) bool {
	if len(s) != len("yyyy-mm") || s[4] != '-' {
		return false
	}
	for i := range s {
		if i != 4 && !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is a part of a domain name.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || !isLetter(s[0]) || s[len(s)-1] == '-' {
		return false
	}
	for i := range s {
		if !isLetter(s[i]) && !isDigit(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
