package aio

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/bdev"
)

// maxWorkers bounds the threads that a device can block.
const maxWorkers = 32

// pool does blocking operations on goroutines that are started when needed,
// and then wait for more.
type pool struct {
	d    *Device
	mu   sync.Mutex
	cond sync.Cond // something queued, or closing
	wg   sync.WaitGroup

	// Guarded by mu.
	queue   []*task
	workers int
	idle    int
	closing bool
}

func newPool(d *Device) *pool {
	p := &pool{d: d}
	p.cond.L = &p.mu
	return p
}

func (p *pool) add(t *task) {
	p.mu.Lock()
	p.queue = append(p.queue, t)
	switch {
	case p.idle >= len(p.queue):
		p.cond.Signal()
	case p.workers < maxWorkers:
		p.workers++
		p.wg.Add(1)
		go p.work()
	}
	p.mu.Unlock()
}

func (p *pool) work() {
	defer p.wg.Done()
	var b bdev.Batch
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closing {
			p.idle++
			p.cond.Wait()
			p.idle--
		}
		if len(p.queue) == 0 {
			p.mu.Unlock()
			return
		}
		t := p.queue[0]
		n := copy(p.queue, p.queue[1:])
		p.queue[n] = nil
		p.queue = p.queue[:n]
		p.mu.Unlock()
		t.finish(p.d, p.do(t), &b)
		b.Flush()
	}
}

// close ends the workers; the queue is empty by then.
func (p *pool) close() {
	p.mu.Lock()
	p.closing = true
	p.cond.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

// do performs one operation, blocking.
func (p *pool) do(t *task) syscall.Errno {
	d, r := p.d, t.r
	offset, length := int64(r.Offset<<d.shift), int64(r.Blocks<<d.shift)
	switch r.Op {
	case bdev.OpRead, bdev.OpWrite:
		return transfer(d.fd, t)
	case bdev.OpFlush:
		return errno(unix.Fdatasync(d.fd))
	case bdev.OpUnmap:
		if d.traits.regular {
			return errno(retry(func() error {
				return unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
			}))
		}
		return d.blockRange(unix.BLKDISCARD, offset, length)
	case bdev.OpWriteZeroes:
		e := d.zero(offset, length, r.Buffers())
		if e == 0 && r.FUA {
			e = errno(unix.Fdatasync(d.fd))
		}
		return e
	}
	return syscall.EOPNOTSUPP
}

// zero makes a range read as zeros, the cheapest way there is; bufs has memory
// for the dearest.
func (d *Device) zero(offset, length int64, bufs *bdev.Pool) syscall.Errno {
	if !d.traits.regular {
		return d.blockRange(unix.BLKZEROOUT, offset, length)
	}
	for _, mode := range []uint32{unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE} {
		e := errno(retry(func() error { return unix.Fallocate(d.fd, mode, offset, length) }))
		if e != syscall.EOPNOTSUPP {
			return e
		}
	}
	if bufs == nil {
		return syscall.ENOMEM
	}
	zeros := bufs.Get(int(min(length, 1<<20)))
	if zeros == nil {
		return syscall.ENOMEM
	}
	defer bufs.Put(zeros)
	clear(zeros)
	t := &task{r: &bdev.Request{Op: bdev.OpWrite}, offset: offset}
	for length > 0 {
		t.left = int(min(length, int64(len(zeros))))
		t.vecs = append(t.vecs[:0], vec(zeros[:t.left]))
		length -= int64(t.left)
		if e := transfer(d.fd, t); e != 0 {
			return e
		}
	}
	return 0
}

// blockRange is an ioctl of a block device on a range of bytes.
func (d *Device) blockRange(req uintptr, offset, length int64) syscall.Errno {
	span := [2]uint64{uint64(offset), uint64(length)}
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), req, uintptr(unsafe.Pointer(&span)))
		if e != unix.EINTR {
			return e
		}
	}
}

// transfer reads or writes what is left of t.
func transfer(fd int, t *task) syscall.Errno {
	call, flags := uintptr(unix.SYS_PREADV2), uintptr(0)
	if t.r.Op == bdev.OpWrite {
		call = unix.SYS_PWRITEV2
		if t.r.FUA {
			flags = unix.RWF_DSYNC
		}
	}
	for t.left > 0 {
		n, _, e := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&t.vecs[0])), uintptr(len(t.vecs)), uintptr(t.offset), 0, flags)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return e
		case n == 0:
			return syscall.EIO // the file is shorter than it was
		default:
			t.advance(int(n))
		}
	}
	return 0
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	return syscall.EIO
}
