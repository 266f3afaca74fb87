package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// ask submits one request and waits for its end.
func ask(t testing.TB, ns *Namespace, r *bdev.Request) nvme.Status {
	t.Helper()
	done := make(chan nvme.Status, 2)
	r.Done = func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }
	var b bdev.Batch
	ns.Submit(r, nil, &b)
	b.Flush()
	select {
	case s := <-done:
		return s
	case <-time.After(time.Minute):
		t.Fatalf("%v of %d blocks never completes", r.Op, r.Blocks)
		return 0
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// TestHostile has the controller break the protocol in every way that a host
// must notice. The request ends with a path status, nothing is written outside
// its buffer, and a new session works.
func TestHostile(t *testing.T) {
	pdu := func(h nvme.Header, body ...byte) []byte {
		b := make([]byte, 8, 64)
		nvme.PutHeader(b, h)
		return append(b, body...)
	}
	data := func(c *peerConn, cid uint16, flags uint8, off, n, carried int) {
		var h [24]byte
		nvme.PutData(h[:], nvme.DataPDU{CID: cid, Offset: uint32(off), Length: uint32(n)})
		c.send(nvme.PDUC2HData, flags, h[8:], bytes.Repeat([]byte{0xee}, carried))
	}
	r2t := func(c *peerConn, cid uint16, off, n int) {
		var h [24]byte
		nvme.PutR2T(h[:], nvme.R2T{CID: cid, TTag: 1, Offset: uint32(off), Length: uint32(n)})
		c.send(nvme.PDUR2T, 0, h[8:], nil)
	}
	both := nvme.FlagLast | nvme.FlagSuccess
	for name, f := range map[string]func(c *peerConn, cid uint16){
		"completion of a command not in flight": func(c *peerConn, cid uint16) { c.complete(nvme.Completion{CID: cid ^ 1}) },
		"completion with an id out of range":    func(c *peerConn, cid uint16) { c.complete(nvme.Completion{CID: 0xffff}) },
		"success without data":                  func(c *peerConn, cid uint16) { c.complete(nvme.Completion{CID: cid}) },
		"success after half of the data": func(c *peerConn, cid uint16) {
			data(c, cid, nvme.FlagLast, 0, 4096, 4096)
			c.complete(nvme.Completion{CID: cid})
		},
		"success flag after half":        func(c *peerConn, cid uint16) { data(c, cid, both, 0, 4096, 4096) },
		"success flag without last":      func(c *peerConn, cid uint16) { data(c, cid, nvme.FlagSuccess, 0, 8192, 8192) },
		"data beyond the end":            func(c *peerConn, cid uint16) { data(c, cid, both, 0, 12288, 12288) },
		"data far outside":               func(c *peerConn, cid uint16) { data(c, cid, both, 1<<31, 4096, 4096) },
		"data whose end wraps around":    func(c *peerConn, cid uint16) { data(c, cid, both, 0xfffff000, 8192, 8192) },
		"data with a gap":                func(c *peerConn, cid uint16) { data(c, cid, both, 4096, 4096, 4096) },
		"data of another command":        func(c *peerConn, cid uint16) { data(c, cid+7, both, 0, 8192, 8192) },
		"no data in a data PDU":          func(c *peerConn, cid uint16) { data(c, cid, 0, 0, 0, 0) },
		"more data than the header says": func(c *peerConn, cid uint16) { data(c, cid, both, 0, 4096, 8192) },
		"less data than the header says": func(c *peerConn, cid uint16) { data(c, cid, both, 0, 8192, 4096) },
		"overlapping data": func(c *peerConn, cid uint16) {
			data(c, cid, 0, 0, 4096, 4096)
			data(c, cid, both, 0, 8192, 8192)
		},
		"R2T for a read":      func(c *peerConn, cid uint16) { r2t(c, cid, 0, 8192) },
		"unknown PDU":         func(c *peerConn, cid uint16) { c.raw(pdu(nvme.Header{Type: 0x33, HLen: 24, PLen: 24})) },
		"PDU for controllers": func(c *peerConn, cid uint16) { c.send(nvme.PDUH2CData, 0, make([]byte, 16), []byte{1, 2, 3, 4}) },
		"second ICResp": func(c *peerConn, cid uint16) {
			c.raw(pdu(nvme.Header{Type: nvme.PDUICResp, HLen: 128, PLen: 128}, make([]byte, 120)...))
		},
		"wrong header length": func(c *peerConn, cid uint16) { c.raw(pdu(nvme.Header{Type: nvme.PDUC2HData, HLen: 8, PLen: 8})) },
		"enormous PDU": func(c *peerConn, cid uint16) {
			c.raw(pdu(nvme.Header{Type: nvme.PDUC2HData, HLen: 24, PDO: 24, PLen: 0xffffffff}, make([]byte, 16)...))
		},
		"unexpected digest": func(c *peerConn, cid uint16) {
			c.raw(pdu(nvme.Header{Type: nvme.PDUCapsuleResp, Flags: nvme.FlagHDGST, HLen: 24, PLen: 28}, make([]byte, 20)...))
		},
		"termination": func(c *peerConn, cid uint16) {
			var b [nvme.TermReqMax]byte
			c.raw(b[:nvme.PutTermReq(b[:], nvme.PDUC2HTermReq, nvme.TermReq{Status: nvme.FatalSequence})])
		},
		"end in a header":      func(c *peerConn, cid uint16) { c.raw([]byte{7, 0, 24}); _ = c.c.Close() },
		"end in the data":      func(c *peerConn, cid uint16) { data(c, cid, 0, 0, 4096, 4096); _ = c.c.Close() },
		"reset":                func(c *peerConn, cid uint16) { _ = c.c.(*net.TCPConn).SetLinger(0); _ = c.c.Close() },
		"W R2T beyond the end": func(c *peerConn, cid uint16) { r2t(c, cid, 0, 12288) },
		"W R2T with a gap":     func(c *peerConn, cid uint16) { r2t(c, cid, 4096, 4096) },
		"W R2T of nothing":     func(c *peerConn, cid uint16) { r2t(c, cid, 0, 0) },
		"W R2T that wraps":     func(c *peerConn, cid uint16) { r2t(c, cid, 0, 0xffffffff) },
		"W R2T twice":          func(c *peerConn, cid uint16) { r2t(c, cid, 0, 8192); r2t(c, cid, 0, 8192) },
		"W R2T of another":     func(c *peerConn, cid uint16) { r2t(c, cid+9, 0, 8192) },
		"W data":               func(c *peerConn, cid uint16) { data(c, cid, both, 0, 8192, 8192) },
		"W success unasked":    func(c *peerConn, cid uint16) { c.complete(nvme.Completion{CID: cid}) },
		"W two completions": func(c *peerConn, cid uint16) {
			c.complete(nvme.Completion{CID: cid, Status: nvme.HostPathError})
			c.complete(nvme.Completion{CID: cid})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, func(p *peer) { p.inline = 0 })
			var evil atomic.Bool
			p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
				if c.qid == 0 || !evil.Swap(false) {
					return false
				}
				f(c, cmd.CID())
				return true
			}
			c := dialPeer(t, p, func(c *Config) { c.Resilience = Resilience{LossTimeout: -1, Delay: 5 * time.Millisecond} })
			ns := c.Namespace(1)
			guarded := bytes.Repeat([]byte{0x55}, 3*8192)
			r := &bdev.Request{Op: bdev.OpRead, Blocks: 2, Iov: [][]byte{guarded[8192:9000], guarded[9000:16384]}}
			if name[:2] == "W " {
				r.Op = bdev.OpWrite
			}
			evil.Store(true)
			if s := ask(t, ns, r); s != nvme.HostPathError {
				t.Errorf("status %v, want a host path error", s)
			}
			if want := bytes.Repeat([]byte{0x55}, 8192); !bytes.Equal(guarded[:8192], want) || !bytes.Equal(guarded[16384:], want) {
				t.Error("bytes outside the request's buffers were written")
			}
			if err := ns.WriteAt(t.Context(), make([]byte, 8192), 0); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestDigestErrors: a wrong data digest fails its command alone, a wrong
// header digest the session.
func TestDigestErrors(t *testing.T) {
	for _, header := range []bool{false, true} {
		p := newPeer(t, func(p *peer) { p.hdgst, p.ddgst = true, true })
		var evil atomic.Bool
		p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
			if c.qid == 0 || !evil.Swap(false) {
				return false
			}
			b := make([]byte, 8, 28+4096+4)
			nvme.PutHeader(b, nvme.Header{Type: nvme.PDUC2HData, Flags: 15, HLen: 24, PDO: 28, PLen: 28 + 4096 + 4})
			var h [24]byte
			nvme.PutData(h[:], nvme.DataPDU{CID: cmd.CID(), Length: 4096})
			b = append(b, h[8:]...)
			d := nvme.UpdateDigest(0, b)
			if header {
				d++
			}
			b = binary.LittleEndian.AppendUint32(b, d)
			b = append(b, make([]byte, 4096+4)...)
			c.raw(b)
			return true
		}
		c := dialPeer(t, p, func(c *Config) { c.HeaderDigest, c.DataDigest = true, true })
		evil.Store(true)
		s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
		if want := map[bool]nvme.Status{false: nvme.TransientTransport, true: nvme.HostPathError}[header]; s != want {
			t.Errorf("header %t: status %v, want %v", header, s, want)
		}
		if !header && c.State() != Enabled {
			t.Error("a data digest ended the session")
		}
	}
}

// TestSilence: the controller stops answering anything; the keep-alive finds
// out, and what was in flight ends with a path status.
func TestSilence(t *testing.T) {
	p := newPeer(t, nil)
	var silent atomic.Bool
	p.hook = func(*peerConn, *nvme.Command, []byte) bool { return silent.Load() }
	c := dialPeer(t, p, func(c *Config) {
		c.KeepAlive, c.ConnectTimeout = 200*time.Millisecond, 100*time.Millisecond
		c.Resilience = Resilience{LossTimeout: -1, Delay: 10 * time.Millisecond}
	})
	time.Sleep(250 * time.Millisecond)
	if p.keepAlives.Load() == 0 || c.State() != Enabled {
		t.Fatalf("%d keep-alives, %v", p.keepAlives.Load(), c.State())
	}
	silent.Store(true)
	began := time.Now()
	if s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpFlush}); s != nvme.HostPathError {
		t.Fatalf("status %v", s)
	}
	if d := time.Since(began); d > 8*time.Second {
		t.Errorf("silence was noticed after %v", d)
	}
	silent.Store(false)
	eventually(t, "a new session", func() bool { return c.State() == Enabled })
}

