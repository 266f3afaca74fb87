package nvmftgt

import (
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// gate counts the users of a namespace's device and can be shut.
type gate struct {
	state atomic.Int64 // users, plus gateShut
	empty chan struct{}
}

const gateShut = 1 << 40

func newGate() gate { return gate{empty: make(chan struct{}, 1)} }

// enter counts a user and reports whether the gate is open.
func (g *gate) enter() bool {
	if g.state.Add(1) < gateShut {
		return true
	}
	g.leave()
	return false
}

// shut reports whether somebody waits for the users to leave.
func (g *gate) shut() bool { return g.state.Load() >= gateShut }

// leave ends a use.
func (g *gate) leave() {
	if g.state.Add(-1) == gateShut {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// close shuts the gate and waits until nobody is inside. stuck is called,
// perhaps repeatedly, while that takes longer than grace.
func (g *gate) close(grace time.Duration, stuck func()) {
	if g.state.Add(gateShut) == gateShut {
		return
	}
	t := time.NewTicker(grace)
	defer t.Stop()
	for g.state.Load() != gateShut {
		select {
		case <-g.empty:
		case <-t.C:
			stuck()
		}
	}
}

// open lets users in again.
func (g *gate) open() { g.state.Add(-gateShut) }

// lose is called when the device behind *self is removed: I/O that is under
// way ends with what the device says, later commands get a path status.
func (n *namespace) lose(self *atomic.Pointer[bdev.Handle]) {
	s := n.sub
	s.changing.Lock()
	defer s.changing.Unlock()
	h := n.handle.Load()
	if h == nil || h != self.Load() {
		return
	}
	n.orphan.Store(true)
	n.drain()
	n.handle.Store(nil)
	h.Close()
	n.gate.open()
	s.anaCountAll()
	s.anaChanged(func(*controller) bool { return true })
}

// replace swaps the device: new commands are held, those inside are waited
// for, then the held ones go to the new device.
func (n *namespace) replace(h *bdev.Handle) (old *bdev.Handle) {
	n.alone(func() {
		if old = n.handle.Load(); h != old {
			n.adopt(h)
		}
		n.handle.Store(h)
		n.last.Store(h.Info())
		n.orphan.Store(false)
		n.mu.Lock()
		n.bdev = h.Info().Name
		n.mu.Unlock()
	})
	return old
}

// alone calls change while no command is inside of the gate; those that come wait.
func (n *namespace) alone(change func()) {
	n.mu.Lock()
	n.hold = true
	n.mu.Unlock()
	n.drain()
	change()
	n.mu.Lock()
	n.gate.open()
	n.hold = false
	held := n.held
	n.held = nil
	n.mu.Unlock()
	var b bdev.Batch
	for _, c := range held {
		c.conn.guarded(func() { c.submit(&b) })
	}
	b.Flush()
}

// quiesce waits until everything that is at the device now is done and the
// replies that show its memory are sent; a peer that does not take them is cut
// off after the grace. Only for the device h, when that is not nil.
func (n *namespace) quiesce(h *bdev.Handle) {
	n.sub.changing.Lock()
	defer n.sub.changing.Unlock()
	now := n.handle.Load()
	if now == nil || h != nil && h != now {
		return // the one that takes a device away waits as well
	}
	n.replace(now)
}

// refuse deals with a command that found the gate shut: it is held during a
// swap, is to try again when the gate has opened meanwhile, and is otherwise
// answered as if the namespace were gone.
func (n *namespace) refuse(c *cmd, b *bdev.Batch) (again bool) {
	n.mu.Lock()
	if n.hold {
		c.keep()
		conn, leave := c.conn, c.to(held)
		n.held = append(n.held, c)
		n.mu.Unlock() // it may be elsewhere from here on
		if leave {
			conn.q.leaveInflight()
		}
		return false
	}
	n.mu.Unlock()
	switch {
	case n.sub.namespace(n.nsid) != n:
		c.gone(b)
	case n.orphan.Load():
		c.finish(n.lostStatus(), b)
	default:
		return true
	}
	return false
}

// cutLaggards gives up connections whose host does not read: replies that
// refer to a device's memory keep it in use.
func (n *namespace) cutLaggards() {
	n.sub.mu.Lock()
	var ks []*conn
	for conn := range n.sub.conns {
		conn.mu.Lock()
		if conn.tx.blocked {
			ks = append(ks, conn)
		}
		conn.mu.Unlock()
	}
	n.sub.mu.Unlock()
	for _, conn := range ks {
		conn.kill("the peer does not read and a namespace has to settle")
	}
}

// lostStatus is what commands to a namespace without a device get: hosts try
// another path, and with ANA wait until one is there.
func (n *namespace) lostStatus() nvme.Status {
	if n.sub.cfg.ANAReporting {
		return nvme.ANAInaccessible
	}
	return nvme.InternalPathError
}
