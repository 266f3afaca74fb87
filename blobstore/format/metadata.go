package format

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Flags of a blob. A bit of invalid flags that is not known here keeps the
// blob from being opened; one of the data flags makes it read only, one of
// the metadata flags makes its metadata read only.
const (
	FlagThin             = 1 << 0 // invalid flags: clusters may be missing
	flagInternalXattr    = 1 << 1 // invalid flags: there are internal xattrs
	FlagExtentTable      = 1 << 2 // invalid flags: clusters are in extent pages
	FlagExternalSnapshot = 1 << 3 // invalid flags: the parent is outside the store
	knownInvalidFlags    = 1<<4 - 1

	FlagReadOnly     = 1 << 0 // data flags
	KnownDataROFlags = 1

	ClearMethodMask = 3 // metadata flags: the clear method
	KnownMDROFlags  = 3
)

// Internal extended attributes.
const (
	XattrParent            = "SNAP"    // id of the parent snapshot
	XattrSnapshotUnderway  = "SNAPTMP" // on a snapshot being made: id of the origin
	XattrRemovalUnderway   = "SNAPRM"  // on a snapshot being removed: id of its clone
	XattrExternalParent    = "EXTSNAP" // name of the parent outside the store
	MaxClustersPerBlob     = 1<<32 - 1
	ExtentsPerPage         = 512
	maxDescriptorXattrSize = descriptorsLen - 9
)

// Xattr is an extended attribute. Lists of them keep their order.
type Xattr struct {
	Name  string
	Value []byte
}

// Metadata is what the chain of a blob says.
type Metadata struct {
	ID           BlobID
	InvalidFlags uint64
	DataROFlags  uint64
	MDROFlags    uint64
	Xattrs       []Xattr // the user's
	Internal     []Xattr // the blobstore's own

	Clusters uint64 // length of the blob

	// UseTable: Table holds the page of each extentsPerPage clusters, 0 for
	// none. Otherwise Runs holds the clusters.
	UseTable bool
	Table    []uint32
	Runs     []Run
}

// Run is a piece of a blob: Length consecutive clusters from Cluster on, or
// Length missing clusters when Cluster is 0.
type Run struct{ Cluster, Length uint32 }

// Thin reports whether clusters may be missing.
func (m *Metadata) Thin() bool { return m.InvalidFlags&FlagThin != 0 }

// Descriptor types.
const (
	descPadding       = 0
	descExtentRLE     = 1
	descXattr         = 2
	descFlags         = 3
	descXattrInternal = 4
	descExtentTable   = 5
	descExtentPage    = 6
	descHeader        = 5 // type, length of the rest
)

// ExtentTableLen is how many extent pages a blob of n clusters has.
func ExtentTableLen(n uint64) uint64 { return (n + ExtentsPerPage - 1) / ExtentsPerPage }

// chainEncoder fills pages with descriptors.
type chainEncoder struct {
	id    BlobID
	pages [][]byte
	at    int // in the descriptors of the last page
}

func (e *chainEncoder) addPage() {
	e.pages = append(e.pages, NewPage(e.id, uint32(len(e.pages))))
	e.at = 0
}

func (e *chainEncoder) left() int { return descriptorsLen - e.at }

// add starts a descriptor with a body of n bytes, on a new page when it does
// not fit, and returns the body.
func (e *chainEncoder) add(kind uint8, n int) []byte {
	if e.left() < descHeader+n {
		e.addPage()
	}
	p := e.pages[len(e.pages)-1][PageDescriptors+e.at:]
	p[0] = kind
	binary.LittleEndian.PutUint32(p[1:], uint32(n))
	e.at += descHeader + n
	return p[descHeader : descHeader+n]
}

// Encode writes the chain. The pages are not linked nor sealed yet; see
// linkChain.
func (m *Metadata) Encode() ([][]byte, error) {
	le := binary.LittleEndian
	e := &chainEncoder{id: m.ID}
	e.addPage()
	f := e.add(descFlags, 24)
	le.PutUint64(f, m.InvalidFlags)
	le.PutUint64(f[8:], m.DataROFlags)
	le.PutUint64(f[16:], m.MDROFlags)
	for _, x := range m.Xattrs {
		if err := e.addXattr(descXattr, x); err != nil {
			return nil, err
		}
	}
	for _, x := range m.Internal {
		if err := e.addXattr(descXattrInternal, x); err != nil {
			return nil, err
		}
	}
	if m.UseTable {
		e.addTable(m.Clusters, m.Table)
	} else {
		e.addRuns(m.Runs)
	}
	return e.pages, nil
}

