// Package null is the block device that stores nothing (SPDK's bdev_null):
// writes are accepted and forgotten, reads give zeros. It measures what
// everything above a device costs.
package null

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Config of a null device.
type Config struct {
	Name      string
	UUID      uuid.UUID // zero: a random one
	BlockSize uint32    // bytes; a multiple of 512
	Blocks    uint64
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("null bdev: name is empty: %w", syscall.EINVAL)
	case c.BlockSize == 0 || c.BlockSize%512 != 0:
		return fmt.Errorf("null bdev %q: block_size %d must be a multiple of 512: %w", c.Name, c.BlockSize, syscall.EINVAL)
	case c.Blocks == 0:
		return fmt.Errorf("null bdev %q: num_blocks must be above 0: %w", c.Name, syscall.EINVAL)
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	return nil
}

// Device is a null device.
type Device struct {
	info atomic.Pointer[bdev.Info]
}

// New returns a device, which the caller registers. EINVAL names the field.
func New(c Config) (*Device, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	d := &Device{}
	d.info.Store(&bdev.Info{Name: c.Name, Product: "Null disk", UUID: c.UUID, BlockSize: c.BlockSize, Blocks: c.Blocks, UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpReset)})
	return d, nil
}

// Info describes the device.
func (d *Device) Info() bdev.Info { return *d.info.Load() }

// Resize changes the number of blocks; the caller tells the registry by
// Resized. EINVAL for fewer than there are: those who use the bdev count on
// them.
func (d *Device) Resize(blocks uint64) error {
	i := d.Info()
	if blocks < i.Blocks {
		return fmt.Errorf("null bdev %q: %d blocks are fewer than the %d that it has; it can only grow: %w", i.Name, blocks,
			i.Blocks, syscall.EINVAL)
	}
	i.Blocks = blocks
	d.info.Store(&i)
	return nil
}

// Close has nothing to free.
func (d *Device) Close() error { return nil }

// Submit completes r before it returns.
func (d *Device) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op == bdev.OpRead {
		for _, p := range r.Iov {
			clear(p)
		}
	}
	r.Complete(nvme.Success, b)
}
