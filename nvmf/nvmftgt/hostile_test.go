package nvmftgt

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// expectTerm reads until the connection ends and checks that a C2HTermReq
// with the status came, 0: that none came.
func (w *wire) expectTerm(t *testing.T, name string, fes uint16) {
	t.Helper()
	_ = w.c.SetDeadline(time.Now().Add(2 * time.Minute))
	got := uint16(0)
	for {
		p, err := w.pdu()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%s: the connection lives on", name)
			}
			break
		}
		if p.typ == 3 {
			got = binary.LittleEndian.Uint16(p.hdr[8:])
		}
	}
	if got != fes {
		t.Errorf("%s: termination status %d, want %d", name, got, fes)
	}
}

// raw makes a PDU header.
func raw(typ, flags, hlen, pdo byte, plen uint32, rest ...byte) []byte {
	b := []byte{typ, flags, hlen, pdo, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[4:], plen)
	return append(b, rest...)
}

// TestHostilePDUs: each input costs the sender its connection and nobody
// anything else.
func TestHostilePDUs(t *testing.T) {
	r := newRig(t)
	good, id := r.admin()
	q := r.ioq(id, 1)
	z := func(n int) []byte { return make([]byte, n) }
	r2t := func(w *wire) (cid, ttag uint16) { // a write of 16 KiB that waits for data
		s := w.rw(1, 0, 4)
		sglOut(s, 4*4096)
		w.capsule(s, nil)
		p, err := w.pdu()
		must(t, err)
		return w.cid, le.Uint16(p.hdr[10:])
	}
	cases := []struct {
		name string
		conn int // 0: new, 1: initialized, 2: I/O queue
		fes  uint16
		send func(w *wire) []byte
	}{
		{"unknown type", 0, 1, func(*wire) []byte { return raw(0x0f, 0, 8, 0, 8) }},
		{"zeros", 0, 1, func(*wire) []byte { return z(64) }},
		{"ones", 0, 1, func(*wire) []byte { return bytes.Repeat([]byte{0xff}, 64) }},
		{"HTTP", 0, 1, func(*wire) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }},
		{"ICReq of 64 bytes", 0, 1, func(*wire) []byte { return raw(0, 0, 128, 0, 64, z(120)...) }},
		{"ICReq version 9", 0, 6, func(*wire) []byte { return raw(0, 0, 128, 0, 128, append([]byte{9}, z(119)...)...) }},
		{"ICReq HPDA 99", 0, 6, func(*wire) []byte { return raw(0, 0, 128, 0, 128, append([]byte{0, 0, 99}, z(117)...)...) }},
		{"capsule first", 0, 2, func(w *wire) []byte { return w.capsulePDU(w.sqe(0x18, 0), nil) }},
		{"H2CData first", 0, 2, func(w *wire) []byte { return w.h2cPDU(1, 0, 0, z(64), true) }},
		{"ICResp from a host", 0, 1, func(*wire) []byte { return raw(1, 0, 128, 0, 128, z(120)...) }},
		{"termination", 0, 0, func(*wire) []byte { return raw(2, 0, 24, 0, 24, z(16)...) }},
		{"two ICReqs", 1, 2, func(*wire) []byte { return raw(0, 0, 128, 0, 128, z(120)...) }},
		{"H2CData before Connect", 1, 2, func(w *wire) []byte { return w.h2cPDU(1, 0, 0, z(64), true) }},
		{"huge capsule before Connect", 1, 1, func(*wire) []byte { return raw(4, 0, 72, 72, 1<<20, z(64)...) }},
		{"capsule of 4 GiB", 2, 1, func(*wire) []byte { return raw(4, 0, 72, 72, 0xffffffff, z(64)...) }},
		{"capsule above its data size", 2, 1, func(*wire) []byte { return raw(4, 0, 72, 72, 72+8192+16, z(64)...) }},
		{"capsule shorter than its header", 2, 1, func(*wire) []byte { return raw(4, 0, 72, 0, 71, z(64)...) }},
		{"header length 0", 2, 1, func(*wire) []byte { return raw(4, 0, 0, 0, 72, z(64)...) }},
		{"data offset in the header", 2, 1, func(*wire) []byte { return raw(4, 0, 72, 8, 72+64, z(128)...) }},
		{"data offset behind the end", 2, 1, func(*wire) []byte { return raw(4, 0, 72, 255, 72+64, z(128)...) }},
		{"digest flags not negotiated", 2, 1, func(*wire) []byte { return raw(4, 1, 72, 0, 76, z(68)...) }},
		{"response from a host", 2, 1, func(*wire) []byte { return raw(5, 0, 24, 0, 24, z(16)...) }},
		{"R2T from a host", 2, 1, func(*wire) []byte { return raw(9, 0, 24, 0, 24, z(16)...) }},
		{"data for no R2T", 2, 1, func(w *wire) []byte { return w.h2cPDU(1, 0, 0, z(4096), true) }},
		{"data for tag 65535", 2, 1, func(w *wire) []byte { return w.h2cPDU(1, 0xffff, 0, z(4096), true) }},
		{"data of another command", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid+1, tag, 0, z(16384), true)
		}},
		{"data at the wrong offset", 2, 4, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid, tag, 4096, z(4096), false)
		}},
		{"the same data twice", 2, 4, func(w *wire) []byte {
			cid, tag := r2t(w)
			p := w.h2cPDU(cid, tag, 0, z(4096), false)
			return append(p, p...)
		}},
		{"more data than asked for", 2, 4, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid, tag, 0, z(20480), true)
		}},
		{"offset near 4 GiB", 2, 4, func(w *wire) []byte {
			cid, tag := r2t(w)
			p := w.h2cPDU(cid, tag, 0, z(4096), false)
			le.PutUint32(p[12:], 0xfffff000)
			return p
		}},
		{"LAST too early", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid, tag, 0, z(4096), true)
		}},
		{"no LAST", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid, tag, 0, z(16384), false)
		}},
		{"lengths disagree", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			p := w.h2cPDU(cid, tag, 0, z(16384), true)
			le.PutUint32(p[16:], 8192)
			return p
		}},
		{"no data", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			return w.h2cPDU(cid, tag, 0, nil, false)
		}},
		{"data after the last", 2, 1, func(w *wire) []byte {
			cid, tag := r2t(w)
			p := w.h2cPDU(cid, tag, 0, z(16384), true)
			return append(p, p...)
		}},
		{"above MAXH2CDATA", 2, 5, func(*wire) []byte { return raw(6, 4, 24, 24, 24+1<<24, z(16)...) }},
		{"more commands than the queue holds", 2, 2, func(w *wire) []byte {
			var p []byte
			for range 100 {
				s := w.rw(1, 0, 4)
				sglOut(s, 4*4096)
				p = append(p, w.capsulePDU(s, nil)...)
			}
			return p
		}},
	}
	for i, c := range cases {
		var w *wire
		switch c.conn {
		case 0, 1:
			w = r.dial()
			if c.conn == 1 {
				w.icreq()
			}
		default:
			w = r.ioq(id, uint16(2+i))
		}
		_, _ = w.c.Write(c.send(w))
		w.expectTerm(t, c.name, c.fes)
	}
	q.read(0, 1)
	good.ok(good.sqe(0x18, 0), nil)
	r.clean(t, 2)
}

