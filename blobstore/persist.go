package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/blobstore/format"
)

// change is a new state of one blob on its way to disk. The order of writes is
//
//	1  the super block says dirty; what a load has left to do is done
//	2  new extent pages, and all pages of the new chain but the root, into
//	   pages that nothing on disk refers to; flush
//	3  the root page, in place; flush
//	4  memory takes over the new state; the pages that only the old one used
//	   are zeroed and free
//
// so that a cut leaves the old state or the new one. Writes of one metadata
// page are taken to be atomic, as the format demands (roots are written in
// place): the base device must not tear 4096 bytes.
type change struct {
	b        *Blob
	of       uint64 // b.committed as it began
	meta     format.Metadata
	clusters *format.ClusterMap
	table    []uint32

	extents    map[uint64]bool // extents that get a new page
	rewriteAll bool            // all extents get a new page
	keepPages  bool            // pages that the new state lacks belong to another blob now
}

// change starts a change of b. The caller holds store.md, and has called ready since it took
// it: what that finishes may move what the change begins with.
func (b *Blob) change() *change {
	return &change{b: b, of: b.committed, meta: b.meta, clusters: b.clusters.Load(), table: append([]uint32(nil), b.table...),
		extents: map[uint64]bool{}}
}

// ready does what comes before any change of metadata. An operation calls it before it
// looks at what it is going to change.
func (s *Store) ready() error {
	if err := s.dirty(); err != nil {
		return err
	}
	return s.unmark()
}

// errStale says that a change begins with a state that is not the blob's any more. Its
// pages may be another's, so it must not get to the disk.
var errStale = fmt.Errorf("the blob was changed since this change of it began: %w", syscall.EAGAIN)

// commit makes c durable and visible. After an error the old state is in
// force.
func (s *Store) commit(c *change) error {
	if err := s.ready(); err != nil {
		return err
	}
	if c.of != c.b.committed {
		return fmt.Errorf("write metadata of blob 0x%x: %w", uint64(c.meta.ID), errStale)
	}
	w := chainWriter{s: s}
	chain, err := w.prepare(c)
	if err != nil {
		w.undo()
		return err
	}
	if len(w.ios) > 0 {
		if err = s.dev.run(w.ios...); err == nil {
			err = s.dev.flush()
		}
		if err != nil {
			w.undo()
			return fmt.Errorf("write metadata of blob 0x%x: %w", uint64(c.meta.ID), err)
		}
	}
	if err = s.dev.write(s.mdOffset(chain[0]), w.root); err == nil {
		err = s.dev.flush()
	}
	if err != nil {
		// Either root may be on disk, so both states' pages stay used until
		// the next load.
		c.b.uncertain, c.b.attempt = true, w.taken
		return fmt.Errorf("write metadata root of blob 0x%x: %w", uint64(c.meta.ID), err)
	}
	b := c.b
	old := b.retired(chain, c)
	b.meta, b.chain, b.table, b.uncertain, b.attempt = c.meta, chain, c.table, false, nil
	b.committed++
	b.show(c.clusters)
	s.freePages(old)
	return nil
}

// retired returns the pages that the present state uses and the new one does
// not.
func (b *Blob) retired(chain []uint32, c *change) []uint32 {
	used := map[uint32]bool{0: true}
	for _, p := range chain {
		used[p] = true
	}
	for _, p := range c.table {
		used[p] = true
	}
	var old []uint32
	for _, p := range b.chain {
		if !used[p] {
			old = append(old, p)
		}
	}
	if c.keepPages {
		return old
	}
	for _, p := range b.table {
		if !used[p] {
			old = append(old, p)
		}
	}
	return old
}

// freePages zeroes metadata pages that nothing on disk refers to any more and
// makes them free.
func (s *Store) freePages(pages []uint32) {
	var ios []deviceIO
	zero := make([]byte, format.PageSize)
	for _, p := range pages {
		ios = append(ios, writeIO(s.mdOffset(p), zero))
	}
	if err := s.dev.run(ios...); err != nil {
		// Without a root that leads here the contents do not matter.
		s.log.Warn("blobstore: zero freed metadata pages", "err", err)
	}
	for _, p := range pages {
		s.pages.Clear(uint64(p))
	}
}

// chainWriter collects the writes of a change and the pages it took.
type chainWriter struct {
	s     *Store
	ios   []deviceIO
	root  []byte
	taken []uint32
}

func (w *chainWriter) undo() {
	for _, p := range w.taken {
		w.s.pages.Clear(uint64(p))
	}
}

func (w *chainWriter) take() (uint32, error) {
	p, err := w.s.claimPage(false)
	if err == nil {
		w.taken = append(w.taken, p)
	}
	return p, err
}

// prepare encodes everything and returns the new chain's pages.
func (w *chainWriter) prepare(c *change) ([]uint32, error) {
	c.meta.Clusters = c.clusters.Clusters
	if c.meta.UseTable {
		if err := w.extents(c); err != nil {
			return nil, err
		}
		c.meta.Table, c.meta.Runs = c.table, nil
	} else {
		c.meta.Table, c.meta.Runs = nil, c.clusters.Runs()
	}
	pages, err := c.meta.Encode()
	c.meta.Table, c.meta.Runs = nil, nil
	if err != nil {
		return nil, err
	}
	chain := []uint32{c.meta.ID.Root()}
	for range pages[1:] {
		p, err := w.take()
		if err != nil {
			return nil, err
		}
		chain = append(chain, p)
	}
	format.LinkChain(pages, chain)
	w.root = pages[0]
	for i, p := range pages[1:] {
		w.ios = append(w.ios, writeIO(w.s.mdOffset(chain[i+1]), p))
	}
	return chain, nil
}

// extents gives the extents that changed new pages.
func (w *chainWriter) extents(c *change) error {
	n := format.ExtentTableLen(c.clusters.Clusters)
	table := make([]uint32, n)
	copy(table, c.table)
	var list [format.ExtentsPerPage]uint32
	for x := range n {
		if !c.rewriteAll && !c.extents[x] {
			continue
		}
		if c.meta.Thin() && c.clusters.Extents[x].Load() == nil {
			table[x] = 0
			continue
		}
		count := c.clusters.List(x, &list)
		if c.meta.Thin() && list == [format.ExtentsPerPage]uint32{} {
			table[x] = 0
			continue
		}
		p, err := w.take()
		if err != nil {
			return err
		}
		page := make([]byte, format.PageSize)
		format.EncodeExtentPage(page, c.meta.ID, x*format.ExtentsPerPage, list[:count])
		w.ios = append(w.ios, writeIO(w.s.mdOffset(p), page))
		table[x] = p
	}
	c.table = table
	return nil
}

func writeIO(offset uint64, buf []byte) deviceIO {
	return deviceIO{op: opWrite, offset: offset, length: uint64(len(buf)), buf: buf}
}
