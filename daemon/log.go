package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/reason"
)

// NewLog returns a log that writes text lines to w and neither fails nor
// blocks the program: lines that w refuses, or that come while w has not taken
// an earlier one for stuckAfter, are dropped and counted, and the first line
// that gets through again is followed by one that says how many were lost.
// Errors are put into words (package reason).
// A line has been written when the log call returns, unless w is stuck.
func NewLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{w: w, patience: stuckAfter}, &slog.HandlerOptions{Level: level, ReplaceAttr: reason.Attr}))
}

// stuckAfter is how long a log call waits for a reader that takes nothing; the
// calls after it do not wait until the reader goes on.
const stuckAfter = time.Second

var droppedLines atomic.Uint64

// DroppedLines is how many log lines this process has dropped since its start.
func DroppedLines() uint64 { return droppedLines.Load() }

// logWriter writes each line in a goroutine of its own, one at a time, as the
// write may block for ever.
type logWriter struct {
	w        io.Writer
	patience time.Duration

	mu    sync.Mutex
	under chan error // the result of a write under way that was given up; nil: none
	lost  int        // lines dropped and not yet reported
}

// Write never fails: a log handler could do nothing about it.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under != nil {
		select {
		case err := <-l.under:
			l.under = nil
			if err != nil {
				l.drop()
			}
		default:
			l.drop()
			return len(line), nil
		}
	}
	switch err := l.write(append([]byte(nil), line...)); {
	case errors.Is(err, errStuck):
	case err != nil:
		l.drop()
	case l.lost > 0:
		report := fmt.Sprintf("time=%s level=WARN msg=\"log lines were lost: nobody read them\" lines=%d\n",
			time.Now().Format("2006-01-02T15:04:05.000Z07:00"), l.lost)
		if l.write([]byte(report)) == nil {
			l.lost = 0
		}
	}
	return len(line), nil
}

// errStuck is write's error while w has not taken the line, which it still may.
var errStuck = errors.New("the log's reader takes nothing")

// write waits until w has taken the line, or as long as its patience lasts.
func (l *logWriter) write(line []byte) error {
	done := make(chan error, 1)
	go func() {
		_, err := l.w.Write(line)
		done <- err
	}()
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		l.under = done
		return errStuck
	}
}

func (l *logWriter) drop() {
	l.lost++
	droppedLines.Add(1)
}
