package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// resizeStep is how many bytes are zeroed before others get their turn at the
// metadata.
const resizeStep = 64 << 20

// Resize changes the length of the blob. Growing a thick blob takes clusters,
// which are zeroed first, durably: the blob never shows what others had there,
// and after a cut it has its old length, or the new one with zeros. Its I/O,
// and that of other blobs, goes on meanwhile. Shrinking gives clusters back,
// cleared. EPERM for a read-only blob, EBUSY while another operation is under
// way, ENOSPC.
func (b *Blob) Resize(clusters uint64) error { return b.resizeTo(clusters, true) }

// Grow is Resize that never makes the blob shorter: it does nothing to one that
// is as long, or longer.
func (b *Blob) Grow(clusters uint64) error { return b.resizeTo(clusters, false) }

func (b *Blob) resizeTo(clusters uint64, shrink bool) error {
	s := b.store
	if clusters > format.MaxClustersPerBlob {
		return fmt.Errorf("%d clusters: a blob has at most %d: %w", clusters, uint64(format.MaxClustersPerBlob), syscall.EINVAL)
	}
	s.md.Lock()
	gone, err := b.resize(clusters, shrink)
	how := b.clearMethod()
	s.md.Unlock()
	if len(gone) > 0 {
		b.moved()
	}
	s.giveBack(gone, how)
	return err
}

// resize returns the clusters that the blob has lost. The caller holds md,
// which is let go while clusters are zeroed.
func (b *Blob) resize(clusters uint64, shrink bool) ([]uint32, error) {
	if err := b.mutable(); err != nil {
		return nil, err
	}
	if b.busy {
		return nil, ErrMDBusy
	}
	old := b.Clusters()
	switch {
	case clusters == old, clusters < old && !shrink:
		return nil, nil
	}
	if err := b.store.ready(); err != nil {
		return nil, err
	}
	switch {
	case clusters < old:
		return b.shrink(clusters)
	case b.meta.Thin():
		return nil, b.store.commit(b.resizing(clusters))
	}
	return nil, b.growThick(clusters)
}

// growThick makes a thick blob longer.
func (b *Blob) growThick(clusters uint64) error {
	s := b.store
	old := b.Clusters()
	claimed, err := s.claim(clusters - old)
	if err != nil {
		return err
	}
	b.busy = true
	s.growing.Add(1)
	defer func() {
		b.busy = false
		s.growing.Done()
	}()
	if err = s.blank(claimed); err == nil {
		err = b.mutable() // it may not be any more
	}
	if err == nil {
		err = s.ready() // for what others have begun meanwhile
	}
	if err != nil {
		s.unclaim(claimed)
		return err
	}
	// Nothing waits here: I/O knows the same clusters before and after.
	c := b.resizing(clusters)
	for i, cluster := range claimed {
		c.clusters.Set(old+uint64(i), cluster)
	}
	for x := old / format.ExtentsPerPage; x < format.ExtentTableLen(clusters); x++ {
		c.extents[x] = true
	}
	err = s.commit(c)
	if err != nil && !b.uncertain {
		s.unclaim(claimed)
	}
	return err
}

// blank makes claimed clusters read as zeros, durably. The caller holds md,
// which is let go again and again while the device works.
func (s *Store) blank(clusters []uint32) error {
	size := uint64(s.super.Layout.ClusterSize)
	most := int(max(1, resizeStep/size))
	var ios []deviceIO
	for i, c := range clusters {
		if !s.zeroed.Clear(uint64(c)) {
			ios = append(ios, deviceIO{op: bdev.OpWriteZeroes, offset: s.clusterOffset(c), length: size})
		}
		if len(ios) == 0 || (len(ios) < most && i < len(clusters)-1) {
			continue
		}
		// Each step makes sure that the store is open and the device its.
		if err := s.dirty(); err != nil {
			return err
		}
		s.md.Unlock()
		err := s.dev.run(mergeRuns(ios)...)
		if err == nil {
			err = s.dev.flush()
		}
		s.md.Lock()
		if err != nil {
			return fmt.Errorf("zero %d clusters: %w", len(ios), err)
		}
		ios = ios[:0]
	}
	return nil
}

// shrink makes the blob shorter and returns the clusters that it has lost.
func (b *Blob) shrink(clusters uint64) ([]uint32, error) {
	s := b.store
	b.gate.freeze()
	defer s.thaw(b)
	old := b.clusters.Load()
	if err := s.commit(b.resizing(clusters)); err != nil {
		return nil, err
	}
	var gone []uint32
	old.Each(func(i uint64, cluster uint32) {
		if i >= clusters {
			gone = append(gone, cluster)
		}
	})
	return gone, nil
}

// resizing is the change to another length, where it grows without clusters.
func (b *Blob) resizing(clusters uint64) *change {
	old := b.clusters.Load()
	c := b.change()
	c.clusters = old.Resized(clusters)
	// The page of the last extent that both lengths have lists another
	// number of clusters now.
	c.table = make([]uint32, format.ExtentTableLen(clusters))
	copy(c.table, b.table)
	if edge := min(clusters, old.Clusters); edge%format.ExtentsPerPage != 0 {
		x := edge / format.ExtentsPerPage
		c.extents[x] = b.meta.UseTable && (c.table[x] != 0 || !b.meta.Thin())
	}
	return c
}