// TestIOTimeout: an I/O without an answer is aborted; when that does not help
// the session is reset.
func TestIOTimeout(t *testing.T) {
	p := newPeer(t, nil)
	var aborts, helps atomic.Int32
	var stuck atomic.Pointer[peerConn]
	var cid atomic.Uint32
	p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
		switch {
		case c.qid > 0 && cmd.Opcode() == nvme.IOFlush:
			stuck.Store(c)
			cid.Store(uint32(cmd.CID()))
			return true
		case c.qid == 0 && cmd.Opcode() == nvme.AdminAbort:
			aborts.Add(1)
			if helps.Load() > 0 {
				stuck.Load().complete(nvme.Completion{CID: uint16(cmd.CDW(10) >> 16), Status: nvme.AbortRequested})
			}
		}
		return false
	}
	c := dialPeer(t, p, func(c *Config) {
		c.IOTimeout, c.Resilience = 100*time.Millisecond, Resilience{LossTimeout: -1, Delay: 10 * time.Millisecond}
	})
	helps.Store(1)
	if s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpFlush}); s != nvme.AbortRequested || aborts.Load() != 1 || c.State() != Enabled {
		t.Fatalf("status %v, %d aborts, %v", s, aborts.Load(), c.State())
	}
	helps.Store(0)
	if s := ask(t, c.Namespace(1), &bdev.Request{Op: bdev.OpFlush}); s != nvme.HostPathError || aborts.Load() < 2 {
		t.Fatalf("status %v, %d aborts", s, aborts.Load())
	}
	eventually(t, "a new session", func() bool { return c.State() == Enabled })
}

