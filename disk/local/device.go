package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/disk"
)

// device is an open file or block device.
type device struct {
	path    string
	fd      int
	regular bool
	size    uint64
	id      disk.ID
}

// Open opens a disk that nobody else uses. disk.ErrNotFound when nothing has
// the name, disk.ErrInUse when somebody has it open exclusively.
func (m Machine) Open(path string) (disk.Device, error) {
	real, err := m.resolve(path)
	if err != nil {
		return nil, err
	}
	// O_PATH has no effect on what it leads to, be it a tape.
	fd, err := unix.Open(real, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened: %w", path, err)
	}
	d := &device{path: real, fd: fd}
	if err := d.take(path); err != nil {
		unix.Close(d.fd)
		return nil, err
	}
	return d, nil
}

// take makes sure that the device is one and is nobody else's.
func (d *device) take(path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		d.regular, d.size = true, uint64(st.Size)
		if err := d.reopen(unix.O_RDWR); err != nil {
			return fmt.Errorf("%s cannot be opened: %w", path, err)
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
		err := unix.FcntlFlock(uintptr(d.fd), unix.F_OFD_SETLK, &lock)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return inUse(path, "another process has locked the file")
		}
	case unix.S_IFBLK:
		err := d.reopen(unix.O_RDONLY | unix.O_EXCL)
		if errors.Is(err, unix.EBUSY) {
			by := user(&st)
			if by == "" {
				by = "another program has it open, or something is built on it"
			}
			return inUse(path, by)
		}
		if err != nil {
			return fmt.Errorf("%s cannot be opened: %w", path, err)
		}
		if ro, err := unix.IoctlGetInt(d.fd, unix.BLKROGET); err == nil && ro != 0 {
			return fmt.Errorf("%s is read-only, and a pd is written to; if it may be, run blockdev --setrw %s", path, d.path)
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&d.size))); e != 0 {
			return fmt.Errorf("%s does not tell its size: %w", path, e)
		}
	default:
		return fmt.Errorf("%s is neither a file nor a block device", path)
	}
	var err error
	d.id, err = identify(d.fd, "", &st)
	d.id.Also = also(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		d.id.System = kernel{"/sys", "/proc"}.system(fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	}
	return err
}

// reopen opens the file that d.fd stands for with other flags.
func (d *device) reopen(flags int) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.fd), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	old := d.fd
	d.fd = fd
	return unix.Close(old)
}

func (d *device) Path() string { return d.path }
func (d *device) ID() disk.ID  { return d.id }
func (d *device) Size() uint64 { return d.size }
func (d *device) Close() error { return unix.Close(d.fd) }

func (d *device) ReadAt(ctx context.Context, p []byte, off uint64) error {
	for len(p) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := unix.Pread(d.fd, p, int64(off))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			p, off = p[n:], off+uint64(n)
		}
	}
	return nil
}

// NextData implements disk.Extents.
func (d *device) NextData(off uint64) (start, end uint64, err error) {
	if !d.regular {
		return 0, 0, errors.ErrUnsupported
	}
	at, err := unix.Seek(d.fd, int64(off), unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	hole, err := unix.Seek(d.fd, at, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	return uint64(at), uint64(hole), nil
}

// Wipe gives a file's blocks back, and zeros the places of a block device that
// decide whether it is blank. It is durable when Wipe returns.
func (d *device) Wipe(ctx context.Context) error {
	if d.regular {
		if err := unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(d.size)); err == nil {
			return unix.Fsync(d.fd)
		}
		for off := uint64(0); off < d.size; { // all of its data
			start, end, err := d.NextData(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				start, end = off, d.size
			}
			if err := d.Zero(ctx, start, min(end, d.size)-start); err != nil {
				return err
			}
			off = end
		}
		return unix.Fsync(d.fd)
	}
	// Looking needs no leave to write. The claim stays with the first opening.
	w := device{}
	var err error
	if w.fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.fd), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	w.size = d.size
	err = disk.WipePlaces(ctx, &w)
	if err == nil {
		err = unix.Fsync(w.fd)
	}
	return errors.Join(err, unix.Close(w.fd))
}

// Zero writes zeros.
func (d *device) Zero(ctx context.Context, off, n uint64) error {
	zeros := make([]byte, 1<<20)
	for end := off + n; off < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := unix.Pwrite(d.fd, zeros[:min(uint64(len(zeros)), end-off)], int64(off))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		off += uint64(max(n, 0))
	}
	return nil
}
