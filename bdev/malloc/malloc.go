// Package malloc is the memory block device (SPDK's bdev_malloc): a slab
// outside the Go heap that reads as zeros when new and is lost on Close.
package malloc

import (
	"bytes"
	"fmt"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"vda/bdev"
	"vda/nvme"
)

// Config of a memory device.
type Config struct {
	Name      string
	UUID      uuid.UUID // zero: a random one
	BlockSize uint32    // bytes; 512 or 4096
	Blocks    uint64
}

// Device is a memory device. Reads and writes of overlapping blocks at the
// same time are not ordered against each other, as on any disk.
type Device struct {
	info  bdev.Info
	slab  []byte
	shift uint
	cas   sync.Mutex // serializes compare-and-write
}

// New maps the memory. EINVAL for an unknown block size or zero blocks.
func New(c Config) (*Device, error) {
	if (c.BlockSize != 512 && c.BlockSize != 4096) || c.Blocks == 0 {
		return nil, fmt.Errorf("malloc bdev %q: block_size %d must be 512 or 4096 and num_blocks %d above 0: %w", c.Name, c.BlockSize, c.Blocks, syscall.EINVAL)
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	slab, err := syscall.Mmap(-1, 0, int(c.Blocks)*int(c.BlockSize), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("malloc bdev %q: map %d bytes: %w", c.Name, c.Blocks*uint64(c.BlockSize), syscall.ENOMEM)
	}
	_ = syscall.Madvise(slab, syscall.MADV_HUGEPAGE)
	d := &Device{slab: slab, shift: 9}
	if c.BlockSize == 4096 {
		d.shift = 12
	}
	d.info = bdev.Info{Name: c.Name, Product: "Malloc disk", UUID: c.UUID, BlockSize: c.BlockSize, Blocks: c.Blocks, UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpCompare, bdev.OpCompareAndWrite, bdev.OpReset)}
	return d, nil
}

// Info describes the device.
func (d *Device) Info() bdev.Info { return d.info }

// Close unmaps the memory.
func (d *Device) Close() error { return syscall.Munmap(d.slab) }

// Map returns the slab itself.
func (d *Device) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	return append(dst, d.slab[offset<<d.shift:(offset+blocks)<<d.shift]), true
}

// Submit completes r before it returns.
func (d *Device) Submit(r *bdev.Request, b *bdev.Batch) {
	mem := d.slab[r.Offset<<d.shift : (r.Offset+r.Blocks)<<d.shift]
	s := nvme.Success
	switch r.Op {
	case bdev.OpRead:
		for _, p := range r.Iov {
			if &p[0] != &mem[0] {
				copy(p, mem)
			}
			mem = mem[len(p):]
		}
	case bdev.OpWrite:
		for _, p := range r.Iov {
			if &p[0] != &mem[0] {
				copy(mem, p)
			}
			mem = mem[len(p):]
		}
	case bdev.OpUnmap, bdev.OpWriteZeroes:
		clear(mem)
	case bdev.OpCompare:
		s = compare(mem, r.Iov)
	case bdev.OpCompareAndWrite:
		d.cas.Lock()
		s = compareAndWrite(mem, r.Iov)
		d.cas.Unlock()
	}
	r.Complete(s, b)
}

func compare(mem []byte, iov [][]byte) nvme.Status {
	for _, p := range iov {
		n := min(len(p), len(mem))
		if !bytes.Equal(mem[:n], p[:n]) {
			return nvme.CompareFailure | nvme.DNR
		}
		mem = mem[n:]
	}
	return nvme.Success
}

func compareAndWrite(mem []byte, iov [][]byte) nvme.Status {
	if s := compare(mem, iov); s != nvme.Success {
		return s
	}
	skip := len(mem)
	for _, p := range iov {
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		n := copy(mem, p[skip:])
		mem, skip = mem[n:], 0
	}
	return nvme.Success
}
