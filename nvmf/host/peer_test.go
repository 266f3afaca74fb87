package host

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// peer is a small controller for tests: namespaces in memory, a goroutine a
// connection, and hooks that make it misbehave.
type peer struct {
	t  testing.TB
	ln net.Listener

	hdgst, ddgst bool // digests it agrees to
	inline       int  // in-capsule data, bytes
	r2t          int  // bytes an R2T asks for; 0: all
	piece        int  // bytes of a C2HData PDU; 0: all
	success      bool // C2HData with SUCCESS in place of a capsule
	mdts         uint8
	ana          bool
	noVWC        bool
	drip         bool // bytes are sent one by one

	mu    sync.Mutex
	disks map[uint32]*disk
	state uint8 // ANA state of group 1
	conns map[*peerConn]struct{}

	reads, writes, keepAlives, connects atomic.Int64

	// hook sees every command but Connect before it is carried out; true:
	// it has been dealt with.
	hook func(c *peerConn, cmd *nvme.Command, data []byte) bool
	// refuse, when not nil, is asked about every Connect of a queue.
	refuse atomic.Pointer[func(qid uint16) nvme.Status]
	wg     sync.WaitGroup
}

type disk struct {
	mu    sync.Mutex
	data  []byte
	uuid  uuid.UUID
	nguid uuid.UUID
}

const peerBlock = 4096

func newPeer(t testing.TB, set func(*peer)) *peer {
	p := &peer{t: t, inline: 8192, disks: map[uint32]*disk{}, conns: map[*peerConn]struct{}{}, state: 1, success: true}
	p.disks[1] = &disk{data: make([]byte, 4<<20), uuid: uuid.New(), nguid: uuid.New()}
	if set != nil {
		set(p)
	}
	p.listen("127.0.0.1:0")
	t.Cleanup(p.close)
	return p
}

func (p *peer) listen(addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.ln = ln
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.connects.Add(1)
			p.wg.Go(func() { p.serve(c) })
		}
	})
}

func (p *peer) addr() (host, port string) {
	host, port, _ = net.SplitHostPort(p.ln.Addr().String())
	return host, port
}

// cut closes all connections.
func (p *peer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.c.Close()
	}
}

func (p *peer) close() {
	_ = p.ln.Close()
	p.cut()
	p.wg.Wait()
}

// event completes an outstanding event request of every admin queue.
func (p *peer) event(e nvme.AsyncEvent) {
	for sent := false; !sent; time.Sleep(time.Millisecond) { // the host asks again after each
		p.mu.Lock()
		for c := range p.conns {
			if n := len(c.aers); n > 0 {
				cid := c.aers[n-1]
				c.aers = c.aers[:n-1]
				c.complete(nvme.Completion{CID: cid, DW0: e.Encode()})
				sent = true
			}
		}
		p.mu.Unlock()
	}
}

type peerConn struct {
	p     *peer
	c     net.Conn
	wmu   sync.Mutex
	hdgst bool
	ddgst bool
	qid   uint16
	cc    uint32
	aers  []uint16
	// data of commands waiting for H2CData, by command id
	partial map[uint16]*partial
}

type partial struct {
	cmd  nvme.Command
	data []byte
	got  int
}

func (p *peer) serve(conn net.Conn) {
	c := &peerConn{p: p, c: conn, partial: map[uint16]*partial{}}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		_ = conn.Close()
	}()
	var b [nvme.ICLen]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return
	}
	req, err := nvme.DecodeICReq(b[:])
	if err != nil {
		p.t.Errorf("ICReq: %v", err)
		return
	}
	c.hdgst, c.ddgst = req.HeaderDigest && p.hdgst, req.DataDigest && p.ddgst
	nvme.PutICResp(b[:], nvme.ICResp{HeaderDigest: c.hdgst, DataDigest: c.ddgst, MaxH2CData: 16384})
	if _, err := conn.Write(b[:]); err != nil {
		return
	}
	for c.next() {
	}
}

