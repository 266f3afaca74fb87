package nvmftgt

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// limited sets the limit of the target's buffers, in bytes.
func (r *rig) limited(bytes int) { r.reg.Buffers.SetLimit(bytes) }

// drained leaves no buffer; the returned function gives them back.
func (r *rig) drained() func() {
	limit := r.reg.Buffers.Limit()
	r.limited(0)
	return func() { r.limited(limit) }
}

// slow makes a namespace on a device without memory to map, so that reads take
// buffers. Its requests complete when the test says so, or ends.
func (r *rig) slow(name string) (*gated, uint32) {
	r.malloc("m"+name, 4096)
	g := r.gated(name, "m"+name)
	r.t.Cleanup(g.release)
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: name})
	must(r.t, err)
	return g, nsid
}

func (w *wire) ask(op byte, nsid uint32, bytes int) {
	s := w.rw(op, 0, bytes/4096)
	s[4] = byte(nsid)
	sglOut(s, bytes)
	w.capsule(s, nil)
}

// TestMemoryOfOtherSizes: connections whose commands of one size hold all the
// memory that they can get, at a device that does not answer, leave enough to a
// host that comes later, whatever the size that it asks for. When they get
// their answers, or are gone, any size can be had again.
func TestMemoryOfOtherSizes(t *testing.T) {
	sizes := []int{4 << 10, 16 << 10, 64 << 10, 128 << 10, 1 << 20}
	for _, first := range sizes {
		t.Run(fmt.Sprint(first>>10, " KiB"), func(t *testing.T) {
			const limit = 16 << 20
			r := newRig(t, megabyte)
			r.limited(limit)
			slow, slowID := r.slow("slow")
			fast, fastID := r.slow("fast")
			fast.release()
			_, id := r.admin()
			var hogs []*wire
			for q := range uint16(4) {
				w := r.ioq(id, q+1)
				hogs = append(hogs, w)
				for range 30 {
					w.ask(2, slowID, first)
				}
			}
			r.settleDown(t, slow)
			late := r.ioq(id, 9)
			for _, then := range sizes {
				for _, op := range []byte{2, 1} {
					late.ask(op, fastID, then)
					if c, _ := late.await(late.cid, pattern(then, 1)); c.status != 0 {
						t.Errorf("%d bytes: status %03x", then, c.status)
					}
				}
				s := late.rw(1, 0, 1) // data in the capsule
				s[4] = byte(fastID)
				if c, _ := late.do(s, pattern(4096, 2)); c.status != 0 {
					t.Errorf("in the capsule: status %03x", c.status)
				}
			}
			slow.release()
			for _, w := range hogs {
				w.ended(t, 30)
			}
			for _, then := range sizes {
				hogs[0].ask(2, slowID, then)
				hogs[0].await(hogs[0].cid, nil)
			}
			r.clean(t, 6)
		})
	}
}

// settleDown returns when the device gets no further requests.
func (r *rig) settleDown(t *testing.T, g *gated) {
	t.Helper()
	last, since := int64(-1), time.Now()
	waitFor(t, func() bool {
		if n := g.seen.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 50*time.Millisecond
	})
}

// ended receives until n commands have ended well.
func (w *wire) ended(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		p, err := w.pdu()
		must(t, err)
		switch {
		case p.typ == 7 && p.flags&8 != 0:
			n--
		case p.typ == 5:
			if c := parseCQE(p.hdr[8:]); c.status != 0 {
				t.Errorf("status %03x", c.status)
			}
			n--
		case p.typ == 9:
			off, size := le.Uint32(p.hdr[12:]), le.Uint32(p.hdr[16:])
			w.write(w.h2cPDU(le.Uint16(p.hdr[8:]), le.Uint16(p.hdr[10:]), int(off), make([]byte, size), true))
		}
	}
}

// TestMemoryShares: connections that ask for all they can get come to the same
// share, and leave one to those that come later.
func TestMemoryShares(t *testing.T) {
	const limit, n = 32 << 20, 5
	r := newRig(t)
	r.limited(limit)
	slow, nsid := r.slow("slow")
	_, id := r.admin()
	var ws []*wire
	for q := range uint16(n) {
		w := r.ioq(id, q+1)
		ws = append(ws, w)
		for range 4 { // 124 commands of 128 KiB, were there room for them
			for range 7 {
				w.ask(2, nsid, 128<<10)
			}
		}
	}
	waitFor(t, func() bool { // each gets something
		for _, conn := range r.conns() {
			conn.mu.Lock()
			none := conn.q.id > 0 && conn.q.held == 0
			conn.mu.Unlock()
			if none {
				return false
			}
		}
		return true
	})
	r.settleDown(t, slow)
	free := r.reg.Buffers.Free()
	if least := limit / 4; free < least {
		t.Errorf("%d bytes are left, want %d", free, least)
	}
	slow.release()
	for _, w := range ws {
		w.ended(t, 28)
	}
	r.clean(t, n+1)
}

