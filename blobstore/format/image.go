package format

import (
	"encoding/binary"
	"fmt"
)

// PageSource gives metadata pages by index. A page it returns stays valid.
type PageSource func(index uint32) ([]byte, error)

// Image is what the metadata of a store says, with nothing running on it. The
// loader builds its blobs from it; the checker reports about it.
type Image struct {
	Super SuperBlock
	Blobs []*BlobImage // in the order of their root pages
	byID  map[BlobID]*BlobImage

	Dropped []*BlobImage      // leftovers whose roots must be zeroed
	Page    []byte            // the super block
	Loaded  map[uint32]uint32 // see witness

	Pages    *Bitmap // used metadata pages
	Clusters *Bitmap // used clusters, those of the metadata included
	Problems []Problem
}

// BlobImage is one blob of an image.
type BlobImage struct {
	Metadata
	Chain []uint32 // metadata pages of the chain, the root first

	Clusters *ClusterMap
	Rewrite  bool  // the pages on disk must not stay as they are
	drop     bool  // what an interrupted operation left behind
	rooted   bool  // its parents are known to end
	err      error // why it cannot be used
}

// Severity grades a problem.
type Severity uint8

// The severities. A store with a Corrupt problem is not loaded.
const (
	Note     Severity = iota + 1 // normal after a power cut; a load repairs it
	Leak                         // something is marked used that nobody uses
	Unusable                     // one blob cannot be opened
	Corrupt                      // data of several blobs is at risk
)

func (s Severity) String() string {
	return [...]string{"none", "note", "leak", "unusable", "corrupt"}[s]
}

// Problem is one finding about an image.
type Problem struct {
	Severity Severity
	Blob     BlobID // NoBlob: about the store
	Text     string
}

func (p Problem) String() string {
	if p.Blob == NoBlob {
		return p.Severity.String() + ": " + p.Text
	}
	return fmt.Sprintf("%s: blob 0x%x: %s", p.Severity, uint64(p.Blob), p.Text)
}

// maxTableEntries bounds the extents of all blobs of a store together, so that
// hostile metadata cannot ask for any amount of memory: 2^22 extents are 2 PiB
// of 1 MiB clusters and take 32 MiB.
const maxTableEntries = 1 << 22

// imageBudget is what the blobs still to be read may have; two blobs share
// Clusters only while a snapshot is being made or removed.
type imageBudget struct{ extents, clusters uint64 }

// Blob returns the blob with the given id, nil when there is none.
func (im *Image) Blob(id BlobID) *BlobImage { return im.byID[id] }

func (im *Image) problem(s Severity, id BlobID, format string, args ...any) {
	im.Problems = append(im.Problems, Problem{s, id, fmt.Sprintf(format, args...)})
}

// Worst returns the gravest severity, 0 when there is no problem.
func (im *Image) Worst() Severity {
	var worst Severity
	for _, p := range im.Problems {
		worst = max(worst, p.Severity)
	}
	return worst
}

// BuildImage reads the blobs whose roots are given and works out what they use.
func BuildImage(sb SuperBlock, roots []uint32, src PageSource) (*Image, error) {
	im := &Image{Super: sb, byID: map[BlobID]*BlobImage{}}
	budget := imageBudget{extents: maxTableEntries, clusters: 2 * sb.Layout.Total}
	seen := NewBitmap(uint64(sb.Layout.MDLen))
	for _, root := range roots {
		b, err := readBlob(&sb.Layout, root, src, seen, &budget)
		if err != nil {
			return nil, fmt.Errorf("blob 0x%x: %w", uint64(BlobIDOf(root)), err)
		}
		im.Blobs = append(im.Blobs, b)
		im.byID[b.ID] = b
		if b.err != nil {
			im.problem(Corrupt, b.ID, "%v", b.err)
		}
	}
	im.settle()
	im.claim()
	return im, nil
}

// damaged is an error in what the metadata says, as opposed to one of reading
// it.
type damaged struct{ error }

func damage(format string, args ...any) error { return damaged{fmt.Errorf(format, args...)} }

// readBlob reads one blob. Damage is left in the blob's err; the error
// returned is of the device.
func readBlob(l *Layout, root uint32, src PageSource, seen *Bitmap, budget *imageBudget) (*BlobImage, error) {
	b := &BlobImage{Clusters: NewClusterMap(0)}
	b.ID = BlobIDOf(root)
	pages, err := b.readChain(l, root, src, seen)
	if err == nil {
		err = b.decode(pages, l, src, budget)
	}
	if d, ok := err.(damaged); ok {
		b.err = d.error
		err = nil
	}
	return b, err
}

func (b *BlobImage) readChain(l *Layout, root uint32, src PageSource, seen *Bitmap) ([][]byte, error) {
	var pages [][]byte
	for at := root; at != noPage; {
		if at >= l.MDLen {
			return nil, damage("the chain leads to metadata page %d of %d", at, l.MDLen)
		}
		if !seen.Set(uint64(at)) {
			return nil, damage("the chain leads to metadata page %d a second time", at)
		}
		p, err := src(at)
		if err != nil {
			return nil, err
		}
		if p == nil || !PageIntact(p) {
			return nil, damage("metadata page %d of the chain: checksum is wrong", at)
		}
		b.Chain = append(b.Chain, at)
		pages = append(pages, p)
		at = pageNextIndex(p)
	}
	return pages, nil
}

