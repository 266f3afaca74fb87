package blobstore

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Errors of the store. Each is also an errno.
var (
	ErrClosed   = fmt.Errorf("the blobstore is closed: %w", syscall.ENODEV)
	ErrNotFound = fmt.Errorf("no such blob: %w", syscall.ENOENT)
	ErrFull     = fmt.Errorf("no free clusters: %w", syscall.ENOSPC)
	ErrMDFull   = fmt.Errorf("no free metadata pages: %w", syscall.ENOSPC)
	ErrMDBusy   = fmt.Errorf("another operation on the blob is under way: %w", syscall.EBUSY)
	ErrReadOnly = fmt.Errorf("the blob is read only: %w", syscall.EPERM)
)

// Config of a new blobstore.
type Config struct {
	Type        string             // up to 16 bytes, such as LvstoreType
	ClusterSize uint32             // bytes, a multiple of PageBytes; 0: DefaultClusterSize
	PageBytes   uint32             // distance of metadata pages, a power of two from 4096 to 65536; 0: 4096
	MDPages     uint64             // metadata pages; 0: one per cluster
	Clear       format.ClearMethod // of the data clusters
}

// Store is a blobstore on a device. Methods are safe for concurrent use; those
// that change something block until it is durable.
type Store struct {
	dev   *device
	log   *slog.Logger
	units uint64 // blocks of the device in a block of the store
	unit  uint32 // size of a block of the store, bytes

	unitsPerCluster uint64        // blocks of the store
	total           atomic.Uint64 // clusters
	closed          atomic.Bool
	owned           atomic.Bool           // this store is the writer; see own
	failed          atomic.Pointer[error] // see Failed

	family sync.Mutex // who is whose clone; taken with md held, never the other way round

	// md is held by anyone who changes metadata, disk and memory.
	md       sync.Mutex
	super    format.SuperBlock // of its Layout only Grow changes something
	page     []byte            // the super block as on disk
	doubt    [][]byte          // what it may be instead: writes of it that failed
	seen     time.Time         // when it was read last
	recheck  time.Duration
	writer   []byte            // the mark of this store as a writer
	loaded   map[uint32]uint32 // sums of metadata pages as loaded; nil once owned
	dropped  []format.BlobID   // what a load found unfinished: roots to wipe
	rewrite  []*Blob           // and blobs to rewrite
	pages    *format.Bitmap
	clusters *format.Bitmap
	zeroed   *format.Bitmap // free clusters that are known to read as zeros, durably
	blobs    map[format.BlobID]*Blob
	unmarked []unmarked

	repairing bool
	growing   sync.WaitGroup // thick blobs whose new clusters are being zeroed; added to with md held, while the store is open

	worker worker
}

// Format makes a new blobstore on the device; what was on it is lost. The
// handle stays the caller's, who closes it after the store.
func Format(h *bdev.Handle, c Config) (*Store, error) {
	d := &device{h: h}
	if c.ClusterSize == 0 {
		c.ClusterSize = format.DefaultClusterSize
	}
	if c.PageBytes == 0 {
		c.PageBytes = format.PageSize
	}
	i := h.Info()
	if len(c.Type) > format.TypeLen {
		return nil, fmt.Errorf("blobstore type %q is longer than %d bytes: %w", c.Type, format.TypeLen, syscall.EINVAL)
	}
	if i.BlockSize == 0 || c.ClusterSize%i.BlockSize != 0 || format.PageSize%i.BlockSize != 0 {
		return nil, fmt.Errorf("cluster size %d or metadata page size %d is not a multiple of the block size %d: %w", c.ClusterSize,
			format.PageSize, i.BlockSize, syscall.EINVAL)
	}
	if c.MDPages == 0 {
		c.MDPages = d.size() / uint64(c.ClusterSize)
	}
	l, err := format.NewLayout(d.size(), c.ClusterSize, c.MDPages, c.PageBytes)
	if err != nil {
		return nil, err
	}
	s := newStore(d, format.SuperBlock{Version: format.Version, SuperBlob: format.NoBlob, Type: c.Type, IOUnitSize: i.BlockSize, Layout: l},
		nil)
	// First no super block at all, so that a cut leaves no store of mixed
	// origin; it comes last.
	mdEnd := l.MDOffset(l.MDLen)
	if err := s.dev.zero(0, format.PageSize); err != nil {
		return nil, err
	}
	if err := s.dev.flush(); err != nil {
		return nil, err
	}
	if err := s.dev.zero(0, mdEnd); err != nil {
		return nil, err
	}
	zero, err := s.dev.clear(c.Clear, mdEnd, d.size()-mdEnd)
	if err != nil {
		return nil, err
	}
	if err := s.dev.flush(); err != nil {
		return nil, err
	}
	if zero {
		for k := l.Meta; k < l.Total; k++ {
			s.zeroed.Set(k)
		}
	}
	s.pages = format.NewBitmap(uint64(l.MDLen))
	s.clusters = format.NewBitmap(l.Total)
	for k := range l.Meta {
		s.clusters.Set(k)
	}
	s.owned.Store(true)
	if err := s.writeSuper(false); err != nil {
		return nil, err
	}
	s.worker.start(s)
	return s, nil
}