// TestCloseWhileStuck: Close ends although nothing is answered.
func TestCloseWhileStuck(t *testing.T) {
	p := newPeer(t, nil)
	var silent atomic.Bool
	p.hook = func(*peerConn, *nvme.Command, []byte) bool { return silent.Load() }
	c := dialPeer(t, p, nil)
	silent.Store(true)
	var done atomic.Int32
	for i := range 100 { // more than there are slots
		r := &bdev.Request{Op: bdev.OpRead, Offset: uint64(i), Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}
		r.Done = func(r *bdev.Request, _ *bdev.Batch) {
			if r.Status == nvme.HostPathError {
				done.Add(1)
			}
		}
		var b bdev.Batch
		c.Namespace(1).Submit(r, nil, &b)
		b.Flush()
	}
	began := time.Now()
	c.Close()
	if d := time.Since(began); d > 5*time.Second || done.Load() != 100 {
		t.Errorf("closed after %v with %d of 100 requests ended", d, done.Load())
	}
	if s := ask(t, &Namespace{ctl: c}, &bdev.Request{Op: bdev.OpFlush}); s != nvme.HostPathError {
		t.Errorf("after Close: %v", s)
	}
}

// TestConnectRefused: peers that do not get as far as a session.
func TestConnectRefused(t *testing.T) {
	for name, v := range map[string]struct {
		serve func(c net.Conn)
		set   func(*Config)
	}{
		"nothing is answered": {serve: func(c net.Conn) { time.Sleep(300 * time.Millisecond) }},
		"closed at once":      {serve: func(c net.Conn) {}},
		"half an ICResp": {serve: func(c net.Conn) {
			_, _ = c.Write([]byte{1, 0, 128, 0, 128, 0, 0, 0, 0})
			time.Sleep(300 * time.Millisecond)
		}},
		"not NVMe": {serve: func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
			time.Sleep(300 * time.Millisecond)
		}},
		"small MAXH2CDATA": {serve: func(c net.Conn) {
			var b [128]byte
			nvme.PutICResp(b[:], nvme.ICResp{MaxH2CData: 100})
			_, _ = c.Write(b[:])
		}},
		"alignment": {serve: func(c net.Conn) {
			var b [128]byte
			nvme.PutICResp(b[:], nvme.ICResp{MaxH2CData: 4096, CPDA: 32})
			_, _ = c.Write(b[:])
		}},
		"digests nobody wants": {serve: func(c net.Conn) {
			var b [128]byte
			nvme.PutICResp(b[:], nvme.ICResp{MaxH2CData: 4096, DataDigest: true})
			_, _ = c.Write(b[:])
		}},
		"bad port":  {set: func(c *Config) { c.Trsvcid = "70000" }},
		"bad name":  {set: func(c *Config) { c.SubNQN = "iqn.2016" }},
		"bad depth": {set: func(c *Config) { c.QueueDepth = 5000 }},
		"bad times": {set: func(c *Config) { c.Resilience.FastIOFail = time.Second }},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if v.serve != nil {
				v.serve(c)
			}
			_ = c.Close()
		}()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		cfg := Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: "nqn.x", ConnectTimeout: 100 * time.Millisecond}
		if v.set != nil {
			v.set(&cfg)
		}
		began := time.Now()
		if c, err := Connect(t.Context(), cfg); err == nil {
			t.Errorf("%s: connected", name)
			c.Close()
		} else if time.Since(began) > 8*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
		_ = ln.Close()
		<-served
	}
}

