package blobstore

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
	blobidHighBit  BlobID = 1 << 32
)

// blobidOf is the id of the blob whose root is the given page.
func blobidOf(page uint32) BlobID { return blobidHighBit | BlobID(page) }

// root is the index of the blob's first page.
func (id BlobID) root() uint32 { return uint32(id) }

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
	pageDescriptors = 16
	pageNext        = 4088
	pageCRC         = 4092
	descriptorsLen  = pageNext - pageDescriptors
	noPage          = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealPage computes a page's checksum.
func sealPage(p []byte) {
	binary.LittleEndian.PutUint32(p[pageCRC:], crc32.Checksum(p[:pageCRC], castagnoli))
}

// pageIntact reports whether a page's checksum is right.
func pageIntact(p []byte) bool {
	return binary.LittleEndian.Uint32(p[pageCRC:]) == crc32.Checksum(p[:pageCRC], castagnoli)
}

// newPage starts a metadata page.
func newPage(id BlobID, sequence uint32) []byte {
	p := make([]byte, PageSize)
	initPage(p, id, sequence)
	return p
}

func initPage(p []byte, id BlobID, sequence uint32) {
	clear(p)
	binary.LittleEndian.PutUint64(p[pageID:], uint64(id))
	binary.LittleEndian.PutUint32(p[pageSequence:], sequence)
	binary.LittleEndian.PutUint32(p[pageNext:], noPage)
}

func pageBlobID(p []byte) BlobID      { return BlobID(binary.LittleEndian.Uint64(p[pageID:])) }
func pageSequenceNum(p []byte) uint32 { return binary.LittleEndian.Uint32(p[pageSequence:]) }
func pageNextIndex(p []byte) uint32   { return binary.LittleEndian.Uint32(p[pageNext:]) }
func setPageNext(p []byte, n uint32)  { binary.LittleEndian.PutUint32(p[pageNext:], n) }
func pageIsRoot(p []byte, i uint32) bool {
	return pageIntact(p) && pageSequenceNum(p) == 0 && pageBlobID(p) == blobidOf(i)
}
