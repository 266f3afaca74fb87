package blobstore

import (
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// DeviceError is an I/O of the store's own that the base device failed. It is
// EIO as an errno, and the status goes on to the host whose request needed it.
type DeviceError struct {
	Op     bdev.Op
	Offset uint64 // bytes
	Length uint64 // bytes
	Status nvme.Status
}

func (e *DeviceError) Error() string {
	return fmt.Sprintf("%s of %d bytes at %d: %s", e.Op, e.Length, e.Offset, e.Status)
}

// Unwrap makes the error both EIO and its status.
func (e *DeviceError) Unwrap() []error { return []error{syscall.EIO, e.Status} }

// device is the base device as the metadata code sees it: synchronous, byte
// offsets. Safe for concurrent use.
type device struct {
	h *bdev.Handle
}

const (
	deviceWindow   = 32      // requests in flight of one run
	deviceMaxBytes = 1 << 20 // of one read or write
	deviceMaxClear = 1 << 30 // bytes of one unmap or write zeroes
)

// deviceIO is one transfer of a run.
type deviceIO struct {
	op     bdev.Op
	offset uint64 // bytes
	length uint64 // bytes
	buf    []byte // length bytes for a read or write, nil for others
}

func (d *device) info() *bdev.Info { return d.h.Info() }

// size is the size of the device, bytes.
func (d *device) size() uint64 {
	i := d.info()
	return i.Blocks * uint64(i.BlockSize)
}

func (d *device) read(offset uint64, buf []byte) error {
	return d.run(deviceIO{bdev.OpRead, offset, uint64(len(buf)), buf})
}

func (d *device) write(offset uint64, buf []byte) error {
	return d.run(deviceIO{bdev.OpWrite, offset, uint64(len(buf)), buf})
}

// flush makes completed writes durable. Devices without a write cache have
// nothing to flush.
func (d *device) flush() error {
	i := d.info()
	if !i.WriteCache || !i.Ops.Has(bdev.OpFlush) {
		return nil
	}
	return d.run(deviceIO{op: bdev.OpFlush})
}

// zero makes the range read as zeros.
func (d *device) zero(offset, length uint64) error {
	return d.run(deviceIO{op: bdev.OpWriteZeroes, offset: offset, length: length})
}

// clear prepares a range for its next owner by a clear method; it reports
// whether the range now reads as zeros.
func (d *device) clear(m format.ClearMethod, offset, length uint64) (bool, error) {
	if length == 0 {
		return true, nil
	}
	switch m {
	case format.ClearNone:
		return false, nil
	case format.ClearWriteZeroes:
		return true, d.zero(offset, length)
	}
	if i := d.info(); !i.Ops.Has(bdev.OpUnmap) {
		return true, d.zero(offset, length)
	}
	err := d.run(deviceIO{op: bdev.OpUnmap, offset: offset, length: length})
	return d.info().UnmapZeroes, err
}

// run does the transfers, several at a time and in no particular order, and
// returns the first failure when all that were started have ended.
func (d *device) run(ios ...deviceIO) error {
	r := deviceRun{d: d, info: d.info(), done: make(chan *bdev.Request, deviceWindow)}
	for i := range ios {
		if r.err == nil {
			r.transfer(&ios[i])
		}
	}
	r.batch.Flush()
	for r.inflight > 0 {
		r.reap()
	}
	return r.err
}

type deviceRun struct {
	d        *device
	info     *bdev.Info
	batch    bdev.Batch
	done     chan *bdev.Request
	inflight int
	err      error
}

// transfer cuts io to pieces that can be under way together.
func (r *deviceRun) transfer(io *deviceIO) {
	if io.op == bdev.OpFlush {
		r.submit(io.op, 0, 0, nil)
		return
	}
	limit := uint64(deviceMaxBytes)
	if io.buf == nil {
		limit = deviceMaxClear
	}
	limit -= limit % uint64(r.info.BlockSize)
	for at := uint64(0); at < io.length && r.err == nil; {
		n := min(limit, io.length-at)
		var data []byte
		if io.buf != nil {
			data = io.buf[at : at+n]
		}
		r.submit(io.op, io.offset+at, n, data)
		at += n
	}
}

func (r *deviceRun) submit(op bdev.Op, offset, length uint64, data []byte) {
	if r.inflight == deviceWindow {
		r.batch.Flush()
		r.reap()
	}
	bs := uint64(r.info.BlockSize)
	req := &bdev.Request{Op: op, Offset: offset / bs, Blocks: length / bs}
	if data != nil {
		req.Iov = [][]byte{data}
	}
	done := r.done
	req.Done = func(req *bdev.Request, _ *bdev.Batch) { done <- req }
	r.inflight++
	r.d.h.Submit(req, &r.batch)
}

func (r *deviceRun) reap() {
	req := <-r.done
	r.inflight--
	if req.Status != nvme.Success && r.err == nil {
		bs := uint64(r.info.BlockSize)
		r.err = &DeviceError{Op: req.Op, Offset: req.Offset * bs, Length: req.Blocks * bs, Status: req.Status}
	}
}
