package cn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// A machine that does not let this process run for seconds makes its data planes
// give one another up: a keep-alive is not answered in time. Hosts then meet path
// errors, as they must, and closed paths where no monitor renews a lease, and
// repeat the I/O until the connection is back. So do write and verify, in that
// case; on a machine that lets the process run a path error is a fault.

// givenUp is when a connection of one of this process's data planes was given up
// last because a keep-alive was not answered in time; Unix time in nanoseconds.
var givenUp atomic.Int64

// afterGivingUp is how long after that paths may be closed: the connection is
// tried once a second, and the agents look after what was closed meanwhile.
const afterGivingUp = 30 * time.Second

// justGivenUp is false in fake time, which is long ago.
func justGivenUp() bool {
	since := time.Since(time.Unix(0, givenUp.Load()))
	return since >= 0 && since <= afterGivingUp
}

// keepAlives keeps givenUp by what data planes log.
type keepAlives struct{ slog.Handler }

func (h keepAlives) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || h.Handler.Enabled(ctx, l)
}

func (h keepAlives) Handle(ctx context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + fmt.Sprint(a.Value.Any()); return true })
	if strings.Contains(text, "keep alive") {
		givenUp.Store(time.Now().UnixNano())
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h keepAlives) WithAttrs(attrs []slog.Attr) slog.Handler {
	return keepAlives{h.Handler.WithAttrs(attrs)}
}

func (h keepAlives) WithGroup(name string) slog.Handler { return keepAlives{h.Handler.WithGroup(name)} }

// repeated does I/O, and again after a path error that keepAlives explains, until
// ctx ends.
func repeated(ctx context.Context, io func() error) error {
	for {
		err := io()
		var st nvme.Status
		if err == nil || !errors.As(err, &st) || !st.IsPath() || !justGivenUp() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// connect is host.Connect, repeated.
func connect(ctx context.Context, cfg host.Config) (c *host.Controller, err error) {
	err = repeated(ctx, func() error {
		c, err = host.Connect(ctx, cfg)
		return err
	})
	return c, err
}
