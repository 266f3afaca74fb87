package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unsafe"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// adminDepth is the depth of the admin queue.
const adminDepth = 32

// adminInline is what an admin capsule may carry in bytes (transport 1.0,
// section 3.3.2.1); I/O queues allow it for Connect.
const adminInline = 8192

// session is one association with the controller, from Connect until the
// first of its connections fails.
type session struct {
	ctl   *Controller
	addr  Address
	admin *queue
	io    []*queue

	data     nvme.ControllerData
	limits   nvme.ControllerNVMData
	cap      nvme.Capabilities
	maxXfer  int    // bytes of data of a command
	granted  uint32 // I/O queues
	discover bool

	mu     sync.Mutex
	queues []*queue // all, for fail
	err    error
	failed chan struct{} // closed with err set

	background sync.WaitGroup
}

// fail ends the session; the first cause is kept.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	queues := s.queues
	s.ctl.session.CompareAndSwap(s, nil) // no more submissions
	close(s.failed)
	s.mu.Unlock()
	for _, q := range queues {
		q.fail(err)
	}
}

// close ends the session and returns when nothing of it is left.
func (s *session) close(err error) {
	s.fail(err)
	s.mu.Lock()
	queues := s.queues
	s.mu.Unlock()
	for _, q := range queues {
		<-q.gone
	}
	s.background.Wait()
}

// pick chooses the I/O queue for a submitter: batches stay together, so that
// what is gathered leaves in one piece.
func (s *session) pick(b *bdev.Batch) *queue {
	if len(s.io) == 1 {
		return s.io[0]
	}
	h := uint64(uintptr(unsafe.Pointer(b))) >> 4 * 0x9e3779b97f4a7c15
	return s.io[(h>>32)%uint64(len(s.io))]
}

// connect makes a session: admin queue, enabling, identity, I/O queues.
func connect(ctx context.Context, c *Controller) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	s := &session{ctl: c, addr: c.Addresses()[0], failed: make(chan struct{}), discover: c.cfg.SubNQN == nvme.DiscoveryNQN}
	stop := context.AfterFunc(ctx, func() { s.fail(fmt.Errorf("connect: %w", context.Cause(ctx))) })
	err := s.connect(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.close(err)
		return nil, err
	}
	return s, nil
}

func (s *session) connect(ctx context.Context) (err error) {
	cfg := &s.ctl.cfg
	if s.admin, err = s.open(ctx, 0, adminDepth, adminInline, nvme.CNTLIDDynamic); err != nil {
		return err
	}
	if err := s.enable(ctx); err != nil {
		return &enableError{err}
	}
	if err := s.identify(ctx); err != nil {
		return err
	}
	if cfg.KeepAlive > 0 { // from now on: connecting queues that authenticate may take longer than KATO
		s.background.Go(s.keepAlive)
	}
	if s.discover || cfg.Queues == 0 {
		return nil
	}
	n := s.granted
	depth := min(cfg.QueueDepth, int(s.cap.MaxQueueEntries)-1)
	if s.data.MAXCMD != 0 {
		depth = min(depth, int(s.data.MAXCMD))
	}
	inline := int(min(s.data.IOCCSZ, 1<<16))*16 - nvme.CommandLen
	if s.data.ICDOFF != 0 || inline < 0 {
		inline = 0
	}
	for i := range n {
		q, err := s.open(ctx, uint16(i+1), max(depth, 1), inline, s.data.CNTLID)
		if err != nil {
			return fmt.Errorf("I/O queue %d: %w", i+1, err)
		}
		s.io = append(s.io, q)
	}
	return nil
}