func newStore(d *device, sb format.SuperBlock, log *slog.Logger) *Store {
	if log == nil {
		log = slog.Default()
	}
	s := &Store{dev: d, log: log, super: sb, page: make([]byte, format.PageSize), blobs: map[format.BlobID]*Blob{}}
	s.recheck, s.writer = ownerCheck, newWriter()
	s.unit = sb.IOUnitSize
	s.units = uint64(sb.IOUnitSize / d.info().BlockSize)
	s.unitsPerCluster = uint64(sb.Layout.ClusterSize / sb.IOUnitSize)
	s.total.Store(sb.Layout.Total)
	s.zeroed = format.NewBitmap(sb.Layout.Total)
	return s
}

// writeSuper writes the super block with the mark of this store, clean or
// dirty, durably.
func (s *Store) writeSuper(clean bool) error {
	sb, page := s.super, bytes.Clone(s.page)
	sb.Clean = clean
	copy(page[sbWriter:], s.writer)
	sb.Encode(page)
	err := s.dev.write(0, page)
	if err == nil {
		err = s.dev.flush()
	}
	if err != nil {
		s.doubt = append(s.doubt, page)
		return fmt.Errorf("write the super block: %w", err)
	}
	s.page, s.doubt, s.seen, s.super.Clean = page, nil, time.Now(), clean
	return nil
}

// Layout returns where things are.
func (s *Store) Layout() format.Layout {
	s.md.Lock()
	defer s.md.Unlock()
	return s.super.Layout
}

// BlockSize is the size of a block of the store's blobs, bytes.
func (s *Store) BlockSize() uint32 { return s.unit }

// ClusterSize is in bytes.
func (s *Store) ClusterSize() uint32 { return s.super.Layout.ClusterSize }

// DataClusters is the number of clusters blobs can have together.
func (s *Store) DataClusters() uint64 { return s.total.Load() - s.super.Layout.Meta }

// FreeClusters is how many of them are unused.
func (s *Store) FreeClusters() uint64 { return s.total.Load() - s.clusters.Used() }

// SuperBlob returns the id of the blob that the super block names, or NoBlob.
func (s *Store) SuperBlob() format.BlobID {
	s.md.Lock()
	defer s.md.Unlock()
	if s.super.SuperBlob == 0 {
		return format.NoBlob
	}
	return s.super.SuperBlob
}

// SetSuperBlob makes the super block name a blob.
func (s *Store) SetSuperBlob(id format.BlobID) error {
	s.md.Lock()
	defer s.md.Unlock()
	if err := s.dirty(); err != nil {
		return err
	}
	old := s.super.SuperBlob
	s.super.SuperBlob = id
	if err := s.writeSuper(false); err != nil {
		s.super.SuperBlob = old
		return err
	}
	return nil
}

// Blob returns the blob with the given id.
func (s *Store) Blob(id format.BlobID) (*Blob, error) {
	s.md.Lock()
	defer s.md.Unlock()
	b := s.blobs[id]
	if b == nil {
		return nil, fmt.Errorf("blob 0x%x: %w", uint64(id), ErrNotFound)
	}
	return b, nil
}

