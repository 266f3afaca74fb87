package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"
)

// reader is the far end of a log: it fails, or takes nothing until released.
type reader struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	gone bool
	hold chan struct{} // nil: takes lines
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return 0, errors.New("broken pipe")
	}
	return r.buf.Write(p)
}

func (r *reader) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func TestLogCountsLinesThatItsReaderRefuses(t *testing.T) {
	r, before := &reader{}, DroppedLines()
	log := newLog(r, slog.LevelInfo, false)
	log.Info("one")
	r.set(func() { r.gone = true })
	log.Info("two")
	log.Info("three")
	if n := DroppedLines() - before; n != 2 {
		t.Errorf("%d lines counted as dropped, want 2", n)
	}
	r.set(func() { r.gone = false })
	log.Info("four")
	log.Info("five")
	got := r.text()
	for _, want := range []string{"msg=one\n", "msg=four\n", "lines=2\n", "msg=five\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not in the log once:\n%s", want, got)
		}
	}
	if strings.Contains(got, "two") {
		t.Errorf("a refused line is in the log:\n%s", got)
	}
}

func TestLogDoesNotWaitForAReaderThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := &reader{hold: hold}
		log, start := newLog(r, slog.LevelInfo, false), time.Now()
		for i := range 100 {
			log.Info(fmt.Sprint("line", i))
		}
		if took := time.Since(start); took != stuckAfter {
			t.Errorf("100 lines to a hung reader took %v, want %v once", took, stuckAfter)
		}
		r.set(func() { r.hold = nil })
		close(hold)
		synctest.Wait()
		log.Info("after")
		for _, want := range []string{"msg=line0\n", "lines=99\n", "msg=after\n"} {
			if got := r.text(); !strings.Contains(got, want) {
				t.Errorf("the log after the halt lacks %q:\n%s", want, got)
			}
		}
	})
}

// TestLogFormats: the same records as text and as JSON, one line each, errors in
// words; a value that is wrong is named.
func TestLogFormats(t *testing.T) {
	for format, want := range map[string]string{
		"text": "level=WARN msg=\"two\\nlines\" peer=192.0.2.1:1 err=\"no answer in time\"\n",
		"json": `"level":"WARN","msg":"two\nlines","peer":"192.0.2.1:1","err":"no answer in time"}` + "\n",
	} {
		var f LogFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.Add(fs)
		if err := fs.Parse([]string{"--log-format", format, "--log-level", "warn"}); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log := f.Log(&out, nil)
		log.Info("not said")
		log.Warn("two\nlines", "peer", "192.0.2.1:1", "err", context.DeadlineExceeded)
		if got := out.String(); !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %q, want it to end in %q", format, got, want)
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Errorf("%q is not JSON", &out)
		}
	}
	for _, args := range [][]string{{"--log-format", "xml"}, {"--log-level", "loud"}} {
		var f LogFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.Add(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), args[0]+" \""+args[1]+`" must be`) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, report := range []string{lostText, lostJSON} {
		line := fmt.Sprintf(report, 7, "2026-01-02T03:04:05.000Z")
		if !strings.Contains(line, "7") || strings.Contains(line, "%!") || report == lostJSON && !json.Valid([]byte(line)) {
			t.Errorf("%q", line)
		}
	}
}
