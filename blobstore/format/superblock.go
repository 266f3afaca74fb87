package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
)

// Signature starts every super block.
const Signature = "SPDKBLOB"

// Version is the version that a new super block gets; 1 to 3 are read.
const Version = 3

// TypeLen is the size of the blobstore type, bytes.
const TypeLen = 16

// LvstoreType is the blobstore type of an lvstore.
const LvstoreType = "LVOLSTORE"

// SuperBlock is page 0.
//
//	 0  signature "SPDKBLOB"         48  metadata start
//	 8  version                      52  metadata length
//	12  length, 4096                 56  type, 16 bytes
//	16  clean                        72  used blob id mask start
//	20  super blob id, 8 bytes       76  used blob id mask length
//	28  cluster size, bytes          80  size of the store, bytes, 8 bytes
//	32  used page mask start         88  io unit size, bytes
//	36  used page mask length        92  metadata page size, bytes
//	40  used cluster mask start      96  reserved
//	44  used cluster mask length   4064  mark of the writer, 24 bytes, in what the format reserves
//	                               4092  CRC32C of the bytes before it
//
// Fields have 4 bytes unless said; starts and lengths count pages.
type SuperBlock struct {
	Version    uint32
	Clean      bool
	SuperBlob  BlobID
	Type       string // without its trailing zeros
	IOUnitSize uint32 // bytes
	Layout     Layout
}

// Offsets of the super block's fields, bytes.
const (
	sbVersion          = 8
	sbLength           = 12
	sbClean            = 16
	sbSuperBlob        = 20
	sbClusterSize      = 28
	sbPageMaskStart    = 32
	sbPageMaskLen      = 36
	sbClusterMaskStart = 40
	sbClusterMaskLen   = 44
	sbMDStart          = 48
	sbMDLen            = 52
	sbType             = 56
	sbBlobidMaskStart  = 72
	sbBlobidMaskLen    = 76
	sbSize             = 80
	sbIOUnitSize       = 88
	sbMDPageSize       = 92
)

// Encode writes sb over page, which is PageSize long. Bytes that sb does not
// know stay as they are.
func (sb *SuperBlock) Encode(page []byte) {
	le := binary.LittleEndian
	copy(page, Signature)
	le.PutUint32(page[sbVersion:], sb.Version)
	le.PutUint32(page[sbLength:], PageSize)
	clean := uint32(0)
	if sb.Clean {
		clean = 1
	}
	l := &sb.Layout
	le.PutUint32(page[sbClean:], clean)
	le.PutUint64(page[sbSuperBlob:], uint64(sb.SuperBlob))
	le.PutUint32(page[sbClusterSize:], l.ClusterSize)
	le.PutUint32(page[sbPageMaskStart:], l.PageMaskStart)
	le.PutUint32(page[sbPageMaskLen:], l.PageMaskLen)
	le.PutUint32(page[sbClusterMaskStart:], l.ClusterMaskStart)
	le.PutUint32(page[sbClusterMaskLen:], l.ClusterMaskLen)
	le.PutUint32(page[sbMDStart:], l.MDStart)
	le.PutUint32(page[sbMDLen:], l.MDLen)
	clear(page[sbType : sbType+TypeLen])
	copy(page[sbType:sbType+TypeLen], sb.Type)
	le.PutUint32(page[sbBlobidMaskStart:], l.BlobidMaskStart)
	le.PutUint32(page[sbBlobidMaskLen:], l.BlobidMaskLen)
	le.PutUint64(page[sbSize:], l.DeviceBytes)
	le.PutUint32(page[sbIOUnitSize:], sb.IOUnitSize)
	le.PutUint32(page[sbMDPageSize:], l.PageBytes)
	SealPage(page)
}