// clean checks that only n connections are left, that none of ours was lost
// to a fault, and that all buffers are back.
func (r *rig) clean(t *testing.T, n int) {
	t.Helper()
	waitFor(t, func() bool { r.tgt.mu.Lock(); defer r.tgt.mu.Unlock(); return len(r.tgt.conns) == n })
	if p := r.tgt.Stats().Panics; p != 0 {
		t.Errorf("%d panics", p)
	}
	r.tgt.mu.Lock()
	defer r.tgt.mu.Unlock()
	for conn := range r.tgt.conns {
		waitFor(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return conn.q.held == 0 }) // until what was sent is accounted
	}
}

func TestDigestErrors(t *testing.T) {
	r := newRig(t)
	set := func(w *wire) { w.hdg, w.ddg = true, true }
	_, id := r.admin(set)
	w := r.ioq(id, 1, set)
	// A wrong data digest fails the command, and nothing is written.
	before := w.read(0, 1)
	s := w.rw(1, 0, 1)
	sglIn(s, 4096)
	p := w.capsulePDU(s, pattern(4096, 1))
	p[len(p)-1] ^= 1
	w.write(p)
	if c, _ := w.await(w.cid, nil); c.status&0x7ff != 0x022 {
		t.Errorf("capsule with a wrong data digest: %03x", c.status)
	}
	s = w.rw(1, 0, 4)
	sglOut(s, 16384)
	w.capsule(s, nil)
	q, err := w.pdu()
	must(t, err)
	data := pattern(16384, 2)
	a := w.h2cPDU(w.cid, le.Uint16(q.hdr[10:]), 0, data[:8192], false)
	a[100] ^= 1
	w.write(a)
	w.write(w.h2cPDU(w.cid, le.Uint16(q.hdr[10:]), 8192, data[8192:], true))
	if c, _ := w.await(w.cid, nil); c.status&0x7ff != 0x022 {
		t.Errorf("H2CData with a wrong digest: %03x", c.status)
	}
	if !bytes.Equal(w.read(0, 1), before) {
		t.Error("bad data was written")
	}
	// A wrong header digest ends the connection.
	p = w.capsulePDU(w.rw(2, 0, 1), nil)
	p[73] ^= 1
	w.write(p)
	w.expectTerm(t, "header digest", 3)
}

