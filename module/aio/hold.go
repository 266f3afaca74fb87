package aio

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// hold opens the file that fd stands for again, so that nobody else who asks can
// use it until the result is closed. EBUSY when somebody does.
func hold(fd, flags int, regular bool) (int, error) {
	if !regular {
		flags |= unix.O_EXCL
	}
	held, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0)
	if err != nil || !regular {
		return held, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		lock.Type = unix.F_RDLCK
	}
	err = unix.FcntlFlock(uintptr(held), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		unix.Close(held)
		return -1, fmt.Errorf("another process or bdev has locked it: %w", unix.EBUSY)
	}
	return held, nil
}