func (e *chainEncoder) addXattr(kind uint8, x Xattr) error {
	n := 4 + len(x.Name) + len(x.Value)
	if x.Name == "" || descHeader+n > descriptorsLen {
		return fmt.Errorf("xattr %q of %d bytes does not fit a metadata page", x.Name, len(x.Value))
	}
	b := e.add(kind, n)
	binary.LittleEndian.PutUint16(b, uint16(len(x.Name)))
	binary.LittleEndian.PutUint16(b[2:], uint16(len(x.Value)))
	copy(b[4:], x.Name)
	copy(b[4+len(x.Name):], x.Value)
	return nil
}

// addTable writes the extent table: in each descriptor the number of clusters
// of the whole blob, then entries of page and count, where only runs of
// missing pages have a count above 1.
func (e *chainEncoder) addTable(clusters uint64, table []uint32) {
	var runs []Run
	for i := 0; i < len(table); {
		n := 1
		for table[i] == 0 && i+n < len(table) && table[i+n] == 0 {
			n++
		}
		runs = append(runs, Run{table[i], uint32(n)})
		i += n
	}
	for first := true; first || len(runs) > 0; first = false {
		if e.left() < descHeader+8+8*min(1, len(runs)) {
			e.addPage()
		}
		n := min(len(runs), (e.left()-descHeader-8)/8)
		b := e.add(descExtentTable, 8+8*n)
		binary.LittleEndian.PutUint64(b, clusters)
		putRuns(b[8:], runs[:n])
		runs = runs[n:]
	}
}

func (e *chainEncoder) addRuns(runs []Run) {
	for len(runs) > 0 {
		if e.left() < descHeader+8 {
			e.addPage()
		}
		n := min(len(runs), (e.left()-descHeader)/8)
		putRuns(e.add(descExtentRLE, 8*n), runs[:n])
		runs = runs[n:]
	}
}

func putRuns(b []byte, runs []Run) {
	for i, r := range runs {
		binary.LittleEndian.PutUint32(b[8*i:], r.Cluster)
		binary.LittleEndian.PutUint32(b[8*i+4:], r.Length)
	}
}

// LinkChain gives the pages of a chain their indexes, the root's first, and
// seals them.
func LinkChain(pages [][]byte, indexes []uint32) {
	for i, p := range pages {
		if i+1 < len(pages) {
			setPageNext(p, indexes[i+1])
		}
		SealPage(p)
	}
}

// DecodeChain reads the pages of a chain, in order. It checks what the
// descriptors say about themselves; whether the clusters and pages exist is
// the loader's business.
func DecodeChain(id BlobID, pages [][]byte) (Metadata, error) {
	d := chainDecoder{m: Metadata{ID: id}}
	for i, p := range pages {
		if pageSequenceNum(p) != uint32(i) || PageBlobID(p) != id {
			return d.m, fmt.Errorf("page %d of the chain is page %d of blob 0x%x", i, pageSequenceNum(p), uint64(PageBlobID(p)))
		}
		if err := eachDescriptor(p, d.descriptor); err != nil {
			return d.m, fmt.Errorf("page %d of the chain: %w", i, err)
		}
	}
	return d.m, d.finish()
}

// eachDescriptor calls f with the type and body of each descriptor of a page.
func eachDescriptor(page []byte, f func(kind uint8, body []byte) error) error {
	rest := page[PageDescriptors:PageNext]
	for len(rest) >= descHeader {
		kind, n := rest[0], binary.LittleEndian.Uint32(rest[1:])
		if kind == descPadding && n == 0 {
			return nil
		}
		if uint64(n) > uint64(len(rest)-descHeader) {
			return fmt.Errorf("descriptor of type %d and %d bytes leaves its page", kind, n)
		}
		if kind != descPadding {
			if err := f(kind, rest[descHeader:descHeader+n]); err != nil {
				return err
			}
		}
		rest = rest[descHeader+n:]
	}
	return nil
}

type chainDecoder struct {
	m       Metadata
	hasRuns bool
}

func (d *chainDecoder) descriptor(kind uint8, b []byte) error {
	le := binary.LittleEndian
	switch kind {
	case descFlags:
		if len(b) != 24 {
			return fmt.Errorf("flags of %d bytes, want 24", len(b))
		}
		d.m.InvalidFlags, d.m.DataROFlags, d.m.MDROFlags = le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
	case descXattr, descXattrInternal:
		if len(b) < 4 || len(b) != 4+int(le.Uint16(b))+int(le.Uint16(b[2:])) {
			return fmt.Errorf("xattr of %d bytes does not add up", len(b))
		}
		n := int(le.Uint16(b))
		x := Xattr{Name: string(b[4 : 4+n]), Value: append([]byte(nil), b[4+n:]...)}
		if kind == descXattr {
			d.m.Xattrs = append(d.m.Xattrs, x)
		} else {
			d.m.Internal = append(d.m.Internal, x)
		}
	case descExtentRLE:
		if len(b) == 0 || len(b)%8 != 0 || d.m.UseTable {
			return fmt.Errorf("list of clusters of %d bytes is misplaced or of a wrong size", len(b))
		}
		d.hasRuns = true
		return d.runs(b)
	case descExtentTable:
		if len(b) < 8 || len(b)%8 != 0 || d.hasRuns {
			return fmt.Errorf("extent table of %d bytes is misplaced or of a wrong size", len(b))
		}
		if d.m.UseTable && d.m.Clusters != le.Uint64(b) {
			return fmt.Errorf("extent table says %d clusters, before it said %d", le.Uint64(b), d.m.Clusters)
		}
		d.m.UseTable, d.m.Clusters = true, le.Uint64(b)
		return d.table(b[8:])
	case descExtentPage:
		return errors.New("an extent page's list is in the blob's chain")
	}
	return nil // a type from the future; flags say whether it matters
}

