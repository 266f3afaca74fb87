package target

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vda/bdev"
	"vda/nvme"
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
	nc     stream
	rc     syscall.RawConn
	fd     int
	peer   Addr
	hello  *time.Timer

	// The reader's own.
	batch    bdev.Batch
	phase    int
	ownBuf   bool   // rbuf is from the heap
	rbuf     []byte // received bytes, rbuf[r:w] not handled yet
	r, w     int
	pduAt    int    // start of the PDU that is being handled
	local    []*cmd // free slots
	data     dataPDU
	recvIov  [8]syscall.Iovec
	recvMsg  syscall.Msghdr
	parkFn   func(uintptr) bool
	parkN    int
	parkErr  syscall.Errno
	spinning spin
	fusedOne *cmd // first command of a fused pair

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
	inflight atomic.Int64 // commands at a device
	idle     chan struct{}
	settled  chan struct{} // closed when the reader has ended and nothing can be written any more
	parked   atomic.Uint32 // times that the reader went to sleep
	seen     atomic.Int64  // time of the last pass, for keep alive

	mu        sync.Mutex
	cond      *sync.Cond // sending, blocked
	shut      bool       // the descriptor may be closed
	why       string     // reason of the end
	slots     []*cmd
	free      []*cmd
	waiting   []*cmd // for a buffer
	held      int    // bytes in buffers
	retrying  bool
	out, snd  outQueue
	sndAt     int
	sndMsg    syscall.Msghdr
	dirty     bool
	sending   bool // somebody sends k.snd
	blocked   bool // the socket is full
	draining  bool // somebody waits for the socket
	head      uint32
	completed uint64
}

// stream is a TCP connection, or in tests a pair of sockets without ports.
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
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
func (t *Target) serve(nc stream, p *portal) {
	t.mu.Lock()
	if t.closed || len(t.conns) >= t.cfg.MaxConns {
		full := len(t.conns)
		t.mu.Unlock()
		_ = nc.Close()
		t.stats.rejected.Add(1)
		t.log.Debug("nvmf: connection refused", "conns", full)
		return
	}
	k, err := newConn(t, nc, p)
	if err != nil {
		t.mu.Unlock()
		_ = nc.Close()
		return
	}
	t.conns[k] = struct{}{}
	t.mu.Unlock()
	go k.run()
}

// newConn makes a connection; t.mu is held.
func newConn(t *Target, nc stream, p *portal) (*conn, error) {
	rc, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &conn{tgt: t, portal: p, nc: nc, rc: rc, align: 4, idle: make(chan struct{}, 1), settled: make(chan struct{})}
	k.cond = sync.NewCond(&k.mu)
	o := *t.transport
	k.opts = connOpts{TransportOpts: o, success: *o.C2HSuccess, maxIO: o.MaxIOSize, maxData: max(o.MaxIOSize, 128<<10), capsule: o.InCapsuleDataSize, spinTime: t.cfg.Spin}
	if ap, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		k.peer, _ = Addr{Traddr: ap.AddrPort().Addr().Unmap().WithZone("").String(), Trsvcid: strconv.Itoa(ap.Port)}.Normalize()
	}
	err = rc.Control(func(fd uintptr) {
		k.fd = int(fd)
		if o.AckTimeout > 0 {
			_ = syscall.SetsockoptInt(k.fd, syscall.IPPROTO_TCP, tcpUserTimeout, int(o.AckTimeout))
		}
	})
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
	k.rbuf, k.ownBuf = make([]byte, helloBuffer), true
	k.parkFn = k.parkRecv
	k.growSlots(1)
	k.hello = time.AfterFunc(t.cfg.HelloTime, func() { k.kill("no Connect in time") })
	return k, err
}

// run is the reader.
func (k *conn) run() {
	defer k.teardown()
	for k.unblock() {
		n, e := k.recv()
		switch {
		case e == syscall.EAGAIN:
			if n, e = k.wait(); e != 0 {
				k.kill("receive: " + e.Error())
				return
			}
		case e != 0:
			k.kill("receive: " + e.Error())
			return
		}
		if n == 0 {
			k.kill("closed by the peer")
			return
		}
		if !k.pass(n) {
			return
		}
	}
}

// pass handles n received bytes and flushes. A panic ends the connection, not
// the process.
func (k *conn) pass(n int) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			k.panicked(p)
			ok = false
		}
	}()
	err := k.received(n)
	k.batch.Flush()
	if k.ctrl != nil {
		k.seen.Store(nanotime())
	}
	if err != nil {
		k.terminate(err)
		return false
	}
	return true
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

// kill gives the connection up: from now on it submits and sends nothing.
// teardown follows on the reader.
func (k *conn) kill(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why == "" {
		k.why = why
	}
	k.closing.Store(true)
	if !k.shut {
		_ = syscall.Shutdown(k.fd, syscall.SHUT_RDWR)
	}
	k.cond.Broadcast()
}

