package aio

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// task is one request inside the device. Tasks are reused.
type task struct {
	r      *bdev.Request
	bufs   *bdev.Pool // that of bounce
	bounce []byte     // when the request's memory is unaligned
	vecs   []unix.Iovec
	offset int64 // bytes in the file
	left   int   // bytes not yet transferred
	cb     iocb  // what the kernel is given
	start  int64 // when it was submitted, ns
}

var tasks = sync.Pool{New: func() any { return &task{} }}

// Submit starts r.
func (d *Device) Submit(r *bdev.Request, b *bdev.Batch) {
	switch {
	case d.gone.Load():
		r.Complete(nvme.InternalPathError, b)
		return
	case d.conf.ReadOnly && (r.Op == bdev.OpWrite || r.Op == bdev.OpWriteZeroes || r.Op == bdev.OpUnmap):
		r.Complete(nvme.WriteProtected|nvme.DNR, b)
		return
	case r.Op == bdev.OpReset:
		r.Complete(nvme.Success, b)
		return
	case r.Blocks == 0 && r.Op != bdev.OpFlush:
		r.Complete(nvme.Success, b)
		return
	}
	t := tasks.Get().(*task)
	t.r = r
	if r.Op != bdev.OpRead && r.Op != bdev.OpWrite {
		d.pool.add(t)
		return
	}
	if !r.Retain() || !t.describe(d) {
		t.release()
		r.Complete(nvme.CommandInterrupted, b)
		return
	}
	if d.ring != nil {
		d.ring.add(t, b)
	} else {
		d.pool.add(t)
	}
}

// describe fills in the kernel's description of the transfer. It returns false
// when there is no buffer to align unaligned memory with.
func (t *task) describe(d *Device) bool {
	r := t.r
	t.offset = int64(r.Offset << d.shift)
	t.left = int(r.Blocks << d.shift)
	mask := uintptr(d.traits.memAlign) - 1
	aligned := len(r.Iov) <= 1024
	for _, p := range r.Iov {
		if (uintptr(unsafe.Pointer(unsafe.SliceData(p)))|uintptr(len(p)))&mask != 0 {
			aligned = false
			break
		}
		if len(p) > 0 {
			t.vecs = append(t.vecs, vec(p))
		}
	}
	if aligned {
		return true
	}
	t.vecs = t.vecs[:0]
	if t.bufs = r.Buffers(); t.bufs == nil {
		return false
	}
	t.bounce = t.bufs.Get(t.left)
	if t.bounce == nil {
		return false
	}
	t.vecs = append(t.vecs, vec(t.bounce))
	if r.Op == bdev.OpWrite {
		v := bdev.IovAt(r.Iov, 0)
		v.Gather(t.bounce)
	}
	return true
}

func vec(p []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(p)}
	v.SetLen(len(p))
	return v
}

// advance drops n transferred bytes from the front of what is left.
func (t *task) advance(n int) {
	t.offset += int64(n)
	t.left -= n
	i := 0
	for n > 0 {
		v := &t.vecs[i]
		if int(v.Len) > n {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(int(v.Len) - n)
			break
		}
		n -= int(v.Len)
		i++
	}
	t.vecs = append(t.vecs[:0], t.vecs[i:]...)
}

// finish completes the request of a transfer or another operation that is
// over, and frees t.
func (t *task) finish(d *Device, e syscall.Errno, b *bdev.Batch) {
	r := t.r
	if t.bounce != nil && e == 0 && r.Op == bdev.OpRead {
		v := bdev.IovAt(r.Iov, 0)
		v.Scatter(t.bounce)
	}
	s := d.status(r.Op, e)
	t.release()
	r.Complete(s, b)
}

func (t *task) release() {
	if t.bounce != nil {
		t.bufs.Put(t.bounce)
		t.bufs, t.bounce = nil, nil
	}
	clear(t.vecs)
	t.vecs = t.vecs[:0]
	t.r = nil
	tasks.Put(t)
}