// DecodeSuperBlock reads page 0 of a device of deviceBytes. EILSEQ when it is
// no super block, is damaged or describes a larger device (as SPDK); EINVAL
// when its regions make no sense.
func DecodeSuperBlock(page []byte, deviceBytes uint64) (SuperBlock, error) {
	le := binary.LittleEndian
	var sb SuperBlock
	if len(page) < PageSize || !bytes.Equal(page[:8], []byte(Signature)) {
		return sb, fmt.Errorf("no blobstore signature: %w", syscall.EILSEQ)
	}
	sb.Version = le.Uint32(page[sbVersion:])
	if sb.Version < 1 || sb.Version > Version {
		return sb, fmt.Errorf("blobstore version %d, want 1 to %d: %w", sb.Version, Version, syscall.EILSEQ)
	}
	if !PageIntact(page) {
		return sb, fmt.Errorf("super block checksum is wrong: %w", syscall.EILSEQ)
	}
	sb.Clean = le.Uint32(page[sbClean:]) != 0
	sb.SuperBlob = BlobID(le.Uint64(page[sbSuperBlob:]))
	sb.Type = string(bytes.TrimRight(page[sbType:sbType+TypeLen], "\x00"))
	sb.IOUnitSize = le.Uint32(page[sbIOUnitSize:])
	if sb.IOUnitSize == 0 {
		sb.IOUnitSize = PageSize
	}
	sb.Layout = Layout{
		DeviceBytes:      le.Uint64(page[sbSize:]),
		ClusterSize:      le.Uint32(page[sbClusterSize:]),
		PageBytes:        le.Uint32(page[sbMDPageSize:]),
		PageMaskStart:    le.Uint32(page[sbPageMaskStart:]),
		PageMaskLen:      le.Uint32(page[sbPageMaskLen:]),
		ClusterMaskStart: le.Uint32(page[sbClusterMaskStart:]),
		ClusterMaskLen:   le.Uint32(page[sbClusterMaskLen:]),
		BlobidMaskStart:  le.Uint32(page[sbBlobidMaskStart:]),
		BlobidMaskLen:    le.Uint32(page[sbBlobidMaskLen:]),
		MDStart:          le.Uint32(page[sbMDStart:]),
		MDLen:            le.Uint32(page[sbMDLen:]),
	}
	l := &sb.Layout
	if l.PageBytes == 0 {
		l.PageBytes = PageSize
	}
	if l.DeviceBytes == 0 {
		l.DeviceBytes = deviceBytes
	}
	if l.DeviceBytes > deviceBytes {
		return sb, fmt.Errorf("the store has %d bytes, its device only %d: %w", l.DeviceBytes, deviceBytes, syscall.EILSEQ)
	}
	return sb, sb.check()
}

// check refuses a super block whose checksum is right and whose contents are
// not.
func (sb *SuperBlock) check() error {
	l := &sb.Layout
	bad := func(format string, args ...any) error {
		return fmt.Errorf("super block: "+format+": %w", append(args, syscall.EINVAL)...)
	}
	if err := CheckPageBytes(l.PageBytes); err != nil {
		return fmt.Errorf("super block: %w", err)
	}
	if l.ClusterSize == 0 || l.ClusterSize%l.PageBytes != 0 {
		return bad("cluster size %d is not a multiple of %d", l.ClusterSize, l.PageBytes)
	}
	if u := sb.IOUnitSize; u < 512 || u&(u-1) != 0 || l.ClusterSize%u != 0 {
		return bad("io unit size %d", u)
	}
	l.Total = l.DeviceBytes / uint64(l.ClusterSize)
	perCluster := uint64(l.ClusterSize / l.PageBytes)
	end := uint64(l.MDStart) + uint64(l.MDLen)
	l.Meta = (end + perCluster - 1) / perCluster
	if l.MDLen == 0 || l.Total > 1<<32-1 || l.Meta > l.Total {
		return bad("metadata of %d pages at %d does not fit %d clusters", l.MDLen, l.MDStart, l.Total)
	}
	for _, m := range []struct {
		name       string
		start, len uint32
		bits       uint64
	}{
		{"used page", l.PageMaskStart, l.PageMaskLen, uint64(l.MDLen)},
		{"used cluster", l.ClusterMaskStart, l.ClusterMaskLen, l.Total},
		{"used blob id", l.BlobidMaskStart, l.BlobidMaskLen, uint64(l.MDLen)},
	} {
		if m.name == "used blob id" && m.len == 0 {
			continue // versions below 3 have none
		}
		if m.start == 0 || uint64(m.start)+uint64(m.len) > uint64(l.MDStart) || uint64(m.len) < l.MaskPages(m.bits) {
			return bad("%s mask of %d pages at %d", m.name, m.len, m.start)
		}
	}
	return nil
}
