// Package local opens the files and block devices of the machine that it runs
// on, for package disk: only below allowed folders, and only when nobody else
// uses them.
//
// # Who else uses it
//
// A block device is opened with O_EXCL, which the kernel refuses while it, its
// disk or one of its partitions is mounted, part of an md or dm device, swapped
// on, behind a loop device or opened so by another program. A file is locked
// with a write lock of its open file description (F_OFD_SETLK) over all of it,
// which vda_tgt takes for as long as it has the file open, and which QEMU's
// locks of disk images conflict with. A file system without locks is taken to
// have no other users.
//
// # Folders
//
// A path is resolved first, symbolic links, /proc/self/root and all, and what
// it comes to must lie in one of the folders, which are resolved likewise.
package local