// next handles one PDU.
func (c *peerConn) next() bool {
	var b [256]byte
	if _, err := io.ReadFull(c.c, b[:8]); err != nil {
		return false
	}
	h, err := nvme.DecodeHeader(b[:])
	if err != nil {
		c.p.t.Errorf("host sent % x: %v", b[:8], err)
		return false
	}
	rest := make([]byte, h.PLen-8)
	if _, err := io.ReadFull(c.c, rest); err != nil {
		return false
	}
	pdu := append(b[:8:8], rest...)
	if h.Type == nvme.PDUH2CTermReq {
		return false
	}
	if (h.Flags&nvme.FlagHDGST != 0) != c.hdgst || c.hdgst && nvme.Digest(pdu[h.HLen:]) != nvme.UpdateDigest(0, pdu[:h.HLen]) {
		c.p.t.Errorf("%v: header digest", h.Type)
		return false
	}
	var data []byte
	if n := h.DataLen(); n > 0 {
		data = pdu[h.PDO : uint32(h.PDO)+n]
		if (h.Flags&nvme.FlagDDGST != 0) != c.ddgst || c.ddgst && nvme.Digest(pdu[uint32(h.PDO)+n:]) != nvme.UpdateDigest(0, data) {
			c.p.t.Errorf("%v: data digest", h.Type)
			return false
		}
	}
	switch h.Type {
	case nvme.PDUCapsuleCmd:
		cmd := (*nvme.Command)(pdu[8:])
		sgl := cmd.SGL()
		if cmd.Opcode().Transfer() == nvme.HostToController && cmd.Opcode() != nvme.OpFabrics && sgl.ID == nvme.SGLTransport && sgl.Length > 0 {
			if c.p.hook != nil && c.p.hook(c, cmd, nil) {
				return true
			}
			c.partial[cmd.CID()] = &partial{cmd: *cmd, data: make([]byte, sgl.Length)}
			c.ask(cmd.CID())
			return true
		}
		c.command(cmd, data)
	case nvme.PDUH2CData:
		d, _ := nvme.DecodeData(pdu)
		w := c.partial[d.CID]
		if w == nil || int(d.Offset) != w.got || d.TTag != d.CID+1 || int(d.Length) != len(data) {
			c.p.t.Errorf("H2CData %+v does not fit", d)
			return false
		}
		w.got += copy(w.data[w.got:], data)
		if h.Flags&nvme.FlagLast == 0 {
			return true
		}
		if w.got < len(w.data) {
			c.ask(d.CID)
			return true
		}
		delete(c.partial, d.CID)
		c.command(&w.cmd, w.data)
	default:
		c.p.t.Errorf("host sent %v", h.Type)
		return false
	}
	return true
}

func (c *peerConn) ask(cid uint16) {
	w := c.partial[cid]
	n := len(w.data) - w.got
	if c.p.r2t > 0 {
		n = min(n, c.p.r2t)
	}
	var b [24]byte
	nvme.PutR2T(b[:], nvme.R2T{CID: cid, TTag: cid + 1, Offset: uint32(w.got), Length: uint32(n)})
	c.send(nvme.PDUR2T, 0, b[8:], nil)
}

// send writes one PDU; body is what follows the common header.
func (c *peerConn) send(t nvme.PDUType, flags uint8, body, data []byte) {
	hlen := 8 + len(body)
	h := nvme.Header{Type: t, Flags: flags, HLen: uint8(hlen), PLen: uint32(hlen)}
	if c.hdgst {
		h.Flags |= nvme.FlagHDGST
		h.PLen += 4
	}
	if len(data) > 0 {
		h.PDO = uint8(h.PLen)
		h.PLen += uint32(len(data))
		if c.ddgst {
			h.Flags |= nvme.FlagDDGST
			h.PLen += 4
		}
	}
	b := make([]byte, 8, h.PLen)
	nvme.PutHeader(b, h)
	b = append(b, body...)
	if c.hdgst {
		b = binary.LittleEndian.AppendUint32(b, nvme.UpdateDigest(0, b))
	}
	b = append(b, data...)
	if len(data) > 0 && c.ddgst {
		b = binary.LittleEndian.AppendUint32(b, nvme.UpdateDigest(0, data))
	}
	c.raw(b)
}

