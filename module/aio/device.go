package aio

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/bdev"
)

// Config of a device.
type Config struct {
	Name       string
	Filename   string         // regular file or block device; must exist
	UUID       uuid.UUID      // zero: a random one
	BlockSize  uint32         // bytes, a power of two from 512 to 65536; 0: what the file system or the device prefers
	ReadOnly   bool           // opened for reading; everything that would write is refused
	Buffered   bool           // through the page cache even if direct I/O is possible
	QueueDepth int            // reads and writes in the kernel at once; 0: 256
	Registry   *bdev.Registry // when set, a device that vanishes unregisters itself here
}

// maxIO is the most that one request carries, in bytes: what one buffer of a
// bdev.Pool holds, and below the kernel's limit of 1024 pieces of 4 KiB.
const maxIO = 4 << 20

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("aio bdev: name is empty: %w", syscall.EINVAL)
	case c.Filename == "":
		return fmt.Errorf("aio bdev %q: filename is empty: %w", c.Name, syscall.EINVAL)
	case c.BlockSize != 0 && (c.BlockSize < 512 || c.BlockSize > 65536 || bits.OnesCount32(c.BlockSize) != 1):
		return fmt.Errorf("aio bdev %q: block_size %d must be a power of two from 512 to 65536: %w", c.Name, c.BlockSize, syscall.EINVAL)
	case c.QueueDepth < 0 || c.QueueDepth > 4096:
		return fmt.Errorf("aio bdev %q: queue depth %d must be 1 to 4096: %w", c.Name, c.QueueDepth, syscall.EINVAL)
	}
	if c.QueueDepth == 0 {
		c.QueueDepth = 256
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	return nil
}

// Device is a file as a block device.
type Device struct {
	conf   Config
	fd     int
	traits traits
	shift  uint // log2 of the block size

	info atomic.Pointer[bdev.Info]
	gone atomic.Bool // the block device has vanished
	ring *ring       // nil: everything goes through pool
	pool *pool

	rescan sync.Mutex // serializes Rescan
}

// New opens the file; the caller registers the device. The error carries the
// errno of what failed: ENOENT, EACCES, EINVAL for a size below one block or
// a block size that the device cannot do, EBUSY for a file or device that
// somebody else uses.
func New(c Config) (*Device, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	d := &Device{conf: c}
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("aio bdev %q: %w", c.Name, err)
	}
	d.pool = newPool(d)
	if d.traits.direct {
		// Without room for another context (fs.aio-max-nr) or without the
		// system call the pool serves.
		d.ring, _ = newRing(d, c.QueueDepth)
	}
	return d, nil
}

// open opens and probes the file and fills in info.
func (d *Device) open() error {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if d.conf.ReadOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	}
	fd, err := unix.Open(d.conf.Filename, flags, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.conf.Filename, err)
	}
	t, err := probe(fd)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("%s: %w", d.conf.Filename, err)
	}
	bs := d.conf.BlockSize
	if bs == 0 {
		bs = t.preferred
	}
	if !t.regular && bs < t.logical {
		unix.Close(fd)
		return fmt.Errorf("block_size %d is below the device's %d: %w", bs, t.logical, syscall.EINVAL)
	}
	if d.conf.Buffered || bs < t.offAlign {
		t.direct = false
	}
	// From here on it is this device's alone.
	held := -1
	if t.direct {
		if held, err = hold(fd, flags|unix.O_DIRECT, t.regular); errors.Is(err, unix.EINVAL) {
			t.direct = false
		}
	}
	if !t.direct {
		t.memAlign = 1
		held, err = hold(fd, flags, t.regular)
	}
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.conf.Filename, err)
	}
	fd = held
	blocks := t.size / uint64(bs)
	if blocks == 0 {
		unix.Close(fd)
		return fmt.Errorf("%s has %d bytes, less than one block of %d: %w", d.conf.Filename, t.size, bs, syscall.EINVAL)
	}
	d.fd, d.traits, d.shift = fd, t, uint(bits.TrailingZeros32(bs))
	ops := bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpWriteZeroes, bdev.OpReset)
	switch {
	case d.conf.ReadOnly:
		ops &^= bdev.Ops(bdev.OpWrite, bdev.OpWriteZeroes)
	case t.unmap:
		ops |= bdev.Ops(bdev.OpUnmap)
	}
	d.info.Store(&bdev.Info{Name: d.conf.Name, Product: "AIO disk", UUID: d.conf.UUID, BlockSize: bs, Blocks: blocks, Align: int(t.memAlign),
		WriteCache: t.writeCache || !t.direct, UnmapZeroes: t.regular && t.unmap, Ops: ops, MaxIO: maxIO / bs})
	return nil
}

// Info describes the device.
func (d *Device) Info() bdev.Info { return *d.info.Load() }

// Config returns what the device was made with.
func (d *Device) Config() Config { return d.conf }

// DriverSpecific is the device's object in bdev_get_bdevs.
func (d *Device) DriverSpecific() any {
	return map[string]any{"aio": map[string]any{
		"filename": d.conf.Filename, "block_size_override": d.conf.BlockSize != 0, "readonly": d.conf.ReadOnly, "fallocate": d.traits.regular &&
			d.traits.unmap}}
}

// Rescan looks at the file's size again, and tells reg when the number of
// blocks has changed. ENODEV when the block device is gone.
func (d *Device) Rescan(reg *bdev.Registry) error {
	d.rescan.Lock()
	size, err := sizeOf(d.fd, d.traits.regular)
	if err != nil {
		d.rescan.Unlock()
		return fmt.Errorf("aio bdev %q: size of %s: %w", d.conf.Name, d.conf.Filename, err)
	}
	i := d.Info()
	blocks := size >> d.shift
	changed := blocks != i.Blocks
	i.Blocks = blocks
	d.info.Store(&i)
	d.rescan.Unlock()
	if size == 0 && !d.traits.regular {
		d.vanished()
		return fmt.Errorf("aio bdev %q: %s is gone: %w", d.conf.Name, d.conf.Filename, syscall.ENODEV)
	}
	if changed && reg != nil {
		reg.Resized(i.Name)
	}
	return nil
}

// vanished notes that the block device is gone.
func (d *Device) vanished() {
	if !d.gone.Swap(true) && d.conf.Registry != nil {
		// ENODEV here: somebody else has begun to unregister it.
		go func() { _ = d.conf.Registry.Unregister(d.conf.Name) }()
	}
}

// Close closes the file. Nothing is in flight then.
func (d *Device) Close() error {
	if d.ring != nil {
		d.ring.close()
	}
	d.pool.close()
	return unix.Close(d.fd)
}
