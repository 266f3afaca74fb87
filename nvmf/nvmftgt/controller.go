package nvmftgt

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// controller is what a host sees of a subsystem: an admin connection and its
// I/O connections. It lives as long as the admin connection.
type controller struct {
	sub    *Subsystem
	lis    *listener
	id     uint16
	host   string
	hostID uuid.UUID
	admin  *conn
	// forwards: commands say of which host they are, and that is believed.
	forwards atomic.Bool

	mu           sync.Mutex
	io           map[uint16]*conn
	left         int64 // when something was received last on I/O queues that have ended
	maxIO        int   // I/O queues granted
	cc           uint32
	csts         uint32
	kato         time.Duration
	katoNanos    atomic.Int64 // kato for those without mu, while it runs; else 0
	timer        *time.Timer  // see watch
	gone         bool
	writeThrough atomic.Bool // the host has switched the write cache off
	feat         features
	events       events
	errors       errorLog
}

func newController(s *Subsystem, l *listener, id uint16, admin *conn, d nvme.ConnectData, kato uint32) *controller {
	c := &controller{sub: s, lis: l, id: id, host: d.HostNQN, hostID: d.HostID, admin: admin, io: map[uint16]*conn{}, left: math.MinInt64}
	c.maxIO = int(admin.opts.MaxIOQpairsPerCtrlr)
	c.feat = defaultFeatures()
	c.events.changed = map[uint32]struct{}{}
	c.kato = c.granted(kato)
	return c
}

// start begins to watch over the controller, whose admin connection is bound.
func (c *controller) start() {
	c.mu.Lock()
	c.watch()
	c.mu.Unlock()
}

// addQueue takes conn as I/O queue qid, or with only looking says whether it
// could. A host that finds the controller ended or
// the queue taken is late, and makes a new association.
func (c *controller) addQueue(conn *conn, qid uint16, looking bool) nvme.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone || c.csts&nvme.CSTSReady == 0 || c.csts&nvme.CSTSShutdownMask != 0:
		return nvme.CommandSequenceError
	case c.io[qid] != nil:
		return nvme.InvalidQueueID
	case int(qid) > c.maxIO:
		return nvme.InvalidQueueID | nvme.DNR
	}
	if looking {
		return nvme.Success
	}
	c.io[qid] = conn
	return nvme.Success
}

// leave is called by a connection that ends. With the admin connection the
// controller ends.
func (c *controller) leave(conn *conn) {
	if conn != c.admin {
		c.mu.Lock()
		if c.io[conn.q.id] == conn {
			delete(c.io, conn.q.id)
			c.left = max(c.left, conn.seen.Load())
		}
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	c.gone = true
	c.watch()
	c.mu.Unlock()
	c.killIO("the controller ended")
	s := c.sub
	s.mu.Lock()
	if s.ctrls[c.id] == c {
		delete(s.ctrls, c.id)
	}
	s.mu.Unlock()
	s.tgt.log.Info("nvmf: controller ended", append(conn.attrs(), "why", conn.reason())...)
}

// killIO gives up the I/O connections without waiting for them.
func (c *controller) killIO(why string) {
	c.mu.Lock()
	var ks []*conn
	for _, conn := range c.io {
		ks = append(ks, conn)
	}
	c.mu.Unlock()
	for _, conn := range ks {
		conn.kill(why)
	}
}

// granted is the keep alive time for a host that asks for ms milliseconds; 0:
// none. It is rounded up to the granularity that Identify tells, as far as the
// feature has room for it.
func (c *controller) granted(ms uint32) time.Duration {
	if ms == 0 {
		return 0
	}
	o := &c.admin.opts
	kato := max(time.Duration(ms), time.Duration(o.MinKATO)) * time.Millisecond
	if unit := time.Duration(o.KAS) * 100 * time.Millisecond; unit > 0 {
		kato = (kato + unit - 1) / unit * unit
	}
	return min(kato, math.MaxUint32*time.Millisecond)
}

// setKeepAlive sets the keep alive time, milliseconds, and starts it again.
func (c *controller) setKeepAlive(ms uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kato = c.granted(ms)
	c.watch()
}

// watch starts the timer that ends the controller: keep alive runs while the
// controller is ready and not shut down (base 2.0, section 3.9), otherwise the
// time in which it is to be enabled. c.mu is held.
func (c *controller) watch() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.katoNanos.Store(0)
	switch {
	case c.gone:
	case c.csts&nvme.CSTSReady == 0 || c.csts&nvme.CSTSShutdownMask != 0:
		c.timer = time.AfterFunc(c.sub.tgt.cfg.EnableTime, func() { c.idle() })
	case c.kato > 0:
		c.katoNanos.Store(int64(c.kato))
		c.timer = time.AfterFunc(c.kato, c.checkKeepAlive)
	}
}

