package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// outside is the device that an external clone reads its missing clusters
// from: a read-only snapshot outside the store.
type outside struct {
	h     *bdev.Handle
	ratio uint64 // blocks of the device in a block of the store
	units uint64 // size in blocks of the store; beyond it are zeros
}

// ExternalID returns what a blob whose parent is outside the store calls that
// parent, an lvstore's blobs by the UUID of a bdev; "" for another blob.
func (b *Blob) ExternalID() string {
	if id := b.outerID.Load(); id != nil {
		return *id
	}
	return ""
}

// SetOutside gives an external clone its parent, whose handle is the blob's
// from then on. Until then it reads as a device that is away. EINVAL for a
// device whose blocks are larger than the store's, or a blob that is no
// external clone or has its parent.
func (b *Blob) SetOutside(h *bdev.Handle) error {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	size := h.Info().BlockSize
	switch {
	case s.closed.Load():
		return ErrClosed
	case !b.External() || b.outer.Load() != nil:
		return fmt.Errorf("blob 0x%x needs no parent outside the store: %w", uint64(b.id), syscall.EINVAL)
	case size == 0 || s.unit%size != 0:
		return fmt.Errorf("bdev %q has blocks of %d bytes, the store of %d: %w", h.Info().Name, size, s.unit, syscall.EINVAL)
	}
	ratio := uint64(s.unit / size)
	b.outer.Store(&outside{h: h, ratio: ratio, units: h.Info().Blocks / ratio})
	return nil
}

// HasOutside reports whether an external clone has been given its parent.
func (b *Blob) HasOutside() bool { return b.outer.Load() != nil }

// Origin returns the external clone that b is, or reads through; nil: none.
func (b *Blob) Origin() *Blob { return b.origin() }

// LoseOutside closes the parents outside the store that match; what is read
// from them is waited for.
func (s *Store) LoseOutside(match func(*bdev.Handle) bool) {
	s.md.Lock()
	defer s.md.Unlock()
	for _, b := range s.blobs {
		if o := b.outer.Load(); o != nil && match(o.h) {
			family := b.family()
			s.freeze(family)
			b.closeOutside()
			s.thaw(family...)
		}
	}
}

// closeOutside lets the parent outside the store go; nothing reads from it.
func (b *Blob) closeOutside() {
	if o := b.outer.Swap(nil); o != nil {
		o.h.Close()
	}
}

// takeOutside makes the parent outside the store, if from has one, b's.
func (b *Blob) takeOutside(from *Blob) { b.outer.Store(from.outer.Swap(nil)) }

// origin returns the blob at the end of b's parents, if that is an external
// clone: what nobody of them has is outside.
func (b *Blob) origin() *Blob {
	for p := b.parent.Load(); p != nil; p = b.parent.Load() {
		b = p
	}
	if b.External() {
		return b
	}
	return nil
}

// covered reports whether a missing cluster of b shows something of a snapshot,
// in the store or outside, rather than zeros.
func (b *Blob) covered(i uint64) bool {
	c, origin := b.inherited(i)
	return c != 0 || origin != nil
}

// bared reports whether a missing cluster of b, which is zeros because the
// parent p ends before it, would show something without p.
func (b *Blob) bared(i uint64, p *Blob) bool {
	return i >= p.Clusters() && p.covered(i)
}

// readOutside reads blocks that no blob has.
func (t *transfer) readOutside(o *Blob, at, n uint64, cut *bdev.Iov, batch *bdev.Batch) {
	unit := uint64(t.b.store.unit)
	out := o.outer.Load()
	if out == nil {
		t.fail(nvme.InternalPathError)
		cut.Skip(int(unit * n))
		return
	}
	have := uint64(0)
	if at < out.units {
		have = min(n, out.units-at)
		p := pieces.Get().(*piece)
		p.iov = cut.Append(p.iov[:0], int(unit*have))
		p.req.Iov = p.iov
		t.sendTo(out.h, p, at*out.ratio, have*out.ratio, batch)
	}
	cut.Clear(int(unit * (n - have)))
}

// readCluster fills buf, a cluster long, with what is outside.
func (o *Blob) readCluster(i uint64, buf []byte) error {
	out := o.outer.Load()
	if out == nil {
		return fmt.Errorf("the parent of blob 0x%x outside the store is missing: %w", uint64(o.id), syscall.ENODEV)
	}
	upc, unit := o.store.unitsPerCluster, uint64(o.store.unit)
	at := i * upc
	n := uint64(0)
	if at < out.units {
		n = min(upc, out.units-at)
	}
	clear(buf[n*unit:])
	if n == 0 {
		return nil
	}
	return (&device{h: out.h}).read(at*unit, buf[:n*unit])
}
