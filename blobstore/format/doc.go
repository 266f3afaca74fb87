// Package format is the on-disk format of SPDK's blobstore: layouts and codecs,
// bytes in and values out. It does no I/O; Peek and BuildImage read by functions
// that they are given. The control plane takes from it how much of a disk the
// metadata need.
//
// # What lies where
//
// The device is cut into clusters (1 or 4 MiB, say) and its head into pages
// of 4096 bytes. All numbers are little endian, structures are packed.
//
//	page 0           super block
//	page 1           used metadata page mask   one bit a metadata page
//	after it         used cluster mask         one bit a cluster
//	after it         used blob id mask         one bit a metadata page
//	MDStart          metadata pages            MDLen of them
//	next cluster     data clusters
//
// The clusters that hold any of the above are marked used and never given
// away.
//
// # Blobs
//
// A blob is a chain of metadata pages. The low 32 bits of its id are the
// index of the first, the high 32 bits are 1. Each page holds id, sequence
// number, descriptors, the index of the next page and a CRC32C. The
// descriptors are flags, extended attributes (two name spaces: the user's and
// the blobstore's own), and where the blob's clusters are: either a run-length
// list of clusters (older stores), or a table of extent pages, each of which
// is a metadata page of its own that lists up to 512 clusters.
//
// A thin blob may have holes: cluster 0 in a list, page 0 in the table. A
// hole reads from the parent snapshot, or as zeros without one. Beyond the
// parent's end it reads as zeros, too, also where the parent's own parents are
// longer: the disk cannot say so without the parent, so anyone who takes the
// parent away gives the blob clusters of zeros there first.
package format
