package nvmftgt

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// Phases of a connection.
const (
	phaseNew     = iota // nothing received
	phaseConnect        // initialized; only Connect is taken
	phaseAuth           // connected; only Authentication Send and Receive are taken
	phaseReady
)

// conn is a connection: one queue pair. It is three parts, each with a type and
// rules of its own, and what they share: who the peer is, what was negotiated,
// and how the connection ends.
//
//	rx  receiver  the bytes that come, as PDUs; belongs to the one that has the input's turn
//	q   queue     the commands: slots, buffers, flow control
//	tx  sender    the PDUs that go
//
// The parts share mu, since one completion changes the queue and what is sent
// at once.
type conn struct {
	tgt    *Target
	portal *portal
	opts   connOpts
	nc     *tcp.Conn
	peer   Addr
	hello  *time.Timer
	came   time.Time
	guest  *list.Element // in admission; Target.mu guards it

	rx receiver
	q  queue
	tx sender

	// The reader's own, as rx is.
	batch bdev.Batch
	phase int
	auth  *dhchap.Controller // of an authentication under way; nil: none

	// Set by ICReq, then constant.
	hdgst, ddgst bool

	// Set by Connect, then constant.
	sub  *Subsystem
	ctrl *controller
	lis  *listener
	host string

	elsewhere []dhchap.Keys // of Config.PlaceKeys, for a discovery controller; set by Connect

	unproven atomic.Bool // Connect has demanded an authentication, which has not succeeded yet
	proved   atomic.Bool // it has succeeded in one

	closing atomic.Bool   // nothing more is submitted or sent
	settled chan struct{} // closed when the reader has ended and nothing can be written any more
	seen    atomic.Int64  // when something was received last, for keep alive

	mu   sync.Mutex
	shut bool   // the descriptor may be closed
	why  string // reason of the end
}

// connOpts are the transport's options as a connection uses them.
type connOpts struct {
	TransportOpts
	success  bool
	maxData  uint32 // MAXH2CDATA, bytes
	maxIO    uint32
	capsule  uint32 // in-capsule data, bytes
	spinTime time.Duration
}

// serve starts a connection's reader, or closes nc when there are too many.
func (t *Target) serve(nc tcp.Stream, p *portal) {
	t.mu.Lock()
	peer := peerOf(nc.RemoteAddr())
	if t.closed || !t.mayTake(peer.Traddr) {
		t.mu.Unlock()
		_ = nc.Close()
		t.stats.rejected.Add(1)
		return
	}
	conn, err := newConn(t, nc, p, peer)
	if err != nil {
		t.mu.Unlock()
		_ = nc.Close()
		return
	}
	t.enter(conn)
	t.mu.Unlock()
	go conn.run()
}

// peerOf is the address of the other end; empty where it has none.
func peerOf(at net.Addr) (a Addr) {
	if ap, ok := at.(*net.TCPAddr); ok {
		a, _ = Addr{Traddr: ap.AddrPort().Addr().Unmap().WithZone("").String(), Trsvcid: strconv.Itoa(ap.Port)}.Normalize()
	}
	return a
}

// newConn makes a connection; t.mu is held.
func newConn(t *Target, s tcp.Stream, p *portal, peer Addr) (*conn, error) {
	nc, err := tcp.New(s)
	if err != nil {
		return nil, err
	}
	conn := &conn{tgt: t, portal: p, nc: nc, peer: peer, settled: make(chan struct{})}
	conn.rx.conn, conn.q.conn, conn.tx.conn = conn, conn, conn
	conn.q.idle = make(chan struct{}, 1)
	conn.tx.align = 4
	conn.tx.cond = sync.NewCond(&conn.mu)
	o := *t.transport
	conn.opts = connOpts{TransportOpts: o, success: *o.C2HSuccess, maxIO: o.MaxIOSize, maxData: max(o.MaxIOSize, 128<<10),
		capsule: o.InCapsuleDataSize, spinTime: t.cfg.Spin}
	if o.AckTimeout > 0 {
		nc.SetAckTimeout(o.AckTimeout)
	}
	conn.rx.buf, conn.rx.own = make([]byte, helloBuffer), true
	conn.rx.input.Init(nc, conn, conn.rx.tryPark, conn.rx.rest)
	conn.q.growSlots(1)
	conn.hello = time.AfterFunc(t.cfg.HelloTime, func() { conn.kill("no Connect in time") })
	return conn, nil
}

// run is the reader.
func (conn *conn) run() {
	defer conn.teardown()
	for conn.tx.unblock() {
		n, e := conn.rx.recv()
		if e == syscall.EAGAIN {
			n, e = conn.rx.wait()
		}
		left := conn.rx.left
		conn.rx.left = nil
		switch {
		case left == errResume:
			n = 0
		case left != nil:
			conn.fault(left)
			return
		case e != 0:
			conn.kill("receive: " + e.Error())
			return
		case n == 0:
			conn.kill("closed by the peer")
			return
		}
		if err := conn.pass(n); err != nil {
			conn.fault(err)
			return
		}
	}
}

// errPanic ends the connection after a panic.
var errPanic = errors.New("fault")

// pass handles n received bytes and flushes. A panic ends the connection, not
// the process.
func (conn *conn) pass(n int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			conn.panicked(p)
			conn.q.unwound()
			err = errPanic
		}
	}()
	err = conn.rx.received(n)
	conn.batch.Flush()
	return err
}

// fault ends the connection for what pass has found.
func (conn *conn) fault(err error) {
	if err == errDisconnect {
		conn.guarded(conn.disconnect)
		return
	}
	if err != errClosing && err != errPanic {
		conn.guarded(func() { conn.terminate(err) })
	}
}

// guarded runs f, which works for conn on a goroutine that is not conn's reader.
func (conn *conn) guarded(f func()) {
	defer func() {
		if p := recover(); p != nil {
			conn.panicked(p)
		}
	}()
	f()
}

func (conn *conn) panicked(p any) {
	conn.tgt.stats.panics.Add(1)
	var last []byte
	if conn.rx.pduAt < conn.rx.w && conn.rx.w <= len(conn.rx.buf) {
		last = append(last, conn.rx.buf[conn.rx.pduAt:min(conn.rx.w, conn.rx.pduAt+128)]...)
	}
	conn.tgt.log.Error("nvmf: connection ended by a fault", append(conn.attrs(),
		"panic", fmt.Sprint(p), "input", fmt.Sprintf("%x", last), "stack", string(debug.Stack()))...)
	go conn.kill("fault") // the lock may be held below us
}

func (conn *conn) attrs() []any {
	a := []any{slog.String("peer", conn.peer.String())}
	if conn.ctrl != nil {
		a = append(a, slog.String("host", conn.host), slog.String("subsystem", conn.sub.cfg.NQN),
			slog.Int("cntlid", int(conn.ctrl.id)), slog.Int("qid", int(conn.q.id)))
	}
	return a
}

func (conn *conn) hostNQN() string { return conn.host }

// epoch makes nanotime monotonic.
var epoch = time.Now()

func nanotime() int64 { return int64(time.Since(epoch)) }
