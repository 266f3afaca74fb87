package bdev_test

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
)

// bare is memory that can only read, write and flush, a few blocks at a time,
// and completes on goroutines of its own.
type bare struct {
	*malloc.Device
	maxIO  uint32
	inline bool
	delay  time.Duration
}

func (d *bare) Info() bdev.Info {
	i := d.Device.Info()
	i.Ops = bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush)
	i.MaxIO = d.maxIO
	return i
}

func (d *bare) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op != bdev.OpFlush && d.maxIO != 0 && r.Blocks > uint64(d.maxIO) {
		panic("a request above the device's limit")
	}
	if !d.Info().Ops.Has(r.Op) {
		panic("an operation that the device does not have")
	}
	if d.inline {
		d.Device.Submit(r, b)
		return
	}
	if !r.Retain() {
		panic("no buffer")
	}
	go func() {
		time.Sleep(d.delay)
		var own bdev.Batch
		d.Device.Submit(r, &own)
		own.Flush()
	}()
}

func memory(t testing.TB, name string) *malloc.Device {
	t.Helper()
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 512, Blocks: 16384})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func add(t testing.TB, reg *bdev.Registry, d bdev.Device) *bdev.Handle {
	t.Helper()
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open(d.Info().Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What a device lacks its handles make up for.
func TestBareDeviceConforms(t *testing.T) {
	for _, c := range []struct {
		name string
		dev  bare
	}{
		{"inline", bare{inline: true}},
		{"inline-7", bare{inline: true, maxIO: 7}},
		{"later", bare{}},
		{"later-7", bare{maxIO: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
				d := c.dev
				d.Device = memory(t, "Bare0")
				if err := reg.Register(&d); err != nil {
					t.Fatal(err)
				}
				return "Bare0"
			}})
		})
	}
}
