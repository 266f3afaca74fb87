package vdatgt

import (
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestSmallMemory: with the smallest buffer memory, hosts read and write all
// sizes, the large ones first, deeper than there is memory for; on disks that
// take their time, with all of it at once in the end. Nothing fails or hangs.
func TestSmallMemory(t *testing.T) {
	p := start(t, Config{BufferMemory: 16 << 20})
	ctx := t.Context()
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M", BlockSize: 4096, NumBlocks: 8192}))
	ok(t, p.Call(ctx, "bdev_delay_create", map[string]any{"name": "D", "base_bdev_name": "M",
		"avg_read_latency": 1000, "p99_read_latency": 2000, "avg_write_latency": 1000, "p99_write_latency": 2000}, nil))
	port, sub, user := freePort(t), "nqn.2016-06.io.spdk:small", "nqn.2016-06.io.spdk:host"
	p.export(spdk.NvmfSubsystemCreate{NQN: sub, SerialNumber: "S"}, spdk.NvmfNamespace{BdevName: "D"}, port, user)
	var all []*host.Namespace
	for range 4 {
		c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: sub, HostNQN: user, Log: testLog(),
			Queues: 2, QueueDepth: 127})
		ok(t, err)
		t.Cleanup(c.Close)
		all = append(all, c.Namespace(1))
	}
	flood := func(deep int, sizes ...int) {
		t.Helper()
		var ends []*reader
		var b bdev.Batch
		for i := range deep {
			for _, ns := range all {
				size := sizes[i%len(sizes)]
				r := &reader{buf: make([]byte, size), end: make(chan nvme.Status, 1)}
				ends = append(ends, r)
				op := bdev.OpRead
				if i/len(sizes)%2 == 1 {
					op = bdev.OpWrite
				}
				ns.Submit(&bdev.Request{Op: op, Blocks: uint64(size / 4096), Iov: [][]byte{r.buf}, Done: func(*bdev.Request, *bdev.Batch) {}}, r, &b)
			}
		}
		b.Flush()
		for _, r := range ends {
			if s := <-r.end; s != nvme.Success {
				t.Errorf("%d bytes: %v", len(r.buf), s)
			}
		}
	}
	sizes := []int{128 << 10, 64 << 10, 16 << 10, 8 << 10, 4 << 10}
	for _, size := range sizes {
		flood(120, size)
	}
	flood(240, sizes...)
	flood(120, 128<<10)
}

// TestBufferMemoryIsTheTargetsOwn: a target bounds its own buffers, whatever
// another one in the process was told.
func TestBufferMemoryIsTheTargetsOwn(t *testing.T) {
	dir := t.TempDir()
	var all []*Target
	for i := range 2 {
		tgt, err := New(Config{RPCSocket: fmt.Sprint(dir, "/", i), BufferMemory: (16 << 20) << i, Log: testLog()})
		ok(t, err)
		all = append(all, tgt)
	}
	for i, tgt := range all {
		if n := tgt.Registry().Buffers.Limit(); n != (16<<20)<<i {
			t.Errorf("target %d has %d bytes of buffers", i, n)
		}
	}
}
