// Package blobstore runs SPDK's blobstore, the on-disk format under an lvstore,
// on a bdev.Handle: a device written here loads in spdk_tgt and the other way
// round. What lies where on the device is package format's; this one decides
// what is written when, and serves I/O of blobs meanwhile.
//
// # What is durable when
//
// A clean super block says that the masks on disk are right. A load writes
// nothing. The first change after it makes the super block that of this
// writer, see owner.go, the first change of metadata makes it dirty, and from
// then on only the metadata pages count: loading a dirty store walks them all from the blob
// roots and computes the masks again. A page is therefore reachable exactly
// when a root page leads to it, and every change of a blob becomes true with
// the write of one page: the root, or one extent page. See persist.go for the
// order of writes.
package blobstore
