package aio

import (
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// status translates an errno of a failed operation for the host.
func (d *Device) status(op bdev.Op, e syscall.Errno) nvme.Status {
	switch e {
	case 0:
		return nvme.Success
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return nvme.CapacityExceeded
	case syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR, syscall.ENOBUFS, syscall.EBUSY:
		return nvme.CommandInterrupted
	case syscall.EROFS, syscall.EBADF, syscall.EPERM:
		return nvme.WriteProtected | nvme.DNR
	case syscall.EBADE:
		return nvme.ReservationConflict
	case syscall.EOPNOTSUPP:
		return nvme.InvalidOpcode | nvme.DNR
	case syscall.ENODEV, syscall.ENXIO, syscall.ENOMEDIUM, syscall.ESHUTDOWN, syscall.ENOLINK:
		d.vanished()
		return nvme.InternalPathError
	case syscall.EIO, syscall.ENODATA, syscall.EILSEQ, syscall.EREMOTEIO, syscall.ETIMEDOUT:
		if !d.traits.regular {
			// A disk that was pulled answers EIO and has no size.
			if size, err := sizeOf(d.fd, false); err != nil || size == 0 {
				d.vanished()
				return nvme.InternalPathError
			}
		}
		if op == bdev.OpRead {
			return nvme.UnrecoveredReadError
		}
		return nvme.WriteFault
	}
	return nvme.InternalError
}
