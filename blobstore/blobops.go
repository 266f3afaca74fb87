package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// BlobConfig are the choices of a new blob.
type BlobConfig struct {
	Clusters uint64
	Thin     bool // clusters come into being when they are first written
	Clear    format.ClearMethod
	Xattrs   []format.Xattr
	External []byte // name of a parent outside the store, which SetOutside gives; nil: none. The blob is thin then
}

// CreateBlob makes a blob. A thick blob's clusters hold what they held before,
// which is what the clear methods left; what Resize adds to it reads as zeros.
// ENOSPC when clusters or metadata pages are short.
func (s *Store) CreateBlob(c BlobConfig) (*Blob, error) {
	if c.Clusters > format.MaxClustersPerBlob {
		return nil, fmt.Errorf("%d clusters: a blob has at most %d: %w", c.Clusters, uint64(format.MaxClustersPerBlob), syscall.EINVAL)
	}
	s.md.Lock()
	defer s.md.Unlock()
	m := format.Metadata{InvalidFlags: format.FlagExtentTable, MDROFlags: uint64(c.Clear) & format.ClearMethodMask,
		Xattrs: c.Xattrs, UseTable: true}
	if c.External != nil {
		c.Thin = true
		m.SetExternal(c.External)
	}
	if c.Thin {
		m.InvalidFlags |= format.FlagThin
	}
	clusters := format.NewClusterMap(c.Clusters)
	if !c.Thin {
		if err := s.claimClusters(clusters); err != nil {
			return nil, err
		}
	}
	b, err := s.createBlob(m, clusters, nil)
	if err != nil && !c.Thin && (b == nil || !b.uncertain) {
		clusters.Each(func(_ uint64, cluster uint32) { s.clusters.Clear(uint64(cluster)) })
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// createBlob gives m an id and commits it with the given clusters. table, when
// not nil, has extent pages that exist already. On error the blob is returned
// only for its uncertain mark.
func (s *Store) createBlob(m format.Metadata, clusters *format.ClusterMap, table []uint32) (*Blob, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	root, err := s.claimPage(true)
	if err != nil {
		return nil, err
	}
	m.ID = format.BlobIDOf(root)
	b := &Blob{store: s, id: m.ID, meta: m, chain: []uint32{root}, clones: map[*Blob]struct{}{}}
	b.clusters.Store(format.NewClusterMap(0))
	c := &change{b: b, meta: m, clusters: clusters, table: table, rewriteAll: table == nil, extents: map[uint64]bool{}}
	if err := s.commit(c); err != nil {
		if b.uncertain && s.wipeRoot(b.id) == nil {
			s.freePages(b.attempt)
			b.uncertain = false
		}
		if !b.uncertain {
			s.pages.Clear(uint64(root))
		} else { // what it has on disk may be another's by the next load
			s.unmarked = append(s.unmarked, unmarked{snap: b, failed: true})
		}
		return b, err
	}
	s.blobs[b.id] = b
	return b, nil
}

// claimClusters gives every entry of m a cluster, or none. They hold what they
// held before.
func (s *Store) claimClusters(m *format.ClusterMap) error {
	claimed, err := s.claim(m.Clusters)
	for i, c := range claimed {
		s.zeroed.Clear(uint64(c))
		m.Set(uint64(i), c)
	}
	return err
}

// claim takes n free clusters, or none.
func (s *Store) claim(n uint64) ([]uint32, error) {
	if n > s.clusters.Free() {
		return nil, fmt.Errorf("%d clusters wanted, %d are free: %w", n, s.clusters.Free(), ErrFull)
	}
	out := make([]uint32, 0, n)
	for range n {
		c, err := s.claimCluster()
		if err != nil {
			s.unclaim(out)
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// unclaim makes clusters free that nothing on disk refers to.
func (s *Store) unclaim(clusters []uint32) {
	for _, c := range clusters {
		s.clusters.Clear(uint64(c))
	}
}

// giveBack clears clusters that nothing on disk refers to any more and then
// makes them free. That may take long: the caller does not hold md.
func (s *Store) giveBack(clusters []uint32, m format.ClearMethod) {
	if len(clusters) == 0 {
		return
	}
	size := uint64(s.super.Layout.ClusterSize)
	ios := make([]deviceIO, len(clusters))
	for i, c := range clusters {
		ios[i] = deviceIO{offset: s.clusterOffset(c), length: size}
	}
	zero := true
	for _, io := range mergeRuns(ios) {
		z, err := s.dev.clear(m, io.offset, io.length)
		if err != nil {
			s.log.Warn("blobstore: clear freed clusters", "err", err)
		}
		zero = zero && z && err == nil
	}
	zero = zero && s.dev.flush() == nil
	s.md.Lock()
	defer s.md.Unlock()
	for _, c := range clusters {
		s.clusters.Clear(uint64(c))
		if zero {
			s.zeroed.Set(uint64(c))
		}
	}
}

// thaw lets the blobs' I/O go on.
func (s *Store) thaw(blobs ...*Blob) {
	for _, b := range blobs {
		s.resubmit(b, b.gate.thaw())
	}
}

// resubmit has what was parked continue, on a goroutine of its own: the caller may hold md.
func (s *Store) resubmit(b *Blob, parked []*bdev.Request) {
	if len(parked) == 0 {
		return
	}
	go func() {
		var batch bdev.Batch
		for _, r := range parked {
			b.Submit(r, &batch)
		}
		batch.Flush()
	}()
}

// Delete removes the blob and clears its clusters; see Remove.
func (b *Blob) Delete() error {
	clear, err := b.Remove()
	if err == nil {
		clear()
	}
	return err
}

// Remove removes the blob, whose I/O must have ended; its clusters are free
// when the function it returns has cleared them, which may take long. A
// snapshot with one clone is merged into it. EBUSY for a snapshot with more
// clones or while another operation is under way, ENOSPC when a clone that is
// longer than the snapshot lacks clusters for its zeros.
func (b *Blob) Remove() (clear func(), err error) {
	s := b.store
	s.md.Lock()
	defer s.md.Unlock()
	for covered := false; ; {
		switch {
		case s.closed.Load():
			return nil, ErrClosed
		case s.blobs[b.id] != b:
			return nil, fmt.Errorf("blob 0x%x: %w", uint64(b.id), ErrNotFound)
		case b.busy:
			return nil, ErrMDBusy
		case len(b.clones) > 1:
			return nil, fmt.Errorf("snapshot 0x%x has %d clones: %w", uint64(b.id), len(b.clones), syscall.EBUSY)
		}
		if covered || len(b.clones) == 0 {
			break
		}
		if covered, err = b.coverClone(); err != nil {
			return nil, err
		}
		if !covered { // others get their turn at the metadata
			s.md.Unlock()
			s.md.Lock()
		}
	}
	if len(b.clones) == 1 {
		if err := s.mergeIntoClone(b); err != nil {
			return nil, err
		}
	}
	gone, err := s.erase(b)
	if err != nil {
		return nil, err
	}
	how := b.clearMethod()
	return func() { s.giveBack(gone, how) }, nil
}

// wipeRoot makes a blob not exist on disk.
func (s *Store) wipeRoot(id format.BlobID) error {
	if err := s.dev.write(s.mdOffset(id.Root()), make([]byte, format.PageSize)); err != nil {
		return err
	}
	return s.dev.flush()
}

// erase zeroes the root of a blob without clones, then frees its metadata
// pages. It returns the clusters that the blob had.
func (s *Store) erase(b *Blob) ([]uint32, error) {
	if err := s.ready(); err != nil { // a snapshot that was not made may have b's clusters on disk
		return nil, err
	}
	b.gate.freeze()
	defer s.thaw(b)
	if err := s.wipeRoot(b.id); err != nil {
		b.uncertain = true
		return nil, fmt.Errorf("remove blob 0x%x: %w", uint64(b.id), err)
	}
	delete(s.blobs, b.id)
	b.adopt(nil)
	b.closeOutside()
	var gone []uint32
	b.clusters.Load().Each(func(_ uint64, cluster uint32) { gone = append(gone, cluster) })
	pages := append([]uint32(nil), b.chain[1:]...)
	for _, p := range b.table {
		if p != 0 {
			pages = append(pages, p)
		}
	}
	b.table, b.chain = nil, nil
	b.show(format.NewClusterMap(0))
	s.freePages(pages)
	s.pages.Clear(uint64(b.id.Root()))
	return gone, nil
}
