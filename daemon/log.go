package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/reason"
)

// LogFlags are --log-level and --log-format.
type LogFlags struct {
	level, format string
}

// Add defines the flags.
func (f *LogFlags) Add(fs *pflag.FlagSet) {
	fs.StringVar(&f.level, "log-level", "info", "least severe `LEVEL` that is logged, on standard error: debug, info, warn or error")
	fs.StringVar(&f.format, "log-format", formatText, "`FORMAT` of the log's lines: text or json")
}

const (
	formatText = "text"
	formatJSON = "json"
)

// Check reports a value that cannot be right.
func (f *LogFlags) Check() error {
	if f.format != formatText && f.format != formatJSON {
		return fmt.Errorf("--log-format %q must be text or json", f.format)
	}
	if new(slog.LevelVar).UnmarshalText([]byte(f.level)) != nil {
		return fmt.Errorf("--log-level %q must be debug, info, warn or error", f.level)
	}
	return nil
}

// Log returns the log that the flags ask for, which have been checked; see newLog.
// Level, when not nil, gets the flag's level, and decides from then on.
func (f *LogFlags) Log(w io.Writer, level *slog.LevelVar) *slog.Logger {
	if level == nil {
		level = new(slog.LevelVar)
	}
	_ = level.UnmarshalText([]byte(f.level)) // it has been checked
	return newLog(w, level, f.format == formatJSON)
}

// newLog returns a log that writes lines to w, text or JSON, and neither fails nor
// blocks the program: lines that w refuses, or that come while w has not taken
// an earlier one for stuckAfter, are dropped and counted, and the first line
// that gets through again is followed by one that says how many were lost.
// Errors are put into words (package reason).
// A line has been written when the log call returns, unless w is stuck.
func newLog(w io.Writer, level slog.Leveler, asJSON bool) *slog.Logger {
	lw, options := &logWriter{w: w, patience: stuckAfter, lostLines: lostText}, &slog.HandlerOptions{Level: level, ReplaceAttr: reason.Attr}
	if asJSON {
		lw.lostLines = lostJSON
		return slog.New(slog.NewJSONHandler(lw, options))
	}
	return slog.New(slog.NewTextHandler(lw, options))
}

// What a log says of lines that nobody read, with their number and when it says so.
const (
	lostText = "time=%[2]s level=WARN msg=\"log lines were lost: nobody read them\" lines=%[1]d\n"
	lostJSON = `{"time":"%[2]s","level":"WARN","msg":"log lines were lost: nobody read them","lines":%[1]d}` + "\n"
)

// stuckAfter is how long a log call waits for a reader that takes nothing; the
// calls after it do not wait until the reader goes on.
const stuckAfter = time.Second

var droppedLines atomic.Uint64

// DroppedLines is how many log lines this process has dropped since its start.
func DroppedLines() uint64 { return droppedLines.Load() }

// logWriter writes each line in a goroutine of its own, one at a time, as the
// write may block for ever.
type logWriter struct {
	w         io.Writer
	patience  time.Duration
	lostLines string // lostText or lostJSON

	mu    sync.Mutex
	under chan error // the result of a write under way that was given up; nil: none
	lost  int        // lines dropped and not yet reported
}

// Write never fails: a log handler could do nothing about it.
func (l *logWriter) Write(line []byte) (int, error) {
	recent.add(line)
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
		report := fmt.Sprintf(l.lostLines, l.lost, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
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
