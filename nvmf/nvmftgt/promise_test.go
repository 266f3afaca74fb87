package nvmftgt

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestPromisesAreKept goes through the table of what CAP and Identify tell and
// has each promise kept, on the wire.
func TestPromisesAreKept(t *testing.T) {
	names := map[string]bool{}
	for _, p := range promises {
		names[p.name] = true
		t.Run(p.name, func(t *testing.T) {
			keep := kept[p.name]
			if keep == nil {
				t.Fatal("nothing shows that this promise is kept")
			}
			keep(t, newRig(t))
		})
	}
	for name := range kept {
		if !names[name] {
			t.Errorf("%q is tested and not promised", name)
		}
	}
}

// discovery makes an enabled controller of the discovery subsystem.
func (r *rig) discovery() *wire {
	r.t.Helper()
	w := r.dial()
	w.icreq()
	if c := w.connect(0, 0xffff, nvme.DiscoveryNQN); c.status != 0 {
		r.t.Fatalf("connect: %03x", c.status)
	}
	w.propSet(0x14, 0x00460001)
	return w
}

// is fails unless a command ended with a status.
func (w *wire) is(what string, got cqe, want uint16) {
	w.t.Helper()
	if got.status != want {
		w.t.Errorf("%s: status %04x, want %04x", what, got.status, want)
	}
}

