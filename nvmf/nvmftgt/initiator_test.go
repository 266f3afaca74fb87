package nvmftgt

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
)

// The initiator of these tests writes its bytes by hand: it must not share a
// mistake with the code under test.

const (
	testNQN   = "nqn.2016-06.io.spdk:test"
	testHost  = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
	otherHost = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555"
)

var testHostID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

type rig struct {
	t    testing.TB
	reg  *bdev.Registry
	tgt  *Target
	sub  *Subsystem
	addr Addr
	nqn  string // that hosts connect to; "": testNQN
}

func (r *rig) name() string { return cmp.Or(r.nqn, testNQN) }

type rigOpt func(*Config, *TransportOpts, *SubsystemConfig)

// newRig makes a target with one subsystem, a malloc namespace of 4096 blocks
// of 4 KiB and one listener.
func newRig(t testing.TB, opts ...rigOpt) *rig {
	t.Helper()
	r := &rig{t: t, reg: bdev.NewRegistry()}
	level := slog.LevelError
	if os.Getenv("NVMF_DEBUG") != "" {
		level = slog.LevelDebug
	}
	c := Config{Registry: r.reg, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))}
	var o TransportOpts
	s := SubsystemConfig{NQN: testNQN, Serial: "SER1", Model: "VDA_CONTROLLER", AllowAnyHost: true, ANAReporting: true}
	for _, f := range opts {
		f(&c, &o, &s)
	}
	r.tgt = New(c)
	must(t, r.tgt.CreateTransport(o))
	var err error
	r.sub, err = r.tgt.CreateSubsystem(s)
	must(t, err)
	r.malloc("m0", 4096)
	_, err = r.sub.AddNamespace(NamespaceConfig{Bdev: "m0"})
	must(t, err)
	must(t, r.sub.AddListener(Addr{Traddr: "127.0.0.1", Trsvcid: "0"}))
	r.addr = r.sub.Listeners()[0].Addr
	t.Cleanup(func() {
		r.tgt.Close()
		r.reg.Close()
		if b := r.reg.Buffers; b.Free() != b.Limit() {
			t.Errorf("%d buffers are out after the target was closed, and %d of %d bytes are free", b.InUse(), b.Free(), b.Limit())
		}
	})
	return r
}

func (r *rig) malloc(name string, blocks uint64) {
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: blocks})
	must(r.t, err)
	must(r.t, r.reg.Register(d))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is a connection of the test initiator.
type wire struct {
	t          testing.TB
	c          net.Conn
	hdg, ddg   bool
	maxh2c     uint32
	hpda       uint8
	cid        uint16
	hostnqn    string
	hostid     [16]byte
	keep       uint32
	sawSuccess int
	chunk      int      // bytes of an H2CData PDU; 0: all
	noflow     bool     // asks for no flow control of the submission queue
	of         [16]byte // whose its commands are, as it says; zeros: it does not
}

// cqe is a completion as received.
type cqe struct {
	dw0, dw1 uint32
	sqhd     uint16
	cid      uint16
	status   uint16 // without phase
}

