package bdev

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// shardCount is how many shards a handle's counters have: a power of two,
// about one for each core.
var shardCount, shardMask = func() (int, uint32) {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < 16 {
		n *= 2
	}
	return n, uint32(n - 1)
}()

// opCounters counts one operation. Requests that complete in the pass of
// their submission are near, others far. Of near ones only some have their
// latency taken (timedEvery), which stand for all.
type opCounters struct {
	ops, bytes  atomic.Uint64
	far, nanos  atomic.Uint64 // far ones and the sum of their latencies, ns
	timed, near atomic.Uint64 // near ones that were timed and the sum of their latencies, ns
	max, min    atomic.Uint64 // ns; min is stored plus one, 0: none yet
}

// sum is the sum of all latencies, ns.
func (o *opCounters) sum() uint64 {
	far, timed := o.far.Load(), o.timed.Load()
	n := o.nanos.Load()
	if ops := o.ops.Load(); timed > 0 && ops > far {
		n += uint64(float64(o.near.Load()) / float64(timed) * float64(ops-far))
	}
	return n
}

// counters counts all operations of a handle's shard, or the past of a device.
type counters struct {
	op    [opEnd]opCounters
	fails atomic.Uint64

	medium, noSpace atomic.Uint64 // of fails
}

func (c *counters) add(r *Request, far bool, nanos, blockSize uint64) {
	if r.Status != nvme.Success {
		c.fail(r)
		return
	}
	o := &c.op[r.Op]
	o.ops.Add(1)
	if r.Blocks != 0 {
		o.bytes.Add(r.Blocks * blockSize)
	}
	switch {
	case far:
		o.far.Add(1)
		o.nanos.Add(nanos)
	case nanos != 0:
		o.timed.Add(1)
		o.near.Add(nanos)
	default:
		return
	}
	if nanos > o.max.Load() {
		raise(&o.max, nanos)
	}
	if m := o.min.Load(); m == 0 || nanos+1 < m {
		lower(&o.min, nanos+1)
	}
}

// fail counts a failure, and apart what says something of the disk: that it
// cannot read or write, or has no space. Deallocating may fail on a disk that is
// well.
func (c *counters) fail(r *Request) {
	c.fails.Add(1)
	switch s := r.Status &^ nvme.DNR; {
	case s == nvme.CapacityExceeded:
		c.noSpace.Add(1)
	case s.Type() == 2, s == nvme.InternalError && (r.Op == OpRead || r.Op == OpWrite || r.Op == OpFlush):
		c.medium.Add(1)
	}
}

