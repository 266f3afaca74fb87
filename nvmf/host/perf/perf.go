// Package perf loads a namespace and measures it: a number of requests kept
// in flight, of one size, in order or at random, and the latency of each in a
// histogram. It is what the benchmarks and the sandbox measure with where no
// other initiator is at hand.
//
// Submission is closed-loop: a request that completes is submitted again from
// its completion, on the goroutine that reads the connection, and leaves with
// the other commands of that pass in one sendmsg. One Run uses all the I/O
// queues of the namespace's controller.
//
// With Verify every block written carries its own number and a counter, and
// every block read is checked against what this Run has written there.
package perf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// Workload is the kind of I/O.
type Workload uint8

// The workloads.
const (
	Read Workload = iota + 1
	Write
	RandRead
	RandWrite
)

var workloadNames = [...]string{"", "read", "write", "randread", "randwrite"}

func (w Workload) String() string {
	if int(w) < len(workloadNames) && w != 0 {
		return workloadNames[w]
	}
	return fmt.Sprintf("workload %d", uint8(w))
}

// ParseWorkload reads read, write, randread or randwrite.
func ParseWorkload(s string) (Workload, error) {
	for i, n := range workloadNames {
		if n == s && i > 0 {
			return Workload(i), nil
		}
	}
	return 0, fmt.Errorf("workload %q is not read, write, randread or randwrite", s)
}

func (w Workload) writes() bool { return w == Write || w == RandWrite }
func (w Workload) random() bool { return w == RandRead || w == RandWrite }

// Config says what load to make.
type Config struct {
	Workload   Workload
	BlockSize  int           // bytes of a request, a multiple of the namespace's block size; 4096
	QueueDepth int           // requests in flight; 1
	Submitters int           // goroutines that start requests, which spreads them over the queues; the controller's I/O queues
	Duration   time.Duration // 5 s
	Warmup     time.Duration // load before the measuring starts
	Offset     int64         // bytes; start of the range that is used
	Length     int64         // bytes; 0: to the end
	Verify     bool          // stamp and check the data; with Read the range is written first
	Seed       uint64        // of the random offsets
}

// Result is what was measured.
type Result struct {
	IOs     uint64 // completed with success
	Errors  uint64 // completed otherwise
	First   nvme.Status
	Bad     uint64 // blocks that read back wrong
	Elapsed time.Duration
	IOPS    float64
	MBps    float64 // 10^6 bytes per second
	Mean    time.Duration
	P50     time.Duration
	P99     time.Duration
	P999    time.Duration
	Max     time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%.0f IOPS, %.1f MB/s, latency mean %v p50 %v p99 %v p99.9 %v max %v, %d errors, %d bad blocks",
		r.IOPS, r.MBps, r.Mean.Round(100), r.P50.Round(100), r.P99.Round(100), r.P999.Round(100), r.Max.Round(100), r.Errors, r.Bad)
}

// ErrVerify is data that came back wrong.
var ErrVerify = errors.New("data read back is not what was written")

func (c *Config) validate(ns *host.Namespace) error {
	if c.BlockSize == 0 {
		c.BlockSize = 4096
	}
	if c.QueueDepth == 0 {
		c.QueueDepth = 1
	}
	if c.Duration == 0 {
		c.Duration = 5 * time.Second
	}
	if c.Length == 0 {
		c.Length = ns.Size() - c.Offset
	}
	if c.Submitters <= 0 {
		c.Submitters = max(ns.Controller().Config().Queues, 1)
	}
	c.Submitters = min(c.Submitters, c.QueueDepth)
	switch {
	case c.Workload < Read || c.Workload > RandWrite:
		return fmt.Errorf("%v is not known", c.Workload)
	case c.BlockSize < 0 || c.BlockSize%ns.BlockSize() != 0:
		return fmt.Errorf("block size %d is not a multiple of the namespace's %d", c.BlockSize, ns.BlockSize())
	case c.QueueDepth < 0 || c.QueueDepth > 65536:
		return fmt.Errorf("queue depth %d is not from 1 to 65536", c.QueueDepth)
	case c.Offset < 0 || c.Length < 0 || c.Offset > ns.Size() || c.Length > ns.Size()-c.Offset || c.Offset%int64(ns.BlockSize()) != 0:
		return fmt.Errorf("range of %d bytes at %d does not fit the namespace of %d bytes", c.Length, c.Offset, ns.Size())
	case c.Length < int64(c.BlockSize)*int64(c.QueueDepth) && c.Verify:
		return fmt.Errorf("range of %d bytes is too short to verify %d requests in flight", c.Length, c.QueueDepth)
	case c.Length < int64(c.BlockSize):
		return fmt.Errorf("range of %d bytes is shorter than a request", c.Length)
	}
	return nil
}