// leaveInflight ends a command's time at the device.
func (k *conn) leaveInflight() {
	if k.inflight.Add(-1) == 0 && k.closing.Load() {
		select {
		case k.idle <- struct{}{}:
		default:
		}
	}
}

// teardown runs when the reader has ended: it waits for what is at the
// devices, returns what the commands hold, and leaves the controller.
func (k *conn) teardown() {
	k.kill("ended")
	k.hello.Stop()
	if k.ctrl != nil {
		k.ctrl.leave(k)
	}
	for k.inflight.Load() != 0 {
		<-k.idle
	}
	k.mu.Lock()
	if k.blocked && !k.draining { // the rest of a reply that this goroutine would have sent
		k.sending = false
	}
	for k.sending || k.draining {
		k.cond.Wait()
	}
	k.shut = true
	for _, c := range k.slots {
		switch c.state.Load() {
		case cmdReply, cmdReceiving, cmdWaiting, cmdEvent, cmdStarted:
			if c.inGate {
				c.inGate = false
				c.ns.gate.leave()
			}
			if c.buf != nil {
				k.putBufLocked(c.buf)
				c.buf = nil
			}
		}
	}
	k.waiting = nil
	k.out, k.snd = outQueue{}, outQueue{}
	k.mu.Unlock()
	_ = k.nc.Close()
	k.dropRecvBuffer()
	t := k.tgt
	t.mu.Lock()
	delete(t.conns, k)
	t.stats.completed.Add(k.completed)
	t.mu.Unlock()
	if k.sub != nil {
		k.sub.forget(k)
	}
	t.log.Debug("nvmf: connection ended", append(k.attrs(), "why", k.why)...)
	close(k.settled)
}

// closeConns gives up the connections that match and waits until they have
// settled.
func (t *Target) closeConns(match func(*conn) bool) {
	t.mu.Lock()
	var ks []*conn
	for k := range t.conns {
		if match(k) {
			ks = append(ks, k)
		}
	}
	t.mu.Unlock()
	settle(ks, "closed by the target")
}

// closeConns is the same for the subsystem's connections.
func (s *Subsystem) closeConns(match func(*conn) bool) {
	s.mu.Lock()
	var ks []*conn
	for k := range s.conns {
		if match(k) {
			ks = append(ks, k)
		}
	}
	s.mu.Unlock()
	settle(ks, "closed by the target")
}

func settle(ks []*conn, why string) {
	for _, k := range ks {
		k.kill(why)
	}
	for _, k := range ks {
		<-k.settled
	}
}

func (k *conn) hostNQN() string { return k.host }

// growSlots allows n commands at once and as many more as replies may be on
// their way to a host that has sent the next command already.
func (k *conn) growSlots(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slots = append(make([]*cmd, 0, 2*n), k.slots...)
}

// slot returns a free slot, or nil when the host has more commands under way
// than its queue is long. Only the reader calls it.
func (k *conn) slot() *cmd {
	if len(k.local) == 0 {
		k.mu.Lock()
		k.local, k.free = k.free, k.local
		if len(k.local) == 0 && len(k.slots) < cap(k.slots) {
			c := newCmd(k, uint16(len(k.slots)))
			k.slots = append(k.slots, c)
			k.local = append(k.local, c)
		}
		k.mu.Unlock()
		if len(k.local) == 0 {
			return nil
		}
	}
	c := k.local[len(k.local)-1]
	k.local = k.local[:len(k.local)-1]
	c.state.Store(cmdStarted)
	return c
}

// epoch makes nanotime monotonic.
var epoch = time.Now()

func nanotime() int64 { return int64(time.Since(epoch)) }

// protocolError is a fault of the peer that ends the connection.
type protocolError struct {
	status nvme.FatalStatus
	info   uint32
	header []byte
	what   string
}

func (e *protocolError) Error() string { return e.status.String() + ": " + e.what }

// terminate tells the peer why the connection ends.
func (k *conn) terminate(err error) {
	k.tgt.stats.rejected.Add(1)
	k.tgt.complain("nvmf: connection ended for a protocol error", append(k.attrs(), "err", err)...)
	pe, ok := err.(*protocolError)
	k.mu.Lock()
	quiet := k.sending || k.closing.Load()
	if k.why == "" {
		k.why = err.Error()
	}
	k.closing.Store(true)
	k.mu.Unlock()
	if !ok || quiet {
		return
	}
	var b [nvme.TermReqMax]byte
	n := nvme.PutTermReq(b[:], nvme.PDUC2HTermReq, nvme.TermReq{Status: pe.status, Info: pe.info, Header: pe.header})
	_ = k.nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = k.nc.Write(b[:n])
	_ = k.nc.CloseWrite()
	sink := make([]byte, 4096)
	for range 64 { // let the peer read it before a reset
		if _, err := k.nc.Read(sink); err != nil {
			return
		}
	}
}
