package nvmftgt

import (
	"io"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
)

// pump sends the same batch of commands again and again without allocating.
type pump struct {
	w     *wire
	out   []byte // the batch
	reply int    // bytes that answer it
	in    []byte
}

func (p *pump) run(tb testing.TB) {
	if _, err := p.w.c.Write(p.out); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(p.w.c, p.in[:p.reply]); err != nil {
		tb.Fatal(err)
	}
}

func (r *rig) pump(op byte, depth, blocks int, set ...func(*wire)) *pump {
	set = append([]func(*wire){func(w *wire) { w.noflow = true }}, set...)
	_, id := r.admin(set...)
	w := r.ioq(id, 1, set...)
	p := &pump{w: w}
	n := blocks * 4096
	for i := range depth {
		s := w.rw(op, uint64(i*blocks), blocks)
		if op == 2 {
			sglOut(s, n)
			p.out = append(p.out, w.capsulePDU(s, nil)...)
			p.reply += 24 + n
			if w.hdg {
				p.reply += 4
			}
			if w.ddg {
				p.reply += 4
			}
			if !w.noflow && i%16 == 15 { // half of the queue
				p.reply += 24
			}
		} else {
			sglIn(s, n)
			p.out = append(p.out, w.capsulePDU(s, pattern(n, byte(i)))...)
			p.reply += 24
			if w.hdg {
				p.reply += 4
			}
		}
	}
	p.in = make([]byte, p.reply)
	return p
}

// TestNoAllocations: in steady state a command allocates nothing.
func TestNoAllocations(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    byte
		depth int
		n     int
		set   func(*wire)
	}{
		{"read QD1", 2, 1, 1, func(*wire) {}},
		{"read QD16", 2, 16, 1, func(*wire) {}},
		{"read QD16 with flow control", 2, 16, 1, func(w *wire) { w.noflow = false }},
		{"write QD16", 1, 16, 1, func(*wire) {}},
		{"read 32K", 2, 8, 8, func(*wire) {}},
		{"read 128K, more than the socket takes", 2, 31, 32, func(*wire) {}},
		{"read with digests", 2, 8, 2, func(w *wire) { w.hdg, w.ddg = true, true }},
		{"write with digests", 1, 8, 1, func(w *wire) { w.hdg, w.ddg = true, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newRig(t).pump(c.op, c.depth, c.n, c.set)
			for range 50 {
				p.run(t)
			}
			var a, b runtime.MemStats
			const rounds = 500
			runtime.ReadMemStats(&a)
			for range rounds {
				p.run(t)
			}
			runtime.ReadMemStats(&b)
			perCmd := float64(b.Mallocs-a.Mallocs) / float64(rounds*c.depth)
			t.Logf("%.4f allocations per command", perCmd)
			if perCmd > 0.02 {
				t.Errorf("%.3f allocations per command", perCmd)
			}
		})
	}
}

func BenchmarkTarget(b *testing.B) {
	for _, c := range []struct {
		name  string
		op    byte
		depth int
	}{{"read4K/QD1", 2, 1}, {"read4K/QD16", 2, 16}, {"write4K/QD16", 1, 16}} {
		b.Run(c.name, func(b *testing.B) {
			p := newRig(b).pump(c.op, c.depth, 1)
			b.ReportAllocs()
			b.SetBytes(4096)
			b.ResetTimer()
			for i := 0; i < b.N; i += c.depth {
				p.run(b)
			}
		})
	}
}

// distant completes on another goroutine, like a device behind a network.
type distant struct {
	bdev.Device
	ch chan *bdev.Request
}

func (d *distant) Info() bdev.Info {
	i := d.Device.Info()
	i.Name, i.UUID = "distant", uuid.UUID{1}
	return i
}

func (d *distant) Submit(r *bdev.Request, _ *bdev.Batch) {
	if !r.Retain() {
		panic("no buffer")
	}
	d.ch <- r
}

func (d *distant) serve() {
	var b bdev.Batch
	for r := range d.ch {
		d.Device.Submit(r, &b)
		for len(d.ch) > 0 {
			d.Device.Submit(<-d.ch, &b)
		}
		b.Flush()
	}
}

// TestNoAllocationsElsewhere: nor does a command that is completed on another
// goroutine.
func TestNoAllocationsElsewhere(t *testing.T) {
	for _, op := range []byte{1, 2} {
		r := newRig(t)
		m, _ := r.reg.Get("m0")
		must(t, r.sub.RemoveNamespace(1))
		d := &distant{Device: m, ch: make(chan *bdev.Request, 64)}
		go d.serve()
		must(t, r.reg.Register(d))
		_, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "distant"})
		must(t, err)
		p := r.pump(op, 16, 1)
		if op == 2 { // replies come in the order of completion, which is the order of submission here
			p.reply = 16 * (24 + 4096)
		}
		for range 50 {
			p.run(t)
		}
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		for range 300 {
			p.run(t)
		}
		runtime.ReadMemStats(&b)
		if per := float64(b.Mallocs-a.Mallocs) / (300 * 16); per > 0.02 {
			t.Errorf("opcode %d: %.3f allocations per command", op, per)
		}
	}
}