func (d *chainDecoder) runs(b []byte) error {
	for ; len(b) > 0; b = b[8:] {
		r := Run{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
		d.m.Clusters += uint64(r.Length)
		if d.m.Clusters > MaxClustersPerBlob || uint64(r.Cluster)+uint64(r.Length) > 1<<32 {
			return fmt.Errorf("run of %d clusters from %d is too long", r.Length, r.Cluster)
		}
		if r.Length != 0 {
			d.m.Runs = append(d.m.Runs, r)
		}
	}
	return nil
}

func (d *chainDecoder) table(b []byte) error {
	if d.m.Clusters > MaxClustersPerBlob {
		return fmt.Errorf("blob of %d clusters is too long", d.m.Clusters)
	}
	want := ExtentTableLen(d.m.Clusters)
	for ; len(b) > 0; b = b[8:] {
		page, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if page != 0 && n != 1 {
			return fmt.Errorf("extent page %d counts %d times", page, n)
		}
		if uint64(len(d.m.Table))+uint64(n) > want {
			return fmt.Errorf("extent table has more than the %d pages of %d clusters", want, d.m.Clusters)
		}
		if page == 0 {
			d.m.Table = append(d.m.Table, make([]uint32, n)...)
		} else {
			d.m.Table = append(d.m.Table, page)
		}
	}
	return nil
}

func (d *chainDecoder) finish() error {
	if want := ExtentTableLen(d.m.Clusters); d.m.UseTable && uint64(len(d.m.Table)) != want {
		return fmt.Errorf("extent table has %d pages, want %d for %d clusters", len(d.m.Table), want, d.m.Clusters)
	}
	return nil
}

// EncodeExtentPage writes the list of clusters that starts at cluster number
// first of the blob over p and seals it.
func EncodeExtentPage(p []byte, id BlobID, first uint64, clusters []uint32) {
	initPage(p, id, 0)
	b := p[PageDescriptors:]
	b[0] = descExtentPage
	binary.LittleEndian.PutUint32(b[1:], uint32(4+4*len(clusters)))
	binary.LittleEndian.PutUint32(b[5:], uint32(first))
	for i, c := range clusters {
		binary.LittleEndian.PutUint32(b[9+4*i:], c)
	}
	SealPage(p)
}

// DecodeExtentPage reads an extent page into dst and returns the number of
// Clusters it lists. The page must be the one of cluster number first.
func DecodeExtentPage(p []byte, first uint64, dst *[ExtentsPerPage]uint32) (int, error) {
	le := binary.LittleEndian
	if !PageIntact(p) {
		return 0, errors.New("checksum is wrong")
	}
	b := p[PageDescriptors:PageNext]
	n := uint64(le.Uint32(b[1:]))
	if b[0] != descExtentPage || pageSequenceNum(p) != 0 || pageNextIndex(p) != noPage {
		return 0, errors.New("it is not an extent page")
	}
	if n < 8 || n%4 != 0 || (n-4)/4 > ExtentsPerPage {
		return 0, fmt.Errorf("a list of %d bytes", n)
	}
	if got := uint64(le.Uint32(b[5:])); got != first {
		return 0, fmt.Errorf("it starts at cluster %d of the blob, want %d", got, first)
	}
	count := int(n-4) / 4
	for i := range count {
		dst[i] = le.Uint32(b[9+4*i:])
	}
	return count, nil
}

// SetExternal makes the metadata that of an external clone, or, without an id,
// of a blob that is none.
func (m *Metadata) SetExternal(id []byte) {
	m.SetInternalXattr(XattrExternalParent, id)
	if id == nil {
		m.InvalidFlags &^= FlagExternalSnapshot
	} else {
		m.InvalidFlags |= FlagExternalSnapshot
	}
}

// InternalXattr returns an internal xattr, nil when there is none.
func (m *Metadata) InternalXattr(name string) []byte {
	for _, x := range m.Internal {
		if x.Name == name {
			return x.Value
		}
	}
	return nil
}