// Blobs returns all blobs in the order of their ids.
func (s *Store) Blobs() []*Blob {
	s.md.Lock()
	defer s.md.Unlock()
	out := make([]*Blob, 0, len(s.blobs))
	for i, ok := s.pages.NextSet(0); ok; i, ok = s.pages.NextSet(i + 1) {
		if b := s.blobs[format.BlobIDOf(uint32(i))]; b != nil {
			out = append(out, b)
		}
	}
	return out
}

// Unload writes the masks and a clean super block and closes the store; data
// written before is durable then, too. A store that nothing was changed in is
// left as it was found. The caller makes sure that no I/O is in flight. The store
// is closed in any case; an error means that the next load has to recover.
func (s *Store) Unload() error {
	var err error
	s.md.Lock()
	if s.owned.Load() && !s.closed.Load() && !s.super.Clean {
		err = s.ready()
	}
	s.md.Unlock()
	s.stop()
	s.md.Lock()
	defer s.md.Unlock()
	switch {
	case s.Failed() != nil:
		return s.Failed()
	case !s.owned.Load() || err != nil:
		return err
	}
	if err := s.superAsKnown(); err != nil {
		return err
	}
	if s.super.Clean {
		return s.dev.flush()
	}
	l := &s.super.Layout
	roots := format.NewBitmap(uint64(l.MDLen))
	for id := range s.blobs {
		roots.Set(uint64(id.Root()))
	}
	for _, m := range []struct {
		kind       uint8
		start, len uint32
		bits       *format.Bitmap
	}{
		{format.MaskUsedPages, l.PageMaskStart, l.PageMaskLen, s.pages},
		{format.MaskUsedBlobids, l.BlobidMaskStart, l.BlobidMaskLen, roots},
		{format.MaskUsedClusters, l.ClusterMaskStart, l.ClusterMaskLen, s.clusters},
	} {
		if m.len == 0 {
			continue
		}
		region := make([]byte, l.Offset(uint64(m.len)))
		format.EncodeMask(region, m.kind, m.bits)
		if err := s.dev.write(l.Offset(uint64(m.start)), region); err != nil {
			return fmt.Errorf("write mask %d: %w", m.kind, err)
		}
	}
	if err := s.dev.flush(); err != nil {
		return err
	}
	return s.writeSuper(true)
}

// Close closes the store without writing anything, as when its device is gone.
func (s *Store) Close() { s.stop() }

// Destroy closes the store and wipes its super block, unless that is another's
// by now.
func (s *Store) Destroy() error {
	s.md.Lock()
	err := s.own()
	if err == nil {
		err = s.superAsKnown()
	}
	s.md.Unlock()
	s.stop()
	if err != nil {
		return err
	}
	s.md.Lock()
	defer s.md.Unlock()
	if err := s.dev.zero(0, format.PageSize); err != nil {
		return err
	}
	return s.dev.flush()
}

func (s *Store) stop() {
	if !s.closed.Swap(true) {
		s.worker.stop()
		s.md.Lock()
		open := s.blobs
		s.md.Unlock() // for blobs that grow, which are all counted by now, to give up
		s.growing.Wait()
		s.md.Lock()
		defer s.md.Unlock()
		for _, b := range open {
			b.closeOutside()
		}
	}
}

// claimPage takes a free metadata page, page 0 only for a root: an extent
// table cannot name it.
func (s *Store) claimPage(root bool) (uint32, error) {
	from := uint64(1)
	if root {
		from = 0
	}
	i, ok := s.pages.NextClear(from)
	if !ok {
		return 0, ErrMDFull
	}
	s.pages.Set(i)
	return uint32(i), nil
}

func (s *Store) claimCluster() (uint32, error) {
	i, ok := s.clusters.NextClear(s.super.Layout.Meta)
	if !ok {
		return 0, ErrFull
	}
	s.clusters.Set(i)
	return uint32(i), nil
}

// mdOffset is where a metadata page is, bytes.
func (s *Store) mdOffset(page uint32) uint64 { return s.super.Layout.MDOffset(page) }

// clusterOffset is where a cluster is, bytes.
func (s *Store) clusterOffset(cluster uint32) uint64 {
	return uint64(cluster) * uint64(s.super.Layout.ClusterSize)
}
