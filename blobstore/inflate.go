package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// inflateStep is how many clusters are copied before others get their turn at
// the metadata.
const inflateStep = 16

// Inflate gives a thin blob all its clusters and makes it thick, without a
// parent. Its I/O goes on meanwhile. ENOSPC when clusters are short, EBUSY
// while another operation is under way.
func (b *Blob) Inflate() error { return b.inflate(true) }

// Decouple copies what the blob reads from its parent's own clusters and makes
// the parent's parent its parent. EINVAL when it has none.
func (b *Blob) Decouple() error { return b.inflate(false) }

func (b *Blob) inflate(all bool) error {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	if err := b.present(); err != nil {
		return err
	}
	switch {
	case b.busy:
		return ErrMDBusy
	case !all && b.parent.Load() == nil && !b.External():
		return fmt.Errorf("blob 0x%x has no parent: %w", uint64(b.id), syscall.EINVAL)
	case !b.meta.Thin():
		return nil
	}
	if n := b.wanting(0, all, nil); n > s.clusters.Free() {
		return fmt.Errorf("%d clusters wanted, %d are free: %w", n, s.clusters.Free(), ErrFull)
	}
	b.busy = true
	b.keep.Store(true)
	defer func() {
		b.busy = false
		b.keep.Store(false)
	}()
	for at := uint64(0); ; {
		var needs []*need
		b.wanting(at, all, func(i uint64) bool {
			needs = append(needs, &need{b: b, index: i})
			at = i + 1
			return len(needs) < inflateStep
		})
		if len(needs) == 0 {
			break
		}
		s.allocate(needs)
		for _, n := range needs {
			if n.err != nil {
				return n.err
			}
		}
		s.md.Unlock()
		s.md.Lock()
	}
	return b.cutLoose(all)
}

// wanting counts the clusters from number from on that b needs of its own to
// be without its parent, and calls f for each until it returns false. Those
// are what the parent itself has, and zeros beyond the parent's end where the
// parents of the parent would show instead.
func (b *Blob) wanting(from uint64, all bool, f func(i uint64) bool) uint64 {
	m, p := b.clusters.Load(), b.parent.Load()
	all = all || p == nil // of a parent outside the store every cluster counts
	n := uint64(0)
	for i := from; i < m.Clusters; i++ {
		if m.At(i) != 0 || (!all && p.clusters.Load().At(i) == 0 && !b.bared(i, p)) {
			continue
		}
		n++
		if f != nil && !f(i) {
			break
		}
	}
	return n
}

// cutLoose changes the parent once the clusters are there.
func (b *Blob) cutLoose(all bool) error {
	s := b.store
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.ready(); err != nil {
		return err
	}
	family := b.family()
	s.freeze(family)
	defer s.thaw(family...)
	c := b.change()
	var parent *Blob
	was := b.parent.Load()
	c.meta.SetInternalXattr(format.XattrParent, nil)
	c.meta.SetExternal(nil)
	switch {
	case all:
		c.meta.InvalidFlags &^= format.FlagThin
	case was != nil:
		parent = was.parent.Load()
		b.inherit(c, was)
	}
	var share *bdev.Handle
	if !all && was != nil && was.External() {
		// Both read from outside from now on, each by a handle of its own.
		if o := was.outer.Load(); o != nil {
			h, err := o.h.Reopen()
			if err != nil {
				return err
			}
			share = h
		}
	}
	if err := s.commit(c); err != nil {
		if share != nil {
			share.Close()
		}
		return err
	}
	b.closeOutside()
	if share != nil {
		o := *was.outer.Load()
		o.h = share
		b.outer.Store(&o)
	}
	b.adopt(parent)
	return nil
}
