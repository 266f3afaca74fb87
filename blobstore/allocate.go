package blobstore

import (
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// need is a cluster of a blob that must come into being.
type need struct {
	b       *Blob
	index   uint64
	cluster uint32 // given by allocate
	err     error
}

// needs lists the missing clusters that r writes to.
func (b *Blob) needs(r *bdev.Request) []*need {
	var out []*need
	upc := b.store.unitsPerCluster
	m := b.clusters.Load()
	for i := r.Offset / upc; i*upc < r.Offset+r.Blocks; i++ {
		if m.At(i) != 0 || i >= m.Clusters {
			continue
		}
		if r.Op == bdev.OpWriteZeroes && !b.covered(i) {
			continue
		}
		out = append(out, &need{b: b, index: i})
	}
	return out
}

// inherited returns where a missing cluster of b is read from: a cluster of
// the device, or the parent outside the store that origin has; it is zeros
// when there is neither. Nothing is seen through a snapshot beyond its end.
func (b *Blob) inherited(i uint64) (cluster uint32, origin *Blob) {
	for {
		p := b.parent.Load()
		if p == nil {
			break
		}
		m := p.clusters.Load()
		if i >= m.Clusters {
			return 0, nil
		}
		if c := m.At(i); c != 0 {
			return c, nil
		}
		b = p
	}
	if b.External() {
		return 0, b
	}
	return 0, nil
}

// allocate gives each need a cluster with the contents that the blob had
// there, zeros or the parent's, and makes it durable and visible. The order is
//
//	1  the super block says dirty
//	2  the contents of the new clusters; flush
//	3  extent pages, in place where the blob has them; flush
//	4  for blobs that got a new extent page: the chain, see change
//	5  the clusters become visible to I/O
//
// so that no cut shows what a cluster held before. When all extent pages are new, as
// after a snapshot, the flush of 3 is that of 2: nothing leads to them before 4. The caller holds md.
func (s *Store) allocate(needs []*need) {
	type key struct {
		b *Blob
		i uint64
	}
	if len(needs) == 0 {
		return
	}
	if err := s.ready(); err != nil {
		for _, n := range needs {
			n.err = err
		}
		return
	}
	first := map[key]*need{}
	var todo []*need
	for _, n := range needs {
		k := key{n.b, n.index}
		if n.b.clusters.Load().At(n.index) != 0 {
			continue
		}
		if first[k] != nil {
			continue
		}
		first[k] = n
		if n.err = n.b.allocatable(n.index); n.err == nil {
			n.cluster, n.err = s.claimCluster()
		}
		if n.err == nil {
			todo = append(todo, n)
		}
	}
	todo = s.fill(todo)
	if len(todo) > 0 {
		s.insert(todo)
	}
	for _, n := range needs {
		if f := first[key{n.b, n.index}]; f != nil && n != f {
			n.err = f.err
		}
	}
}

func (b *Blob) allocatable(i uint64) error {
	if b.store.blobs[b.id] != b || i >= b.clusters.Load().Clusters {
		return fmt.Errorf("cluster %d of blob 0x%x: %w", i, uint64(b.id), ErrNotFound)
	}
	if b.store.closed.Load() {
		return ErrClosed
	}
	return nil
}

// fill writes the contents of new clusters and returns those that succeeded;
// the others' clusters are free again.
func (s *Store) fill(needs []*need) []*need {
	size := uint64(s.super.Layout.ClusterSize)
	var zeros []deviceIO
	var zeroing []*need
	fail := func(n *need, err error) {
		n.err = err
		s.clusters.Clear(uint64(n.cluster))
	}
	var buf []byte
	for _, n := range needs {
		src, origin := n.b.inherited(n.index)
		known := s.zeroed.Clear(uint64(n.cluster))
		switch {
		case origin != nil:
			if buf == nil {
				buf = make([]byte, size)
			}
			err := origin.readCluster(n.index, buf)
			if err == nil {
				err = s.dev.write(s.clusterOffset(n.cluster), buf)
			}
			if err != nil {
				fail(n, fmt.Errorf("copy cluster %d from outside the store to %d: %w", n.index, n.cluster, err))
			}
		case src != 0:
			if buf == nil {
				buf = make([]byte, size)
			}
			err := s.dev.read(s.clusterOffset(src), buf)
			if err == nil {
				err = s.dev.write(s.clusterOffset(n.cluster), buf)
			}
			if err != nil {
				fail(n, fmt.Errorf("copy cluster %d to %d: %w", src, n.cluster, err))
			}
		case !known:
			zeros = append(zeros, deviceIO{op: bdev.OpWriteZeroes, offset: s.clusterOffset(n.cluster), length: size})
			zeroing = append(zeroing, n)
		}
	}
	if err := s.dev.run(zeros...); err != nil {
		for _, n := range zeroing {
			fail(n, fmt.Errorf("zero cluster %d: %w", n.cluster, err))
		}
	}
	if (buf != nil || len(zeros) > 0) && !allFresh(needs) {
		if err := s.dev.flush(); err != nil {
			for _, n := range needs {
				if n.err == nil {
					fail(n, err)
				}
			}
		}
	}
	done := needs[:0:0]
	for _, n := range needs {
		if n.err == nil {
			done = append(done, n)
		}
	}
	return done
}

// allFresh reports that all extents get a new page, which is flushed before the chain
// leads to it.
func allFresh(needs []*need) bool {
	return !slices.ContainsFunc(needs, func(n *need) bool {
		return !n.b.meta.UseTable || n.b.table[n.index/format.ExtentsPerPage] != 0
	})
}

// insert makes filled clusters part of their blobs. After a failed write the
// clusters stay used until the next load: the disk may know them.
func (s *Store) insert(needs []*need) {
	byBlob := map[*Blob][]*need{}
	var order []*Blob
	for _, n := range needs {
		if byBlob[n.b] == nil {
			order = append(order, n.b)
		}
		byBlob[n.b] = append(byBlob[n.b], n)
	}
	var ios []deviceIO
	changes := map[*Blob]*change{}
	for _, b := range order {
		pages, c := b.inserting(byBlob[b])
		ios = append(ios, pages...)
		if c != nil {
			changes[b] = c
		}
	}
	err := s.dev.run(ios...)
	if err == nil && len(ios) > 0 {
		err = s.dev.flush()
	}
	for _, b := range order {
		berr := err
		if c := changes[b]; c != nil && berr == nil {
			berr = s.commit(c)
		}
		for _, n := range byBlob[b] {
			if n.err = berr; berr == nil {
				m := b.clusters.Load()
				if m.At(n.index) == 0 {
					m.Set(n.index, n.cluster)
					b.allocated.Add(1)
				}
			}
		}
	}
}

// inserting returns the extent pages to write in place, and the change of the
// chain when a page is new or the blob keeps its clusters in the chain.
func (b *Blob) inserting(needs []*need) ([]deviceIO, *change) {
	m := b.clusters.Load()
	fresh := map[uint64]bool{} // extents that need the chain to change
	lists := map[uint64]*[format.ExtentsPerPage]uint32{}
	for _, n := range needs {
		x := n.index / format.ExtentsPerPage
		if !b.meta.UseTable || b.table[x] == 0 {
			fresh[x] = true
			continue
		}
		if lists[x] == nil {
			lists[x] = new([format.ExtentsPerPage]uint32)
			m.List(x, lists[x])
		}
		lists[x][n.index%format.ExtentsPerPage] = n.cluster
	}
	var ios []deviceIO
	for x, list := range lists {
		ios = append(ios, b.extentIO(x, list, m))
	}
	if len(fresh) == 0 && !b.uncertain {
		return ios, nil
	}
	c := b.change()
	next := format.NewClusterMap(m.Clusters)
	for x := range m.Extents {
		e := m.Extents[x].Load()
		if fresh[uint64(x)] && e != nil {
			e = e.Copy()
		}
		next.Extents[x].Store(e)
	}
	for _, n := range needs {
		if x := n.index / format.ExtentsPerPage; fresh[x] {
			next.Set(n.index, n.cluster)
			c.extents[x] = true
		}
	}
	c.clusters = next
	return ios, c
}

// extentIO is the write of an extent's page in place.
func (b *Blob) extentIO(x uint64, list *[format.ExtentsPerPage]uint32, m *format.ClusterMap) deviceIO {
	page := make([]byte, format.PageSize)
	first := x * format.ExtentsPerPage
	format.EncodeExtentPage(page, b.id, first, list[:min(format.ExtentsPerPage, m.Clusters-first)])
	return writeIO(b.store.mdOffset(b.table[x]), page)
}

// release gives back the whole clusters that an unmap covers. They vanish from
// I/O while none is in flight, then they are unmapped, then the extent pages
// forget them. Afterwards the request is submitted again
// for what it covers in part. The caller holds md.
func (s *Store) release(d deferred) error {
	b, m := d.b, d.b.clusters.Load()
	if err := b.allocatable(0); err != nil {
		return err
	}
	if !b.releases() {
		return nil
	}
	if err := s.ready(); err != nil {
		return err
	}
	type hole struct {
		i uint64
		c uint32
	}
	var holes []hole
	// Nobody is inside while entries vanish: a write that has seen a cluster
	// must find it.
	b.gate.freeze()
	first, last := b.wholeClusters(d.r)
	for i := first; i < last; i++ {
		if c := m.At(i); c != 0 {
			m.Set(i, 0)
			holes = append(holes, hole{i, c})
		}
	}
	s.thaw(b)
	if len(holes) == 0 {
		return nil
	}
	size := uint64(s.super.Layout.ClusterSize)
	undo := func(err error) error {
		for _, h := range holes {
			m.Set(h.i, h.c)
		}
		return err
	}
	var ios []deviceIO
	for _, h := range holes {
		ios = append(ios, deviceIO{op: bdev.OpUnmap, offset: s.clusterOffset(h.c), length: size})
	}
	if err := s.dev.run(mergeRuns(ios)...); err != nil {
		return undo(err)
	}
	if err := s.dev.flush(); err != nil {
		return undo(err)
	}
	c := b.change()
	ios = nil
	dirty := map[uint64]bool{}
	for _, h := range holes {
		if x := h.i / format.ExtentsPerPage; b.meta.UseTable && !dirty[x] {
			dirty[x] = true
			var list [format.ExtentsPerPage]uint32
			m.List(x, &list)
			ios = append(ios, b.extentIO(x, &list, m))
		}
	}
	err := s.dev.run(ios...)
	if err == nil && len(ios) > 0 {
		err = s.dev.flush()
	}
	if err == nil && (!b.meta.UseTable || b.uncertain) {
		err = s.commit(c)
	}
	if err != nil {
		return undo(err)
	}
	known := s.dev.info().UnmapZeroes
	for _, h := range holes {
		s.clusters.Clear(uint64(h.c))
		if known {
			s.zeroed.Set(uint64(h.c))
		}
	}
	b.allocated.Add(-int64(len(holes)))
	return nil
}

// releases reports whether an unmap of whole clusters gives them back. With a
// parent it must not: its data would show.
func (b *Blob) releases() bool {
	return b.thin.Load() && b.parent.Load() == nil && !b.External() && !b.keep.Load()
}

// wholeClusters is the range of clusters that r covers completely.
func (b *Blob) wholeClusters(r *bdev.Request) (first, last uint64) {
	upc := b.store.unitsPerCluster
	return (r.Offset + upc - 1) / upc, (r.Offset + r.Blocks) / upc
}

// mergeRuns joins transfers of the same kind that follow each other on the
// device.
func mergeRuns(ios []deviceIO) []deviceIO {
	var out []deviceIO
	for _, io := range ios {
		if n := len(out); n > 0 && out[n-1].op == io.op && out[n-1].offset+out[n-1].length == io.offset {
			out[n-1].length += io.length
			continue
		}
		out = append(out, io)
	}
	return out
}
