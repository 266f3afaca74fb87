package nvmftgt

import (
	"runtime"
	"testing"
	"time"
)

// TestIdleConnectionsAreSmall: a connection that has worked and is idle now
// keeps no receive buffer, and all of it stays below 32 KiB. The client's end
// is in the figure.
func TestIdleConnectionsAreSmall(t *testing.T) {
	r := newRig(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 100
	for range n / 2 {
		_, id := r.admin()
		r.ioq(id, 1).read(0, 8)
	}
	waitFor(t, func() bool {
		r.sub.mu.Lock()
		defer r.sub.mu.Unlock()
		for conn := range r.sub.conns {
			if conn.rx.parked.Load() == 0 {
				return false
			}
		}
		return true
	})
	time.Sleep(10 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / n
	t.Logf("%d bytes of heap and stack per connection", each)
	if each > 32<<10 {
		t.Errorf("%d bytes per connection", each)
	}
	if out := r.tgt.recvBuffers.Load(); out != 0 {
		t.Errorf("idle connections hold %d receive buffers", out)
	}
}
