package planetest

import (
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// Target is what an Initiator connects to.
type Target struct {
	Addr, NQN, Host string
	// Silence is how long a connection may give no answer.
	Silence time.Duration
	// Reconnect is the pause between two attempts.
	Reconnect time.Duration
	// FastFail is how long commands wait for a lost connection; negative: for
	// ever.
	FastFail time.Duration
	// Linux has a connection given up, as Linux does it since 6.10, when it is
	// refused for good after it was there once.
	Linux bool
	// Secrets, when not nil, returns what the host has at the moment to prove itself by, and what the subsystem has
	// to prove itself by to it, "" for nothing. Called with the cluster's lock held.
	Secrets func() [2]string

	keys spdk.Keys // in the keyring of the initiator's plane, where Secrets is nil
}

// has are the secrets that the initiator proves itself by.
func (i *Initiator) has() [2]string {
	if i.Secrets != nil {
		return i.Secrets()
	}
	return i.p.secrets(i.keys)
}

// connectTimeout bounds one attempt to connect.
const connectTimeout = 5 * time.Second

// retransmit is how soon after a cut has healed a message gets through.
const retransmit = 200 * time.Millisecond

// Initiator keeps one connection to a subsystem, like a controller of an NVMe
// host. A lost connection is reset, so what was not delivered never will be;
// commands that were delivered go on at the target. The cluster's lock guards
// it.
type Initiator struct {
	Target
	p      *Plane
	run    int
	conn   *conn // nil: not connected
	lostAt time.Time
	closed bool
	once   bool     // it was connected once
	given  bool     // it was given up
	ana    string   // as the target said last
	turn   uint64   // of the next command
	queued []uint64 // turns of the commands that wait to be sent, in order
	wake   chan struct{}
}

// conn is one connection. Messages on it arrive in order.
type conn struct {
	from          *Initiator
	to            *Plane
	run           int // of to
	lost          bool
	closed        bool // by the target
	heard         time.Time
	last          time.Time // when the last message arrives
	sent, arrived uint64    // messages
	taken         uint64    // of them, by the target's process
	inflight      int       // commands that the target is at
}

// Connect makes an initiator of the plane's, which is then a host.
func (p *Plane) Connect(t Target) *Initiator {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	i := p.initiator(t)
	go i.keep()
	return i
}

func (p *Plane) initiator(t Target) *Initiator {
	return &Initiator{Target: t, p: p, run: p.run, lostAt: time.Now(), wake: make(chan struct{}, 1)}
}

// Close ends the connection; commands under way fail.
func (i *Initiator) Close() {
	i.p.c.mu.Lock()
	defer i.p.c.mu.Unlock()
	i.close()
}

// ANA returns the state that the target told last, "" when there is no
// connection.
func (i *Initiator) ANA() string {
	i.p.c.mu.Lock()
	defer i.p.c.mu.Unlock()
	if i.conn == nil {
		return ""
	}
	return i.ana
}

// GivenUp reports that the target has said, of a connection that was lost, not
// to try again.
func (i *Initiator) GivenUp() bool {
	i.p.c.mu.Lock()
	defer i.p.c.mu.Unlock()
	return i.given
}

func (i *Initiator) close() {
	i.closed = true
	i.lose()
	i.nudge()
}

func (i *Initiator) over() bool { return i.closed || i.p.run != i.run }

func (i *Initiator) nudge() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// keep connects and looks after the connection until the initiator is closed.
func (i *Initiator) keep() {
	c := i.p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for !i.over() {
		pause := i.Reconnect
		if i.conn != nil || i.dial() {
			pause = min(500*time.Millisecond, i.Silence/4)
			i.check()
		}
		if i.over() {
			break
		}
		c.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-i.wake:
		}
		c.mu.Lock()
		i.p.awake(i.run)
	}
	i.lose()
}

// dial tries to connect once.
func (i *Initiator) dial() bool {
	c := i.p.c
	deadline := time.Now().Add(connectTimeout)
	host, _, _ := splitAddr(i.Addr)
	for i.p.awake(i.run) && !i.over() {
		there, ok := c.live.Path(i.p.addr, host)
		back, ok2 := c.live.Path(host, i.p.addr)
		if q := c.planes[i.Addr]; ok && ok2 && (q == nil || !q.hung) {
			c.sleep(there + back)
			return !i.over() && i.join(q)
		}
		if time.Now().After(deadline) {
			return false
		}
		c.sleep(retransmit)
	}
	return false
}

