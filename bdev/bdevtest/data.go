package bdevtest

import (
	"bytes"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// sizes writes and reads ranges of many lengths in many places, and checks
// that nothing next to them changes.
func (b *bench) sizes() {
	blocks := b.h.Info().Blocks
	model := make([]byte, blocks*b.bs())
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpWriteZeroes, Blocks: blocks})
	for _, s := range spots(blocks) {
		p := b.data(s[1])
		Write(b, b.h, s[0], p)
		copy(model[s[0]*b.bs():], p)
		from, to := max(s[0], 2)-2, min(s[0]+s[1]+2, blocks)
		b.expect(from, model[from*b.bs():to*b.bs()])
	}
	for at := uint64(0); at < blocks; at += 256 {
		n := min(256, blocks-at)
		b.expect(at, model[at*b.bs():(at+n)*b.bs()])
	}
}

// pieces scatters the data over pieces of any length.
func (b *bench) pieces() {
	for _, s := range spots(b.h.Info().Blocks) {
		p := b.data(s[1])
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpWrite, Offset: s[0], Blocks: s[1], Iov: cut(b.rnd, p)})
		got := b.data(s[1])
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpRead, Offset: s[0], Blocks: s[1], Iov: cut(b.rnd, got)})
		if b.s.Discards {
			clear(p)
		}
		if !bytes.Equal(got, p) {
			b.Fatalf("%d blocks at %d in pieces: wrong from byte %d on", s[1], s[0], differs(got, p))
		}
	}
}

// refusals are requests that no device may carry out.
func (b *bench) refusals() {
	i := b.h.Info()
	one := make([]byte, b.bs())
	outside := nvme.LBAOutOfRange | nvme.DNR
	for _, r := range []bdev.Request{
		{Op: bdev.OpRead, Offset: i.Blocks, Blocks: 1, Iov: [][]byte{one}},
		{Op: bdev.OpWrite, Offset: i.Blocks - 1, Blocks: 2, Iov: [][]byte{one, one}},
		{Op: bdev.OpRead, Offset: ^uint64(0), Blocks: 1, Iov: [][]byte{one}},
		{Op: bdev.OpWriteZeroes, Offset: 1, Blocks: ^uint64(0)},
		{Op: bdev.OpWriteZeroes, Offset: 0, Blocks: i.Blocks + 1},
	} {
		b.do(outside, &r)
	}
	wrong := nvme.InvalidField | nvme.DNR
	b.do(wrong, &bdev.Request{Op: bdev.OpRead, Blocks: 2, Iov: [][]byte{one}})
	b.do(wrong, &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{one, one[:1]}})
	b.do(wrong, &bdev.Request{Op: bdev.OpRead, Blocks: 1})
	b.do(nvme.InvalidOpcode|nvme.DNR, &bdev.Request{Op: 0})
	if !i.Ops.Has(bdev.OpUnmap) {
		b.do(nvme.InvalidOpcode|nvme.DNR, &bdev.Request{Op: bdev.OpUnmap, Blocks: 1})
	}
	if err := b.reg.Register(twin{*i}); !bdev.IsErrno(err, bdev.ErrExists) {
		b.Errorf("a second device of the same name: %v", err)
	}
}

// twin is a device that takes another's name.
type twin struct{ i bdev.Info }

func (d twin) Info() bdev.Info                       { return d.i }
func (d twin) Submit(r *bdev.Request, b *bdev.Batch) { r.Complete(nvme.Success, b) }
func (d twin) Close() error                          { return nil }

// nothing is requests of no blocks, also at the very end.
func (b *bench) nothing() {
	i := b.h.Info()
	p := b.data(4)
	Write(b, b.h, 0, p)
	for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpCompare} {
		if i.Ops.Has(op) {
			b.do(nvme.Success, &bdev.Request{Op: op})
			b.do(nvme.Success, &bdev.Request{Op: op, Offset: i.Blocks})
			b.do(nvme.Success, &bdev.Request{Op: op, Offset: 2, Iov: [][]byte{{}}})
		}
	}
	b.expect(0, p)
}

// zeroes checks write zeroes and unmap, and that they hit nothing else.
func (b *bench) zeroes() {
	i := b.h.Info()
	for _, op := range []bdev.Op{bdev.OpWriteZeroes, bdev.OpUnmap} {
		if !i.Ops.Has(op) {
			continue
		}
		for _, s := range some(i.Blocks) {
			at, n := s[0], s[1]
			from, to := max(at, 3)-3, min(at+n+3, i.Blocks)
			old := b.data(to - from)
			Write(b, b.h, from, old)
			b.do(nvme.Success, &bdev.Request{Op: op, Offset: at, Blocks: n})
			got := Read(b, b.h, from, to-from)
			if b.s.Discards {
				continue
			}
			lo, hi := (at-from)*b.bs(), (at-from+n)*b.bs()
			if !bytes.Equal(got[:lo], old[:lo]) || !bytes.Equal(got[hi:], old[hi:]) {
				b.Fatalf("%v of %d blocks at %d changed its neighbours", op, n, at)
			}
			b.zeroed(op, got[lo:hi], old[lo:hi], op == bdev.OpWriteZeroes || i.UnmapZeroes)
		}
	}
	all := i.Blocks
	Write(b, b.h, 0, b.data(1))
	Write(b, b.h, all-1, b.data(1))
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpWriteZeroes, Blocks: all})
	b.expect(0, make([]byte, b.bs()))
	b.expect(all-1, make([]byte, b.bs()))
}