func (r *rig) dial() *wire {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr.String())
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &wire{t: r.t, c: c, hostnqn: testHost, hostid: testHostID}
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b, crcTable))
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.c.Write(b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// icreq opens the connection.
func (w *wire) icreq() {
	w.t.Helper()
	b := make([]byte, 128)
	b[0], b[2] = 0, 128
	binary.LittleEndian.PutUint32(b[4:], 128)
	b[10] = w.hpda
	if w.hdg {
		b[11] |= 1
	}
	if w.ddg {
		b[11] |= 2
	}
	w.write(b)
	p := make([]byte, 128)
	if _, err := io.ReadFull(w.c, p); err != nil {
		w.t.Fatalf("ICResp: %v", err)
	}
	if p[0] != 1 || p[2] != 128 || p[10] != 0 || p[11] != b[11] {
		w.t.Fatalf("ICResp % x", p[:16])
	}
	w.maxh2c = binary.LittleEndian.Uint32(p[12:])
}

// sqe makes a command with the next id; sgl and data are capsule's.
func (w *wire) sqe(op uint8, nsid uint32) []byte {
	w.cid++
	b := make([]byte, 64)
	b[0], b[1] = op, 0x40
	binary.LittleEndian.PutUint16(b[2:], w.cid)
	binary.LittleEndian.PutUint32(b[4:], nsid)
	copy(b[8:], w.of[:])
	return b
}

func sglIn(sqe []byte, n int) {
	binary.LittleEndian.PutUint32(sqe[32:], uint32(n))
	sqe[39] = 0x01
}

func sglOut(sqe []byte, n int) {
	binary.LittleEndian.PutUint32(sqe[32:], uint32(n))
	sqe[39] = 0x5a
}

// capsulePDU makes the PDU of a command with data in the capsule.
func (w *wire) capsulePDU(sqe, data []byte) []byte {
	b := make([]byte, 8, 72+8+len(data))
	b[0], b[2] = 4, 72
	n := 72
	if w.hdg {
		b[1] |= 1
		n += 4
	}
	if len(data) > 0 {
		b[3] = byte(n)
		n += len(data)
		if w.ddg {
			b[1] |= 2
			n += 4
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	b = append(b, sqe...)
	if w.hdg {
		b = append(b, crc(b[:72])...)
	}
	b = append(b, data...)
	if w.ddg && len(data) > 0 {
		b = append(b, crc(data)...)
	}
	return b
}

func (w *wire) capsule(sqe, data []byte) { w.write(w.capsulePDU(sqe, data)) }

// pdu is a received PDU, digests checked and removed.
type pdu struct {
	typ, flags uint8
	hdr        []byte
	data       []byte
}

func (w *wire) pdu() (pdu, error) {
	h := make([]byte, 8)
	if _, err := io.ReadFull(w.c, h); err != nil {
		return pdu{}, err
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if n < 8 || n > 8<<20 {
		return pdu{}, fmt.Errorf("PDU of %d bytes", n)
	}
	b := make([]byte, n)
	copy(b, h)
	if _, err := io.ReadFull(w.c, b[8:]); err != nil {
		return pdu{}, err
	}
	hlen := int(h[2])
	p := pdu{typ: h[0], flags: h[1], hdr: b[:hlen]}
	if h[1]&1 != 0 != (w.hdg && h[0] > 3) {
		return p, fmt.Errorf("header digest flag of PDU type %d", h[0])
	}
	if h[1]&1 != 0 && string(b[hlen:hlen+4]) != string(crc(b[:hlen])) {
		return p, fmt.Errorf("header digest of PDU type %d", h[0])
	}
	if h[0] == 7 {
		at, end := int(h[3]), len(b)
		if al := 4 * (int(w.hpda) + 1); at%al != 0 {
			return p, fmt.Errorf("data at %d is not aligned to %d", at, al)
		}
		if h[1]&2 != 0 {
			end -= 4
			if string(b[end:]) != string(crc(b[at:end])) {
				return p, fmt.Errorf("data digest")
			}
		} else if w.ddg {
			return p, fmt.Errorf("no data digest")
		}
		p.data = b[at:end]
	} else if h[0] == 3 {
		p.data = b[hlen:]
	}
	return p, nil
}

func parseCQE(b []byte) cqe {
	le := binary.LittleEndian
	return cqe{dw0: le.Uint32(b), dw1: le.Uint32(b[4:]), sqhd: le.Uint16(b[8:]), cid: le.Uint16(b[12:]), status: le.Uint16(b[14:]) >> 1}
}

// await receives until the command cid is done, answering R2Ts with out.
func (w *wire) await(cid uint16, out []byte) (cqe, []byte) {
	w.t.Helper()
	c, in, err := w.tryAwait(cid, out)
	if err != nil {
		w.t.Fatalf("command %d: %v", cid, err)
	}
	return c, in
}

func (w *wire) tryAwait(cid uint16, out []byte) (cqe, []byte, error) {
	var in []byte
	le := binary.LittleEndian
	for {
		p, err := w.pdu()
		if err != nil {
			return cqe{}, nil, err
		}
		switch p.typ {
		case 5:
			c := parseCQE(p.hdr[8:])
			if c.cid == cid {
				return c, in, nil
			}
			return c, in, fmt.Errorf("completion of command %d", c.cid)
		case 7:
			if got := le.Uint16(p.hdr[8:]); got != cid {
				return cqe{}, nil, fmt.Errorf("data of command %d", got)
			}
			if off := le.Uint32(p.hdr[12:]); int(off) != len(in) || int(le.Uint32(p.hdr[16:])) != len(p.data) {
				return cqe{}, nil, fmt.Errorf("data header % x", p.hdr)
			}
			in = append(in, p.data...)
			if p.flags&8 != 0 {
				w.sawSuccess++
				return cqe{cid: cid}, in, nil
			}
		case 9:
			off, n := le.Uint32(p.hdr[12:]), le.Uint32(p.hdr[16:])
			if le.Uint16(p.hdr[8:]) != cid || int(off+n) > len(out) {
				return cqe{}, nil, fmt.Errorf("R2T % x", p.hdr)
			}
			w.h2c(cid, le.Uint16(p.hdr[10:]), out, int(off), int(n))
		default:
			return cqe{}, nil, fmt.Errorf("PDU type %d flags %x, % x % x", p.typ, p.flags, p.hdr, p.data)
		}
	}
}

// h2c sends data by H2CData PDUs.
func (w *wire) h2c(cid, ttag uint16, out []byte, off, n int) {
	step := int(w.maxh2c)
	if w.chunk > 0 {
		step = w.chunk
	}
	for n > 0 {
		m := min(n, step)
		w.write(w.h2cPDU(cid, ttag, off, out[off:off+m], m == n))
		off += m
		n -= m
	}
}

func (w *wire) h2cPDU(cid, ttag uint16, off int, data []byte, last bool) []byte {
	le := binary.LittleEndian
	b := make([]byte, 24, 40+len(data))
	b[0], b[2] = 6, 24
	pdo, plen := 24, 24
	if w.hdg {
		b[1] |= 1
		pdo += 4
	}
	plen = pdo + len(data)
	if w.ddg {
		b[1] |= 2
		plen += 4
	}
	if last {
		b[1] |= 4
	}
	b[3] = byte(pdo)
	le.PutUint32(b[4:], uint32(plen))
	le.PutUint16(b[8:], cid)
	le.PutUint16(b[10:], ttag)
	le.PutUint32(b[12:], uint32(off))
	le.PutUint32(b[16:], uint32(len(data)))
	if w.hdg {
		b = append(b, crc(b[:24])...)
	}
	b = append(b, data...)
	if w.ddg {
		b = append(b, crc(data)...)
	}
	return b
}

// do sends a command whose data for the target is in the capsule, and waits.
func (w *wire) do(sqe, data []byte) (cqe, []byte) {
	w.t.Helper()
	if data != nil {
		sglIn(sqe, len(data))
	}
	w.capsule(sqe, data)
	return w.await(binary.LittleEndian.Uint16(sqe[2:]), nil)
}

// ok is do for a command that must succeed.
func (w *wire) ok(sqe, data []byte) (cqe, []byte) {
	w.t.Helper()
	c, in := w.do(sqe, data)
	if c.status != 0 {
		w.t.Fatalf("opcode 0x%x: status %03x", sqe[0], c.status)
	}
	return c, in
}

// connectSQE makes Connect and its data.
func (w *wire) connectSQE(qid, cntlid, sqsize uint16, nqn string) ([]byte, []byte) {
	le := binary.LittleEndian
	s := w.sqe(0x7f, 1)
	le.PutUint16(s[42:], qid)
	le.PutUint16(s[44:], sqsize)
	if w.noflow {
		s[46] |= 4
	}
	if qid == 0 {
		le.PutUint32(s[48:], w.keep)
	}
	d := make([]byte, 1024)
	copy(d, w.hostid[:])
	le.PutUint16(d[16:], cntlid)
	copy(d[256:], nqn)
	copy(d[512:], w.hostnqn)
	return s, d
}

func (w *wire) connect(qid, cntlid uint16, nqn string) cqe {
	w.t.Helper()
	s, d := w.connectSQE(qid, cntlid, 31, nqn)
	c, _ := w.do(s, d)
	return c
}

func (w *wire) propSet(off uint32, v uint64) cqe {
	w.t.Helper()
	s := w.sqe(0x7f, 0)
	binary.LittleEndian.PutUint32(s[44:], off)
	binary.LittleEndian.PutUint64(s[48:], v)
	c, _ := w.do(s, nil)
	return c
}

func (w *wire) propGet(off uint32, eight bool) cqe {
	w.t.Helper()
	s := w.sqe(0x7f, 4)
	if eight {
		s[40] = 1
	}
	binary.LittleEndian.PutUint32(s[44:], off)
	c, _ := w.do(s, nil)
	return c
}

// admin makes an enabled controller and returns its admin connection and id.
func (r *rig) admin(set ...func(*wire)) (*wire, uint16) {
	r.t.Helper()
	w := r.dial()
	for _, f := range set {
		f(w)
	}
	w.icreq()
	c := w.connect(0, 0xffff, r.name())
	if c.status != 0 {
		r.t.Fatalf("connect: status %03x", c.status)
	}
	if c := w.propSet(0x14, 0x00460001); c.status != 0 {
		r.t.Fatalf("enable: status %03x", c.status)
	}
	return w, uint16(c.dw0)
}

// ioq makes I/O queue qid of a controller.
func (r *rig) ioq(cntlid, qid uint16, set ...func(*wire)) *wire {
	r.t.Helper()
	w := r.dial()
	for _, f := range set {
		f(w)
	}
	w.icreq()
	if c := w.connect(qid, cntlid, r.name()); c.status != 0 {
		r.t.Fatalf("connect queue %d: status %03x", qid, c.status)
	}
	return w
}

// rw makes a read, write or compare.
func (w *wire) rw(op uint8, lba uint64, blocks int) []byte {
	s := w.sqe(op, 1)
	binary.LittleEndian.PutUint64(s[40:], lba)
	binary.LittleEndian.PutUint16(s[48:], uint16(blocks-1))
	return s
}

func (w *wire) read(lba uint64, blocks int) []byte {
	w.t.Helper()
	s := w.rw(2, lba, blocks)
	sglOut(s, blocks*4096)
	_, in := w.ok(s, nil)
	if len(in) != blocks*4096 {
		w.t.Fatalf("read %d bytes of %d", len(in), blocks*4096)
	}
	return in
}

// writeBlocks writes by the capsule when it fits, by R2T otherwise.
func (w *wire) writeBlocks(lba uint64, data []byte) cqe {
	w.t.Helper()
	return w.out(w.rw(1, lba, len(data)/4096), data)
}

// out sends a command with data.
func (w *wire) out(s, data []byte) cqe {
	w.t.Helper()
	if len(data) <= 8192 {
		c, _ := w.do(s, data)
		return c
	}
	sglOut(s, len(data))
	w.capsule(s, nil)
	c, _ := w.await(binary.LittleEndian.Uint16(s[2:]), data)
	return c
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) + byte(i>>8) + seed
	}
	return b
}

func newUUID() uuid.UUID { return uuid.New() }
