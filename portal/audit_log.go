package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// AuditLog writes what users changed, or were refused, at this portal to where nobody who takes
// over the cluster's database can change it: a file, syslog, or both. Each event is one line of
// JSON. Calls do not wait for it; what it cannot write is in the portal's log. Safe for
// concurrent use.
type AuditLog struct {
	log   *slog.Logger
	to    []io.WriteCloser
	queue chan []byte
	done  chan struct{}
	lost  atomic.Uint64

	mu     sync.RWMutex // of closed, and of queue against its end
	closed bool
}

// maxAuditQueue is how many events may wait for a slow syslog or disk.
const maxAuditQueue = 4096

// OpenAuditLog opens the file of a path, mode 0600 when it makes it, and the syslog of a place,
// as ParseSyslog has it; each is "" for none. nil when both are.
func OpenAuditLog(file, place string, log *slog.Logger) (*AuditLog, error) {
	if file == "" && place == "" {
		return nil, nil
	}
	a := &AuditLog{log: log, queue: make(chan []byte, maxAuditQueue), done: make(chan struct{})}
	if file != "" {
		f := &auditFile{path: file}
		if err := f.open(); err != nil {
			return nil, fmt.Errorf("--audit-file %s: %s", file, reason.Of(err))
		}
		a.to = append(a.to, f)
	}
	if place != "" {
		network, addr, err := ParseSyslog(place)
		if err == nil {
			var w *syslog.Writer
			if w, err = syslog.Dial(network, addr, syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, "vda_portal"); err == nil {
				a.to = append(a.to, w)
			} else {
				err = errors.New(reason.Of(err))
			}
		}
		if err != nil {
			for _, w := range a.to {
				_ = w.Close()
			}
			return nil, fmt.Errorf("--audit-syslog %s: %w", place, err)
		}
	}
	go a.run()
	return a, nil
}

// ParseSyslog reads where syslog is: "local", or "udp://HOST:PORT", or "tcp://HOST:PORT".
func ParseSyslog(place string) (network, addr string, err error) {
	if place == "local" {
		return "", "", nil
	}
	network, addr, ok := strings.Cut(place, "://")
	if !ok || network != "udp" && network != "tcp" || !strings.Contains(addr, ":") {
		return "", "", errors.New("it must be local, udp://HOST:PORT or tcp://HOST:PORT")
	}
	return network, addr, nil
}

// auditLine is an event as it is written.
type auditLine struct {
	Time   string `json:"time"` // RFC 3339
	Kind   string `json:"kind"` // change or change_refused
	Method string `json:"method"`
	User   string `json:"user,omitempty"`
	Peer   string `json:"peer"`
	Object string `json:"object,omitempty"`
	Name   string `json:"name,omitempty"`
	Code   uint32 `json:"code"`
	Text   string `json:"text"`
	ReqID  string `json:"req_id"`
}

// Write has an event written.
func (a *AuditLog) Write(e *vda.Event) {
	if a == nil {
		return
	}
	line, err := json.Marshal(auditLine{time.Now().UTC().Format(time.RFC3339Nano), string(e.Kind), e.Method, e.User, e.Peer, e.Object,
		e.FullName(), e.Code, e.Text, e.ReqID})
	if err != nil { // texts and numbers
		panic(err)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed { // a call that outlives the portal's grace
		a.log.Error("an event is missing from --audit-file and --audit-syslog: the portal has stopped", "req_id", e.ReqID)
		return
	}
	select {
	case a.queue <- append(line, '\n'):
	default:
		if a.lost.Add(1) == 1 {
			a.log.Error("events are missing from --audit-file and --audit-syslog: they do not take them as fast as they come")
		}
	}
}

func (a *AuditLog) run() {
	defer close(a.done)
	failed := false
	for line := range a.queue {
		for _, w := range a.to {
			if _, err := w.Write(line); err != nil {
				if !failed {
					a.log.Error("events cannot be written to --audit-file or --audit-syslog", "err", reason.Of(err))
				}
				failed = true
			} else if failed {
				failed = false
				a.log.Warn("events are written to --audit-file and --audit-syslog again")
			}
		}
	}
}

// Close writes what waits. What Write gets from then on is in the portal's log alone.
func (a *AuditLog) Close(ctx context.Context) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	a.closed = true
	close(a.queue)
	a.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		return errors.New("events that wait for --audit-syslog are lost: it does not take them")
	}
	var errs []error
	for _, w := range a.to {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// auditFile appends to a file, and to a new one of that name when it was moved away, as
// logrotate does.
type auditFile struct {
	path string
	f    *os.File
}

func (w *auditFile) open() (err error) {
	w.f, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// Write implements io.Writer.
func (w *auditFile) Write(line []byte) (int, error) {
	there, err := os.Stat(w.path)
	own, err2 := w.f.Stat()
	if err != nil || err2 != nil || !os.SameFile(there, own) {
		_ = w.f.Close()
		if err := w.open(); err != nil {
			return 0, err
		}
	}
	return w.f.Write(line)
}

// Close implements io.Closer.
func (w *auditFile) Close() error { return errors.Join(w.f.Sync(), w.f.Close()) }
