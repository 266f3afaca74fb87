// Package raid joins block devices of equal block size into one (SPDK's
// bdev_raid): raid0 stripes over them, concat puts one behind the other.
//
// # Layout
//
// Both count in strips of StripSizeKB. A base device contributes whole strips
// only; in raid0 all contribute as many as the smallest has. Strip s of a
// raid0 over n bases is strip s/n of base s%n:
//
//	array   | s0 | s1 | s2 | s3 | s4 | s5 |
//	base 0  | s0 | s2 | s4 |
//	base 1  | s1 | s3 | s5 |
//
// so the part of a contiguous range that one base holds is itself contiguous,
// and every request becomes at most one child request per base. Nothing is
// written on the bases besides data: an array is put together again by
// creating it with the same bases in the same order.
//
// # Life
//
// An array is configuring until every base has been opened and claimed, then
// online: only then is it a registered bdev. There is no redundancy, so the
// loss of a base takes the array offline: requests fail with a path status
// (they may succeed through another controller), the bdev is unregistered,
// and the entry stays in the list until it is deleted.
package raid
