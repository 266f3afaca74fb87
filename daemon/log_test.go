package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
	log := NewLog(r, slog.LevelInfo)
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
		log, start := NewLog(r, slog.LevelInfo), time.Now()
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