func (c *peerConn) raw(b []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.p.drip {
		for i := range b {
			_, _ = c.c.Write(b[i : i+1])
		}
		return
	}
	_, _ = c.c.Write(b)
}

func (c *peerConn) complete(cqe nvme.Completion) {
	var b [16]byte
	nvme.PutCompletion(b[:], cqe)
	c.send(nvme.PDUCapsuleResp, 0, b[:], nil)
}

// data sends all of b for a command and ends it.
func (c *peerConn) data(cid uint16, b []byte) {
	for at := 0; at < len(b); {
		n := len(b) - at
		if c.p.piece > 0 {
			n = min(n, c.p.piece)
		}
		var flags uint8
		if at+n == len(b) {
			flags = nvme.FlagLast
			if c.p.success {
				flags |= nvme.FlagSuccess
			}
		}
		var hdr [24]byte
		nvme.PutData(hdr[:], nvme.DataPDU{CID: cid, Offset: uint32(at), Length: uint32(n)})
		c.send(nvme.PDUC2HData, flags, hdr[8:], b[at:at+n])
		at += n
	}
	if !c.p.success {
		c.complete(nvme.Completion{CID: cid})
	}
}

func (c *peerConn) command(cmd *nvme.Command, data []byte) {
	if cmd.Opcode() == nvme.OpFabrics && cmd.FabricsType() == nvme.FabricsConnect {
		v := cmd.Connect()
		if _, err := nvme.DecodeConnectData(data); err != nil {
			c.p.t.Errorf("connect: %v", err)
		}
		c.qid = v.QID
		done := nvme.Completion{CID: cmd.CID(), DW0: 1}
		if f := c.p.refuse.Load(); f != nil {
			done.Status = (*f)(v.QID)
		}
		c.complete(done)
		return
	}
	if c.p.hook != nil && c.p.hook(c, cmd, data) {
		return
	}
	if cmd.Opcode() == nvme.OpFabrics {
		c.fabrics(cmd)
		return
	}
	if c.qid == 0 {
		c.adminCmd(cmd)
		return
	}
	c.ioCmd(cmd, data)
}

func (c *peerConn) fabrics(cmd *nvme.Command) {
	p, _ := cmd.Property()
	out := nvme.Completion{CID: cmd.CID()}
	switch {
	case cmd.FabricsType() == nvme.FabricsPropertySet && p.Offset == nvme.PropCC:
		c.cc = uint32(p.Value)
	case p.Offset == nvme.PropCAP:
		v := nvme.Capabilities{MaxQueueEntries: 128, Contiguous: true, ReadyTimeout: 4, NVMCommandSet: true}.Encode()
		out.DW0, out.DW1 = uint32(v), uint32(v>>32)
	case p.Offset == nvme.PropCSTS && c.cc&nvme.CCEnable != 0:
		out.DW0 = nvme.CSTSReady
	}
	c.complete(out)
}