func (b *BlobImage) decode(pages [][]byte, l *Layout, src PageSource, budget *imageBudget) error {
	m, err := DecodeChain(b.ID, pages)
	b.Metadata = m
	if err != nil {
		return damaged{err}
	}
	entries := ExtentTableLen(m.Clusters)
	if entries > budget.extents {
		return damage("%d clusters: the blobs of one store may have %d together", m.Clusters, uint64(maxTableEntries)*ExtentsPerPage)
	}
	budget.extents -= entries
	b.Clusters = NewClusterMap(m.Clusters)
	if m.UseTable {
		return b.readExtents(l, src, budget)
	}
	return b.readRuns(l, budget)
}

func (b *BlobImage) readRuns(l *Layout, budget *imageBudget) error {
	at := uint64(0)
	for _, r := range b.Runs {
		if r.Cluster != 0 {
			for k := range r.Length {
				if err := b.place(l, budget, at+uint64(k), r.Cluster+k); err != nil {
					return err
				}
			}
		} else if !b.Thin() {
			return damage("%d clusters are missing and the blob is not thin", r.Length)
		}
		at += uint64(r.Length)
	}
	b.Runs = nil
	return nil
}

func (b *BlobImage) readExtents(l *Layout, src PageSource, budget *imageBudget) error {
	var list [ExtentsPerPage]uint32
	for x, page := range b.Table {
		first := uint64(x) * ExtentsPerPage
		want := int(min(ExtentsPerPage, b.Metadata.Clusters-first))
		if page == 0 {
			if !b.Thin() {
				return damage("extent page %d is missing and the blob is not thin", x)
			}
			continue
		}
		if page >= l.MDLen {
			return damage("extent page %d is metadata page %d of %d", x, page, l.MDLen)
		}
		p, err := src(page)
		if err != nil {
			return err
		}
		if p == nil {
			return damage("extent page %d: metadata page %d does not hold metadata", x, page)
		}
		n, err := DecodeExtentPage(p, first, &list)
		if err != nil {
			return damage("extent page %d, metadata page %d: %w", x, page, err)
		}
		if n < want && !b.Thin() {
			return damage("extent page %d lists %d clusters of %d", x, n, want)
		}
		// A resize that was cut off has the page of the longer size; SPDK
		// needs the very number.
		b.Rewrite = b.Rewrite || n != want
		for k := range min(n, want) {
			switch {
			case list[k] != 0:
				if err := b.place(l, budget, first+uint64(k), list[k]); err != nil {
					return err
				}
			case !b.Thin():
				return damage("cluster %d is missing and the blob is not thin", first+uint64(k))
			}
		}
	}
	return nil
}

func (b *BlobImage) place(l *Layout, budget *imageBudget, i uint64, cluster uint32) error {
	if uint64(cluster) < l.Meta || uint64(cluster) >= l.Total {
		return damage("cluster %d is in cluster %d of the device, data is in %d to %d", i, cluster, l.Meta, l.Total-1)
	}
	if budget.clusters == 0 {
		return damage("the blobs list more clusters than the device has")
	}
	budget.clusters--
	b.Clusters.Set(i, cluster)
	return nil
}

// internalID returns the id in the blob's internal xattr of that name.
func (m *Metadata) internalID(name string) BlobID {
	for _, x := range m.Internal {
		if x.Name == name && len(x.Value) == 8 {
			return BlobID(binary.LittleEndian.Uint64(x.Value))
		}
	}
	return NoBlob
}

// Parent returns the snapshot that the blob's missing clusters are read from,
// ExternalParent, or NoBlob.
func (m *Metadata) Parent() BlobID {
	if m.InvalidFlags&FlagExternalSnapshot != 0 {
		return ExternalParent
	}
	if !m.Thin() {
		return NoBlob
	}
	return m.internalID(XattrParent)
}

// SetInternalXattr sets or, with a nil value, removes an internal xattr.
func (m *Metadata) SetInternalXattr(name string, value []byte) {
	m.Internal = SetXattr(m.Internal, name, value)
	if len(m.Internal) > 0 {
		m.InvalidFlags |= flagInternalXattr
	} else {
		m.InvalidFlags &^= flagInternalXattr
	}
}

func (m *Metadata) SetInternalID(name string, id BlobID) {
	m.SetInternalXattr(name, binary.LittleEndian.AppendUint64(nil, uint64(id)))
}

// SetXattr returns a new list in which name has the value; nil removes it.
func SetXattr(list []Xattr, name string, value []byte) []Xattr {
	var out []Xattr
	found := false
	for _, x := range list {
		if x.Name == name {
			found = true
			if value == nil {
				continue
			}
			x.Value = value
		}
		out = append(out, x)
	}
	if !found && value != nil {
		out = append(out, Xattr{name, value})
	}
	return out
}

// Allocated is how many clusters the blob has of its own.
func (b *BlobImage) Allocated() uint64 {
	n := uint64(0)
	b.Clusters.Each(func(uint64, uint32) { n++ })
	return n
}

// ReadOnly reports whether the blob takes no writes.
func (b *BlobImage) ReadOnly() bool { return b.DataROFlags != 0 }