// open makes a connection, agrees on digests, and connects the queue.
func (s *session) open(ctx context.Context, id uint16, depth, inline int, cntlid uint16) (*queue, error) {
	cfg := &s.ctl.cfg
	conn, err := tcp.Dial(ctx, cfg.HostTraddr, net.JoinHostPort(s.addr.Traddr, s.addr.Trsvcid))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	resp, err := initialize(conn, cfg)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	q := &queue{id: id, ses: s, conn: conn, inline: max(inline, nvme.ConnectDataLen), maxH2C: int(min(resp.MaxH2CData, 1<<20)),
		align: (int(resp.CPDA) + 1) * 4, hdgst: resp.HeaderDigest, ddgst: resp.DataDigest,
		slots: make([]slot, depth), out: &sendList{}, onWire: &sendList{}, writes: make(chan struct{}, 1), gone: make(chan struct{})}
	for i := range q.slots {
		q.free = append(q.free, uint16(depth-1-i))
	}
	q.idle.L = &q.mu
	q.in.Init(conn, q, q.receive, q.rd.rest)
	q.rd.ahead = readBuffer
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		_ = conn.Close()
		return nil, s.err
	}
	s.queues = append(s.queues, q)
	s.mu.Unlock()
	go q.read()
	go q.writer()
	var cmd nvme.Command
	v := nvme.Connect{QID: id, SQSize: uint16(depth)}
	if id == 0 {
		v.SQSize = adminDepth - 1
		v.KeepAlive = uint32(cfg.KeepAlive.Milliseconds())
	}
	cmd.SetConnect(v)
	data := make([]byte, nvme.ConnectDataLen)
	nvme.PutConnectData(data, nvme.ConnectData{HostID: cfg.HostID, CNTLID: cntlid, SubNQN: cfg.SubNQN, HostNQN: cfg.HostNQN})
	cqe, err := q.sync(ctx, &cmd, data, true)
	if err != nil {
		return nil, &ConnectError{Err: err, Result: cqe.DW0}
	}
	if id == 0 {
		s.ctl.cntlid.Store(uint32(uint16(cqe.DW0)))
	}
	if err := q.afterConnect(ctx, cqe.DW0); err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.inline = inline
	q.mu.Unlock()
	return q, nil
}

// enableError says why a controller could not be enabled.
type enableError struct{ err error }

func (e *enableError) Error() string { return "enabling the controller: " + e.err.Error() }
func (e *enableError) Unwrap() error { return e.err }

// ConnectError is a Connect command that the controller refused.
type ConnectError struct {
	Err    error  // an nvme.Status, or what happened to the connection
	Result uint32 // DW0 of the completion, which names a bad parameter
}

func (e *ConnectError) Error() string {
	if !errors.Is(e.Err, nvme.ConnectInvalidParam) && !errors.Is(e.Err, nvme.ConnectInvalidParam|nvme.DNR) {
		return "connect: " + e.Err.Error()
	}
	where := "command"
	if e.Result>>16&1 != 0 {
		where = "data"
	}
	return fmt.Sprintf("connect: %v: byte %d of its %s", e.Err, e.Result&0xffff, where)
}

// Unwrap returns the status.
func (e *ConnectError) Unwrap() error { return e.Err }

// initialize exchanges ICReq and ICResp.
func initialize(conn io.ReadWriter, cfg *Config) (nvme.ICResp, error) {
	var b [nvme.ICLen]byte
	nvme.PutICReq(b[:], nvme.ICReq{HeaderDigest: cfg.HeaderDigest, DataDigest: cfg.DataDigest})
	if _, err := conn.Write(b[:]); err != nil {
		return nvme.ICResp{}, err
	}
	if _, err := io.ReadFull(conn, b[:nvme.HeaderLen]); err != nil {
		return nvme.ICResp{}, fmt.Errorf("waiting for ICResp: %w", err)
	}
	if b[0] != byte(nvme.PDUICResp) || binary.LittleEndian.Uint32(b[4:]) != nvme.ICLen {
		return nvme.ICResp{}, fmt.Errorf("%v where ICResp was expected", nvme.PDUType(b[0]))
	}
	if _, err := io.ReadFull(conn, b[nvme.HeaderLen:]); err != nil {
		return nvme.ICResp{}, fmt.Errorf("waiting for ICResp: %w", err)
	}
	r, err := nvme.DecodeICResp(b[:])
	switch {
	case err != nil:
		return r, err
	case r.HeaderDigest != cfg.HeaderDigest || r.DataDigest != cfg.DataDigest:
		return r, fmt.Errorf("digests: asked for header %t data %t, the controller answers header %t data %t",
			cfg.HeaderDigest, cfg.DataDigest, r.HeaderDigest, r.DataDigest)
	case r.MaxH2CData < 4096 || r.MaxH2CData%4 != 0:
		return r, fmt.Errorf("ICResp: MAXH2CDATA %d is not a multiple of 4 from 4096 on", r.MaxH2CData)
	case r.CPDA > 31:
		return r, fmt.Errorf("ICResp: CPDA %d is above 31", r.CPDA)
	}
	return r, nil
}

