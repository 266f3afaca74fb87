package target

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vda/nvme"
)

// TestFabricsOnEveryQueue: a Fabrics command whose data is asked for is no
// I/O, whatever its slot was used for before; every one ends, and afterwards
// all that waits for commands returns.
func TestFabricsOnEveryQueue(t *testing.T) {
	for _, used := range []bool{false, true} {
		r := newRig(t)
		must(t, r.sub.AddHost(testHost))
		a, id := r.admin()
		q := r.ioq(id, 1)
		for _, w := range []*wire{a, q} {
			if used && w == q {
				for range 70 { // all slots
					w.writeBlocks(8, pattern(4096, 1))
				}
			}
			for fctype := range uint32(256) {
				if fctype&3 != nvme.HostToController {
					continue
				}
				s := w.sqe(0x7f, fctype)
				sglOut(s, 1024)
				w.capsule(s, nil)
				if c, _ := w.await(w.cid, pattern(1024, 7)); c.status == 0 {
					t.Errorf("fctype %#x succeeds on a queue that is connected", fctype)
				}
			}
		}
		q.read(0, 1)
		a.ok(a.sqe(0x18, 0), nil)
		r.clean(t, 2)
		r.takeDown(t)
	}
}

// logged collects what is logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) contains(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

// TestSettlingSaysWhatFor: whoever waits for a command that the device keeps
// says which device it is.
func TestSettlingSaysWhatFor(t *testing.T) {
	var log logged
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.SettleGrace, c.StallTime = 10*time.Millisecond, 30*time.Millisecond
	})
	r.malloc("m1", 256)
	g := r.gated("slow", "m1")
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "slow"})
	must(t, err)
	must(t, r.sub.AddHost(testHost))
	_, id := r.admin()
	w := r.ioq(id, 1)
	s := w.rw(2, 0, 1)
	s[4] = byte(nsid)
	sglOut(s, 4096)
	w.capsule(s, nil)
	waitFor(t, func() bool { return g.seen.Load() == 1 })
	done := make(chan error, 2)
	go func() { done <- r.sub.RemoveHost(testHost) }()
	go func() { done <- r.sub.RemoveNamespace(nsid) }()
	waitFor(t, func() bool {
		return log.contains("connection that was given up still waits", "commands=1", "qid=1", "host="+testHost, "closed by the target") &&
			log.contains("namespace still waits", "commands=1", "namespace 2 on slow: 1 requests")
	})
	g.release()
	must(t, <-done)
	must(t, <-done)
}