// run is one Run.
type run struct {
	cfg    Config
	ns     *host.Namespace
	blocks uint64 // of the namespace in a request
	slots  uint64 // requests that fit the range
	first  uint64 // block at which the range starts
	stop   atomic.Bool
	measur atomic.Bool
	next   atomic.Uint64
	wg     sync.WaitGroup // requests in flight
	stamps *stamps
	jobs   []*job
}

// job is a request that goes round and round.
type job struct {
	run   *run
	req   bdev.Request
	buf   []byte
	rnd   rand.PCG
	start int64
	slot  uint64
	gen   uint64

	hist   histogram
	ios    uint64
	errs   uint64
	bad    uint64
	status nvme.Status
}

var epoch = time.Now()

// Run makes the load and returns when all requests are done. The error is
// ctx's, ErrVerify, or the first status of failed requests; the Result is
// filled in also then.
func Run(ctx context.Context, ns *host.Namespace, cfg Config) (Result, error) {
	if err := cfg.validate(ns); err != nil {
		return Result{}, err
	}
	r := &run{cfg: cfg, ns: ns, blocks: uint64(cfg.BlockSize / ns.BlockSize()), slots: uint64(cfg.Length) / uint64(cfg.BlockSize),
		first: uint64(cfg.Offset) / uint64(ns.BlockSize())}
	if cfg.Verify {
		r.stamps = newStamps(r.slots)
		if !cfg.Workload.writes() {
			if err := r.fill(ctx); err != nil {
				return Result{}, err
			}
		}
	}
	bufs := bdev.NewPool(cfg.QueueDepth * bdev.BufferBytes(cfg.BlockSize))
	defer bufs.Trim()
	for i := range cfg.QueueDepth {
		j := &job{run: r, buf: bufs.Get(cfg.BlockSize)}
		if j.buf == nil {
			j.buf = make([]byte, cfg.BlockSize)
		} else {
			defer bufs.Put(j.buf)
		}
		j.rnd.Seed(cfg.Seed, uint64(i))
		j.req.Iov = [][]byte{j.buf}
		j.req.Done = jobDone
		j.req.Owner = j
		r.jobs = append(r.jobs, j)
	}
	r.wg.Add(len(r.jobs))
	r.measur.Store(cfg.Warmup == 0)
	began := time.Now()
	for s := range cfg.Submitters {
		go func() {
			var b bdev.Batch
			for i := s; i < len(r.jobs); i += cfg.Submitters {
				r.jobs[i].next(&b)
			}
			b.Flush()
		}()
	}
	err := wait(ctx, cfg.Warmup)
	if cfg.Warmup > 0 && err == nil {
		began = time.Now()
		r.measur.Store(true)
	}
	if err == nil {
		err = wait(ctx, cfg.Duration)
	}
	elapsed := time.Since(began)
	r.stop.Store(true)
	r.wg.Wait()
	res := r.result(elapsed)
	switch {
	case err != nil:
	case res.Bad > 0:
		err = fmt.Errorf("%d blocks: %w", res.Bad, ErrVerify)
	case res.Errors > 0:
		err = fmt.Errorf("%d requests failed: %w", res.Errors, res.First)
	}
	return res, err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// next submits the job's next request.
func (j *job) next(b *bdev.Batch) {
	r := j.run
	j.choose()
	j.req.Op = bdev.OpRead
	if r.cfg.Workload.writes() {
		j.req.Op = bdev.OpWrite
		if r.stamps != nil {
			j.gen = r.stamps.begin(j.slot)
			stamp(j.buf, r.ns.BlockSize(), r.first+j.slot*r.blocks, j.gen)
		}
	}
	j.submit(b)
}

func (j *job) submit(b *bdev.Batch) {
	r := j.run
	j.req.Offset, j.req.Blocks = r.first+j.slot*r.blocks, r.blocks
	j.start = int64(time.Since(epoch))
	r.ns.Submit(&j.req, nil, b)
}

// choose picks the slot of the range that the next request uses. When data is
// verified no two requests in flight share one.
func (j *job) choose() {
	r := j.run
	for {
		if r.cfg.Workload.random() {
			j.slot = j.rnd.Uint64() % r.slots
		} else {
			j.slot = (r.next.Add(1) - 1) % r.slots
		}
		if r.stamps == nil || r.stamps.lock(j.slot) {
			return
		}
	}
}

// jobDone takes a completion, on whatever goroutine.
func jobDone(q *bdev.Request, b *bdev.Batch) {
	j := q.Owner.(*job)
	r := j.run
	took := int64(time.Since(epoch)) - j.start
	if r.stamps != nil && j.finish(b) {
		return
	}
	switch {
	case q.Status != nvme.Success:
		if j.errs == 0 {
			j.status = q.Status
		}
		j.errs++
	case r.measur.Load() && !r.stop.Load():
		j.ios++
		j.hist.add(took)
	}
	if r.stop.Load() || j.errs > 1000 {
		r.wg.Done()
		return
	}
	j.next(b)
}

// finish checks what was read or written. It returns true when it has
// submitted another request: what was written is read back.
func (j *job) finish(b *bdev.Batch) bool {
	r := j.run
	ok := j.req.Status == nvme.Success
	if r.cfg.Workload.writes() && j.req.Op == bdev.OpWrite {
		r.stamps.end(j.slot, j.gen, ok)
		if ok && j.rnd.Uint64()%16 == 0 {
			j.req.Op = bdev.OpRead
			j.submit(b)
			return true
		}
	} else if ok {
		want, known := r.stamps.get(j.slot)
		if known {
			j.bad += check(j.buf, r.ns.BlockSize(), r.first+j.slot*r.blocks, want)
		}
	}
	r.stamps.unlock(j.slot)
	return false
}

// fill writes the whole range, for workloads that only read.
func (r *run) fill(ctx context.Context) error {
	buf := make([]byte, r.cfg.BlockSize)
	for s := range r.slots {
		r.stamps.lock(s)
		gen := r.stamps.begin(s)
		stamp(buf, r.ns.BlockSize(), r.first+s*r.blocks, gen)
		if err := r.ns.WriteAt(ctx, buf, int64((r.first+s*r.blocks)*uint64(r.ns.BlockSize()))); err != nil {
			return fmt.Errorf("writing what is to be read: %w", err)
		}
		r.stamps.end(s, gen, true)
		r.stamps.unlock(s)
	}
	return nil
}

func (r *run) result(elapsed time.Duration) Result {
	res := Result{Elapsed: elapsed}
	var h histogram
	for _, j := range r.jobs {
		res.IOs += j.ios
		res.Bad += j.bad
		if j.errs > 0 && res.Errors == 0 {
			res.First = j.status
		}
		res.Errors += j.errs
		h.merge(&j.hist)
	}
	res.IOPS = float64(res.IOs) / elapsed.Seconds()
	res.MBps = res.IOPS * float64(r.cfg.BlockSize) / 1e6
	res.Mean, res.P50, res.P99, res.P999, res.Max = h.mean(), h.quantile(.5), h.quantile(.99), h.quantile(.999), time.Duration(h.max)
	return res
}
