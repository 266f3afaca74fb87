package blobstore

import (
	"fmt"
	"log/slog"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// ErrDamaged says that a device holds a blobstore that cannot be relied on; it is EILSEQ.
var ErrDamaged = fmt.Errorf("the blobstore is damaged: %w", syscall.EILSEQ)

// Load opens the blobstore on the device; typ, unless empty, is the type it
// must have. EILSEQ: no blobstore; ErrDamaged; ENXIO: another type;
// EINVAL: a kind that is not supported. A load writes nothing, nor does
// what follows before the first change; see own.
func Load(h *bdev.Handle, typ string, log *slog.Logger) (*Store, error) {
	d := &device{h: h}
	im, err := ReadImage(h, typ)
	if err != nil {
		return nil, err
	}
	if worst := im.Worst(); worst >= format.Corrupt {
		for _, p := range im.Problems {
			if p.Severity == worst {
				return nil, fmt.Errorf("%w: %s", ErrDamaged, p)
			}
		}
	}
	if bs := d.info().BlockSize; im.Super.IOUnitSize%bs != 0 || format.PageSize%bs != 0 {
		return nil, fmt.Errorf("the store has blocks of %d bytes, the device of %d: %w", im.Super.IOUnitSize, bs, syscall.EINVAL)
	}
	s := newStore(d, im.Super, log)
	s.page, s.loaded = im.Page, im.Loaded
	s.pages, s.clusters = im.Pages, im.Clusters
	for _, b := range im.Blobs {
		s.blobs[b.ID] = newBlob(s, b)
	}
	for _, b := range im.Blobs {
		s.blobs[b.ID].adopt(s.blobs[b.Parent()])
	}
	for _, p := range im.Problems {
		s.log.Warn("blobstore", "bdev", d.info().Name, "problem", p.String())
		if b := s.blobs[p.Blob]; b != nil && p.Severity == format.Unusable {
			b.unusable = fmt.Errorf("%s: %w", p.Text, syscall.EINVAL)
		}
	}
	for _, b := range im.Blobs {
		if b.Rewrite {
			s.rewrite = append(s.rewrite, s.blobs[b.ID])
		}
	}
	for _, b := range im.Dropped {
		s.dropped = append(s.dropped, b.ID)
	}
	s.worker.start(s)
	return s, nil
}

// ReadImage reads the metadata of the blobstore on the device without changing
// anything. Errors are as of Load, but a damaged blob is a problem of the
// image, not an error.
func ReadImage(h *bdev.Handle, typ string) (*format.Image, error) {
	d := &device{h: h}
	sb, page, err := probe(d, typ)
	if err != nil {
		return nil, err
	}
	var im *format.Image
	if sb.Clean && sb.Layout.BlobidMaskLen != 0 {
		im = readClean(d, sb)
	}
	if im == nil {
		if im, err = readDirty(d, sb); err != nil {
			return nil, err
		}
	}
	im.Page = page
	return im, nil
}

// Probe reports whether the device holds a blobstore of the type, by its super
// block alone; the errors are those of Load.
func Probe(h *bdev.Handle, typ string) error {
	_, _, err := probe(&device{h: h}, typ)
	return err
}

// probe reads the super block; page is what it stands in.
func probe(d *device, typ string) (sb format.SuperBlock, page []byte, err error) {
	if d.size() < format.PageSize || d.info().BlockSize == 0 || format.PageSize%d.info().BlockSize != 0 {
		return sb, nil, fmt.Errorf("a device of %d blocks of %d bytes holds no blobstore: %w", d.info().Blocks,
			d.info().BlockSize, syscall.EILSEQ)
	}
	page = make([]byte, format.PageSize)
	if err := d.read(0, page); err != nil {
		return sb, nil, err
	}
	if sb, err = format.DecodeSuperBlock(page, d.size()); err != nil {
		return sb, nil, err
	}
	if typ != "" && sb.Type != typ {
		return sb, nil, fmt.Errorf("the blobstore has type %q, want %q: %w", sb.Type, typ, syscall.ENXIO)
	}
	return sb, page, nil
}

// readClean reads the blobs that the masks name. It returns nil when the masks
// cannot be read, or do not agree with the blobs: then only all metadata pages
// tell. A damaged blob it reports, where a look at all pages would miss it.
func readClean(d *device, sb format.SuperBlock) *format.Image {
	l := &sb.Layout
	mask := func(kind uint8, start, pages uint32, bits uint64) *format.Bitmap {
		region := make([]byte, l.Offset(uint64(pages)))
		if d.read(l.Offset(uint64(start)), region) != nil {
			return nil
		}
		m, err := format.DecodeMask(region, kind, bits, kind == format.MaskUsedClusters)
		if err != nil {
			return nil
		}
		return m
	}
	ids := mask(format.MaskUsedBlobids, l.BlobidMaskStart, l.BlobidMaskLen, uint64(l.MDLen))
	pages := mask(format.MaskUsedPages, l.PageMaskStart, l.PageMaskLen, uint64(l.MDLen))
	clusters := mask(format.MaskUsedClusters, l.ClusterMaskStart, l.ClusterMaskLen, l.Total)
	if ids == nil || pages == nil || clusters == nil {
		return nil
	}
	var roots []uint32
	for i, ok := ids.NextSet(0); ok; i, ok = ids.NextSet(i + 1) {
		roots = append(roots, uint32(i))
	}
	sums := map[uint32]uint32{}
	im, err := format.BuildImage(sb, roots, func(index uint32) ([]byte, error) {
		p := make([]byte, format.PageSize)
		err := d.read(l.MDOffset(index), p)
		sums[index] = pageSum(p)
		return p, err
	})
	if err == nil {
		err = witness(im, d, func(page uint32) (uint32, bool) {
			sum, ok := sums[page]
			return sum, ok
		})
	}
	if err != nil {
		return nil
	}
	if im.Worst() < format.Corrupt && (!pages.Equal(im.Pages) || !clusters.Equal(im.Clusters)) {
		return nil
	}
	return im
}

// readDirty looks at every metadata page for the roots of blobs. It keeps the
// pages that may be metadata, so its memory grows with their number.
func readDirty(d *device, sb format.SuperBlock) (*format.Image, error) {
	l := &sb.Layout
	kept := map[uint32][]byte{}
	var roots []uint32
	const chunk = 16 << 20
	buf := make([]byte, min(chunk, l.Offset(uint64(l.MDLen))))
	for at := uint32(0); at < l.MDLen; {
		n := min(uint64(len(buf)), l.Offset(uint64(l.MDLen-at)))
		if err := d.read(l.MDOffset(at), buf[:n]); err != nil {
			return nil, err
		}
		for p := buf[:n]; len(p) > 0; p, at = p[l.PageBytes:], at+1 {
			if format.PageBlobID(p[:format.PageSize])&format.BlobIDHighBit == 0 || !format.PageIntact(p[:format.PageSize]) {
				continue
			}
			kept[at] = append([]byte(nil), p[:format.PageSize]...)
			if format.PageIsRoot(kept[at], at) {
				roots = append(roots, at)
			}
		}
	}
	im, err := format.BuildImage(sb, roots, func(index uint32) ([]byte, error) { return kept[index], nil })
	if err != nil {
		return nil, err
	}
	return im, witness(im, d, func(page uint32) (uint32, bool) {
		if p := kept[page]; p != nil {
			return pageSum(p), true
		}
		return 0, true
	})
}
