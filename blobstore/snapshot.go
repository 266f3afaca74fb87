package blobstore

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Snapshot makes a read-only blob with the present contents of b, which
// becomes its thin clone. The writes are
//
//	1  the snapshot, with b's clusters and the mark that it is underway
//	2  b, without clusters, the snapshot as its parent
//	3  the snapshot, read only, without the mark
//
// and a load after a cut between them drops the snapshot or keeps it by what
// b says. b's I/O stands still for 2 alone. Before, it goes to the clusters that both
// have, none of which comes or goes meanwhile; after, it gets clusters of b's own.
// EINVAL for a read-only blob, EBUSY while another operation is under way.
func (b *Blob) Snapshot(xattrs []format.Xattr) (*Blob, error) {
	return b.snapshotIn(nil, xattrs)
}

// snapshotIn is Snapshot while I/O is held; nil: it holds it by itself.
func (b *Blob) snapshotIn(h *Hold, xattrs []format.Xattr) (*Blob, error) {
	snap, err := b.snapshot(h, xattrs)
	if err == nil {
		b.moved()
	}
	return snap, err
}

func (b *Blob) snapshot(h *Hold, xattrs []format.Xattr) (*Blob, error) {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	if err := b.originOf(false); err != nil {
		return nil, err
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	m := format.Metadata{InvalidFlags: b.meta.InvalidFlags, MDROFlags: b.meta.MDROFlags, Xattrs: xattrs, UseTable: b.meta.UseTable}
	m.SetInternalID(format.XattrSnapshotUnderway, b.id)
	parent := b.parent.Load()
	if parent != nil {
		m.SetInternalID(format.XattrParent, parent.id)
	}
	if id := b.meta.InternalXattr(format.XattrExternalParent); b.External() {
		m.SetExternal(id)
	}
	snap, err := s.createBlob(m, b.clusters.Load(), append([]uint32{}, b.table...))
	if err != nil {
		return nil, err
	}
	if err := b.handOver(h, snap); err != nil {
		return nil, err
	}
	if h == nil { // else the next change does it, as I/O is held still
		s.seal(snap)
	}
	return snap, nil
}

// handOver writes b without clusters, which are the snapshot's then, while nothing of b's
// I/O is under way. After an error the snapshot is no more, or is gone from the disk before
// anything else changes.
func (b *Blob) handOver(h *Hold, snap *Blob) error {
	s := b.store
	parent, old := b.parent.Load(), b.clusters.Load()
	b.gate.freeze()
	defer s.thaw(b)
	if h != nil && h.Ended() { // else nothing has been let through since it began
		s.discard(snap)
		return ErrHoldEnded
	}
	c := b.change()
	c.meta.InvalidFlags |= format.FlagThin
	c.meta.SetExternal(nil)
	c.meta.SetInternalID(format.XattrParent, snap.id)
	c.clusters = format.NewClusterMap(old.Clusters)
	c.table = make([]uint32, len(b.table))
	c.keepPages = true
	if err := s.commit(c); err != nil {
		if b.uncertain { // the disk may have b as the snapshot's clone: both stay until it does not
			delete(s.blobs, snap.id)
			s.unmarked = append(s.unmarked, unmarked{snap: snap, clone: b, failed: true})
			return err
		}
		s.discard(snap)
		return err
	}
	snap.takeOutside(b)
	snap.adopt(parent)
	b.adopt(snap)
	snap.meta.SetInternalXattr(format.XattrSnapshotUnderway, nil)
	snap.meta.DataROFlags |= format.FlagReadOnly
	snap.show(snap.clusters.Load())
	s.unmarked = append(s.unmarked, unmarked{snap: snap})
	return nil
}

// seal ends the making of a snapshot. The snapshot is as good without it, so
// a failure only leaves it to be done before the next change.
func (s *Store) seal(snap *Blob) {
	if err := s.unmark(); err != nil {
		s.log.Warn("blobstore: the mark on a snapshot stays for now", "blob", uint64(snap.id), "err", err)
	}
}

// unmarked is a snapshot whose mark of an operation underway may still be on
// disk, though not in memory. While it is, a load decides about the snapshot
// by its clone's parent, so the mark must go before any parent changes.
type unmarked struct {
	snap   *Blob
	clone  *Blob // must be certain on disk before; nil: it is
	failed bool  // snap, a snapshot or another blob, was not made, and goes with its mark
}

// unmark removes such marks from the disk.
func (s *Store) unmark() error {
	todo := s.unmarked
	s.unmarked = nil
	for i, u := range todo {
		var err error
		if u.clone != nil && u.clone.uncertain && s.blobs[u.clone.id] == u.clone {
			err = s.commit(u.clone.change())
		}
		switch {
		case err != nil:
		case u.failed:
			err = s.takeBack(u.snap)
		case s.blobs[u.snap.id] == u.snap:
			err = s.commit(u.snap.change())
		}
		if err != nil {
			s.unmarked = append(s.unmarked, todo[i:]...)
			return err
		}
	}
	return nil
}

// originOf checks that b can be snapshotted, or cloned.
func (b *Blob) originOf(clone bool) error {
	if err := b.present(); err != nil {
		return err
	}
	switch {
	case b.readOnly.Load() != clone:
		return fmt.Errorf("a snapshot is made of a blob that is not read only, a clone of one that is: %w", syscall.EINVAL)
	case b.busy:
		return ErrMDBusy
	}
	return nil
}

// discard takes back a blob whose clusters and extent pages are another's. Its
// root stays used if that may be on disk.
func (s *Store) discard(b *Blob) {
	delete(s.blobs, b.id)
	if err := s.takeBack(b); err != nil {
		s.log.Warn("blobstore: take back a snapshot", "blob", uint64(b.id), "err", err)
	}
}

func (s *Store) takeBack(b *Blob) error {
	if err := s.wipeRoot(b.id); err != nil {
		return err
	}
	s.freePages(slices.Concat(b.chain, b.attempt))
	return nil
}

// Clone makes a thin blob that reads as the read-only blob b until it is
// written to. EINVAL when b is not read only.
func (b *Blob) Clone(xattrs []format.Xattr) (*Blob, error) {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	if err := b.originOf(true); err != nil {
		return nil, err
	}
	m := format.Metadata{InvalidFlags: format.FlagThin | b.meta.InvalidFlags&format.FlagExtentTable, Xattrs: xattrs, UseTable: b.meta.UseTable}
	m.SetInternalID(format.XattrParent, b.id)
	clone, err := s.createBlob(m, format.NewClusterMap(b.Clusters()), nil)
	if err != nil {
		return nil, err
	}
	clone.adopt(b)
	return clone, nil
}

// family is b and all that read through it.
func (b *Blob) family() []*Blob {
	out := []*Blob{b}
	for i := 0; i < len(out); i++ {
		for c := range out[i].clones {
			out = append(out, c)
		}
	}
	return out
}

func (s *Store) freeze(blobs []*Blob) {
	for _, b := range blobs {
		b.gate.freeze()
	}
}

// coverClone gives the only clone of a snapshot clusters of zeros, a few at a
// time, where it is zeros for being longer than the snapshot and where the
// snapshot's parents would show once the snapshot is gone. done: it has them.
func (b *Blob) coverClone() (done bool, err error) {
	s := b.store
	var clone *Blob
	for c := range b.clones {
		clone = c
	}
	if clone.busy {
		return false, ErrMDBusy
	}
	m := clone.clusters.Load()
	var needs []*need
	n := uint64(0)
	for i := b.Clusters(); i < m.Clusters; i++ {
		if m.At(i) != 0 || !clone.bared(i, b) {
			continue
		}
		if n++; len(needs) < inflateStep {
			needs = append(needs, &need{b: clone, index: i})
		}
	}
	if n > s.clusters.Free() {
		return false, fmt.Errorf("without the snapshot its clone 0x%x needs %d clusters for its zeros beyond the snapshot's end, %d are free: %w",
			uint64(clone.id), n, s.clusters.Free(), ErrFull)
	}
	s.allocate(needs)
	for _, n := range needs {
		if n.err != nil {
			return false, n.err
		}
	}
	return n == uint64(len(needs)), nil
}

// mergeIntoClone gives the only clone of a snapshot that is to be removed the
// clusters that it reads from it. The writes are
//
//	1  the snapshot, with the mark that its removal is underway
//	2  the clone, with the snapshot's clusters and parent; extent pages that
//	   mix both are new ones
//	3  the snapshot goes, see erase
//
// and a load after a cut between them drops the snapshot or keeps it by what
// the clone says.
func (s *Store) mergeIntoClone(snap *Blob) error {
	var clone *Blob
	for c := range snap.clones {
		clone = c
	}
	if clone.busy {
		return ErrMDBusy
	}
	if err := s.ready(); err != nil {
		return err
	}
	family := clone.family()
	s.freeze(family)
	defer s.thaw(family...)
	mark := snap.change()
	mark.meta.SetInternalID(format.XattrRemovalUnderway, clone.id)
	if err := s.commit(mark); err != nil {
		s.unmarked = append(s.unmarked, unmarked{snap: snap})
		return err
	}
	c, taken := clone.merging(snap)
	if err := s.commit(c); err != nil {
		snap.meta.SetInternalXattr(format.XattrRemovalUnderway, nil)
		s.unmarked = append(s.unmarked, unmarked{snap: snap, clone: clone})
		return err
	}
	// What the snapshot has left is its own.
	left := snap.clusters.Load().Clone()
	c.clusters.Each(func(i uint64, cluster uint32) {
		if left.At(i) == cluster {
			left.Set(i, 0)
		}
	})
	for x := range taken {
		snap.table[x] = 0
	}
	snap.meta.InvalidFlags |= format.FlagThin
	clone.takeOutside(snap)
	snap.show(left)
	clone.adopt(snap.parent.Load())
	return nil
}

// merging is the change that makes a clone independent of its snapshot, and
// the extents whose pages it takes over.
func (b *Blob) merging(snap *Blob) (*change, map[uint64]bool) {
	c := b.change()
	from, own := snap.clusters.Load(), b.clusters.Load()
	c.clusters = own.Clone()
	taken := map[uint64]bool{}
	from.Each(func(i uint64, cluster uint32) {
		if i >= own.Clusters || own.At(i) != 0 {
			return
		}
		c.clusters.Set(i, cluster)
		x := i / format.ExtentsPerPage
		whole := min(from.Clusters, (x+1)*format.ExtentsPerPage) == min(own.Clusters, (x+1)*format.ExtentsPerPage)
		if b.meta.UseTable && snap.meta.UseTable && whole && b.table[x] == 0 {
			taken[x] = true
			return
		}
		c.extents[x] = true
	})
	for x := range taken {
		c.table[x] = snap.table[x]
	}
	b.inherit(c, snap)
	return c, taken
}

// inherit makes the parent of a parent the parent in a change.
func (b *Blob) inherit(c *change, from *Blob) {
	if p := from.parent.Load(); p != nil {
		c.meta.SetInternalID(format.XattrParent, p.id)
		return
	}
	c.meta.SetInternalXattr(format.XattrParent, nil)
	if from.External() {
		c.meta.SetExternal(from.meta.InternalXattr(format.XattrExternalParent))
	}
}
