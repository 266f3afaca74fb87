package nvmftgt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// forms are the ways in which a connection can be set up.
func forms(t *testing.T, f func(t *testing.T, set func(*wire))) {
	for _, hdg := range []bool{false, true} {
		for _, ddg := range []bool{false, true} {
			for _, hpda := range []uint8{0, 15} {
				t.Run(fmt.Sprintf("hdgst=%v,ddgst=%v,hpda=%d", hdg, ddg, hpda), func(t *testing.T) {
					f(t, func(w *wire) { w.hdg, w.ddg, w.hpda = hdg, ddg, hpda })
				})
			}
		}
	}
}

func TestReadWrite(t *testing.T) {
	forms(t, func(t *testing.T, set func(*wire)) {
		r := newRig(t)
		_, id := r.admin(set)
		w := r.ioq(id, 1, set)
		for _, blocks := range []int{1, 2, 3, 16, 32} {
			for _, chunk := range []int{0, 4096, 5000} {
				w.chunk = chunk
				data := pattern(blocks*4096, byte(blocks))
				if c := w.writeBlocks(uint64(blocks)*10, data); c.status != 0 {
					t.Fatalf("write %d blocks: status %03x", blocks, c.status)
				}
				if got := w.read(uint64(blocks)*10, blocks); !bytes.Equal(got, data) {
					t.Fatalf("%d blocks differ", blocks)
				}
			}
		}
		if w.sawSuccess == 0 {
			t.Error("no read was completed by SUCCESS")
		}
		w.ok(w.sqe(0, 1), nil) // flush
	})
}

func TestReadWithoutSuccessFlag(t *testing.T) {
	no := false
	r := newRig(t, func(_ *Config, o *TransportOpts, _ *SubsystemConfig) { o.C2HSuccess = &no })
	_, id := r.admin()
	w := r.ioq(id, 1)
	w.read(0, 4)
	if w.sawSuccess != 0 {
		t.Error("SUCCESS was used")
	}
}

func TestCompareZeroesUnmapVerify(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	data := pattern(16*4096, 3)
	w.writeBlocks(0, data)
	if c := w.out(w.rw(5, 0, 16), data); c.status != 0 {
		t.Errorf("compare: %03x", c.status)
	}
	data[40000]++
	if c := w.out(w.rw(5, 0, 16), data); c.status&0x7ff != 0x285 {
		t.Errorf("compare of other data: %03x", c.status)
	}
	w.ok(w.rw(8, 2, 2), nil)
	if got := w.read(2, 2); !bytes.Equal(got, make([]byte, 8192)) {
		t.Error("write zeroes left data")
	}
	w.ok(w.rw(0x0c, 0, 100), nil)
	ranges := make([]byte, 32)
	for i, lba := range []uint64{4, 8} {
		binary.LittleEndian.PutUint32(ranges[16*i+4:], 2)
		binary.LittleEndian.PutUint64(ranges[16*i+8:], lba)
	}
	s := w.sqe(9, 1)
	s[40], s[44] = 1, 4
	w.ok(s, ranges)
	for lba, zero := range map[uint64]bool{4: true, 5: true, 6: false, 8: true, 9: true, 10: false} {
		if got := bytes.Equal(w.read(lba, 1), make([]byte, 4096)); got != zero {
			t.Errorf("block %d zero: %v", lba, got)
		}
	}
}