// TestDrip: the controller's bytes arrive one by one.
func TestDrip(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.drip, p.hdgst, p.ddgst = true, true, true })
	c := dialPeer(t, p, func(c *Config) { c.HeaderDigest, c.DataDigest, c.Queues = true, true, 1 })
	want := pattern(5, 4096)
	if err := c.Namespace(1).WriteAt(t.Context(), want, 4096); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4096)
	if err := c.Namespace(1).ReadAt(t.Context(), got, 4096); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v, equal %t", err, bytes.Equal(got, want))
	}
}

// TestSlowPeer: the controller reads nothing for a while, with more data on
// the way than the socket takes.
func TestSlowPeer(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.disks[1].data = make([]byte, 64<<20) })
	var block atomic.Bool
	gate := make(chan struct{})
	p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
		if c.qid > 0 && block.Load() {
			<-gate
		}
		return false
	}
	c := dialPeer(t, p, func(c *Config) { c.Queues, c.QueueDepth = 1, 64 })
	block.Store(true)
	const n = 60
	done := make(chan nvme.Status, n)
	for i := range n {
		r := &bdev.Request{Op: bdev.OpWrite, Offset: uint64(i * 256), Blocks: 2, Iov: [][]byte{pattern(uint64(i), 8192)}}
		if i%2 == 1 {
			r.Blocks, r.Iov = 256, [][]byte{pattern(uint64(i), 1<<20)}
		}
		r.Done = func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }
		var b bdev.Batch
		c.Namespace(1).Submit(r, nil, &b)
		b.Flush()
	}
	time.Sleep(50 * time.Millisecond)
	block.Store(false)
	close(gate)
	for range n {
		select {
		case s := <-done:
			if s != nvme.Success {
				t.Fatal(s)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("requests are stuck")
		}
	}
	for i := range n {
		size := 8192
		if i%2 == 1 {
			size = 1 << 20
		}
		if !bytes.Equal(p.image(int64(i)<<20, int64(size)), pattern(uint64(i), size)) {
			t.Fatalf("write %d arrived different", i)
		}
	}
}

