package blobstore

import (
	"fmt"
	"syscall"
)

// absorbStep bounds the bytes that are copied before others get their turn at the
// metadata: first writes of hosts wait for it.
const absorbStep = 4 << 20

// Absorbed is how far an external clone has come in being without its parent.
type Absorbed struct {
	Done, Total uint64 // clusters
	// Independent: nothing of the parent outside the store is needed any more, which is
	// durable.
	Independent bool
}

// Absorb copies most bytes at most of what an external clone has outside the store, a
// cluster at least. With the last of them it lets its parent go, for good. thick: the
// blob gets all its clusters and is thick from then on; else what is zeros outside stays
// without clusters. I/O goes on meanwhile. What is copied stays so whatever ends, and
// another call goes on from there. A blob that is not an external clone is independent.
// EBUSY while another operation is under way, ENOSPC, ENODEV without the parent, EINVAL
// for a blob that reads the outside through a snapshot.
func (b *Blob) Absorb(most uint64, thick bool) (Absorbed, error) {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	if err := b.absorbable(); err != nil {
		return Absorbed{}, err
	}
	if !b.External() {
		return Absorbed{b.Clusters(), b.Clusters(), true}, nil
	}
	b.busy = true
	b.keep.Store(true)
	defer func() {
		b.busy = false
		b.keep.Store(false)
	}()
	size := uint64(s.super.Layout.ClusterSize)
	buf := make([]byte, size)
	for copied := uint64(0); ; {
		end, err := b.absorbEnd(thick)
		if err != nil {
			return Absorbed{}, err
		}
		at, m := b.absorbed, b.clusters.Load()
		var needs []*need
		for step := uint64(0); at < end && copied < max(most, 1) && step < absorbStep; at++ {
			if m.At(at) != 0 {
				continue
			}
			copied, step = copied+size, step+size
			if thick || !b.zeroOutside(at, buf, &err) {
				needs = append(needs, &need{b: b, index: at})
			}
			if err != nil {
				return Absorbed{}, err
			}
		}
		s.allocate(needs)
		for _, n := range needs {
			if n.err != nil {
				return Absorbed{}, n.err
			}
		}
		b.absorbed = at
		switch {
		case at >= end:
			return Absorbed{end, end, true}, b.cutLoose(thick)
		case copied >= most:
			return Absorbed{Done: at, Total: end}, nil
		}
		s.md.Unlock()
		s.md.Lock()
		if err := b.present(); err != nil {
			return Absorbed{}, err
		}
	}
}

// absorbable reports why nothing can be absorbed now.
func (b *Blob) absorbable() error {
	if err := b.present(); err != nil {
		return err
	}
	switch {
	case b.store.closed.Load():
		return ErrClosed
	case b.busy:
		return ErrMDBusy
	case b.origin() != nil && !b.External():
		return fmt.Errorf("blob 0x%x reads what is outside the store through a snapshot: %w", uint64(b.id), syscall.EINVAL)
	}
	return nil
}

// absorbEnd is the number of clusters that are looked at: those that the blob has, or
// of a thin one those that the parent has something in.
func (b *Blob) absorbEnd(thick bool) (uint64, error) {
	out := b.outer.Load()
	switch {
	case b.store.closed.Load():
		return 0, ErrClosed
	case out == nil:
		return 0, fmt.Errorf("the parent of blob 0x%x outside the store is missing: %w", uint64(b.id), syscall.ENODEV)
	case thick:
		return b.clusters.Load().Clusters, nil
	}
	upc := b.store.unitsPerCluster
	return min(b.clusters.Load().Clusters, (out.units+upc-1)/upc), nil
}

// zeroOutside reports that there are zeros outside in a cluster that the blob lacks,
// which never change.
func (b *Blob) zeroOutside(i uint64, buf []byte, err *error) bool {
	*err = b.readCluster(i, buf)
	return *err == nil && isZero(buf)
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