func TestIOErrors(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	cases := []struct {
		name string
		sqe  func() []byte
		data []byte
		want uint16
	}{
		{"beyond the end", func() []byte { s := w.rw(2, 4095, 2); sglOut(s, 8192); return s }, nil, 0x4080},
		{"wrapping range", func() []byte { s := w.rw(2, 1<<64-1, 2); sglOut(s, 8192); return s }, nil, 0x4080},
		{"namespace 0", func() []byte { s := w.rw(2, 0, 1); s[4] = 0; sglOut(s, 4096); return s }, nil, 0x400b},
		{"namespace 9", func() []byte { s := w.rw(2, 0, 1); s[4] = 9; sglOut(s, 4096); return s }, nil, 0x400b},
		{"above MDTS", func() []byte { s := w.rw(2, 0, 33); sglOut(s, 33*4096); return s }, nil, 0x4002},
		{"short SGL of a read", func() []byte { s := w.rw(2, 0, 2); sglOut(s, 4096); return s }, nil, 0x400f},
		{"short SGL of a write", func() []byte { s := w.rw(1, 0, 2); sglOut(s, 4096); return s }, nil, 0x400f},
		{"capsule SGL of a read", func() []byte { s := w.rw(2, 0, 1); sglIn(s, 4096); return s }, nil, 0x4011},
		{"unknown SGL", func() []byte { s := w.rw(1, 0, 1); s[39] = 0x33; return s }, nil, 0x4011},
		{"SGL longer than the capsule", func() []byte { s := w.rw(1, 0, 1); sglIn(s, 4096); return s }, nil, 0x400f},
		{"SGL offset beyond the capsule", func() []byte { s := w.rw(1, 0, 1); sglIn(s, 4096); s[24] = 8; return s }, nil, 0x4016},
		{"PRP", func() []byte { s := w.rw(2, 0, 1); s[1] = 0; return s }, nil, 0x4002},
		{"unknown opcode", func() []byte { return w.sqe(0x7e, 1) }, nil, 0x4001},
		{"write uncorrectable", func() []byte { return w.rw(4, 0, 1) }, nil, 0x4001},
		{"second Connect", func() []byte { s, _ := w.connectSQE(1, id, 31, testNQN); return s }, nil, 0x400c},
		{"property set on an I/O queue", func() []byte { return w.sqe(0x7f, 0) }, nil, 0x4001},
	}
	for _, c := range cases {
		s := c.sqe()
		w.capsule(s, c.data)
		got, _ := w.await(binary.LittleEndian.Uint16(s[2:]), nil)
		if got.status != c.want {
			t.Errorf("%s: status %04x, want %04x", c.name, got.status, c.want)
		}
	}
	w.read(0, 1) // still there
}

func TestFusedCompareAndWrite(t *testing.T) {
	forms(t, func(t *testing.T, set func(*wire)) {
		r := newRig(t)
		_, id := r.admin(set)
		w := r.ioq(id, 1, set)
		old, next := pattern(4096, 1), pattern(4096, 2)
		w.writeBlocks(7, old)
		pair := func(cmp, wr []byte) (cqe, cqe) {
			a, b := w.rw(5, 7, 1), w.rw(1, 7, 1)
			a[1] |= 1
			b[1] |= 2
			sglIn(a, len(cmp))
			sglIn(b, len(wr))
			w.write(append(w.capsulePDU(a, cmp), w.capsulePDU(b, wr)...))
			x, _ := w.await(w.cid-1, nil)
			y, _ := w.await(w.cid, nil)
			return x, y
		}
		if a, b := pair(old, next); a.status != 0 || b.status != 0 {
			t.Fatalf("statuses %03x, %03x", a.status, b.status)
		}
		if !bytes.Equal(w.read(7, 1), next) {
			t.Fatal("not written")
		}
		if a, b := pair(old, old); a.status&0x7ff != 0x285 || b.status&0x7ff != 0x009 {
			t.Fatalf("miscompare: statuses %03x, %03x", a.status, b.status)
		}
		if !bytes.Equal(w.read(7, 1), next) {
			t.Fatal("written in spite of the miscompare")
		}
		lone := w.rw(1, 7, 1)
		lone[1] |= 2
		if c, _ := w.do(lone, old); c.status&0x7ff != 0x00a {
			t.Fatalf("second without first: %03x", c.status)
		}
		first := w.rw(5, 7, 1)
		first[1] |= 1
		sglIn(first, 4096)
		s := w.sqe(0, 1)
		w.write(append(w.capsulePDU(first, next), w.capsulePDU(s, nil)...))
		if c, _ := w.await(w.cid-1, nil); c.status&0x7ff != 0x00a {
			t.Fatalf("first without second: %03x", c.status)
		}
		w.await(w.cid, nil)
	})
}