// enable reads the capabilities and sets CC.EN.
func (s *session) enable(ctx context.Context) error {
	var capabilities, set, status exchange
	capabilities.cmd.SetPropertyGet(nvme.PropCAP, true)
	set.cmd.SetPropertySet(nvme.Property{Offset: nvme.PropCC, Value: uint64(nvme.CCEnable | nvme.CCEntrySizes)})
	status.cmd.SetPropertyGet(nvme.PropCSTS, false)
	s.together(ctx, &capabilities, &set, &status)
	if capabilities.err != nil {
		return capabilities.err
	}
	s.cap = nvme.DecodeCapabilities(capabilities.cqe.Value())
	if s.cap.MaxQueueEntries < 2 {
		return fmt.Errorf("CAP.MQES allows %d queue entries; at least 2 are needed", s.cap.MaxQueueEntries)
	}
	if set.err != nil {
		return set.err
	}
	deadline := time.Now().Add(time.Duration(max(s.cap.ReadyTimeout, 1)) * 500 * time.Millisecond)
	for v, err := status.cqe.DW0, status.err; ; {
		switch {
		case err != nil:
			return err
		case v&nvme.CSTSFatal != 0:
			return errors.New("CSTS.CFS: fatal controller status")
		case v&nvme.CSTSReady != 0:
			return nil
		case time.Now().After(deadline):
			return errors.New("CSTS.RDY is not set within CAP.TO")
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		status = exchange{cmd: status.cmd}
		s.together(ctx, &status)
		v, err = status.cqe.DW0, status.err
	}
}

// identify reads what the controller is and can, and asks for I/O queues.
func (s *session) identify(ctx context.Context) error {
	n := uint32(s.ctl.cfg.Queues)
	of, more := identification(0, nvme.Identify{CNS: nvme.CNSController}), identification(0, nvme.Identify{CNS: nvme.CNSControllerCSI})
	var queues exchange
	all := []*exchange{of}
	if !s.discover {
		all = append(all, more)
	}
	if !s.discover && n > 0 {
		queues.cmd.Init(nvme.AdminSetFeatures, 0)
		queues.cmd.SetFeature(nvme.FeatureQueues, (n-1)<<16|(n-1))
		all = append(all, &queues)
	}
	s.identifyAll(ctx, all...)
	if of.err != nil {
		return fmt.Errorf("identify controller: %w", of.err)
	}
	d, err := nvme.DecodeControllerData(of.data)
	if err != nil {
		return err
	}
	s.data = d
	s.maxXfer = 1 << 20
	if shift := uint(d.MDTS) + 12 + uint(s.cap.MinPage); d.MDTS != 0 && shift < 20 {
		s.maxXfer = 1 << shift
	}
	if s.discover {
		return nil
	}
	// Only newer controllers have it; without it there are no limits.
	if more.err == nil {
		s.limits, _ = nvme.DecodeControllerNVMData(more.data)
	} else if !errors.As(more.err, new(nvme.Status)) {
		return more.err
	}
	if queues.err != nil {
		return fmt.Errorf("asking for %d I/O queues: %w", n, queues.err)
	}
	s.granted = min(n, queues.cqe.DW0&0xffff+1, queues.cqe.DW0>>16+1)
	return nil
}

// shutdown tells the controller that the host leaves, if it answers soon.
func (s *session) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
	defer cancel()
	var cmd nvme.Command
	cmd.SetPropertySet(nvme.Property{Offset: nvme.PropCC, Value: uint64(nvme.CCEnable | nvme.CCEntrySizes | nvme.CCShutdownNormal)})
	// The association ends in any case.
	_, _ = s.admin.sync(ctx, &cmd, nil, false)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
