package nvmftgt

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
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

// TestSettlingSaysWhatFor: anyone who waits for a command that the device keeps
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

// pieces is a device that tells how many reads or unmaps it has had, and lets
// each end when the test says so.
type pieces struct {
	*gated
}

// one ends one request.
func (p pieces) one() {
	p.mu.Lock()
	r := p.reqs[0]
	p.reqs = p.reqs[1:]
	p.mu.Unlock()
	var b bdev.Batch
	p.Device.Submit(r, &b)
	b.Flush()
}

// TestPiecesOfTheUnwanted: a Verify, or a Dataset Management of many ranges,
// does no further piece once nobody wants it: its connection was given up, its
// namespace is going, or a reservation shuts its host out. When the namespace
// changes its device the rest is done by the new one.
func TestPiecesOfTheUnwanted(t *testing.T) {
	verify := func(w *wire, nsid uint32) {
		s := w.rw(0x0c, 0, 256) // 1 MiB, eight pieces
		s[4] = byte(nsid)
		w.capsule(s, nil)
	}
	unmap := func(w *wire, nsid uint32) {
		s := w.sqe(9, nsid)
		ranges := make([]byte, 8*16)
		for i := range 8 {
			le.PutUint32(ranges[16*i+4:], 1)
			le.PutUint64(ranges[16*i+8:], uint64(2*i))
		}
		s[40], s[44] = 7, 4
		sglIn(s, len(ranges))
		w.capsule(s, ranges)
	}
	for name, send := range map[string]func(*wire, uint32){"verify": verify, "unmap": unmap} {
		set := func(t *testing.T) (r *rig, p pieces, w *wire, nsid uint32) {
			r = newRig(t)
			r.malloc("m1", 256)
			p = pieces{r.gated("slow", "m1")}
			nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "slow"})
			must(t, err)
			must(t, r.sub.AddHost(testHost))
			_, id := r.admin()
			w = r.ioq(id, 1)
			send(w, nsid)
			waitFor(t, func() bool { return p.seen.Load() == 1 })
			p.one()
			waitFor(t, func() bool { return p.seen.Load() == 2 })
			return r, p, w, nsid
		}
		// ends lets the piece under way end, and expects that f then returns
		// without another.
		ends := func(t *testing.T, p pieces, begun func() bool, f func() error) {
			t.Helper()
			done := make(chan error, 1)
			go func() { done <- f() }()
			waitFor(t, begun)
			p.one()
			must(t, <-done)
			if n := p.seen.Load(); n != 2 {
				t.Errorf("%d pieces were done", n)
			}
		}
		shut := func(r *rig, nsid uint32) func() bool {
			n := r.sub.namespace(nsid)
			return n.gate.shut
		}
		t.Run(name+", host removed", func(t *testing.T) {
			r, p, _, _ := set(t)
			ends(t, p, func() bool {
				r.sub.mu.Lock()
				defer r.sub.mu.Unlock()
				all := true
				for conn := range r.sub.conns {
					all = all && conn.closing.Load()
				}
				return all
			}, func() error { return r.sub.RemoveHost(testHost) })
			r.clean(t, 0)
		})
		t.Run(name+", namespace removed", func(t *testing.T) {
			r, p, w, nsid := set(t)
			ends(t, p, shut(r, nsid), func() error { return r.sub.RemoveNamespace(nsid) })
			if c, _ := w.await(w.cid, nil); c.status&0x7ff != 0x00b {
				t.Errorf("status %03x", c.status)
			}
			r.clean(t, 2)
		})
		t.Run(name+", device swapped", func(t *testing.T) {
			r, p, w, nsid := set(t)
			r.malloc("m2", 256)
			other := r.gated("other", "m2")
			other.release()
			ends(t, p, shut(r, nsid), func() error { return r.sub.SwapNamespace(nsid, "other") })
			if c, _ := w.await(w.cid, nil); c.status != 0 {
				t.Errorf("status %03x", c.status)
			}
			if n := other.seen.Load(); n != 6 {
				t.Errorf("%d pieces on the new device", n)
			}
			r.clean(t, 2)
		})
		t.Run(name+", group inaccessible", func(t *testing.T) {
			r, p, w, _ := set(t)
			must(t, r.sub.SetANAState(r.addr, 0, ANAInaccessible))
			p.one()
			if c, _ := w.await(w.cid, nil); c.status != uint16(nvme.ANAInaccessible) {
				t.Errorf("status %03x", c.status)
			}
			if n := p.seen.Load(); n != 2 {
				t.Errorf("%d pieces were done", n)
			}
			r.clean(t, 2)
		})
	}
}

// unmappable is a device with a fault of ours in front of it.
type unmappable struct{ *gated }

func (unmappable) Map([][]byte, uint64, uint64) ([][]byte, bool) { panic("a fault") }

// TestPanicHoldsNobodyUp: a command that a fault of ours kept from its device
// is over: the connection ends, and so does everything that waits for it.
func TestPanicHoldsNobodyUp(t *testing.T) {
	r := newRig(t)
	must(t, r.sub.AddHost(testHost))
	r.malloc("m1", 256)
	m, _ := r.reg.Get("m1")
	must(t, r.reg.Register(unmappable{&gated{Device: m, name: "u", open: true}}))
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "u"})
	must(t, err)
	_, id := r.admin()
	w := r.ioq(id, 1)
	w.ask(2, nsid, 4096)
	if _, err := w.pdu(); err == nil {
		t.Error("the connection survived")
	}
	waitFor(t, func() bool { return r.tgt.Stats().Panics == 1 })
	done := make(chan error)
	go func() { done <- r.sub.RemoveNamespace(nsid) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("nvmf_subsystem_remove_ns does not return")
	}
	r.takeDown(t)
}
