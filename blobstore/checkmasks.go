package blobstore

import (
	"fmt"

	"github.com/virtual-disk-array/vda/bdev"
)

// Allocated is how many clusters the blob has of its own.
func (b *BlobImage) Allocated() uint64 {
	n := uint64(0)
	b.clusters.each(func(uint64, uint32) { n++ })
	return n
}

// ReadOnly reports whether the blob takes no writes.
func (b *BlobImage) ReadOnly() bool { return b.DataROFlags != 0 }

// CheckMasks compares the masks of a clean store with what its blobs use. The
// masks of a dirty store mean nothing.
func CheckMasks(h *bdev.Handle, im *Image) ([]Problem, error) {
	d := &device{h: h}
	l := &im.Super.Layout
	first := make([]byte, PageSize)
	if err := d.read(0, first); err != nil {
		return nil, err
	}
	sb, err := DecodeSuperBlock(first, d.size())
	if err != nil || !sb.Clean {
		return nil, err
	}
	roots := NewBitmap(uint64(l.MDLen))
	for _, b := range im.Blobs {
		roots.Set(uint64(b.ID.root()))
	}
	var out []Problem
	for _, m := range []struct {
		what       string
		kind       uint8
		start, len uint32
		want       *Bitmap
	}{
		{"used metadata page", maskUsedPages, l.PageMaskStart, l.PageMaskLen, im.Pages},
		{"used cluster", maskUsedClusters, l.ClusterMaskStart, l.ClusterMaskLen, im.Clusters},
		{"used blob id", maskUsedBlobids, l.BlobidMaskStart, l.BlobidMaskLen, roots},
	} {
		region := make([]byte, l.offset(uint64(m.len)))
		if err := d.read(l.offset(uint64(m.start)), region); err != nil {
			return nil, err
		}
		got, err := decodeMask(region, m.kind, m.want.Len(), m.kind == maskUsedClusters)
		if err != nil {
			out = append(out, Problem{Leak, NoBlob, fmt.Sprintf("%s mask: %v", m.what, err)})
			continue
		}
		extra, missing := got.differences(m.want)
		if extra > 0 {
			out = append(out, Problem{Leak, NoBlob, fmt.Sprintf("%s mask: %d are marked and not used", m.what, extra)})
		}
		if missing > 0 {
			out = append(out, Problem{Corrupt, NoBlob, fmt.Sprintf("%s mask: %d are used and not marked", m.what, missing)})
		}
	}
	return out, nil
}

// differences counts what only m has and what only o has.
func (m *Bitmap) differences(o *Bitmap) (more, less uint64) {
	for i, ok := m.NextSet(0); ok; i, ok = m.NextSet(i + 1) {
		if !o.Has(i) {
			more++
		}
	}
	for i, ok := o.NextSet(0); ok; i, ok = o.NextSet(i + 1) {
		if !m.Has(i) {
			less++
		}
	}
	return more, less
}