// TestOneByteAtATime: PDUs may arrive in any pieces.
func TestOneByteAtATime(t *testing.T) {
	r := newRig(t)
	set := func(w *wire) { w.hdg, w.ddg = true, true; w.c = slow{w.c} }
	_, id := r.admin(set)
	w := r.ioq(id, 1, set)
	data := pattern(3*4096, 5)
	if c := w.writeBlocks(0, data); c.status != 0 {
		t.Fatalf("write: %03x", c.status)
	}
	if !bytes.Equal(w.read(0, 3), data) {
		t.Error("data differs")
	}
}

// slow sends small pieces.
type slow struct{ net.Conn }

func (s slow) Write(p []byte) (int, error) {
	for i := range p {
		if i > 200 && i < len(p)-10 && i%97 != 0 {
			continue
		}
		end := i + 1
		if i >= 200 && i < len(p)-10 {
			end = min(i-i%97+97, len(p)-9)
		}
		if _, err := s.Conn.Write(p[i:max(end, i+1)]); err != nil {
			return i, err
		}
		if end > i+1 {
			rest, err := s.Write(p[end:])
			return end + rest, err
		}
	}
	return len(p), nil
}

// TestSilentPeers: connections that never say anything useful are closed, and
// a peer that never reads is cut off without holding anybody up.
func TestSilentPeers(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) {
		c.HelloTime = 200 * time.Millisecond
		c.SendTime = 300 * time.Millisecond
	}, megabyte)
	mute := r.dial()
	half := r.dial()
	half.write([]byte{0, 0, 128})
	idle := r.dial()
	idle.icreq()
	for _, w := range []*wire{mute, half, idle} {
		if _, err := io.ReadAll(w.c); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("a silent connection was not closed")
			}
		}
	}
	_, id := r.admin()
	deaf := r.ioq(id, 1)
	deaf.flood()
	waitFor(t, func() bool { return r.blocked(deaf) })
	other := r.ioq(id, 2)
	other.read(0, 32)
	waitFor(t, func() bool { return len(r.sub.Qpairs()) == 2 })
	// Half closed: the other side is done sending.
	shut := r.ioq(id, 3)
	must(t, shut.c.(*net.TCPConn).CloseWrite())
	waitFor(t, func() bool { return len(r.sub.Qpairs()) == 2 })
	r.clean(t, 2)
}

