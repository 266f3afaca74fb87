package nvmftgt

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// memory shares the pool of data buffers among the connections.
//
// A connection gets what leaves as much free as it then holds, beside a quarter
// of the pool: a lone one gets three eighths, of n that ask for all they can
// get each less than 1/n. One that holds nothing gets what is at most half of
// what is free beside an eighth of the pool. So there is always something for
// one that comes later, however slow the devices of the others, and most for
// those that ask for little. The eighth is left to data that comes with
// commands and to block devices, which cannot wait in a queue.
//
// One that holds nothing and still gets nothing is hungry. As long as memory
// comes back nobody else gets any until it has what it needs. When none has
// come back for a while, those who hold it may never give it back: others that
// need less go on then, and the hungry one is tried again later.
//
// So nobody waits for ever for what others hold, if they ever give it back:
// devices complete, replies are taken or their connection is cut (SendTime),
// and so is one that does not send what it was asked for while others wait.
type memory struct {
	tgt    *Target
	strict atomic.Bool // only who has the turn gets memory
	short  atomic.Bool // somebody waits
	kick   chan struct{}

	// patience is how long memory is kept for a hungry connection when none
	// comes back.
	patience time.Duration

	mu      sync.Mutex
	queue   []*conn // that wait, each once
	feeding bool

	// The feeder's own.
	batch   bdev.Batch
	hungry  *conn // the first that holds nothing
	best    int   // most bytes that were free since it is the first
	bestAt  time.Time
	relaxed time.Time // until then nobody is strict
	looked  time.Time // for connections that do not send
}

const (
	// defaultPatience is that of a target, and relax how long no memory is
	// kept after that.
	defaultPatience = 100 * time.Millisecond
	relax           = time.Second

	// feedPause is the shortest time between two rounds, feedEvery the longest:
	// block devices give memory back without saying so.
	feedPause = 200 * time.Microsecond
	feedEvery = 10 * time.Millisecond
)

// grants reports whether a connection that holds held bytes may have size
// more.
func (m *memory) grants(held, size int, turn bool) bool {
	if !turn && m.strict.Load() {
		return false
	}
	limit, free := m.tgt.buffers.Limit(), m.tgt.buffers.Free()
	if held > 0 {
		return held+size <= m.tgt.cfg.MaxConnData && held+size <= free-size-limit/4
	}
	return 2*size <= free-limit/8 || free == limit
}

// freed says that memory has come back.
func (m *memory) freed() {
	if m.short.Load() {
		select {
		case m.kick <- struct{}{}:
		default:
		}
	}
}

// join has conn served in its turn. conn.mu is held.
func (m *memory) join(conn *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, conn)
	if !m.feeding {
		m.feeding = true
		m.short.Store(true)
		go m.feed()
	}
}

// feed serves the queue until it is empty.
func (m *memory) feed() {
	t := time.NewTimer(feedEvery)
	defer t.Stop()
	for m.round(time.Now()) {
		t.Reset(feedEvery)
		select {
		case <-m.kick:
			time.Sleep(feedPause)
		case <-t.C:
		}
	}
}

// round serves every connection of the queue once, in order, as far as there
// is memory. It reports false when nobody waits any more.
func (m *memory) round(now time.Time) bool {
	m.mu.Lock()
	q := m.queue[:len(m.queue):len(m.queue)]
	if len(q) == 0 {
		m.feeding = false
		m.short.Store(false)
		m.strict.Store(false)
		m.hungry = nil
		m.mu.Unlock()
		return false
	}
	m.mu.Unlock()
	var wait, again []*conn
	var hungry *conn
	for _, conn := range q {
		served, holds, left := conn.q.fed(&m.batch, hungry == nil)
		switch {
		case !left:
		case served > 0:
			again = append(again, conn) // others first
		default:
			if wait = append(wait, conn); !holds && hungry == nil {
				hungry = conn
				m.strict.Store(m.keepFor(conn, now))
			}
		}
	}
	m.batch.Flush()
	if hungry == nil {
		m.hungry = nil
		m.strict.Store(false)
	} else if m.hungry == nil && len(wait) > 1 { // it has been passed over
		for i, conn := range wait {
			if conn == hungry {
				wait = append(append(wait[:i], wait[i+1:]...), conn)
				break
			}
		}
	}
	if now.Sub(m.looked) > time.Second {
		m.looked = now
		m.tgt.cutSilent()
	}
	m.mu.Lock()
	m.queue = append(append(wait, m.queue[len(q):]...), again...)
	m.mu.Unlock()
	return true
}

// keepFor reports whether what comes back is kept for conn, the first that is
// hungry.
func (m *memory) keepFor(conn *conn, now time.Time) bool {
	free := m.tgt.buffers.Free()
	if now.Before(m.relaxed) {
		return false
	}
	if m.hungry != conn || free > m.best {
		m.hungry, m.best, m.bestAt = conn, free, now
	}
	if now.Sub(m.bestAt) < m.patience {
		return true
	}
	m.relaxed, m.hungry = now.Add(relax), nil
	return false
}

// fed serves conn's waiting commands and reports how many, whether conn holds
// memory, and whether commands still wait; if not, conn has left the queue.
func (q *queue) fed(b *bdev.Batch, turn bool) (served int, holds, left bool) {
	conn := q.conn
	conn.guarded(func() { served = q.serveWaiting(b, turn) })
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(q.waiting) == 0 || conn.closing.Load() {
		q.queued = false
		return served, q.held > 0, false
	}
	return served, q.held > 0, true
}

// cutSilent gives up the connections that have not sent anything for long
// though they were asked for data: memory is reserved for it that others wait
// for.
func (t *Target) cutSilent() {
	now := nanotime()
	t.mu.Lock()
	var ks []*conn
	for conn := range t.conns {
		if conn.q.asked.Load() > 0 && time.Duration(now-conn.seen.Load()) > t.cfg.SendTime {
			ks = append(ks, conn)
		}
	}
	t.mu.Unlock()
	for _, conn := range ks {
		conn.kill("the peer does not send what it was asked for, and others wait for memory")
	}
}
