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
// latency taken (timedEvery); each stands for those since the one before.
// Nothing here goes down but by a reset.
type opCounters struct {
	near, far atomic.Uint64 // far: of operations without spread
	bytes     atomic.Uint64
	nanos     atomic.Uint64 // sum of the latencies of far ones, and of near ones that were stood for, ns
	stood     atomic.Uint64 // near ones that were stood for
	max, min  atomic.Uint64 // ns; min is stored plus one, 0: none yet
}

// spread counts the latencies of reads or of writes, by LatencyBounds. What is
// in far is counted nowhere else, so that a spread costs no more than a count.
type spread struct{ near, far [latencies]atomic.Uint64 }

// stand returns how many near ones a timed one stands for.
func (o *opCounters) stand() uint64 {
	for {
		was, is := o.stood.Load(), o.near.Load()
		if is <= was {
			return 0
		}
		if o.stood.CompareAndSwap(was, is) {
			return is - was
		}
	}
}

// counters counts all operations of a handle's shard, or the past of a device.
type counters struct {
	op     [opEnd]opCounters
	spread [2]spread // of reads and writes
	fails  atomic.Uint64

	medium, noSpace atomic.Uint64 // of fails
}

func (c *counters) add(r *Request, far bool, nanos, blockSize uint64) {
	if r.Status != nvme.Success {
		c.fail(r)
		return
	}
	o := &c.op[r.Op]
	if r.Blocks != 0 {
		o.bytes.Add(r.Blocks * blockSize)
	}
	switch sp := c.spreadOf(r.Op); {
	case far:
		o.nanos.Add(nanos)
		if sp != nil {
			sp.far[latencyOf(nanos)].Add(1)
		} else {
			o.far.Add(1)
		}
	case nanos != 0:
		o.near.Add(1)
		n := o.stand()
		o.nanos.Add(n * nanos)
		if sp != nil {
			sp.near[latencyOf(nanos)].Add(n)
		}
	default:
		o.near.Add(1)
		return
	}
	if nanos > o.max.Load() {
		raise(&o.max, nanos)
	}
	if m := o.min.Load(); m == 0 || nanos+1 < m {
		lower(&o.min, nanos+1)
	}
}

// spreadOf is where the latencies of an operation are counted; nil: nowhere.
func (c *counters) spreadOf(op Op) *spread {
	if op == OpRead || op == OpWrite {
		return &c.spread[op-OpRead]
	}
	return nil
}

// ops is how many of an operation succeeded.
func (c *counters) ops(op Op) uint64 {
	n := c.op[op].near.Load() + c.op[op].far.Load()
	if sp := c.spreadOf(op); sp != nil {
		for i := range sp.far {
			n += sp.far[i].Load()
		}
	}
	return n
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
		to.near.Add(from.near.Load())
		to.far.Add(from.far.Load())
		to.bytes.Add(from.bytes.Load())
		to.nanos.Add(from.nanos.Load())
		to.stood.Add(from.stood.Load())
		raise(&to.max, from.max.Load())
		if m := from.min.Load(); m != 0 {
			lower(&to.min, m)
		}
	}
	for i := range c.spread {
		to, from := &c.spread[i], &o.spread[i]
		for j := range to.near {
			to.near[j].Add(from.near[j].Load())
			to.far[j].Add(from.far[j].Load())
		}
	}
}

func (c *counters) reset(extremesOnly bool) {
	for i := range c.op {
		o := &c.op[i]
		o.max.Store(0)
		o.min.Store(0)
		if !extremesOnly {
			o.near.Store(0)
			o.far.Store(0)
			o.bytes.Store(0)
			o.nanos.Store(0)
			o.stood.Store(0)
		}
	}
	if !extremesOnly {
		for i := range c.spread {
			sp := &c.spread[i]
			for j := range sp.near {
				sp.near[j].Store(0)
				sp.far[j].Store(0)
			}
		}
		c.fails.Store(0)
		c.medium.Store(0)
		c.noSpace.Store(0)
	}
}

// OpStat is what was done of one operation. Failed requests are not in it.
type OpStat struct {
	Ops   uint64
	Bytes uint64
	Nanos uint64 // sum of latencies; of requests that complete at once (memory) one in 61 is timed and stands for those before it
	Max   uint64 // ns
	Min   uint64 // ns; 0 also when there were none
	// Settled is Nanos without near ones that nothing stands for yet: it only grows.
	Settled uint64
}

// IOStat is what a device did since it was registered, or reset.
type IOStat struct {
	Op    [opEnd]OpStat // by Op
	Fails uint64        // all requests that failed

	// Reads and Writes are how long they took; the sums are Settled of Op.
	Reads, Writes Latencies

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
	out := sum.stat()
	if q := e.qos.Load(); q != nil {
		out.Throttled = q.throttled()
	}
	for h := range e.handles {
		out.InFlight += h.InFlight()
	}
	return out, nil
}

// IOStat returns the counters of what went through the handle, since it was
// opened or they were reset; a limit is the device's, so Throttled is 0.
func (h *Handle) IOStat() IOStat {
	sum := &counters{}
	for i := range h.shards {
		sum.fold(&h.shards[i].stats)
	}
	out := sum.stat()
	out.InFlight = h.InFlight()
	return out
}

// stat is what a sum of counters says.
func (c *counters) stat() IOStat {
	out := IOStat{Fails: c.fails.Load(), MediumErrors: c.medium.Load(), NoSpace: c.noSpace.Load()}
	for i := range c.op {
		o := &c.op[i]
		s := OpStat{Ops: c.ops(Op(i)), Bytes: o.bytes.Load(), Settled: o.nanos.Load(), Max: o.max.Load()}
		if m := o.min.Load(); m != 0 {
			s.Min = m - 1
		}
		near := o.near.Load() // once: it grows meanwhile
		s.Nanos = s.Settled + (near-min(o.stood.Load(), near))*s.Min
		out.Op[i] = s
	}
	for i, l := range []*Latencies{&out.Reads, &out.Writes} {
		for j := range l {
			l[j] = c.spread[i].near[j].Load() + c.spread[i].far[j].Load()
		}
	}
	return out
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
