package format

import (
	"encoding/binary"
	"hash/crc32"
)

// BlobID names a blob: the index of its root page, with bit 32 set.
type BlobID uint64

// The blob ids with a meaning. A parent of ExternalParent is a device outside
// the store.
const (
	NoBlob         BlobID = 1<<64 - 1
	ExternalParent BlobID = 1<<64 - 2
	BlobIDHighBit  BlobID = 1 << 32
)

// BlobIDOf is the id of the blob whose root is the given page.
func BlobIDOf(page uint32) BlobID { return BlobIDHighBit | BlobID(page) }

// Root is the index of the blob's first page.
func (id BlobID) Root() uint32 { return uint32(id) }

// A metadata page:
//
//	   0  blob id, 8 bytes
//	   8  sequence number in the chain
//	  12  reserved
//	  16  descriptors, 4072 bytes
//	4088  index of the next page, 0xffffffff: none
//	4092  CRC32C of the bytes before it
const (
	pageID          = 0
	pageSequence    = 8
	PageDescriptors = 16
	PageNext        = 4088
	PageCRC         = 4092
	descriptorsLen  = PageNext - PageDescriptors
	noPage          = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SealPage computes a page's checksum.
func SealPage(p []byte) {
	binary.LittleEndian.PutUint32(p[PageCRC:], crc32.Checksum(p[:PageCRC], castagnoli))
}

// PageIntact reports whether a page's checksum is right.
func PageIntact(p []byte) bool {
	return binary.LittleEndian.Uint32(p[PageCRC:]) == crc32.Checksum(p[:PageCRC], castagnoli)
}

// NewPage starts a metadata page.
func NewPage(id BlobID, sequence uint32) []byte {
	p := make([]byte, PageSize)
	initPage(p, id, sequence)
	return p
}

func initPage(p []byte, id BlobID, sequence uint32) {
	clear(p)
	binary.LittleEndian.PutUint64(p[pageID:], uint64(id))
	binary.LittleEndian.PutUint32(p[pageSequence:], sequence)
	binary.LittleEndian.PutUint32(p[PageNext:], noPage)
}

func PageBlobID(p []byte) BlobID      { return BlobID(binary.LittleEndian.Uint64(p[pageID:])) }
func pageSequenceNum(p []byte) uint32 { return binary.LittleEndian.Uint32(p[pageSequence:]) }
func pageNextIndex(p []byte) uint32   { return binary.LittleEndian.Uint32(p[PageNext:]) }
func setPageNext(p []byte, n uint32)  { binary.LittleEndian.PutUint32(p[PageNext:], n) }
func PageIsRoot(p []byte, i uint32) bool {
	return PageIntact(p) && pageSequenceNum(p) == 0 && PageBlobID(p) == BlobIDOf(i)
}