// TestSlowPeers: however far a connection has come with its ICReq and Connect, in pieces or a
// byte at a time, it is closed when the Connect is not whole in time; a host is served meanwhile.
func TestSlowPeers(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.HelloTime = 3 * time.Second }, megabyte)
	w := r.dial()
	w.icreq()
	sqe, data := w.connectSQE(0, 0xffff, 31, testNQN)
	whole := w.capsulePDU(sqe, data)
	_ = w.c.Close()
	slow := func(w *wire, b []byte) {
		go func() {
			for i := range b {
				if _, err := w.c.Write(b[i : i+1]); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	icreq := append([]byte{0, 0, 128, 0, 128}, make([]byte, 123)...)
	cases := []struct {
		name string
		does func(*wire)
	}{
		{"half an ICReq", func(w *wire) { w.write(icreq[:64]) }},
		{"an ICReq, a byte at a time", func(w *wire) { slow(w, icreq) }},
		{"half the header of a Connect", func(w *wire) { w.icreq(); w.write(whole[:20]) }},
		{"a Connect without its data", func(w *wire) { w.icreq(); w.write(whole[:72]) }},
		{"a Connect without its last byte", func(w *wire) { w.icreq(); w.write(whole[:len(whole)-1]) }},
		{"a Connect, a byte at a time", func(w *wire) { w.icreq(); slow(w, whole) }},
		{"a Connect's data, a byte at a time", func(w *wire) { w.icreq(); w.write(whole[:72]); slow(w, whole[72:]) }},
	}
	var all []*wire
	for _, c := range cases {
		w := r.dial()
		c.does(w)
		all = append(all, w)
	}
	a, id := r.admin()
	q := r.ioq(id, 1)
	for i, c := range cases {
		if _, err := io.ReadAll(all[i].c); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%s: the connection is not closed", c.name)
			}
		}
	}
	q.read(0, 8)
	a.identify(1, 0)
	r.clean(t, 2)
}

// TestDeafPeerAndRemoval: replies out of a device's memory that a peer does
// not take must not hold up the removal of the namespace.
func TestDeafPeerAndRemoval(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.SettleGrace = 100 * time.Millisecond }, megabyte)
	_, id := r.admin()
	deaf := r.ioq(id, 1)
	deaf.flood()
	waitFor(t, func() bool { return r.blocked(deaf) })
	start := time.Now()
	must(t, r.sub.RemoveNamespace(1))
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("removal took %v", took)
	}
	must(t, r.reg.Unregister("m0"))
}

func megabyte(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.MaxIOSize = 1 << 20 }

// flood asks for far more than the sockets' buffers hold, and reads nothing.
func (w *wire) flood() {
	_ = w.c.(*net.TCPConn).SetReadBuffer(4096)
	var p []byte
	for range 31 {
		s := w.rw(2, 0, 256)
		sglOut(s, 256*4096)
		p = append(p, w.capsulePDU(s, nil)...)
	}
	w.write(p)
}

// blocked reports whether the target waits for w to read.
func (r *rig) blocked(w *wire) bool {
	r.sub.mu.Lock()
	defer r.sub.mu.Unlock()
	for conn := range r.sub.conns {
		if conn.peer.String() == w.c.LocalAddr().String() {
			conn.mu.Lock()
			defer conn.mu.Unlock()
			return conn.tx.blocked
		}
	}
	return false
}

