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
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// Phases of a connection.
const (
	phaseNew     = iota // nothing received
	phaseConnect        // initialized; only Connect is taken
	phaseReady
)

// Sizes in bytes of receive buffers. Until Connect succeeds a connection may
// only make us hold the small one.
const (
	helloBuffer = 4 << 10
	adminBuffer = 32 << 10
	ioBuffer    = 256 << 10
)

// conn is a connection: one queue pair.
type conn struct {
	tgt    *Target
	portal *portal
	opts   connOpts
	nc     *tcp.Conn
	peer   Addr
	hello  *time.Timer
	came   time.Time
	guest  *list.Element // in admission; Target.mu guards it

	// The reader's own.
	batch     bdev.Batch
	phase     int
	ownBuf    bool   // rbuf is from the heap
	rbuf      []byte // received bytes, rbuf[r:w] not handled yet
	r, w      int
	pduAt     int    // start of the PDU that is being handled
	local     []*cmd // free slots
	data      dataPDU
	parkN     int
	parkErr   syscall.Errno
	fusedOne  *cmd   // first command of a fused pair
	starting  *cmd   // is being handed to its device
	carriedIn uint64 // bytes of data that came with commands
	spared    int    // commands that need not wait for those that are hungry
	farewell  *cmd   // Disconnect: nothing behind it is taken

	// input's turn is the right to use what is the reader's own. While the
	// reader sleeps a goroutine that polls may have it, see PollSource.
	input  tcp.Input
	polled bool  // another than the reader has the turn
	left   error // why the input was left to the reader

	// Set by ICReq, then constant.
	hdgst, ddgst bool
	align        int // of data in C2HData PDUs, bytes
	maxR2T       uint32

	// Set by Connect, then constant.
	sub   *Subsystem
	ctrl  *controller
	lis   *listener
	qid   uint16
	qsize uint32 // entries of the submission queue
	host  string

	closing  atomic.Bool  // nothing more is submitted or sent
	asked    atomic.Int32 // R2Ts whose data is not all here
	inflight atomic.Int64 // commands at a device
	idle     chan struct{}
	settled  chan struct{} // closed when the reader has ended and nothing can be written any more
	parked   atomic.Uint32 // times that the reader went to sleep
	seen     atomic.Int64  // when something was received last, for keep alive

	mu         sync.Mutex
	cond       *sync.Cond // sending, blocked
	shut       bool       // the descriptor may be closed
	why        string     // reason of the end
	slots      []*cmd
	free       []*cmd
	waiting    []*cmd // for a buffer
	held       int    // bytes in buffers
	queued     bool   // in Target.memory
	carriedOut uint64 // of carriedIn, those of commands that have ended
	out, snd   outQueue
	dirty      bool
	sending    bool   // somebody sends k.snd
	blocked    bool   // the socket is full
	draining   bool   // somebody waits for the socket
	head       uint32 // of the submission queue
	untold     uint32 // commands that have ended since the host was told the head
	tellHead   uint32 // how many may
	noFlow     bool   // the host wants no flow control of the submission queue

	completed uint64 // commands that were answered
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
	k, err := newConn(t, nc, p, peer)
	if err != nil {
		t.mu.Unlock()
		_ = nc.Close()
		return
	}
	t.enter(k)
	t.mu.Unlock()
	go k.run()
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
	k := &conn{tgt: t, portal: p, nc: nc, peer: peer, align: 4, idle: make(chan struct{}, 1), settled: make(chan struct{})}
	k.cond = sync.NewCond(&k.mu)
	o := *t.transport
	k.opts = connOpts{TransportOpts: o, success: *o.C2HSuccess, maxIO: o.MaxIOSize, maxData: max(o.MaxIOSize, 128<<10),
		capsule: o.InCapsuleDataSize, spinTime: t.cfg.Spin}
	if o.AckTimeout > 0 {
		nc.SetAckTimeout(o.AckTimeout)
	}
	k.rbuf, k.ownBuf = make([]byte, helloBuffer), true
	k.input.Init(nc, k, k.tryPark, k.rest)
	k.growSlots(1)
	k.hello = time.AfterFunc(t.cfg.HelloTime, func() { k.kill("no Connect in time") })
	return k, nil
}

// run is the reader.
func (k *conn) run() {
	defer k.teardown()
	for k.unblock() {
		n, e := k.recv()
		if e == syscall.EAGAIN {
			n, e = k.wait()
		}
		left := k.left
		k.left = nil
		switch {
		case left == errResume:
			n = 0
		case left != nil:
			k.fault(left)
			return
		case e != 0:
			k.kill("receive: " + e.Error())
			return
		case n == 0:
			k.kill("closed by the peer")
			return
		}
		if err := k.pass(n); err != nil {
			k.fault(err)
			return
		}
	}
}

// errPanic ends the connection after a panic.
var errPanic = errors.New("fault")

// pass handles n received bytes and flushes. A panic ends the connection, not
// the process.
func (k *conn) pass(n int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			k.panicked(p)
			k.unwound()
			err = errPanic
		}
	}()
	err = k.received(n)
	k.batch.Flush()
	return err
}

// fault ends the connection for what pass has found.
func (k *conn) fault(err error) {
	if err == errDisconnect {
		k.guarded(k.disconnect)
		return
	}
	if err != errClosing && err != errPanic {
		k.guarded(func() { k.terminate(err) })
	}
}

// guarded runs f, which works for k on a goroutine that is not k's reader.
func (k *conn) guarded(f func()) {
	defer func() {
		if p := recover(); p != nil {
			k.panicked(p)
		}
	}()
	f()
}

func (k *conn) panicked(p any) {
	k.tgt.stats.panics.Add(1)
	var last []byte
	if k.pduAt < k.w && k.w <= len(k.rbuf) {
		last = append(last, k.rbuf[k.pduAt:min(k.w, k.pduAt+128)]...)
	}
	k.tgt.log.Error("nvmf: connection ended by a fault", append(k.attrs(), "panic", fmt.Sprint(p), "input", fmt.Sprintf("%x", last), "stack", string(debug.Stack()))...)
	go k.kill("fault") // the lock may be held below us
}

func (k *conn) attrs() []any {
	a := []any{slog.String("peer", k.peer.String())}
	if k.ctrl != nil {
		a = append(a, slog.String("host", k.host), slog.String("subsystem", k.sub.cfg.NQN), slog.Int("cntlid", int(k.ctrl.id)), slog.Int("qid", int(k.qid)))
	}
	return a
}

func (k *conn) hostNQN() string { return k.host }

// epoch makes nanotime monotonic.
var epoch = time.Now()

func nanotime() int64 { return int64(time.Since(epoch)) }
