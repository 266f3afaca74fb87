package nvmftgt

import (
	"container/list"
	"time"
)

// admission decides which connections are taken; Target.mu guards it.
//
// Anybody who reaches a portal can open connections. Those that have not got
// as far as a Connect, and those of discovery controllers, which any host may
// have, are guests: together they get a quarter of MaxConns, so that the rest is
// left to hosts that a subsystem admits, the nodes among them. When the quarter
// is full, or all connections are taken, a new guest takes the place of the
// oldest one. No source address gets more than three quarters of all.
type admission struct {
	young   list.List      // guests before their Connect, the oldest first
	seekers list.List      // guests that are discovery controllers
	sources map[string]int // connections by address
	met     map[string]*limitMet
}

// guestTime is for how long a guest keeps its place against another: long
// enough for its Connect.
const guestTime = 500 * time.Millisecond

// limitMet is how often a limit was met since it was last said.
type limitMet struct {
	said  time.Time
	times int
}

// limitEvery is the shortest time between two lines about the same limit.
const limitEvery = time.Minute

// meet counts that a limit was met, and says so now and then. t.mu is held.
func (t *Target) meet(limit string, attrs ...any) {
	t.stats.refused.Add(1)
	m := t.admission.met[limit]
	if m == nil {
		m = &limitMet{}
		t.admission.met[limit] = m
	}
	m.times++
	if now := time.Now(); now.Sub(m.said) >= limitEvery {
		t.log.Warn("nvmf: "+limit, append([]any{"times", m.times}, attrs...)...)
		m.said, m.times = now, 0
	}
}

// mayTake reports whether a connection from an address may be taken. It may
// have to give up an older guest for that. t.mu is held.
func (t *Target) mayTake(source string) bool {
	a, most := &t.admission, t.cfg.MaxConns
	if n := a.sources[source]; n >= max(most-most/4, 1) {
		t.meet("connections of one address are refused: they have three quarters of --max-connections", "address", source, "connections", n)
		return false
	}
	guests := a.young.Len() + a.seekers.Len()
	full := len(t.conns) >= most
	if !full && guests < max(most/4, 1) {
		return true
	}
	old := a.oldest()
	switch {
	case full && old == nil:
		t.meet("connections are refused: there are as many as --max-connections allows", "connections", len(t.conns), "peer", source)
		return false
	case old == nil:
		t.meet("connections are refused: those without a Connect, and those for discovery, have their quarter of --max-connections",
			"connections", guests, "peer", source)
		return false
	}
	t.meet("connections without a Connect, or for discovery, are given up for newer ones: they have their share of --max-connections",
		"connections", guests, "of", len(t.conns), "peer", old.peer.Traddr)
	a.forget(old)
	go old.kill("its place was needed")
	return true
}

// oldest is the guest whose place may be taken: one without a Connect if one
// has had its time, else the oldest discovery controller.
func (a *admission) oldest() *conn {
	for _, l := range []*list.List{&a.young, &a.seekers} {
		if e := l.Front(); e != nil && time.Since(e.Value.(*conn).came) >= guestTime {
			return e.Value.(*conn)
		}
	}
	return nil
}

// enter takes conn in as a guest; t.mu is held.
func (t *Target) enter(conn *conn) {
	t.conns[conn] = struct{}{}
	t.admission.sources[conn.peer.Traddr]++
	conn.came = time.Now()
	conn.guest = t.admission.young.PushBack(conn)
}

// welcome is called after conn's Connect.
func (t *Target) welcome(conn *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if conn.guest == nil {
		return // it has just been given up
	}
	t.admission.forget(conn)
	if conn.sub.discovery {
		conn.guest = t.admission.seekers.PushBack(conn)
	}
}

// forget takes conn off the lists of guests.
func (a *admission) forget(conn *conn) {
	if conn.guest != nil {
		a.young.Remove(conn.guest) // does nothing for an element of the other
		a.seekers.Remove(conn.guest)
		conn.guest = nil
	}
}

// exit takes an ended connection out; t.mu is held.
func (t *Target) exit(conn *conn) {
	a := &t.admission
	delete(t.conns, conn)
	a.forget(conn)
	if s := conn.peer.Traddr; a.sources[s] > 1 {
		a.sources[s]--
	} else {
		delete(a.sources, s)
	}
}
