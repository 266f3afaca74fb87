package aio

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// traits is what a file can do.
type traits struct {
	regular    bool
	size       uint64 // bytes
	preferred  uint32 // block size in bytes
	logical    uint32 // smallest block a block device takes
	direct     bool   // O_DIRECT works
	memAlign   uint32 // bytes, of memory for direct I/O
	offAlign   uint32 // bytes, of offset and length for direct I/O
	writeCache bool   // volatile
	unmap      bool
}

// probe looks at an open file. EINVAL for anything but a regular file or a
// block device.
func probe(fd int) (traits, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return traits{}, err
	}
	t := traits{}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		t.regular = true
	case unix.S_IFBLK:
	default:
		return t, fmt.Errorf("neither a regular file nor a block device: %w", syscall.EINVAL)
	}
	size, err := sizeOf(fd, t.regular)
	if err != nil {
		return t, err
	}
	t.size = size
	if t.regular {
		t.preferred, t.logical = 512, 512
		if st.Blksize >= 512 && st.Blksize <= 65536 && st.Blksize&(st.Blksize-1) == 0 {
			t.preferred = uint32(st.Blksize)
		}
		t.writeCache = true
		// Beyond the end there is nothing to punch: this only asks.
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(size), 4096)
		t.unmap = err == nil || errors.Is(err, unix.EBADF) // EBADF: open for reading only
	} else {
		ss, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
		if err != nil {
			return t, err
		}
		t.preferred, t.logical = uint32(ss), uint32(ss)
		sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		t.writeCache = queueAttr(sys, "write_cache") != "write through"
		max := queueAttr(sys, "discard_max_bytes")
		t.unmap = max != "" && max != "0"
	}
	t.memAlign, t.offAlign, t.direct = alignment(fd, t)
	return t, nil
}

// alignment asks the kernel what direct I/O needs.
func alignment(fd int, t traits) (mem, off uint32, ok bool) {
	var sx unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &sx)
	if err == nil && sx.Mask&unix.STATX_DIOALIGN != 0 {
		return sx.Dio_mem_align, sx.Dio_offset_align, sx.Dio_offset_align != 0
	}
	// Kernels before 6.1 do not say; a page is enough for every file system,
	// and open with O_DIRECT fails where it is impossible.
	if t.regular {
		return 4096, max(t.logical, t.preferred), true
	}
	return max(t.logical, 512), t.logical, true
}

// queueAttr reads an attribute of a disk's queue, for a partition of its
// disk's. "" when there is none.
func queueAttr(sys, name string) string {
	for _, p := range []string{"/queue/", "/../queue/"} {
		if v, err := os.ReadFile(sys + p + name); err == nil {
			return strings.TrimSpace(string(v))
		}
	}
	return ""
}

// sizeOf returns a file's size in bytes.
func sizeOf(fd int, regular bool) (uint64, error) {
	if regular {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return uint64(st.Size), err
	}
	var n uint64
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return 0, e
	}
	return n, nil
}
