package dhchap

import "fmt"

// Error is an authentication that has failed.
type Error struct {
	Explanation Explanation // as the one that found it says it on the wire
	ByPeer      bool        // the other side has found it
	Reason      string      // for people
}

func (e *Error) Error() string { return "authentication: " + e.Reason }

// Rejected reports that the other side does not take our proof: the keys
// differ, and will at the next attempt unless one is changed.
func (e *Error) Rejected() bool { return e.ByPeer && e.Explanation == Failed }

func fail(e Explanation, format string, args ...any) *Error {
	return &Error{Explanation: e, Reason: fmt.Sprintf(format, args...)}
}
