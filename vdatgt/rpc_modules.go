package vdatgt

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/null"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func moduleMethods() []*Method {
	return []*Method{
		method("bdev_malloc_create", "Makes a bdev of memory; what is on it goes with it.", mallocCreate, slow),
		method("bdev_malloc_delete", "Removes a malloc bdev.", deleter[*malloc.Device], slow),
		method("bdev_null_create", "Makes a bdev that forgets writes and reads zeros.", nullCreate, slow),
		method("bdev_null_delete", "Removes a null bdev.", deleter[*null.Device], slow),
		method("bdev_null_resize", "Changes the size of a null bdev.", nullResize),
		method("bdev_aio_create", "Makes a bdev of a file or a block device of the system.", aioCreate, slow),
		method("bdev_aio_delete", "Removes an aio bdev; the file stays.", deleter[*aio.Device], slow),
		method("bdev_aio_rescan", "Takes notice of a file that has grown or shrunk.", aioRescan, slow),
	}
}

type memoryParams struct {
	Name      *string    `rpc:"name,optional" doc:"default Malloc0, Malloc1, …"`
	BlockSize uint32     `rpc:"block_size" doc:"bytes, 512 or 4096"`
	NumBlocks uint64     `rpc:"num_blocks" doc:"capacity in blocks"`
	UUID      *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
	Physical  uint32     `rpc:"physical_block_size,optional" doc:"only 0 or block_size"`
}

func checkPhysical(physical, block uint32) error {
	if physical != 0 && physical != block {
		return jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("physical_block_size %d: only block_size %d is supported", physical, block))
	}
	return nil
}

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// register adds a device and has its examination done before the reply, so
// that the next call does not meet the examiner's hold on it.
func (t *Target) register(ctx context.Context, d bdev.Device) (any, error) {
	if err := t.reg.Register(d); err != nil {
		_ = d.Close() // nothing was ever written to it
		return nil, err
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	return d.Info().Name, nil
}

func mallocCreate(ctx context.Context, t *Target, p memoryParams) (any, error) {
	if err := checkPhysical(p.Physical, p.BlockSize); err != nil {
		return nil, err
	}
	if p.Name == nil {
		next := t.nextMalloc()
		p.Name = &next
	}
	if *p.Name == "" {
		return nil, jsonrpc.Errno(syscall.EINVAL, "name is empty")
	}
	d, err := malloc.New(malloc.Config{Name: *p.Name, UUID: orNil(p.UUID), BlockSize: p.BlockSize, Blocks: p.NumBlocks})
	if err != nil {
		return nil, err
	}
	return t.register(ctx, d)
}

// nextMalloc finds a free name.
func (t *Target) nextMalloc() string {
	for {
		name := fmt.Sprintf("Malloc%d", t.mallocs.Add(1)-1)
		if _, taken := t.reg.Get(name); !taken {
			return name
		}
	}
}

type nullParams struct {
	Name      string     `rpc:"name" doc:"name of the new bdev"`
	BlockSize uint32     `rpc:"block_size" doc:"bytes, a multiple of 512"`
	NumBlocks uint64     `rpc:"num_blocks" doc:"capacity in blocks"`
	UUID      *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
	Physical  uint32     `rpc:"physical_block_size,optional" doc:"only 0 or block_size"`
}

func nullCreate(ctx context.Context, t *Target, p nullParams) (any, error) {
	if err := checkPhysical(p.Physical, p.BlockSize); err != nil {
		return nil, err
	}
	d, err := null.New(null.Config{Name: p.Name, UUID: orNil(p.UUID), BlockSize: p.BlockSize, Blocks: p.NumBlocks})
	if err != nil {
		return nil, err
	}
	return t.register(ctx, d)
}

type nullResizeParams struct {
	Name    string `rpc:"name" doc:"null bdev"`
	NewSize uint64 `rpc:"new_size" doc:"MiB"`
}

func nullResize(_ context.Context, t *Target, p nullResizeParams) (any, error) {
	d, err := deviceOf[*null.Device](t, p.Name)
	if err != nil {
		return nil, err
	}
	if p.NewSize > 1<<43 {
		return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("new_size %d MiB is above 2^43", p.NewSize))
	}
	if err := d.Resize(p.NewSize << 20 / uint64(d.Info().BlockSize)); err != nil {
		return nil, err
	}
	t.reg.Resized(p.Name)
	return true, nil
}

type aioParams struct {
	Name      string     `rpc:"name" doc:"name of the new bdev"`
	Filename  string     `rpc:"filename" doc:"path of the file or block device; refused with -16 while a mount, another device, program or bdev has it (O_EXCL, F_OFD_SETLK), and kept from them afterwards; SPDK does neither"`
	BlockSize uint32     `rpc:"block_size,optional" doc:"bytes; default what the device has; a file needs it"`
	ReadOnly  bool       `rpc:"readonly,optional" doc:"refuse writes"`
	Fallocate bool       `rpc:"fallocate,optional" doc:"SPDK's switch for unmap and write zeroes by fallocate; here they are always on"`
	UUID      *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
	NoWait    bool       `rpc:"nowait,optional" doc:"SPDK's RWF_NOWAIT switch; here nothing waits in any case"`
}

func aioCreate(ctx context.Context, t *Target, p aioParams) (any, error) {
	if _, taken := t.reg.Get(p.Name); taken {
		return nil, syscall.EEXIST
	}
	if st, err := os.Stat(p.Filename); err == nil && st.Mode().IsRegular() && p.BlockSize == 0 {
		return nil, jsonrpc.Errno(syscall.EINVAL, "block_size is missing; a regular file has none of its own")
	}
	d, err := aio.New(aio.Config{Name: p.Name, Filename: p.Filename, UUID: orNil(p.UUID), BlockSize: p.BlockSize,
		ReadOnly: p.ReadOnly, Registry: t.reg})
	if err != nil {
		return nil, err
	}
	return t.register(ctx, d)
}

func aioRescan(_ context.Context, t *Target, p nameParams) (any, error) {
	d, err := deviceOf[*aio.Device](t, p.Name)
	if err != nil {
		return nil, err
	}
	if err := d.Rescan(t.reg); err != nil {
		return nil, err
	}
	return true, nil
}

// deviceOf returns the bdev called name if it is of module D; ENODEV
// otherwise.
func deviceOf[D bdev.Device](t *Target, name string) (D, error) {
	dev, _ := t.reg.Get(name)
	d, ok := dev.(D)
	if !ok {
		return d, syscall.ENODEV
	}
	return d, nil
}

// deleter removes a bdev of module D. It returns when the bdev's users have
// let go of it.
func deleter[D bdev.Device](_ context.Context, t *Target, p nameParams) (any, error) {
	if _, err := deviceOf[D](t, p.Name); err != nil {
		return nil, err
	}
	if err := t.reg.Unregister(p.Name); err != nil {
		return nil, err
	}
	return true, nil
}
