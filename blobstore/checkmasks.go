package blobstore

import (
	"fmt"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// CheckMasks compares the masks of a clean store with what its blobs use. The
// masks of a dirty store mean nothing.
func CheckMasks(h *bdev.Handle, im *format.Image) ([]format.Problem, error) {
	d := &device{h: h}
	l := &im.Super.Layout
	first := make([]byte, format.PageSize)
	if err := d.read(0, first); err != nil {
		return nil, err
	}
	sb, err := format.DecodeSuperBlock(first, d.size())
	if err != nil || !sb.Clean {
		return nil, err
	}
	roots := format.NewBitmap(uint64(l.MDLen))
	for _, b := range im.Blobs {
		roots.Set(uint64(b.ID.Root()))
	}
	var out []format.Problem
	for _, m := range []struct {
		what       string
		kind       uint8
		start, len uint32
		want       *format.Bitmap
	}{
		{"used metadata page", format.MaskUsedPages, l.PageMaskStart, l.PageMaskLen, im.Pages},
		{"used cluster", format.MaskUsedClusters, l.ClusterMaskStart, l.ClusterMaskLen, im.Clusters},
		{"used blob id", format.MaskUsedBlobids, l.BlobidMaskStart, l.BlobidMaskLen, roots},
	} {
		region := make([]byte, l.Offset(uint64(m.len)))
		if err := d.read(l.Offset(uint64(m.start)), region); err != nil {
			return nil, err
		}
		got, err := format.DecodeMask(region, m.kind, m.want.Len(), m.kind == format.MaskUsedClusters)
		if err != nil {
			out = append(out, format.Problem{Severity: format.Leak, Blob: format.NoBlob, Text: fmt.Sprintf("%s mask: %v", m.what, err)})
			continue
		}
		extra, missing := got.Differences(m.want)
		if extra > 0 {
			out = append(out, format.Problem{Severity: format.Leak, Blob: format.NoBlob, Text: fmt.Sprintf("%s mask: %d are marked and not used",
				m.what, extra)})
		}
		if missing > 0 {
			out = append(out, format.Problem{Severity: format.Corrupt, Blob: format.NoBlob, Text: fmt.Sprintf("%s mask: %d are used and not marked",
				m.what, missing)})
		}
	}
	return out, nil
}
