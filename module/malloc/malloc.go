// Package malloc is the memory block device (SPDK's bdev_malloc): a slab
// outside the Go heap that reads as zeros when new and is lost on Close.
package malloc

import (
	"bytes"
	"fmt"
	"math/bits"
	"syscall"
	"unsafe"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Config of a memory device.
type Config struct {
	Name      string
	UUID      uuid.UUID // zero: a random one
	BlockSize uint32    // bytes; 512, 1024, 2048 or 4096
	Blocks    uint64
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("malloc bdev: name is empty: %w", syscall.EINVAL)
	case c.BlockSize < 512 || c.BlockSize > 4096 || bits.OnesCount32(c.BlockSize) != 1:
		return fmt.Errorf("malloc bdev %q: block_size %d must be 512, 1024, 2048 or 4096: %w", c.Name, c.BlockSize, syscall.EINVAL)
	case c.Blocks == 0:
		return fmt.Errorf("malloc bdev %q: num_blocks must be above 0: %w", c.Name, syscall.EINVAL)
	case c.Blocks > maxBytes/uint64(c.BlockSize):
		return fmt.Errorf("malloc bdev %q: num_blocks %d of %d bytes is above %d bytes: %w", c.Name, c.Blocks, c.BlockSize,
			uint64(maxBytes), syscall.ENOMEM)
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	return nil
}

const (
	// maxBytes is far above any memory and keeps sums within an int.
	maxBytes = 1 << 46

	// dropBytes is the length from which zeroing gives memory back to the
	// system instead of writing it.
	dropBytes = 1 << 20
)

// Device is a memory device. Reads and writes of overlapping blocks at the
// same time are not ordered against each other, as on any disk;
// compare-and-writes are atomic to each other.
type Device struct {
	info  bdev.Info
	slab  []byte
	shift uint
}

// New maps the memory; the caller registers the device. EINVAL names the
// field, ENOMEM means that there is not so much memory.
func New(c Config) (*Device, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	slab, err := syscall.Mmap(-1, 0, int(c.Blocks)*int(c.BlockSize), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("malloc bdev %q: map %d bytes: %w", c.Name, c.Blocks*uint64(c.BlockSize), syscall.ENOMEM)
	}
	_ = syscall.Madvise(slab, syscall.MADV_HUGEPAGE)
	d := &Device{slab: slab, shift: uint(bits.TrailingZeros32(c.BlockSize))}
	d.info = bdev.Info{Name: c.Name, Product: "Malloc disk", UUID: c.UUID, BlockSize: c.BlockSize, Blocks: c.Blocks, UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpCompare, bdev.OpReset)}
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
			if unsafe.SliceData(p) != unsafe.SliceData(mem) {
				copy(p, mem)
			}
			mem = mem[len(p):]
		}
	case bdev.OpWrite:
		for _, p := range r.Iov {
			if unsafe.SliceData(p) != unsafe.SliceData(mem) {
				copy(mem, p)
			}
			mem = mem[len(p):]
		}
	case bdev.OpUnmap, bdev.OpWriteZeroes:
		zero(mem)
	case bdev.OpCompare:
		s = compare(mem, r.Iov)
	}
	r.Complete(s, b)
}

// zero clears mem; of long ranges it gives whole pages back.
func zero(mem []byte) {
	if len(mem) < dropBytes {
		clear(mem)
		return
	}
	page := uintptr(syscall.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	head := int(-at & (page - 1))
	whole := (len(mem) - head) &^ (int(page) - 1)
	if syscall.Madvise(mem[head:head+whole], syscall.MADV_DONTNEED) != nil {
		clear(mem)
		return
	}
	clear(mem[:head])
	clear(mem[head+whole:])
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