// idle ends a controller that nobody has enabled.
func (c *controller) idle() {
	c.mu.Lock()
	inUse := c.gone || c.csts&nvme.CSTSReady != 0 && c.csts&nvme.CSTSShutdownMask == 0
	c.mu.Unlock()
	if inUse {
		return
	}
	c.sub.tgt.log.Info("nvmf: the controller is not enabled", c.admin.attrs()...)
	c.admin.kill("the controller is not enabled")
	c.killIO("the controller is not enabled")
}

// lapsed reports that the keep alive time ran out before what conn has just
// received, and then ends the controller. That is so when this process, or its
// machine, was stopped for a while: the host has given the controller up by
// then and sent its commands elsewhere, perhaps overwritten the blocks since,
// and what it had sent before still lies in the sockets.
func (c *controller) lapsed(conn *conn, now int64) bool {
	limit := c.katoNanos.Load()
	if limit == 0 || now-conn.seen.Load() < limit {
		return false
	}
	// This queue alone may have been idle.
	c.mu.Lock()
	idle := now - c.lastSeen()
	c.mu.Unlock()
	if idle < limit {
		return false
	}
	c.expire()
	return true
}

// lastSeen is when a command came last; c.mu is held.
func (c *controller) lastSeen() int64 {
	last := max(c.admin.seen.Load(), c.left)
	for _, conn := range c.io {
		last = max(last, conn.seen.Load())
	}
	return last
}

// checkKeepAlive ends the controller when no command came for the keep alive
// time; with traffic based keep alive any command counts.
func (c *controller) checkKeepAlive() {
	c.mu.Lock()
	if c.gone || c.katoNanos.Load() == 0 {
		c.mu.Unlock()
		return
	}
	if idle := time.Duration(nanotime() - c.lastSeen()); idle < c.kato {
		c.timer.Reset(c.kato - idle)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.expire()
}

// expire gives the host up.
func (c *controller) expire() {
	c.mu.Lock()
	c.csts |= nvme.CSTSFatal
	c.mu.Unlock()
	c.sub.tgt.log.Warn("nvmf: keep alive expired", c.admin.attrs()...)
	c.admin.kill("keep alive expired")
	c.killIO("keep alive expired")
}

// complete ends an admin command on a goroutine that has no batch.
func (c *controller) complete(cmds ...*cmd) {
	if len(cmds) == 0 {
		return
	}
	var b bdev.Batch
	for _, m := range cmds {
		m.finish(nvme.Success, &b)
	}
	b.Flush()
}

func (conn *conn) reason() string {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.why
}

// controllers returns those that match.
func (s *Subsystem) controllers(match func(*controller) bool) []*controller {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*controller
	for _, c := range s.ctrls {
		if match(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *controller) int { return cmp.Compare(a.id, b.id) })
	return out
}

func anyController(*controller) bool { return true }

// Controllers returns the controllers of connected hosts by controller id,
// without those whose host has yet to authenticate.
func (s *Subsystem) Controllers() []ControllerInfo {
	var out []ControllerInfo
	for _, c := range s.controllers(func(c *controller) bool { return !c.admin.unproven.Load() }) {
		c.mu.Lock()
		out = append(out, ControllerInfo{CNTLID: c.id, HostNQN: c.host, HostID: c.hostID, KeepAlive: c.kato,
			Listener: c.lis.portal.addr, IOQueues: len(c.io)})
		c.mu.Unlock()
	}
	return out
}

// Qpairs returns the connections of the subsystem's controllers.
func (s *Subsystem) Qpairs() []QpairInfo {
	var out []QpairInfo
	for _, c := range s.controllers(anyController) {
		c.mu.Lock()
		ks := []*conn{c.admin}
		for _, conn := range c.io {
			ks = append(ks, conn)
		}
		c.mu.Unlock()
		slices.SortFunc(ks, func(a, b *conn) int { return cmp.Compare(a.q.id, b.q.id) })
		for _, conn := range ks {
			state := "enabled"
			if conn.unproven.Load() {
				state = "authenticating"
			}
			out = append(out, QpairInfo{CNTLID: c.id, QID: conn.q.id, HostNQN: conn.host, Listener: conn.portal.addr, Peer: conn.peer,
				QueueDepth: conn.q.size, HeaderDigest: conn.hdgst, DataDigest: conn.ddgst, State: state})
		}
	}
	return out
}