// lazy is a device that takes its time for every request.
type lazy struct{ *gated }

func (d lazy) Submit(r *bdev.Request, _ *bdev.Batch) {
	if !r.Retain() {
		panic("no buffer")
	}
	time.AfterFunc(2*time.Millisecond, func() {
		var b bdev.Batch
		d.Device.Submit(r, &b)
		b.Flush()
	})
}

// TestMemoryWaitsForAll: a connection that holds nothing and needs more than
// is free gets it in the end, though others take all that they can get.
func TestMemoryWaitsForAll(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.MaxIOSize = 4 << 20 })
	r.limited(16 << 20)
	r.malloc("mlazy", 4096)
	m, _ := r.reg.Get("mlazy")
	must(t, r.reg.Register(lazy{&gated{Device: m, name: "lazy"}}))
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "lazy"})
	must(t, err)
	set := func(w *wire) { w.noflow = true }
	_, id := r.admin(set)
	const others, deep, size = 24, 8, 256 << 10
	var ws []*wire
	for q := range uint16(others) {
		ws = append(ws, r.ioq(id, q+2, set))
	}
	w := r.ioq(id, 1)
	stop, done := make(chan struct{}), make(chan error)
	for _, w := range ws {
		go func() {
			var out []byte
			for range deep {
				s := w.rw(2, 0, size/4096)
				s[4] = byte(nsid)
				sglOut(s, size)
				out = append(out, w.capsulePDU(s, nil)...)
			}
			in := make([]byte, deep*(24+size))
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				_, err := w.c.Write(out)
				if err == nil {
					_, err = io.ReadFull(w.c, in)
				}
				if err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 3 {
		for _, op := range []byte{2, 1} {
			w.ask(op, nsid, 4<<20)
			w.ended(t, 1)
		}
	}
	close(stop)
	for range others {
		must(t, <-done)
	}
	r.clean(t, others+2)
}

// TestMemoryInTurn: while memory comes back, nobody gets any before the one
// that has waited longest with nothing.
func TestMemoryInTurn(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.MaxIOSize = 4 << 20 })
	r.limited(16 << 20)
	r.tgt.memory.patience = time.Hour
	slow, nsid := r.slow("slow")
	_, id := r.admin()
	big, small := r.ioq(id, 1), r.ioq(id, 2)
	var hoard [][]byte
	for range 64 {
		hoard = append(hoard, r.reg.Buffers.Get(128<<10))
	}
	big.ask(2, nsid, 4<<20)
	waitFor(t, r.tgt.memory.strict.Load)
	small.ask(2, nsid, 64<<10)
	waitFor(t, func() bool {
		r.tgt.memory.mu.Lock()
		defer r.tgt.memory.mu.Unlock()
		return len(r.tgt.memory.queue) == 2
	})
	for _, buf := range hoard {
		r.reg.Buffers.Put(buf)
	}
	waitFor(t, func() bool { return slow.seen.Load() == 2 })
	slow.mu.Lock()
	if first := slow.reqs[0].Blocks; first != 1024 {
		t.Errorf("a read of %d blocks went first", first)
	}
	slow.mu.Unlock()
	slow.release()
	big.ended(t, 1)
	small.ended(t, 1)
	r.clean(t, 3)
}

// TestMemoryWhileHungry: while what comes back is kept for somebody, data that
// comes with commands is taken, and the admin queue is served: there may be
// somebody hungry all the time.
func TestMemoryWhileHungry(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.MaxIOSize = 4 << 20 })
	r.limited(16 << 20)
	r.tgt.memory.patience = time.Hour
	_, nsid := r.slow("slow")
	a, id := r.admin()
	big, w := r.ioq(id, 1), r.ioq(id, 2)
	var hoard [][]byte
	for range 90 {
		hoard = append(hoard, r.reg.Buffers.Get(128<<10))
	}
	big.ask(2, nsid, 4<<20)
	waitFor(t, r.tgt.memory.strict.Load)
	for i := range 100 {
		w.ok(w.rw(1, uint64(i), 1), pattern(4096, byte(i)))
	}
	s := a.sqe(6, 0)
	s[40] = 1
	sglOut(s, 4096)
	a.ok(s, nil)
	if !r.tgt.memory.strict.Load() {
		t.Error("nobody is hungry any more")
	}
	for _, buf := range hoard {
		r.reg.Buffers.Put(buf)
	}
}

