package dbtest

import (
	"net"
	"testing"
)

// Mute returns the address of a server that takes connections and never says
// a word.
func Mute(t testing.TB) string {
	t.Helper()
	// The kernel completes connections up to the backlog; nobody accepts them.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