func raise(v *atomic.Uint64, to uint64) {
	for old := v.Load(); to > old && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

func lower(v *atomic.Uint64, to uint64) {
	for old := v.Load(); (old == 0 || to < old) && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// fold adds o to c.
func (c *counters) fold(o *counters) {
	c.fails.Add(o.fails.Load())
	c.medium.Add(o.medium.Load())
	c.noSpace.Add(o.noSpace.Load())
	for i := range c.op {
		to, from := &c.op[i], &o.op[i]
		to.ops.Add(from.ops.Load())
		to.bytes.Add(from.bytes.Load())
		to.far.Add(from.far.Load())
		to.nanos.Add(from.nanos.Load())
		to.timed.Add(from.timed.Load())
		to.near.Add(from.near.Load())
		raise(&to.max, from.max.Load())
		if m := from.min.Load(); m != 0 {
			lower(&to.min, m)
		}
	}
}

func (c *counters) reset(extremesOnly bool) {
	for i := range c.op {
		o := &c.op[i]
		o.max.Store(0)
		o.min.Store(0)
		if !extremesOnly {
			o.ops.Store(0)
			o.bytes.Store(0)
			o.far.Store(0)
			o.nanos.Store(0)
			o.timed.Store(0)
			o.near.Store(0)
		}
	}
	if !extremesOnly {
		c.fails.Store(0)
		c.medium.Store(0)
		c.noSpace.Store(0)
	}
}

// OpStat is what was done of one operation. Failed requests are not in it.
type OpStat struct {
	Ops   uint64
	Bytes uint64
	Nanos uint64 // sum of latencies; of requests that complete at once (memory) it is that of one in 61 times 61
	Max   uint64 // ns
	Min   uint64 // ns; 0 also when there were none
}

// IOStat is what a device did since it was registered, or reset.
type IOStat struct {
	Op    [opEnd]OpStat // by Op
	Fails uint64        // all requests that failed

	// Of Fails: those whose status is of the medium, or an internal error, and
	// those for which there was no space.
	MediumErrors, NoSpace uint64

	// Throttled is time in which at least one request waited for a limit of
	// SetQoS. A reset leaves it.
	Throttled time.Duration

	InFlight int // requests that are under way
}

// IOStatJSON is IOStat with bdev_get_iostat's keys. A tick is a nanosecond.
type IOStatJSON struct {
	BytesRead     uint64            `json:"bytes_read"`
	ReadOps       uint64            `json:"num_read_ops"`
	BytesWritten  uint64            `json:"bytes_written"`
	WriteOps      uint64            `json:"num_write_ops"`
	BytesUnmapped uint64            `json:"bytes_unmapped"`
	UnmapOps      uint64            `json:"num_unmap_ops"`
	BytesCopied   uint64            `json:"bytes_copied"`
	CopyOps       uint64            `json:"num_copy_ops"`
	ReadTicks     uint64            `json:"read_latency_ticks"`
	MaxReadTicks  uint64            `json:"max_read_latency_ticks"`
	MinReadTicks  uint64            `json:"min_read_latency_ticks"`
	WriteTicks    uint64            `json:"write_latency_ticks"`
	MaxWriteTicks uint64            `json:"max_write_latency_ticks"`
	MinWriteTicks uint64            `json:"min_write_latency_ticks"`
	UnmapTicks    uint64            `json:"unmap_latency_ticks"`
	MaxUnmapTicks uint64            `json:"max_unmap_latency_ticks"`
	MinUnmapTicks uint64            `json:"min_unmap_latency_ticks"`
	CopyTicks     uint64            `json:"copy_latency_ticks"`
	MaxCopyTicks  uint64            `json:"max_copy_latency_ticks"`
	MinCopyTicks  uint64            `json:"min_copy_latency_ticks"`
	IOError       map[string]uint64 `json:"io_error"`
	// Beyond SPDK's: IOStat.Throttled, when there was some.
	ThrottledTicks uint64 `json:"vda_throttled_ticks,omitempty"`
	// Given while requests are under way: how many, and how many of any kind have
	// ended, well or not.
	QueueDepth uint64 `json:"queue_depth,omitempty"`
	Ended      uint64 `json:"vda_ended_ops,omitempty"`
}

// TickRate is ticks a second in IOStatJSON.
const TickRate = 1_000_000_000

// JSON puts s under SPDK's keys.
func (s *IOStat) JSON() IOStatJSON {
	r, w, u := &s.Op[OpRead], &s.Op[OpWrite], &s.Op[OpUnmap]
	j := IOStatJSON{
		BytesRead: r.Bytes, ReadOps: r.Ops, ReadTicks: r.Nanos, MaxReadTicks: r.Max, MinReadTicks: r.Min,
		BytesWritten: w.Bytes, WriteOps: w.Ops, WriteTicks: w.Nanos, MaxWriteTicks: w.Max, MinWriteTicks: w.Min,
		BytesUnmapped: u.Bytes, UnmapOps: u.Ops, UnmapTicks: u.Nanos, MaxUnmapTicks: u.Max, MinUnmapTicks: u.Min,
		IOError: map[string]uint64{}, ThrottledTicks: uint64(s.Throttled),
	}
	if s.InFlight > 0 {
		j.QueueDepth, j.Ended = uint64(s.InFlight), s.Fails
		for i := range s.Op {
			j.Ended += s.Op[i].Ops
		}
	}
	if s.Fails != 0 {
		j.IOError["failed"] = s.Fails
		j.IOError["medium"], j.IOError["no_space"] = s.MediumErrors, s.NoSpace
	}
	return j
}

// IOStat returns the counters of a device. ENODEV if unknown.
func (reg *Registry) IOStat(name string) (IOStat, error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return IOStat{}, fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	sum := &counters{}
	e.eachCounters(sum.fold)
	out := IOStat{Fails: sum.fails.Load(), MediumErrors: sum.medium.Load(), NoSpace: sum.noSpace.Load()}
	if q := e.qos.Load(); q != nil {
		out.Throttled = q.throttled()
	}
	for h := range e.handles {
		out.InFlight += h.InFlight()
	}
	for i := range sum.op {
		o := &sum.op[i]
		out.Op[i] = OpStat{Ops: o.ops.Load(), Bytes: o.bytes.Load(), Nanos: o.sum(), Max: o.max.Load()}
		if m := o.min.Load(); m != 0 {
			out.Op[i].Min = m - 1
		}
	}
	return out, nil
}

// ResetIOStat sets a device's counters to zero, or with extremesOnly just the
// shortest and longest latencies (SPDK's reset_mode "maxmin"). ENODEV if
// unknown.
func (reg *Registry) ResetIOStat(name string, extremesOnly bool) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	e.eachCounters(func(c *counters) { c.reset(extremesOnly) })
	return nil
}

// eachCounters visits the past's counters and those of every open handle;
// the registry's lock is held.
func (e *entry) eachCounters(f func(*counters)) {
	f(&e.past)
	for h := range e.handles {
		for i := range h.shards {
			f(&h.shards[i].stats)
		}
	}
}
