package host

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// blockingChunk is the most bytes that a blocking call moves with one
// request.
const blockingChunk = 1 << 20

// IOError is a blocking call that failed.
type IOError struct {
	Op     string
	NSID   uint32
	Offset int64 // bytes
	Status nvme.Status
}

func (e *IOError) Error() string {
	return fmt.Sprintf("%s at byte %d of namespace %d: %v", e.Op, e.Offset, e.NSID, e.Status)
}

// Unwrap returns the status.
func (e *IOError) Unwrap() error { return e.Status }

// Size returns the namespace's size in bytes as of the last look.
func (n *Namespace) Size() int64 {
	i := n.Identity()
	return int64(i.Blocks) * int64(i.BlockSize)
}

// BlockSize returns the block size in bytes.
func (n *Namespace) BlockSize() int { return int(n.Identity().BlockSize) }

// ReadAt fills p from byte off of the namespace; both are multiples of the
// block size. On an error some of p may have been filled. It waits for a
// reconnect as the controller's Resilience says.
func (n *Namespace) ReadAt(ctx context.Context, p []byte, off int64) error {
	return n.move(ctx, bdev.OpRead, p, off)
}

// WriteAt writes p to byte off of the namespace; both are multiples of the
// block size. On an error any part may have been written.
func (n *Namespace) WriteAt(ctx context.Context, p []byte, off int64) error {
	return n.move(ctx, bdev.OpWrite, p, off)
}

// Flush returns when every write that was acknowledged before is durable.
func (n *Namespace) Flush(ctx context.Context) error {
	return n.run(ctx, &bdev.Request{Op: bdev.OpFlush}, 0)
}

// WriteZeroes makes length bytes from byte off on read as zeros.
func (n *Namespace) WriteZeroes(ctx context.Context, off, length int64) error {
	return n.span(ctx, bdev.OpWriteZeroes, off, length)
}

// Deallocate tells the controller that length bytes from byte off on are not
// needed; they read as zeros afterwards if Identity.Zeroes says so.
func (n *Namespace) Deallocate(ctx context.Context, off, length int64) error {
	return n.span(ctx, bdev.OpUnmap, off, length)
}

func (n *Namespace) check(off, length int64) error {
	bs := int64(n.BlockSize())
	switch {
	case off < 0 || length < 0 || off > n.Size() || length > n.Size()-off:
		return fmt.Errorf("bytes %d to %d are outside namespace %d of %d bytes", off, off+length, n.id, n.Size())
	case off%bs != 0 || length%bs != 0:
		return fmt.Errorf("offset %d and length %d are not multiples of the block size %d", off, length, bs)
	}
	return nil
}

func (n *Namespace) span(ctx context.Context, op bdev.Op, off, length int64) error {
	if err := n.check(off, length); err != nil {
		return err
	}
	bs := int64(n.BlockSize())
	// In pieces, so that a lost connection does not start all over and ctx
	// is looked at.
	const piece = 1 << 30
	for length > 0 {
		l := min(length, piece)
		r := &bdev.Request{Op: op, Offset: uint64(off / bs), Blocks: uint64(l / bs)}
		if err := n.run(ctx, r, off); err != nil {
			return err
		}
		off, length = off+l, length-l
	}
	return nil
}

func (n *Namespace) move(ctx context.Context, op bdev.Op, p []byte, off int64) error {
	if err := n.check(off, int64(len(p))); err != nil {
		return err
	}
	bs := int64(n.BlockSize())
	for len(p) > 0 {
		l := min(len(p), blockingChunk)
		// A buffer of our own: when ctx ends the command may go on.
		buf := make([]byte, l)
		if op == bdev.OpWrite {
			copy(buf, p[:l])
		}
		r := &bdev.Request{Op: op, Offset: uint64(off / bs), Blocks: uint64(int64(l) / bs), Iov: [][]byte{buf}}
		if err := n.run(ctx, r, off); err != nil {
			return err
		}
		if op == bdev.OpRead {
			copy(p, buf)
		}
		p, off = p[l:], off+int64(l)
	}
	return nil
}

// run carries out r and waits, over reconnects while the controller may
// recover. r must not be used again after an error of ctx.
func (n *Namespace) run(ctx context.Context, r *bdev.Request, off int64) error {
	for {
		changed := n.ctl.watch()
		done := make(chan nvme.Status, 1)
		r.Done = func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }
		var b bdev.Batch
		n.Submit(r, nil, &b)
		b.Flush()
		var s nvme.Status
		select {
		case s = <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if s == nvme.Success {
			return nil
		}
		fail := &IOError{Op: r.Op.String(), NSID: n.id, Offset: off, Status: s}
		switch c := n.ctl; {
		case n.gone.Load() || s&nvme.DNR != 0:
			return fail
		case s == nvme.HostPathError && (c.MayRecover() || c.State() == Enabled):
			// Enabled: the session went down under us and this is not said
			// yet, or a new one is there already.
			select {
			case <-changed:
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case s == nvme.TransientTransport || s == nvme.CommandInterrupted:
			if err := sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		default:
			return fail
		}
	}
}
