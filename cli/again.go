package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A call is made again as long as --timeout lasts, where that is safe: when the
// request can't have reached a portal, and when it only asks. A
// portal that is restarted, or a proxy before it, refuses or resets a
// connection for a moment.
const (
	minPause = 50 * time.Millisecond
	maxPause = time.Second
	// refusedFor is how long an address is tried where nobody listens: after
	// that --addr-port is more likely to be wrong than the portal to come back.
	refusedFor = 3 * time.Second
)

// readOnly reports that a method changes no object, so that it may be called
// twice.
func readOnly(method string) bool {
	return slices.ContainsFunc([]string{"List", "Get", "Syncup"}, func(verb string) bool { return strings.HasPrefix(method, verb) })
}

// invoke makes a call until it has an answer, or ctx ends.
func invoke(ctx context.Context, call func() error, repeatable bool) error {
	begin, pause := time.Now(), minPause
	for {
		err := call()
		if status.Code(err) != codes.Unavailable || len(status.Convert(err).Details()) > 0 || !repeatable && !neverSent(err) {
			return err
		}
		if refused(err) && time.Since(begin) > refusedFor {
			return err
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return err // it says more than that the time is up
		case <-wait.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// neverSent reports that a call failed for want of a connection.
func neverSent(err error) bool {
	why, ok := strings.CutPrefix(status.Convert(err).Message(), `connection error: desc = "`)
	return ok && (strings.HasPrefix(why, "transport: Error while dialing") || strings.HasPrefix(why, "error reading server preface"))
}

func refused(err error) bool { return strings.Contains(status.Convert(err).Message(), "refused") }
