package node

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestFollowWaitsForCalls: what follows a volume knows its array alone; a call knows its id,
// which may name portals too. Neither works while the other does.
func TestFollowWaitsForCalls(t *testing.T) {
	n := New(Config{})
	release, err := n.claim("192.168.0.16:9520/vol0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.claim("vol0"); status.Code(err) != codes.Aborted {
		t.Errorf("it is followed beside a call: %v", err)
	}
	release()
	if release, err = n.claim("vol0"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.claim("192.168.0.16:9520/vol0"); status.Code(err) != codes.Aborted {
		t.Errorf("a call beside it being followed: %v", err)
	}
	release()
}
