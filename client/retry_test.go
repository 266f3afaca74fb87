package client

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestNeverSent tells the errors of a connection that could not be made from
// those of one that was lost, by the words that gRPC has for them.
func TestNeverSent(t *testing.T) {
	for text, want := range map[string]bool{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: true,
		`connection error: desc = "transport: failed to write client preface: write tcp: connection reset by peer"`:    true,
		`connection error: desc = "transport: failed to write initial settings frame: write tcp: broken pipe"`:         true,
		`connection error: desc = "transport: authentication handshake failed: tls: first record is not a handshake"`:  true,
		`connection error: desc = "error reading server preface: EOF"`:                                                 true,
		`connection error: desc = "error reading from server: read tcp: connection reset by peer"`:                     false,
		`connection error: desc = "keepalive ping failed to receive ACK within timeout"`:                               false,
		`connection error: desc = "closing connection since the server is not reading: i/o timeout"`:                   false,
		"error reading from server: EOF": false,
		"transport is closing":           false,
		"the portal is being restarted":  false,
	} {
		if got := neverSent(status.Error(codes.Unavailable, text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