var kept = map[string]func(t *testing.T, r *rig){
	"CAP MQES: queues may have so many entries": func(t *testing.T, r *rig) {
		a, id := r.admin()
		mqes := uint16(a.propGet(0, true).dw0)
		for size, want := range map[uint16]uint16{mqes: 0, mqes + 1: 0x0182} {
			w := r.dial()
			w.icreq()
			s, d := w.connectSQE(1, id, size, testNQN)
			c, _ := w.do(s, d)
			w.is("a queue", c, want)
		}
	},
	"CAP CQR, CSS, MPSMIN, MPSMAX: one command set, one page size": func(t *testing.T, r *rig) {
		w := r.dial()
		w.icreq()
		w.connect(0, 0xffff, testNQN)
		for name, cc := range map[string]uint64{"MPS 1": 1 << 7, "MPS 15": 15 << 7, "AMS 1": 1 << 11, "AMS 7": 7 << 11,
			"CSS 6": 6 << 4, "CRIME": 1 << 24} {
			w.is(name, w.propSet(0x14, 0x00460001|cc), 0x4002)
			w.is(name+", not enabled", w.propSet(0x14, 0x00460000|cc), 0x4002)
		}
		if v := w.propGet(0x1c, false); v.dw0 != 0 {
			t.Errorf("CSTS %x after nothing but refusals", v.dw0)
		}
		w.is("CC as CAP has it", w.propSet(0x14, 0x00460001), 0)
	},
	"CAP TO: ready in time":            keepReady,
	"CAP CRMS, CRTO: ready with media": keepReady,
	"SN, MN, FR, SUBNQN, CNTLID, VER, CNTRLTYPE: who it is": func(t *testing.T, r *rig) {
		a, id := r.admin()
		_, p := a.identify(1, 0)
		if string(p[4:8]) != "SER1" || !strings.HasPrefix(string(p[24:]), "VDA_CONTROLLER ") || le.Uint16(p[78:]) != id ||
			le.Uint32(p[80:]) != a.propGet(8, false).dw0 || p[111] != 1 {
			t.Errorf("% x", p[:112])
		}
		if _, p := r.discovery().identify(1, 0); p[111] != 2 || !strings.HasPrefix(string(p[768:]), nvme.DiscoveryNQN+"\x00") {
			t.Errorf("discovery: % x", p[:112])
		}
	},
	"MDTS: the largest transfer": func(t *testing.T, r *rig) {
		a, id := r.admin()
		_, p := a.identify(1, 0)
		most := 1 << p[77]
		w := r.ioq(id, 1)
		w.read(0, most)
		s := w.rw(2, 0, most+1)
		sglOut(s, (most+1)*4096)
		c, _ := w.do(s, nil)
		w.is("a block more", c, 0x4002)
	},
	"CTRATT 0: host ids of 128 bits": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		s := a.sqe(10, 0)
		s[40], s[44] = 0x81, 1
		sglOut(s, 16)
		if _, p := a.ok(s, nil); !bytes.Equal(p, testHostID[:]) {
			t.Errorf("host id % x", p)
		}
	},
	"CTRATT 6, KAS: any traffic keeps alive": func(t *testing.T, r *rig) {
		a, id := r.admin(func(w *wire) { w.keep = 60_000 })
		q := r.ioq(id, 1)
		age := func(except int) {
			for _, c := range r.sub.controllers(anyController) {
				c.mu.Lock()
				for i, conn := range []*conn{c.admin, c.io[1]} {
					if i != except {
						conn.seen.Store(nanotime() - int64(61*time.Second))
					}
				}
				c.mu.Unlock()
			}
		}
		age(0)
		q.read(0, 1)
		age(1)
		if _, p := a.identify(1, 0); le.Uint16(p[320:]) != 10 {
			t.Errorf("KAS %d", le.Uint16(p[320:]))
		}
		a.is("KATO", a.setFeature(0xf, 1001), 0)
		if c := a.getFeature(0xf, 0); c.dw0 != 2000 {
			t.Errorf("a keep-alive time of 1001 ms is %d ms", c.dw0)
		}
		a.is("KATO", a.setFeature(0xf, 0xffffffff), 0)
		if c := a.getFeature(0xf, 0); c.dw0 != 0xffffffff {
			t.Errorf("the longest keep-alive time is %d ms", c.dw0)
		}
	},
	"ACL: aborts at once": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		_, p := a.identify(1, 0)
		first := a.cid + 1
		for range int(p[258]) + 1 { // none is over the limit, as each is done at once
			s := a.sqe(8, 0)
			le.PutUint32(s[40:], 0xffff0001)
			a.capsule(s, nil)
		}
		for range int(p[258]) + 1 {
			if c, _ := a.await(first, nil); c.status != 0 || c.dw0 != 1 {
				t.Errorf("abort of nothing: %+v", c)
			}
			first++
		}
	},
	"AERL: event requests at once": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		_, p := a.identify(1, 0)
		for range int(p[259]) + 1 {
			a.capsule(a.sqe(12, 0), nil)
		}
		c, _ := a.do(a.sqe(12, 0), nil)
		a.is("one more", c, 0x4105)
	},
	"OAES 8: events of namespaces": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		a.is("async events", a.setFeature(0xb, 1<<8), 0)
		a.capsule(a.sqe(12, 0), nil)
		must(t, r.sub.RemoveNamespace(1))
		if c, _ := a.await(a.cid, nil); c.dw0 != 0x040002 {
			t.Errorf("event %06x", c.dw0)
		}
	},
	"OAES 31: events of discovery": func(t *testing.T, r *rig) {
		a := r.discovery()
		a.is("async events", a.setFeature(0xb, 1<<31), 0)
		a.capsule(a.sqe(12, 0), nil)
		must(t, r.sub.AddHost(otherHost))
		if c, _ := a.await(a.cid, nil); c.dw0 != 0x70f002 {
			t.Errorf("event %06x", c.dw0)
		}
	},
	"FRMW: one firmware slot, read only": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		for _, w := range []*wire{a, r.discovery()} {
			if c, p := w.logPage(3, 0, 512, false); c.status != 0 || p[0] != 1 || string(p[8:16]) != "1.0     " {
				t.Errorf("firmware log: %03x % x", c.status, p)
			}
		}
	},
	"ELPE: entries of the error log": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		_, p := a.identify(1, 0)
		n := int(p[262]) + 1
		for range n + 1 {
			a.getFeature(0x7d, 0)
		}
		_, p = a.logPage(1, 0, 64*n, false)
		if le.Uint64(p) != uint64(n+1) || le.Uint64(p[64*(n-1):]) != 2 {
			t.Errorf("from %d to %d", le.Uint64(p), le.Uint64(p[64*(n-1):]))
		}
	},
	"LPA 1: the log of commands": keepCommands,
	"LPA 2: parts of log pages": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		_, all := a.logPage(5, 0, 4096, false)
		_, part := a.logPage(5, 1024, 512, false)
		if !bytes.Equal(part, all[1024:1536]) {
			t.Error("a part differs from the whole")
		}
		c, _ := a.logPage(5, 4100, 512, false)
		a.is("behind the end", c, 0x4002)
	},
	"LPA 5: the logs of log pages, features and NVMe-MI commands, and scopes": keepLogs,
	"SQES, CQES: entries of 64 and 16 bytes": func(t *testing.T, r *rig) {
		w := r.dial()
		w.icreq()
		w.connect(0, 0xffff, testNQN)
		w.is("IOSQES 7", w.propSet(0x14, 0x00470001), 0x4002)
		w.is("IOCQES 5", w.propSet(0x14, 0x00560001), 0x4002)
		w.is("IOSQES 6, IOCQES 4", w.propSet(0x14, 0x00460001), 0)
	},
	"MAXCMD: commands at once": func(t *testing.T, r *rig) {
		a, id := r.admin()
		_, p := a.identify(1, 0)
		n := le.Uint16(p[514:])
		w := r.dial()
		w.icreq()
		s, d := w.connectSQE(1, id, n-1, testNQN)
		c, _ := w.do(s, d)
		w.is("a queue of MAXCMD", c, 0)
		first := w.cid + 1
		var all []byte
		for range n - 1 {
			s := w.rw(2, 0, 1)
			sglOut(s, 4096)
			all = append(all, w.capsulePDU(s, nil)...)
		}
		w.write(all)
		for i := range n - 1 {
			w.await(first+i, nil)
		}
	},
	"SGLS: data by transport SGL or at an offset in the capsule": func(t *testing.T, r *rig) {
		_, id := r.admin()
		w := r.ioq(id, 1)
		data := pattern(4096, 3)
		s := w.rw(1, 0, 1)
		sglOut(s, 4096)
		w.capsule(s, nil)
		c, _ := w.await(w.cid, data)
		w.is("transport SGL", c, 0)
		s = w.rw(1, 1, 1)
		sglIn(s, 4096)
		le.PutUint64(s[24:], 1024)
		w.capsule(s, append(make([]byte, 1024), data...))
		c, _ = w.await(w.cid, nil)
		w.is("at an offset", c, 0)
		if !bytes.Equal(w.read(0, 2), append(data, data...)) {
			t.Error("other data")
		}
		for psdt, want := range map[byte]uint16{0: 0x4002, 1: 0, 2: 0, 3: 0x4002} {
			s := w.rw(2, 0, 1)
			s[1] = psdt << 6
			sglOut(s, 4096)
			c, _ := w.do(s, nil)
			w.is("PSDT", c, want)
		}
		q := r.dial()
		q.icreq()
		s, _ = q.connectSQE(0, 0xffff, 31, testNQN)
		sglOut(s, 1024)
		q.capsule(s, nil)
		c, _ = q.await(q.cid, nil)
		q.is("Connect without its data", c, 0x4011)
	},
	"IOCCSZ, IORCSZ, ICDOFF: capsules": func(t *testing.T, r *rig) {
		a, id := r.admin()
		_, p := a.identify(1, 0)
		n := int(le.Uint32(p[1792:])*16 - 64)
		if c := r.ioq(id, 1).writeBlocks(0, pattern(n, 5)); c.status != 0 || n != 8192 {
			t.Errorf("%d bytes in the capsule: %03x", n, c.status)
		}
	},
	"CMIC 0, 1: many ports, many controllers": func(t *testing.T, r *rig) {
		must(t, r.sub.AddListener(Addr{Traddr: "127.0.0.2", Trsvcid: "0"}))
		r.admin()
		r.admin()
		r.addr = r.sub.Listeners()[1].Addr
		r.admin()
		if n := len(r.sub.Controllers()); n != 3 {
			t.Errorf("%d controllers", n)
		}
	},
	"NN, MNAN: namespaces": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		_, p := a.identify(1, 0)
		n := le.Uint32(p[516:])
		r.malloc("last", 16)
		_, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "last", NSID: n})
		must(t, err)
		for id, want := range map[uint32]uint16{n: 0, n + 1: 0x400b, 0: 0x400b, 0xffffffff: 0x400b} {
			c, _ := a.identify(0, id)
			a.is("identify namespace", c, want)
		}
		for _, cns := range []uint8{5, 8} {
			for id, want := range map[uint32]uint16{n: 0, n - 1: 0x000b, n + 1: 0x400b, 0xffffffff: 0x400b} {
				c, _ := a.identify(cns, id)
				a.is("identify namespace", c, want)
			}
		}
	},
	"ONCS 0: Compare": func(t *testing.T, r *rig) {
		_, id := r.admin()
		w := r.ioq(id, 1)
		w.is("equal", w.out(w.rw(5, 0, 1), make([]byte, 4096)), 0)
		w.is("different", w.out(w.rw(5, 0, 1), pattern(4096, 1)), 0x4285)
	},
	"ONCS 2: Dataset Management": func(t *testing.T, r *rig) {
		_, id := r.admin()
		w := r.ioq(id, 1)
		w.writeBlocks(8, pattern(4096, 1))
		w.is("deallocate", w.deallocate(8, 1), 0)
		if !bytes.Equal(w.read(8, 1), make([]byte, 4096)) {
			t.Error("the block was not deallocated")
		}
	},
	"ONCS 3, WZSL: Write Zeroes, and the largest": func(t *testing.T, r *rig) {
		r.malloc("big", 9000)
		_, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "big", NSID: 2})
		must(t, err)
		a, id := r.admin()
		_, p := a.identify(6, 0)
		most := 1 << p[1]
		w := r.ioq(id, 1)
		for blocks, want := range map[int]uint16{most: 0, most + 1: 0x4002} {
			s := w.rw(8, 0, blocks)
			s[4] = 2
			c, _ := w.do(s, nil)
			w.is("write zeroes", c, want)
		}
	},
	"ONCS 7: Verify": func(t *testing.T, r *rig) {
		_, id := r.admin()
		w := r.ioq(id, 1)
		c, _ := w.do(w.rw(12, 0, 100), nil)
		w.is("verify", c, 0)
	},
	"ONCS 5, RESCAP: reservations": func(t *testing.T, r *rig) {
		a, id := r.admin()
		if _, p := a.identify(0, 1); p[31] != 0xfe {
			t.Errorf("RESCAP %x", p[31])
		}
		w := r.ioq(id, 1)
		for typ := uint32(1); typ <= 6; typ++ { // and "ignore existing key" is Register's alone
			for _, s := range []uint16{w.resv(0x0d, 2|1<<3, 99, 5), w.resv(0x11, typ<<8, 5, 0), w.resv(0x15, typ<<8, 5, 0)} {
				if s != 0 {
					t.Errorf("type %d: %03x", typ, s)
				}
			}
			if s := w.resv(0x11, typ<<8|1<<3, 5, 0); s != 0x002 {
				t.Errorf("acquire that ignores the key: %03x", s)
			}
		}
	},
	"RESCAP 0: reservations outlive the process": keepReservations,
	"FUSES 0: Compare and Write": func(t *testing.T, r *rig) {
		a, id := r.admin()
		w := r.ioq(id, 1)
		one, two := w.rw(5, 0, 1), w.rw(1, 0, 1)
		one[1] |= 1
		two[1] |= 2
		sglIn(one, 4096)
		sglIn(two, 4096)
		w.write(append(w.capsulePDU(one, make([]byte, 4096)), w.capsulePDU(two, pattern(4096, 8))...))
		for _, s := range [][]byte{one, two} {
			c, _ := w.await(le.Uint16(s[2:]), nil)
			w.is("of the pair", c, 0)
		}
		if !bytes.Equal(w.read(0, 1), pattern(4096, 8)) {
			t.Error("not written")
		}
		for _, bits := range []byte{1, 2, 3} { // no pair of admin or Fabrics commands is promised
			s := a.sqe(6, 0)
			s[1] |= bits
			s[40] = 1
			sglOut(s, 4096)
			c, _ := a.do(s, nil)
			a.is("fused Identify", c, 0x4002)
			s = a.sqe(0x7f, 4)
			s[1] |= bits
			c, _ = a.do(s, nil)
			a.is("fused Property Get", c, 0x4002)
		}
	},
	"VWC: Flush, also of all namespaces": keepFlush,
	"OFCS 0: Disconnect":                 keepDisconnect,
	"CMIC 3, OAES 11, ANACAP, ANAGRPMAX, NANAGRPID: ANA": func(t *testing.T, r *rig) {
		a, id := r.admin()
		a.is("async events", a.setFeature(0xb, 1<<11), 0)
		_, p := a.identify(1, 0)
		most := le.Uint32(p[344:])
		must(t, r.sub.SetNamespaceANAGroup(1, most))
		if r.sub.SetNamespaceANAGroup(1, most+1) == nil {
			t.Error("a group above ANAGRPMAX")
		}
		w := r.ioq(id, 1)
		for state, want := range map[ANAState]uint16{ANAOptimized: 0, ANANonOptimized: 0, ANAInaccessible: 0x302} {
			must(t, r.sub.SetANAState(r.addr, most, state))
			if _, p := a.logPage(0xc, 0, 64, false); le.Uint32(p[16:]) != most || p[32] != byte(state) {
				t.Errorf("ANA log % x", p)
			}
			s := w.rw(2, 0, 1)
			sglOut(s, 4096)
			c, _ := w.do(s, nil)
			w.is("read", c, want)
		}
		a.capsule(a.sqe(12, 0), nil)
		must(t, r.sub.SetANAState(r.addr, most, ANAOptimized))
		if c, _ := a.await(a.cid, nil); c.dw0 != 0x0c0302 {
			t.Errorf("event %06x", c.dw0)
		}
	},
	"NMIC 0: shared": func(t *testing.T, r *rig) {
		_, one := r.admin()
		_, two := r.admin()
		r.ioq(one, 1).writeBlocks(3, pattern(4096, 4))
		if !bytes.Equal(r.ioq(two, 1).read(3, 1), pattern(4096, 4)) {
			t.Error("another controller reads another block")
		}
	},
	"NSZE, NCAP, LBADS, NOIOB: size and shape": func(t *testing.T, r *rig) {
		a, id := r.admin()
		_, p := a.identify(0, 1)
		last := le.Uint64(p) - 1
		w := r.ioq(id, 1)
		w.is("the last block", w.writeBlocks(last, make([]byte, 1<<p[130])), 0)
		w.is("behind it", w.writeBlocks(last+1, make([]byte, 1<<p[130])), 0x4080)
	},
	"NSFEAT 0, NUSE: what a thin namespace uses": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		if _, p := a.identify(0, 1); p[24]&1 != 0 || le.Uint64(p[16:]) != le.Uint64(p) {
			t.Errorf("a thick namespace: NSFEAT %x NUSE %d", p[24], le.Uint64(p[16:]))
		}
		f := r.shaped("thin", func(i *bdev.Info) {})
		f.used.Store(77)
		if _, p := a.identify(0, 2); p[24]&1 == 0 || le.Uint64(p[16:]) != 77 {
			t.Errorf("NSFEAT %x NUSE %d", p[24], le.Uint64(p[16:]))
		}
	},
	"NSFEAT 4, NPDG, NPDA, NOWS: what is freed and written best": func(t *testing.T, r *rig) {
		a, _ := r.admin()
		r.shaped("units", func(i *bdev.Info) { i.UnmapUnit, i.OptimalIO = 256, 16 })
		_, p := a.identify(0, 2)
		if p[24]&(1<<4) == 0 || le.Uint16(p[46:]) != 16 || le.Uint16(p[64:]) != 0 || le.Uint16(p[66:]) != 0 ||
			le.Uint16(p[68:]) != 255 || le.Uint16(p[70:]) != 255 || le.Uint16(p[72:]) != 15 {
			t.Errorf("NSFEAT %x, % x", p[24], p[46:74])
		}
	},
	"NSATTR 0: write protected": func(t *testing.T, r *rig) {
		a, id := r.admin()
		r.shaped("snap", func(i *bdev.Info) { i.Ops &^= bdev.Ops(bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes) })
		_, p := a.identify(0, 2)
		_, q := a.identify(8, 2)
		if p[99] != 1 || q[8] != 1 {
			t.Errorf("NSATTR %x and %x", p[99], q[8])
		}
		if _, p := a.identify(0, 1); p[99] != 0 {
			t.Errorf("NSATTR %x of one that takes writes", p[99])
		}
		w := r.ioq(id, 1)
		for _, op := range []byte{1, 8, 9} {
			s := w.rw(op, 0, 1)
			s[4] = 2
			switch op {
			case 1:
				w.is("write", w.out(s, make([]byte, 4096)), 0x4020)
			case 8:
				c, _ := w.do(s, nil)
				w.is("write zeroes", c, 0x4020)
			case 9:
				le.PutUint64(s[40:], 0)
				s[44] = 4
				c, _ := w.do(s, make([]byte, 16))
				w.is("deallocate", c, 0x4020)
			}
		}
	},
	"DLFEAT: what deallocated blocks read, Write Zeroes that deallocates": func(t *testing.T, r *rig) {
		a, id := r.admin()
		if _, p := a.identify(0, 1); p[33] != 1|1<<3 {
			t.Errorf("DLFEAT %x", p[33])
		}
		w := r.ioq(id, 1)
		w.writeBlocks(0, pattern(8192, 1))
		s := w.rw(8, 0, 1)
		le.PutUint32(s[48:], le.Uint32(s[48:])|1<<25)
		w.ok(s, nil)
		w.deallocate(1, 1)
		if !bytes.Equal(w.read(0, 2), make([]byte, 8192)) {
			t.Error("they do not read as zeros")
		}
	},
}

func (w *wire) deallocate(lba uint64, blocks uint32) cqe {
	w.t.Helper()
	s := w.sqe(9, 1)
	s[44] = 4
	d := make([]byte, 16)
	le.PutUint32(d[4:], blocks)
	le.PutUint64(d[8:], lba)
	c, _ := w.do(s, d)
	return c
}