// TestLoss: the controller is given up after the loss time-out, and blocking
// calls end when fast-fail says so.
func TestLoss(t *testing.T) {
	p := newPeer(t, nil)
	c := dialPeer(t, p, func(c *Config) {
		c.Resilience = Resilience{LossTimeout: 600 * time.Millisecond, Delay: 50 * time.Millisecond, FastIOFail: 200 * time.Millisecond}
	})
	ns := c.Namespace(1)
	_ = p.ln.Close()
	p.cut()
	began := time.Now()
	var ioErr *IOError
	if err := ns.Flush(t.Context()); !errors.As(err, &ioErr) || ioErr.Status != nvme.HostPathError {
		t.Fatalf("flush: %v", err)
	}
	if d := time.Since(began); d < 150*time.Millisecond || d > 8*time.Second || !c.FastFailed() {
		t.Errorf("failed after %v, fast fail %t", d, c.FastFailed())
	}
	eventually(t, "given up", func() bool { return c.State() == Deleting })
	if d := time.Since(began); d < 550*time.Millisecond || d > 9*time.Second {
		t.Errorf("given up after %v", d)
	}
}

// TestBlockingContext: a blocking call ends with its context.
func TestBlockingContext(t *testing.T) {
	p := newPeer(t, nil)
	p.hook = func(c *peerConn, _ *nvme.Command, _ []byte) bool { return c.qid > 0 }
	c := dialPeer(t, p, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Namespace(1).ReadAt(ctx, make([]byte, 4096), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}
