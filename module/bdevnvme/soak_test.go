package bdevnvme

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// TestSoak writes and reads stamped blocks over two paths while both are cut,
// held and made inaccessible at random. No request fails, and no block is
// ever older than its last acknowledged write.
func TestSoak(t *testing.T) {
	t.Parallel()
	const seed = 7
	r := newRig(t, 2)
	r.ok(r.m.SetOptions(Options{KeepAlive: 400 * time.Millisecond}))
	direct := [2]nvmftgt.Addr(r.addrs)
	var proxies [2]*proxy
	for i := range proxies {
		proxies[i] = newProxy(t, direct[i])
		r.addrs[i] = proxies[i].addr()
		r.attach(i, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec = -1, 1 })
	}
	h := r.open("Nv0n1")
	defer h.Close()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var ios atomic.Int64
	for w := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			const blocks = 64
			var last [blocks]uint64
			buf := make([]byte, 4*4096)
			for gen := uint64(1); !stop.Load(); gen++ {
				n := uint64(rnd.IntN(4) + 1)
				at := uint64(rnd.IntN(blocks - 3))
				q := &bdev.Request{Op: bdev.OpRead, Offset: uint64(w*blocks) + at, Blocks: n, Iov: [][]byte{buf[:n*4096]}}
				if rnd.IntN(2) == 0 {
					q.Op = bdev.OpWrite
					for i := range n {
						binary.LittleEndian.PutUint64(buf[i*4096:], gen)
						binary.LittleEndian.PutUint64(buf[i*4096+4088:], gen)
						last[at+i] = gen
					}
				}
				if s := bdevtest.Do(h, q); s != nvme.Success {
					t.Errorf("%v: %v", q.Op, s)
					return
				}
				ios.Add(1)
				for i := range n {
					head, tail := binary.LittleEndian.Uint64(buf[i*4096:]), binary.LittleEndian.Uint64(buf[i*4096+4088:])
					if head != last[at+i] || tail != last[at+i] {
						t.Errorf("block %d holds %d and %d, written was %d", at+i, head, tail, last[at+i])
						return
					}
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 99))
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && !t.Failed(); {
		i := rnd.IntN(2)
		switch rnd.IntN(4) {
		case 0:
			proxies[i].cut()
		case 1:
			proxies[i].hold(true)
			time.Sleep(time.Duration(rnd.IntN(500)) * time.Millisecond)
			proxies[i].cut()
			proxies[i].hold(false)
		case 2:
			r.ok(r.sub.SetANAState(direct[i], 1, nvmftgt.ANAInaccessible))
			time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
			r.ok(r.sub.SetANAState(direct[i], 1, nvmftgt.ANAOptimized))
		case 3:
			r.ok(r.sub.SetANAState(direct[i], 1, nvmftgt.ANANonOptimized))
		}
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	}
	stop.Store(true)
	r.ends("the last requests", wg.Wait)
	t.Logf("seed %d: %d I/Os", seed, ios.Load())
}