func (c *peerConn) adminCmd(cmd *nvme.Command) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	ok := nvme.Completion{CID: cmd.CID()}
	b := make([]byte, 4096)
	switch cmd.Opcode() {
	case nvme.AdminIdentify:
		d := p.disks[cmd.NSID()]
		switch cmd.Identify().CNS {
		case nvme.CNSController:
			v := &nvme.ControllerData{CNTLID: 1, MDTS: p.mdts, IOCCSZ: uint32(64+p.inline) / 16, IORCSZ: 1, NN: 32, MNAN: 32,
				OAES: nvme.OAESNamespace | nvme.OAESANA, VWC: nvme.VWCPresent, FUSES: 1, MAXCMD: 128}
			if p.noVWC {
				v.VWC = 0
			}
			if p.ana {
				v.CMIC, v.NANAGRPID, v.ANAGRPMAX = nvme.CMICANA, 32, 32
			}
			nvme.PutControllerData(b, v)
		case nvme.CNSControllerCSI:
			nvme.PutControllerNVMData(b, nvme.ControllerNVMData{WZSL: 8})
		case nvme.CNSActiveNSList:
			at := 0
			for id := cmd.NSID() + 1; id < 100; id++ {
				if p.disks[id] != nil {
					binary.LittleEndian.PutUint32(b[at:], id)
					at += 4
				}
			}
		case nvme.CNSNamespace:
			if d != nil {
				nvme.PutNamespaceData(b, &nvme.NamespaceData{Size: uint64(len(d.data) / peerBlock), BlockShift: 12, ANAGroup: 1,
					DLFEAT: nvme.DLFEATZeroes})
			}
		case nvme.CNSNSDescriptors:
			if d != nil {
				nvme.PutNamespaceIDs(b, nvme.NamespaceIDs{UUID: d.uuid, NGUID: d.nguid})
			}
		}
		c.data(cmd.CID(), b)
	case nvme.AdminGetLogPage:
		v := cmd.GetLogPage()
		b = make([]byte, 65536)
		if v.LID == nvme.LogANA {
			var ids []uint32
			for id := range p.disks {
				ids = append(ids, id)
			}
			copy(b, nvme.AppendANALog(nil, 1, []nvme.ANAGroup{{ID: 1, State: p.state, NSIDs: ids}}, false))
		}
		c.data(cmd.CID(), b[v.Offset:v.Offset+uint64(v.Length)])
	case nvme.AdminAsyncEvent:
		c.aers = append(c.aers, cmd.CID())
	case nvme.AdminKeepAlive:
		p.keepAlives.Add(1)
		c.complete(ok)
	case nvme.AdminSetFeatures:
		if cmd.FID() == nvme.FeatureQueues {
			ok.DW0 = 3<<16 | 3
		}
		c.complete(ok)
	default:
		c.complete(ok)
	}
}

func (c *peerConn) ioCmd(cmd *nvme.Command, data []byte) {
	c.p.mu.Lock()
	d := c.p.disks[cmd.NSID()]
	c.p.mu.Unlock()
	if d == nil {
		c.complete(nvme.Completion{CID: cmd.CID(), Status: nvme.InvalidNamespace | nvme.DNR})
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	off, n := cmd.SLBA()*peerBlock, uint64(cmd.Blocks())*peerBlock
	status := nvme.Success
	switch cmd.Opcode() {
	case nvme.IORead:
		c.p.reads.Add(1)
		c.data(cmd.CID(), d.data[off:off+n])
		return
	case nvme.IOWrite:
		c.p.writes.Add(1)
		copy(d.data[off:off+n], data)
	case nvme.IOCompare:
		if string(d.data[off:off+n]) != string(data) {
			status = nvme.CompareFailure | nvme.DNR
		}
	case nvme.IOWriteZeroes:
		clear(d.data[off : off+n])
	case nvme.IODatasetManagement:
		r, _ := nvme.DecodeDSMRange(data)
		clear(d.data[r.SLBA*peerBlock:][:uint64(r.Blocks)*peerBlock])
	}
	c.complete(nvme.Completion{CID: cmd.CID(), Status: status})
}

// dialPeer connects to p with short time-outs.
func dialPeer(t testing.TB, p *peer, set func(*Config)) *Controller {
	t.Helper()
	addr, port := p.addr()
	cfg := Config{Traddr: addr, Trsvcid: port, SubNQN: "nqn.2016-06.io.spdk:peer", HostNQN: "nqn.2016-06.io.spdk:test",
		Queues: 2, QueueDepth: 32, ConnectTimeout: 3 * time.Second, AdminTimeout: 3 * time.Second}
	if set != nil {
		set(&cfg)
	}
	c, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// image returns a copy of what namespace 1 holds.
func (p *peer) image(off, n int64) []byte {
	p.mu.Lock()
	d := p.disks[1]
	p.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]byte(nil), d.data[off:off+n]...)
}
