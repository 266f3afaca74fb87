package blobstore

import (
	"fmt"
	"math"
	"syscall"
)

// Grow makes the space usable by which the device has grown since the store
// was made. What the new clusters hold stays there. ENOSPC when the device has
// shrunk, or when the mask of used clusters, which has room for as many as
// there are metadata pages and more in its last page, cannot tell of so many.
func (s *Store) Grow() error {
	s.md.Lock()
	defer s.md.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	l := &s.super.Layout
	old := *l
	size := s.dev.size()
	total := size / uint64(l.ClusterSize)
	behind := l.BlobidMaskStart
	if l.BlobidMaskLen == 0 {
		behind = l.MDStart
	}
	switch pages := l.MaskPages(total); {
	case size == l.DeviceBytes:
		return nil
	case size < l.DeviceBytes || total > math.MaxUint32:
		return fmt.Errorf("the device has %d bytes, the store %d: %w", size, l.DeviceBytes, syscall.ENOSPC)
	case pages > uint64(behind-l.ClusterMaskStart):
		return fmt.Errorf("%d clusters need a mask of %d pages, there is room for %d: %w", total, pages,
			behind-l.ClusterMaskStart, syscall.ENOSPC)
	default:
		if err := s.dirty(); err != nil {
			return err
		}
		l.DeviceBytes, l.ClusterMaskLen, l.Total = size, uint32(pages), total
	}
	// From here on the masks on disk mean nothing until the store is unloaded:
	// a load after a cut counts what is used again, for the new size.
	if err := s.writeSuper(false); err != nil {
		*l = old
		return err
	}
	s.clusters.Grow(total)
	s.zeroed.Grow(total)
	s.total.Store(total)
	return nil
}
