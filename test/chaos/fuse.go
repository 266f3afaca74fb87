//go:build e2e

package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A disk that fails on demand is a file in a file system of our own: the kernel
// passes what a data plane does with it to this process (FUSE, protocol 7.31 of
// linux/fuse.h), which does it to a file on the host, or fails it, or lets it hang.
// The data planes do direct asynchronous I/O on it as on any file.

// Operations of the protocol.
const (
	fuseLookup    = 1
	fuseForget    = 2
	fuseGetattr   = 3
	fuseSetattr   = 4
	fuseOpen      = 14
	fuseRead      = 15
	fuseWrite     = 16
	fuseStatfs    = 17
	fuseRelease   = 18
	fuseFsync     = 20
	fuseFlush     = 25
	fuseInit      = 26
	fuseInterrupt = 36
	fuseDestroy   = 38
	fuseForgets   = 42
	fuseFallocate = 43
)

const (
	fuseRoot  = 1 // node of the folder
	fuseFile  = 2 // node of the one file in it
	fuseIn    = 40
	fuseWrIn  = fuseIn + 40
	fuseMaxIO = 1 << 20

	// Of fuseInit: asynchronous reads and direct I/O, writes of more than a page.
	fuseFlags = 1<<0 | 1<<5 | 1<<15 | 1<<22
	// Of fuseOpen: past the page cache, writes side by side.
	fuseOpened = 1<<0 | 1<<6
)

var order = binary.LittleEndian

// fuseDisk serves one file.
type fuseDisk struct {
	fd   int // of /dev/fuse
	name string
	file *os.File

	mu    sync.Mutex
	fault diskFault
	ended chan struct{} // closed when the fault ends
	turn  uint64        // I/Os so far
	stuck bool          // the one request that hangs was taken
}

// mountDisk shows file at path, in a folder of its own, to everybody on the host.
func mountDisk(file, path string) (*fuseDisk, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/fuse: %w", err)
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("disk", filepath.Clean(dir), "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	return &fuseDisk{fd: fd, name: name, file: f, ended: make(chan struct{})}, nil
}

// serve answers the kernel until the file system is gone.
func (d *fuseDisk) serve() error {
	for {
		buf := make([]byte, fuseMaxIO+64<<10)
		n, err := unix.Read(d.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENODEV):
			return nil
		case err != nil:
			return err
		case n < fuseIn:
			return fmt.Errorf("a request of %d bytes", n)
		}
		go d.answer(buf[:n])
	}
}

func (d *fuseDisk) answer(in []byte) {
	out, errno, silent := d.carryOut(order.Uint32(in[4:]), order.Uint64(in[16:]), in)
	if silent {
		return
	}
	if errno != 0 {
		out = nil
	}
	head := make([]byte, 16, 16+len(out))
	order.PutUint32(head, uint32(16+len(out)))
	order.PutUint32(head[4:], uint32(-int32(errno)))
	copy(head[8:16], in[8:16])
	_, _ = unix.Write(d.fd, append(head, out...)) // ENOENT: nobody waits any more
}

// carryOut does what a request asks for. silent: it takes no answer.
func (d *fuseDisk) carryOut(op uint32, node uint64, in []byte) (out []byte, errno syscall.Errno, silent bool) {
	switch op {
	case fuseInit:
		out = make([]byte, 64)
		order.PutUint32(out, 7)
		order.PutUint32(out[4:], 31)
		copy(out[8:12], in[fuseIn+8:fuseIn+12]) // read-ahead
		order.PutUint32(out[12:], order.Uint32(in[fuseIn+12:])&fuseFlags)
		order.PutUint16(out[16:], 512) // in the background
		order.PutUint16(out[18:], 512)
		order.PutUint32(out[20:], fuseMaxIO)
		order.PutUint32(out[24:], 1)
		order.PutUint16(out[28:], fuseMaxIO/4096)
	case fuseForget, fuseForgets, fuseInterrupt, fuseDestroy:
		return nil, 0, true
	case fuseLookup:
		if name := in[fuseIn : len(in)-1]; string(name) != d.name || d.now().Gone {
			return nil, syscall.ENOENT, false
		}
		out = make([]byte, 40, 128)
		order.PutUint64(out, fuseFile)
		out = append(out, d.attr(fuseFile)...)
	case fuseGetattr, fuseSetattr:
		if node == fuseFile && d.now().Gone {
			return nil, syscall.ESTALE, false
		}
		out = append(make([]byte, 16), d.attr(node)...)
	case fuseOpen:
		if node != fuseFile || d.now().Gone {
			return nil, syscall.ESTALE, false
		}
		out = make([]byte, 16)
		order.PutUint32(out[8:], fuseOpened)
	case fuseStatfs:
		out = make([]byte, 80)
		order.PutUint64(out, 1<<20)
		if !d.now().Full {
			order.PutUint64(out[8:], 1<<19)
			order.PutUint64(out[16:], 1<<19)
		}
		order.PutUint32(out[40:], 4096)
		order.PutUint32(out[44:], 255)
		order.PutUint32(out[48:], 4096)
	case fuseRead, fuseWrite, fuseFsync, fuseFallocate:
		if errno = d.meet(op); errno == 0 {
			out, errno = d.io(op, in)
		}
	case fuseRelease, fuseFlush:
	default:
		errno = syscall.ENOSYS
	}
	return out, errno, false
}

// io does an I/O to the file.
func (d *fuseDisk) io(op uint32, in []byte) (out []byte, errno syscall.Errno) {
	var err error
	arg := in[fuseIn:]
	switch op {
	case fuseRead:
		out = make([]byte, order.Uint32(arg[16:]))
		var n int
		if n, err = unix.Pread(int(d.file.Fd()), out, int64(order.Uint64(arg[8:]))); n >= 0 {
			out = out[:n]
		}
	case fuseWrite:
		var n int
		if n, err = unix.Pwrite(int(d.file.Fd()), in[fuseWrIn:], int64(order.Uint64(arg[8:]))); err == nil {
			out = make([]byte, 8)
			order.PutUint32(out, uint32(n))
		}
	case fuseFallocate:
		err = unix.Fallocate(int(d.file.Fd()), order.Uint32(arg[24:]), int64(order.Uint64(arg[8:])), int64(order.Uint64(arg[16:])))
	}
	if err != nil && !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return out, errno
}

// attr describes a node.
func (d *fuseDisk) attr(node uint64) []byte {
	a := make([]byte, 88)
	order.PutUint64(a, node)
	mode := uint32(syscall.S_IFDIR | 0o755)
	if node == fuseFile {
		var st unix.Stat_t
		_ = unix.Fstat(int(d.file.Fd()), &st)
		order.PutUint64(a[8:], uint64(st.Size))
		order.PutUint64(a[16:], uint64(st.Blocks))
		mode = syscall.S_IFREG | 0o600
	}
	order.PutUint32(a[60:], mode)
	order.PutUint32(a[64:], 1)
	order.PutUint32(a[80:], 4096)
	return a
}