// TestMemoryHeldForEver: memory that never comes back keeps nobody from what
// is free, not even while somebody waits for more than that.
func TestMemoryHeldForEver(t *testing.T) {
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.MaxIOSize = 4 << 20 })
	r.limited(16 << 20)
	slow, slowID := r.slow("slow")
	fast, fastID := r.slow("fast")
	fast.release()
	_, id := r.admin()
	var hogs []*wire
	for q := range uint16(8) {
		w := r.ioq(id, q+1)
		hogs = append(hogs, w)
		for range 8 {
			w.ask(2, slowID, 1<<20)
		}
	}
	r.settleDown(t, slow)
	big := r.ioq(id, 20)
	big.ask(2, fastID, 4<<20) // cannot be had
	late := r.ioq(id, 21)
	for range 100 {
		for _, n := range []int{4 << 10, 64 << 10} {
			late.ask(2, fastID, n)
			late.await(late.cid, nil)
			late.ask(1, fastID, n)
			late.await(late.cid, make([]byte, n))
		}
		s := late.rw(1, 0, 1)
		s[4] = byte(fastID)
		late.ok(s, pattern(4096, 2))
	}
	slow.release()
	for _, w := range hogs {
		w.ended(t, 8)
	}
	big.ended(t, 1)
	r.clean(t, 11)
}

// TestSilentHolders: who was asked for data and does not send it loses his
// connection when others wait for the memory, and not before.
func TestSilentHolders(t *testing.T) {
	r := newRig(t, megabyte, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.SendTime = 300 * time.Millisecond })
	r.limited(16 << 20)
	_, id := r.admin()
	var silent []*wire
	for q := range uint16(30) {
		w := r.ioq(id, q+1)
		silent = append(silent, w)
		for range 12 {
			w.ask(1, 1, 1<<20)
		}
	}
	late := r.ioq(id, 40)
	late.writeBlocks(0, pattern(1<<20, 5))
	_ = silent
	waitFor(t, func() bool { r.tgt.mu.Lock(); defer r.tgt.mu.Unlock(); return len(r.tgt.conns) < 32 })
	late.writeBlocks(0, pattern(1<<20, 6))
}

// TestUnreadAdminReplies: hosts that ask a discovery or another controller for
// log pages and read none of them make the process hold no more than its share,
// and nothing outside of the pool; others go on, and who reads late gets all.
func TestUnreadAdminReplies(t *testing.T) {
	const limit, hosts, each = 64 << 20, 40, 120
	r := newRig(t)
	r.limited(limit)
	ask := func(w *wire) {
		_ = w.c.(*net.TCPConn).SetReadBuffer(128 << 10)
		var out []byte
		for range each {
			s := w.sqe(2, 0xffffffff)
			le.PutUint32(s[40:], 1|(128<<10/4-1)&0xffff<<16) // LID 1 or 70h, NUMDL
			if w.hostnqn == otherHost {
				s[40] = 0x70
			}
			sglOut(s, 128<<10)
			out = append(out, w.capsulePDU(s, nil)...)
		}
		w.write(out)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var ws []*wire
	for i := range hosts {
		w := r.dial()
		nqn := testNQN
		if i%2 == 0 {
			w.hostnqn, nqn = otherHost, "nqn.2014-08.org.nvmexpress.discovery"
		}
		w.icreq()
		s, d := w.connectSQE(0, 0xffff, 127, nqn)
		w.ok(s, d)
		w.propSet(0x14, 0x00460001)
		ask(w)
		ws = append(ws, w)
	}
	waitFor(t, func() bool { // each has what it gets
		for _, conn := range r.conns() {
			conn.mu.Lock()
			held := conn.q.held
			conn.mu.Unlock()
			if held == 0 {
				return false
			}
		}
		return true
	})
	if held := limit - r.reg.Buffers.Free(); held > hosts*adminReplies {
		t.Errorf("%d bytes are held", held)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	a, id := r.admin()
	r.ioq(id, 1).read(0, 4)
	a.ok(a.sqe(0x18, 0), nil)
	for _, w := range ws[:4] {
		_ = w.c.SetDeadline(time.Now().Add(2 * time.Minute))
		w.ended(t, each)
	}
	for _, w := range ws[4:] {
		w.c.Close()
	}
	r.clean(t, 6)
}
