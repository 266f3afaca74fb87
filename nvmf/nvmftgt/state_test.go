package nvmftgt

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
)

// In all tests of this package a command that moves as none may panics, and the
// tests fail, also where the panic only ends a connection.
func TestMain(m *testing.M) {
	checking = new([stateCount][stateCount]atomic.Uint64)
	code := m.Run()
	for was := range stateCount {
		for s := range stateCount {
			if checking[was][s].Load() > 0 && moves[was]>>s&1 == 0 {
				fmt.Printf("FAIL: a command that was %v has become %v\n", was, s)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// walker is a target with a namespace of memory (1) and one on a device that
// completes when the test says so, and a host of both.
type walker struct {
	*rig
	t    *testing.T
	g    *gated
	slow uint32
	a, w *wire // the admin queue and the I/O queue
}

func walk(t *testing.T, opts ...rigOpt) *walker {
	r := newRig(t, opts...)
	v := &walker{rig: r, t: t}
	v.g, v.slow = r.slow("slow")
	var id uint16
	v.a, id = r.admin()
	v.w = r.ioq(id, 1)
	return v
}

// answered receives until n commands have been, however they ended.
func (w *wire) answered(n int) {
	w.t.Helper()
	for n > 0 {
		p, err := w.pdu()
		must(w.t, err)
		if p.typ == 5 || p.typ == 7 && p.flags&8 != 0 {
			n--
		}
	}
}

// conn is the connection of the I/O queue.
func (v *walker) conn() *conn {
	for _, conn := range v.conns() {
		if conn.q.id == 1 {
			return conn
		}
	}
	v.t.Fatal("the queue has no connection")
	return nil
}

// atDevice sends a read that the device keeps.
func (v *walker) atDevice() {
	n := v.g.seen.Load()
	v.w.ask(2, v.slow, 4096)
	waitFor(v.t, func() bool { return v.g.seen.Load() == n+1 })
}

// holding has a swap wait for what the device keeps, and hold what comes.
func (v *walker) holding() (swapped chan error) {
	v.malloc("m2", 4096)
	swapped = make(chan error, 1)
	go func() { swapped <- v.sub.SwapNamespace(v.slow, "m2") }()
	waitFor(v.t, v.sub.namespace(v.slow).gate.shut)
	return swapped
}

// gone waits until the connections of the I/O queue have ended.
func (v *walker) gone() {
	waitFor(v.t, func() bool {
		for _, conn := range v.conns() {
			if conn.q.id == 1 {
				return false
			}
		}
		return true
	})
}

// TestMoves walks every way that a command can take through its states, on the
// wire, and checks that it is taken. Together they are all moves that there are.
func TestMoves(t *testing.T) {
	type move [2]state
	small := func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.MaxConnData = 8 << 10 }
	walked := map[move]bool{}
	for _, way := range []struct {
		name  string
		opts  []rigOpt
		do    func(*testing.T, *walker)
		moves []move
	}{
		{"an admin command", nil, func(t *testing.T, v *walker) { v.a.identify(1, 0) },
			[]move{{free, taken}, {taken, replying}, {replying, free}}},
		{"a read of memory", nil, func(t *testing.T, v *walker) { v.w.read(0, 1); v.w.read(0, 1) },
			[]move{{taken, entering}, {entering, starting}, {starting, away}, {away, showing}, {showing, free}}},
		{"a write whose data is asked for", nil, func(t *testing.T, v *walker) { v.w.writeBlocks(0, pattern(64<<10, 1)) },
			[]move{{taken, receiving}, {receiving, taken}, {away, replying}}},
		{"a read without a buffer", []rigOpt{small}, func(t *testing.T, v *walker) {
			v.w.ask(2, v.slow, 8192)
			v.w.ask(2, v.slow, 8192)
			conn := v.conn()
			waitFor(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return len(conn.q.waiting) == 1 })
			v.g.release()
			v.w.ended(t, 2)
		}, []move{{starting, waiting}, {waiting, entering}}},
		{"a write without a buffer", []rigOpt{small}, func(t *testing.T, v *walker) {
			v.atDevice()
			v.atDevice()
			v.w.ask(1, 1, 8192)
			cid := v.w.cid
			conn := v.conn()
			waitFor(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return len(conn.q.waiting) == 1 })
			v.g.release()
			for {
				p, err := v.w.pdu()
				must(t, err)
				if p.typ == 9 {
					v.w.h2c(cid, le.Uint16(p.hdr[10:]), pattern(8192, 1), 0, 8192)
				} else if p.typ == 5 && parseCQE(p.hdr[8:]).cid == cid {
					return
				}
			}
		}, []move{{taken, waiting}, {waiting, receiving}}},
		{"an abort while it waits for a buffer", []rigOpt{small}, func(t *testing.T, v *walker) {
			v.atDevice()
			v.atDevice()
			v.w.ask(1, 1, 8192)
			waitFor(t, func() bool { return v.a.abort(1, v.w.cid) == 0 })
		}, []move{{waiting, replying}}},
		{"the end of the connection while it waits for a buffer", []rigOpt{small}, func(t *testing.T, v *walker) {
			v.atDevice()
			v.atDevice()
			v.w.ask(1, 1, 8192)
			conn := v.conn()
			waitFor(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return len(conn.q.waiting) == 1 })
			conn.kill("test")
			v.g.release()
			v.gone()
		}, []move{{waiting, dropped}, {replying, dropped}}},
		{"the end of the connection while its data is due", nil, func(t *testing.T, v *walker) {
			v.w.ask(1, 1, 64<<10)
			if p, err := v.w.pdu(); err != nil || p.typ != 9 {
				t.Fatal(p, err)
			}
			_ = v.w.c.Close()
			v.gone()
		}, []move{{receiving, dropped}}},
		{"compare and write", nil, func(t *testing.T, v *walker) {
			v.w.writeBlocks(0, pattern(4096, 1))
			for i, op := range []byte{5, 1} {
				s := v.w.rw(op, 0, 1)
				s[1] |= byte(1 + i)
				sglIn(s, 4096)
				v.w.capsule(s, pattern(4096, byte(1+i)))
			}
			v.w.ended(t, 2)
		}, []move{{taken, pairing}, {pairing, entering}, {pairing, replying}}},
		{"the end of the connection between compare and write", nil, func(t *testing.T, v *walker) {
			s := v.w.rw(5, 0, 1)
			s[1] |= 1
			sglIn(s, 4096)
			v.w.capsule(s, pattern(4096, 1))
			conn := v.conn()
			waitFor(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return conn.q.held > 0 })
			_ = v.w.c.Close()
			v.gone()
		}, []move{{pairing, dropped}}},
		{"events, and a reset", nil, func(t *testing.T, v *walker) {
			for range 2 {
				v.a.capsule(v.a.sqe(0x0c, 0), nil)
			}
			first := v.a.cid - 1
			s := v.a.sqe(8, 0)
			le.PutUint32(s[40:], uint32(first)<<16)
			v.a.capsule(s, nil)
			v.a.answered(2) // the event and the Abort
			v.a.propSet(0x14, 0x00460000)
		}, []move{{taken, event}, {event, replying}, {event, free}}},
		{"a swap", nil, func(t *testing.T, v *walker) {
			v.atDevice()
			swapped := v.holding()
			v.w.ask(2, v.slow, 4096)
			n := v.sub.namespace(v.slow)
			waitFor(t, func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.held) == 1 })
			v.g.release()
			must(t, <-swapped)
			v.w.ended(t, 2)
		}, []move{{entering, held}, {held, entering}}},
		{"the end of the connection during a swap", nil, func(t *testing.T, v *walker) {
			v.atDevice()
			swapped := v.holding()
			v.w.ask(2, v.slow, 4096)
			n := v.sub.namespace(v.slow)
			waitFor(t, func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.held) == 1 })
			v.conn().kill("test")
			v.g.release()
			must(t, <-swapped)
			v.gone()
		}, []move{{entering, dropped}, {replying, dropped}}},
		{"an inaccessible group", nil, func(t *testing.T, v *walker) {
			must(t, v.sub.SetANAState(v.addr, 0, ANAInaccessible))
			v.w.ask(2, 1, 4096)
			v.w.answered(1)
		}, []move{{entering, replying}}},
		{"nothing for the device to do", nil, func(t *testing.T, v *walker) {
			s := v.w.sqe(9, 1) // Dataset Management of a hint
			sglIn(s, 16)
			v.w.ok(s, make([]byte, 16))
		}, []move{{starting, replying}}},
		{"preempt and abort", nil, func(t *testing.T, v *walker) {
			_, id := v.admin(func(w *wire) { w.hostid[0] = 99 })
			b := v.ioq(id, 1, func(w *wire) { w.hostid[0] = 99 })
			v.w.resv(0x0d, 0, 0, 10)
			b.resv(0x0d, 0, 0, 11)
			v.w.resv(0x11, 1<<8, 10, 0)
			if s := b.resv(0x11, 2|1<<8, 11, 10); s != 0 {
				t.Errorf("status %03x", s)
			}
		}, []move{{starting, settling}, {settling, replying}}},
		{"a flush of all", nil, func(t *testing.T, v *walker) {
			v.g.release()
			v.shaped("unflushed", func(i *bdev.Info) { i.Ops &^= bdev.Ops(bdev.OpFlush) })
			v.w.ok(v.w.sqe(0, 0xffffffff), nil)
		}, []move{{away, entering}, {starting, entering}}},
		{"the end of the connection between two requests", nil, func(t *testing.T, v *walker) {
			s := v.w.rw(0x0c, 0, 256) // Verify in pieces
			s[4] = byte(v.slow)
			v.w.capsule(s, nil)
			waitFor(t, func() bool { return v.g.seen.Load() == 1 })
			v.conn().kill("test")
			v.g.release()
			v.gone()
		}, []move{{away, dropped}}},
		{"a host that does not read", []rigOpt{megabyte}, func(t *testing.T, v *walker) {
			v.w.flood()
			waitFor(t, func() bool { return v.blocked(v.w) })
			v.conn().kill("test")
			v.gone()
		}, []move{{showing, dropped}}},
		{"the end of the connection during Disconnect", nil, func(t *testing.T, v *walker) {
			v.atDevice()
			n := checking[free][taken].Load()
			v.w.capsule(v.w.sqe(0x7f, 8), nil)
			waitFor(t, func() bool { return checking[free][taken].Load() > n })
			v.conn().kill("test")
			waitFor(t, func() bool { return len(v.sub.Qpairs()) == 1 }) // it has given up waiting for the device
			v.g.release()
			v.gone()
		}, []move{{taken, dropped}}},
		{"a fault on the way to the device", nil, func(t *testing.T, v *walker) {
			m, _ := v.reg.Get("mslow")
			must(t, v.reg.Register(unmappable{&gated{Device: m, name: "u", open: true}}))
			nsid, err := v.sub.AddNamespace(NamespaceConfig{Bdev: "u"})
			must(t, err)
			v.w.ask(2, nsid, 4096)
			v.gone()
		}, []move{{starting, dropped}}},
	} {
		t.Run(way.name, func(t *testing.T) {
			v := walk(t, way.opts...)
			before := map[move]uint64{}
			for _, m := range way.moves {
				before[m] = checking[m[0]][m[1]].Load()
				walked[m] = true
			}
			way.do(t, v)
			for _, m := range way.moves {
				waitFor(t, func() bool { // the last one may come behind the reply
					return checking[m[0]][m[1]].Load() > before[m]
				})
			}
		})
	}
	for was := range stateCount {
		for s := range stateCount {
			if moves[was]>>s&1 != 0 && !walked[move{was, s}] {
				t.Errorf("no way has a command that is %v become %v", was, s)
			}
		}
	}
}

// TestImpossibleMove: what moves does not list panics, in tests.
func TestImpossibleMove(t *testing.T) {
	for was := range stateCount {
		for s := range stateCount {
			if moves[was]>>s&1 != 0 {
				continue
			}
			func() {
				defer checking[was][s].Store(0)
				defer func() {
					if recover() == nil {
						t.Errorf("a command that is %v may become %v", was, s)
					}
				}()
				c := &cmd{state: was}
				c.to(s)
			}()
		}
	}
}