func (i *Initiator) join(q *Plane) bool {
	if q == nil || i.p.c.planes[i.Addr] != q {
		return false
	}
	s := q.subs[i.NQN]
	if s == nil || !s.listens(i.Addr) || !s.allows(i.Host) {
		forGood := s == nil && q.retired[i.NQN] || i.p.c.live.ForGood
		if i.given = i.Linux && i.once && forGood; i.given {
			i.close()
		}
		return false
	}
	if !q.proven(i.NQN, i.Host, i.has()) || !i.settled(q, s) {
		return false
	}
	i.once = true
	i.conn = &conn{from: i, to: q, run: q.run, heard: time.Now()}
	s.conns[i.conn] = true
	i.ana = q.ana[i.NQN]
	i.p.c.changed()
	return true
}

// settled ends what the same host had at a vd before, and waits until that has
// settled, as vda_tgt does. False when the target is not there any more.
func (i *Initiator) settled(q *Plane, s *subsystem) bool {
	if _, _, primary := vda.ParsePrimaryHost(i.Host); !primary || !q.swaps {
		return true
	}
	run := q.run
	for k := range s.conns {
		if k.from.Host != i.Host || k.from.p != i.p {
			continue
		}
		k.closed = true
		k.from.nudge()
		i.p.c.changed()
		for k.inflight > 0 && q.run == run && !i.over() {
			i.p.c.change.Wait()
		}
		if k.inflight == 0 {
			delete(s.conns, k)
		}
	}
	return q.run == run && !i.over() && q.subs[i.NQN] == s && s.allows(i.Host)
}

// check notices that the connection is broken or silent.
func (i *Initiator) check() {
	k := i.conn
	_, ok := i.p.c.live.Path(i.p.addr, k.to.addr)
	_, ok2 := i.p.c.live.Path(k.to.addr, i.p.addr)
	broken := k.closed || k.to.run != k.run
	switch {
	case ok && ok2 && broken:
		i.lose()
	case ok && ok2 && !k.to.hung || i.p.hung:
		k.heard = time.Now()
	case time.Since(k.heard) > i.Silence:
		i.lose()
	}
}

// lose gives the connection up.
func (i *Initiator) lose() {
	c := i.p.c
	if k := i.conn; k != nil {
		k.lost = true
		if s := k.to.subs[i.NQN]; s != nil && k.inflight == 0 {
			delete(s.conns, k)
		}
		i.conn, i.lostAt = nil, time.Now()
		if i.FastFail > 0 {
			time.AfterFunc(i.FastFail, c.change.Broadcast)
		}
	}
	c.changed()
}

// Submit carries a command out, over as many connections as that takes.
func (i *Initiator) Submit(cmd Command) (uint64, Status) {
	i.p.c.mu.Lock()
	defer i.p.c.mu.Unlock()
	return i.submit(cmd)
}

func (i *Initiator) submit(cmd Command) (uint64, Status) {
	turn := i.turn
	i.turn++
	for again := false; ; {
		at, _ := slices.BinarySearch(i.queued, turn)
		i.queued = slices.Insert(i.queued, at, turn)
		status := i.ready(turn)
		at, _ = slices.BinarySearch(i.queued, turn)
		i.queued = slices.Delete(i.queued, at, at+1)
		i.p.c.changed() // the next one's turn
		if status != OK {
			return 0, status
		}
		if again && cmd.by != nil && cmd.by.gone() {
			return 0, PathError
		}
		k := i.conn
		reply := k.send(cmd)
		for reply.status == pending && !k.lost && !i.over() {
			i.p.c.change.Wait()
		}
		switch {
		case reply.status != pending:
			return reply.value, reply.status
		case i.over() || i.FastFail == 0:
			return 0, PathError
		}
		again = true
	}
}

// ready waits until it is a command's turn to be sent.
func (i *Initiator) ready(turn uint64) Status {
	for {
		switch {
		case i.over(), i.conn == nil && i.FastFail >= 0 && time.Since(i.lostAt) >= i.FastFail:
			return PathError
		case i.conn != nil && i.queued[0] == turn && !i.p.hung:
			return OK
		}
		i.p.c.change.Wait()
	}
}
