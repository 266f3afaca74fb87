package raid_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/nvme"
)

// cached is a device that may lose acknowledged writes before a flush.
type cached struct{ *malloc.Device }

func (d cached) Info() bdev.Info {
	i := d.Device.Info()
	i.WriteCache = true
	return i
}

// TestAppend: a concat gets one base after the other while it is written and read. Its
// users are told, find what they had written, and what a new base holds behind it. A
// base that would make it another device than they know is refused.
func TestAppend(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	m := raid.New(reg)
	names := bases(t, reg, 1024, 512, 512, 512)
	if _, err := m.Create(raid.Config{Name: "C", Level: raid.Concat, StripSizeKB: 64, Bases: names[:1]}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(raid.Config{Name: "R", Level: raid.Raid0, StripSizeKB: 64, Bases: names[3:]}); err != nil {
		t.Fatal(err)
	}
	var told atomic.Int32
	h, err := reg.Open("C", func(k bdev.EventKind) {
		if k == bdev.Resized {
			told.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var stop atomic.Bool
	done := make(chan error, 1)
	written, block := 0, func(n uint64) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 7, 9}, 1024) }
	go func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for !stop.Load() || written < 50 {
			n, buf := rnd.Uint64N(1024), make([]byte, 4096)
			if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: n, Blocks: 1, Iov: [][]byte{block(n)}}); s != nvme.Success {
				done <- fmt.Errorf("write: %v", s)
				return
			}
			if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Offset: n, Blocks: 1, Iov: [][]byte{buf}}); s != nvme.Success ||
				!bytes.Equal(buf, block(n)) {
				done <- fmt.Errorf("block %d: %v, or other data", n, s)
				return
			}
			written++
		}
		done <- nil
	}()
	refuse := func(why string, err error, want syscall.Errno) {
		t.Helper()
		if !bdev.IsErrno(err, want) {
			t.Errorf("%s: %v, want %v", why, err, want)
		}
	}
	dev, err := malloc.New(malloc.Config{Name: "Cached", BlockSize: 4096, Blocks: 512})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(cached{dev}); err != nil {
		t.Fatal(err)
	}
	refuse("a base with a volatile cache", m.Append("C", "Cached", false), syscall.EINVAL)
	refuse("a base with a volatile cache, dry", m.Append("C", "Cached", true), syscall.EINVAL)
	refuse("no array", m.Append("X", names[1], false), syscall.ENODEV)
	refuse("no base", m.Append("C", "X", false), syscall.ENODEV)
	refuse("a claimed base", m.Append("C", names[3], false), syscall.EPERM)
	refuse("a raid0", m.Append("R", names[1], false), syscall.EINVAL)
	if err := m.Append("C", names[1], true); err != nil || h.Info().Blocks != 1024 || reg.ClaimedBy(names[1]) != "" || told.Load() != 0 {
		t.Errorf("dry: %v, %d blocks, told %d times", err, h.Info().Blocks, told.Load())
	}
	second, err := reg.Open(names[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := bdevtest.Do(second, &bdev.Request{Op: bdev.OpWrite, Offset: 5, Blocks: 1, Iov: [][]byte{block(77)}}); s != nvme.Success {
		t.Fatal(s)
	}
	second.Close()
	for i, blocks := range []uint64{1536, 2048} {
		for range 2 {
			if err := m.Append("C", names[1+i], false); err != nil {
				t.Fatal(err)
			}
		}
		if h.Info().Blocks != blocks || told.Load() != int32(1+i) {
			t.Errorf("%d blocks, told %d times; want %d and %d", h.Info().Blocks, told.Load(), blocks, 1+i)
		}
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
	buf := make([]byte, 4096)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Offset: 1029, Blocks: 1, Iov: [][]byte{buf}}); s != nvme.Success ||
		!bytes.Equal(buf, block(77)) {
		t.Errorf("what the second base holds: %v, or other data", s)
	}
	across := bytes.Repeat([]byte{3}, 600*4096)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 1400, Blocks: 600, Iov: [][]byte{across}}); s != nvme.Success {
		t.Errorf("a write over three bases: %v", s)
	}
	for _, a := range m.Arrays("all") {
		if a.Name == "C" && (a.NumBases != 3 || a.Bases[2].Name != names[2] || a.Bases[2].DataSize != 512) {
			t.Errorf("the concat is shown as %+v", a)
		}
	}
}