// zeroed checks every block of a range that was zeroed or unmapped: zeros, or
// where that is allowed, as before.
func (b *bench) zeroed(op bdev.Op, got, old []byte, must bool) {
	b.Helper()
	bs := int(b.bs())
	zero := make([]byte, bs)
	n := len(got) / bs
	for k := 0; k < n; k++ {
		edge := op == bdev.OpUnmap && uint64(min(k, n-1-k)) < b.s.UnmapKeeps
		p := got[k*bs : (k+1)*bs]
		if !bytes.Equal(p, zero) && ((must && !edge) || !bytes.Equal(p, old[k*bs:(k+1)*bs])) {
			b.Fatalf("%v: block %d of %d is neither zero nor as before, or has to be zero", op, k, n)
		}
	}
}

// compare checks compare and compare-and-write.
func (b *bench) compare() {
	if b.s.Discards || !b.h.Info().Ops.Has(bdev.OpCompare) {
		return
	}
	failed := nvme.CompareFailure | nvme.DNR
	for _, s := range some(b.h.Info().Blocks) {
		p := b.data(s[1])
		Write(b, b.h, s[0], p)
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpCompare, Offset: s[0], Blocks: s[1], Iov: cut(b.rnd, p)})
		wrong := bytes.Clone(p)
		wrong[b.rnd.IntN(len(wrong))] ^= 0x40
		b.do(failed, &bdev.Request{Op: bdev.OpCompare, Offset: s[0], Blocks: s[1], Iov: cut(b.rnd, wrong)})
		if m := b.s.MaxCompareAndWrite; !b.h.Info().Ops.Has(bdev.OpCompareAndWrite) || m != 0 && s[1] > m {
			continue
		}
		next := b.data(s[1])
		b.do(failed, &bdev.Request{Op: bdev.OpCompareAndWrite, Offset: s[0], Blocks: s[1], Iov: cut(b.rnd, append(wrong, next...))})
		b.expect(s[0], p)
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpCompareAndWrite, Offset: s[0], Blocks: s[1],
			Iov: cut(b.rnd, append(bytes.Clone(p), next...))})
		b.expect(s[0], next)
	}
}

// transient overwrites the data as soon as Submit returns.
func (b *bench) transient() {
	for _, s := range some(b.h.Info().Blocks) {
		p := b.data(s[1])
		mem := bytes.Clone(p)
		iov := cut(b.rnd, mem)
		done := make(chan nvme.Status, 1)
		r := &bdev.Request{Op: bdev.OpWrite, Offset: s[0], Blocks: s[1], Iov: iov, Transient: true,
			Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
		var batch bdev.Batch
		b.h.Submit(r, &batch)
		clear(mem)
		batch.Flush()
		if st := <-done; st != nvme.Success {
			b.Fatalf("transient write: %v", st)
		}
		if len(r.Iov) != len(iov) || &r.Iov[0] != &iov[0] {
			b.Fatal("the request did not get its Iov back")
		}
		b.expect(s[0], p)
	}
}

// durable uses flush, forced unit access and reset.
func (b *bench) durable() {
	p := b.data(8)
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpWrite, Blocks: 8, Iov: [][]byte{p}, FUA: true})
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpFlush})
	b.do(nvme.Success, &bdev.Request{Op: bdev.OpFlush, Blocks: b.h.Info().Blocks})
	if b.h.Info().Ops.Has(bdev.OpReset) {
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpReset})
	}
	b.expect(0, p)
}

// large moves more in one request than any device takes at once.
func (b *bench) large() {
	n := min(b.h.Info().Blocks, (6<<20)/b.bs())
	p := b.data(n)
	Write(b, b.h, b.h.Info().Blocks-n, p)
	b.expect(b.h.Info().Blocks-n, p)
}

// mapped compares a device's own memory, where it shows it, with what it
// reads, and reads and writes in place.
func (b *bench) mapped() {
	blocks := b.h.Info().Blocks
	if _, ok := b.h.Map(nil, blocks, 1); ok {
		b.Error("memory beyond the end")
	}
	for _, s := range spots(blocks) {
		p := b.data(s[1])
		mem, ok := b.h.Map(nil, s[0], s[1])
		if !ok {
			return
		}
		Write(b, b.h, s[0], p)
		if !bytes.Equal(bytes.Join(mem, nil), p) {
			b.Fatalf("memory of %d blocks at %d is not what was written", s[1], s[0])
		}
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpRead, Offset: s[0], Blocks: s[1], Iov: mem})
		b.do(nvme.Success, &bdev.Request{Op: bdev.OpWrite, Offset: s[0], Blocks: s[1], Iov: mem})
		b.expect(s[0], p)
	}
}
