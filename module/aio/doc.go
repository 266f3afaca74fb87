// Package aio is the block device on a regular file or a block device of the
// operating system (SPDK's bdev_aio).
//
// # How I/O is done
//
// Files that can do direct I/O are opened with O_DIRECT, and reads and writes
// go through Linux's asynchronous I/O: requests that arrive in one pass are
// submitted by one io_submit when the Batch is flushed, on the goroutine that
// received them. The kernel shows its ring of completions in memory. A
// connection that polls for its host's next command looks there, too, without
// a system call, and waits a little longer while transfers have been quick
// lately (bdev.Spinner); otherwise an eventfd wakes a goroutine in Go's poller,
// which passes on all that it finds with one Batch. Nothing runs while nothing
// is in flight. Linux's older interface was preferred to io_uring because its
// completions need no work in the thread that submitted, which in Go is any
// thread, and because container runtimes commonly forbid io_uring. A goroutine
// asleep in io_getevents instead keeps its processor until the scheduler takes
// it away, which with one processor quadrupled the latency.
//
// Everything else (flush, unmap, write zeroes, files without direct I/O, the
// rest of a short transfer) blocks, and is done by a bounded pool of
// goroutines.
//
// # Alignment
//
// Direct I/O wants memory aligned as Info.Align says. Other buffers are
// accepted and copied through a buffer of the registry.
//
// # Durability
//
// Flush is fdatasync: it reaches the medium through whatever cache lies
// between. A block device says whether it has a volatile cache, and that is
// passed on; a regular file always counts as cached, because its extents are
// only safe after fdatasync. FUA writes are RWF_DSYNC.
//
// # One user
//
// A block device is opened with O_EXCL, so that it cannot be mounted, made part
// of another device or opened by a second data plane while it is in use here,
// nor used here while it is. A file is locked with a lock of its open file
// description (fcntl(2), F_OFD_SETLK), for writing, or for reading when the
// device is read-only; only who asks for such a lock is kept out by it. Both end
// with the process. File systems without locks do without.
//
// # Errors
//
// Errors of the medium become media statuses, a full file system becomes
// CapacityExceeded, and a block device that is no longer there becomes a path
// status and is unregistered.
package aio