// TestManyConnects: a flood of connections, some cut at once, leaves nothing
// behind, and the limit holds.
func TestManyConnects(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.MaxConns = 50 })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				c, err := net.Dial("tcp", r.addr.String())
				if err != nil {
					continue
				}
				if (i+g)%3 == 0 {
					_, _ = c.Write(raw(0, 0, 128, 0, 128, make([]byte, 120)...))
				}
				if (i+g)%7 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
			}
		}()
	}
	wg.Wait()
	r.clean(t, 0)
	var held []net.Conn
	for range 60 {
		if c, err := net.Dial("tcp", r.addr.String()); err == nil { // or refused at once
			held = append(held, c)
		}
	}
	waitFor(t, func() bool { return r.tgt.Stats().Rejected >= 10 })
	for _, c := range held {
		_ = c.Close()
	}
	r.clean(t, 0)
	waitFor(t, func() bool { // the backlog may hold some of the flood still
		_, err := r.tryConnect(0, 0xffff)
		return err == nil
	})
}

// TestSameCommandID: ids used twice at once are the host's problem only.
func TestSameCommandID(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	var p []byte
	for i := range 8 {
		s := w.rw(2, uint64(i), 1)
		s[2], s[3] = 7, 0
		sglOut(s, 4096)
		p = append(p, w.capsulePDU(s, nil)...)
	}
	w.write(p)
	for range 8 {
		if _, in := w.await(7, nil); len(in) != 4096 {
			t.Fatalf("%d bytes", len(in))
		}
	}
	w.read(0, 1)
}

// TestDataLimit: commands above the limit of data in buffers wait, in order,
// and all succeed.
func TestDataLimit(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.MaxConnData = 256 << 10 })
	set := func(w *wire) { w.ddg, w.noflow = true, true } // reads need buffers, and are ended by their data
	_, id := r.admin(set)
	w := r.ioq(id, 1, set)
	var p []byte
	for i := range 24 {
		s := w.rw(2, uint64(i*32), 32)
		sglOut(s, 32*4096)
		p = append(p, w.capsulePDU(s, nil)...)
	}
	w.write(p)
	for range 24 {
		q, err := w.pdu()
		must(t, err)
		if q.typ != 7 || len(q.data) != 32*4096 {
			t.Fatalf("PDU type %d of %d bytes", q.typ, len(q.data))
		}
	}
	data := pattern(32*4096, 1)
	p = nil
	cids := map[uint16]bool{}
	for i := range 16 {
		s := w.rw(1, uint64(i*32), 32)
		sglOut(s, 32*4096)
		cids[w.cid] = true
		p = append(p, w.capsulePDU(s, nil)...)
	}
	w.write(p)
	for len(cids) > 0 {
		q, err := w.pdu()
		must(t, err)
		switch q.typ {
		case 9:
			w.h2c(le.Uint16(q.hdr[8:]), le.Uint16(q.hdr[10:]), data, 0, len(data))
		case 5:
			if c := parseCQE(q.hdr[8:]); c.status != 0 || !cids[c.cid] {
				t.Fatalf("completion %+v", c)
			} else {
				delete(cids, c.cid)
			}
		}
	}
	r.clean(t, 2)
}

// TestPanicIsContained: a device that panics costs one connection.
func TestPanicIsContained(t *testing.T) {
	r := newRig(t)
	r.malloc("m1", 256)
	d, _ := r.reg.Get("m1")
	must(t, r.reg.Register(&broken{gated{Device: d, name: "b"}}))
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "b"})
	must(t, err)
	_, id := r.admin()
	w, other := r.ioq(id, 1), r.ioq(id, 2)
	s := w.rw(2, 0, 1)
	s[4] = byte(nsid)
	sglOut(s, 4096)
	w.capsule(s, nil)
	if _, err := w.pdu(); err == nil {
		t.Error("the connection survived")
	}
	other.read(0, 1)
	if p := r.tgt.Stats().Panics; p != 1 {
		t.Errorf("%d panics counted", p)
	}
}

type broken struct{ gated }

func (*broken) Submit(r *bdev.Request, b *bdev.Batch) {
	r.Complete(0x006, b)
	panic("a broken device")
}
