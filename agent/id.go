package agent

import "strings"

// ValidID reports that an id is one of VDA's, 32 hex digits or a UUID's text,
// and so can be part of a name or a path.
func ValidID(id string) bool {
	return len(id) > 0 && len(id) <= 36 && strings.Trim(id, "0123456789abcdefABCDEF-") == ""
}
