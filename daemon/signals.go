package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Context ends when the program is asked to stop by SIGTERM or SIGINT. From
// its call on, writing to a standard output or standard error whose reader has
// gone fails with EPIPE, where Go would otherwise end the program: a log that
// nobody reads must not stop a daemon, nor a command half-way through what it
// does. Every program calls it first; stop restores the signals.
//
// SIGPIPE is caught rather than ignored, as children would inherit the latter.
func Context() (ctx context.Context, stop context.CancelFunc) {
	pipe := make(chan os.Signal, 1) // never read: what does not fit is dropped
	signal.Notify(pipe, syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	return ctx, func() {
		cancel()
		signal.Stop(pipe)
	}
}
