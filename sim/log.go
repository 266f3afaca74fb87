package sim

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/sim/simnet"
)

// journal is what happened in a run, in fake time.
type journal struct {
	mu    sync.Mutex
	begun time.Time
	text  bytes.Buffer
	level slog.Level
}

func (j *journal) printf(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(&j.text, "%9.3f  %s\n", time.Since(j.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// of is the log of a process.
func (j *journal) of(p *simnet.Process) *slog.Logger {
	h := slog.NewTextHandler(writer{j, p}, &slog.HandlerOptions{Level: j.level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h)
}

type writer struct {
	j *journal
	p *simnet.Process
}

func (w writer) Write(b []byte) (int, error) {
	select {
	case <-w.p.Killed():
	default:
		w.j.printf("%-14s %s", w.p.Name, bytes.TrimSpace(b))
	}
	return len(b), nil
}
