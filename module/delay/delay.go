// Package delay is a block device that makes another slower (SPDK's
// bdev_delay): reads and writes complete a while after the base has done
// them, one in a hundred of them after a longer while. It is for tests of what
// time does to everything above.
package delay

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/passthru"
	"github.com/virtual-disk-array/vda/nvme"
)

// Config of a device.
type Config struct {
	Name     string
	UUID     uuid.UUID // zero: a random one
	Base     string    // name of the bdev below, which is claimed
	AvgRead  time.Duration
	P99Read  time.Duration // of one read in a hundred; at least AvgRead
	AvgWrite time.Duration
	P99Write time.Duration // of one write in a hundred; at least AvgWrite
}

func (c *Config) validate() error {
	if c.AvgRead < 0 || c.P99Read < c.AvgRead {
		return fmt.Errorf("delay bdev %q: p99_read_latency %v must be at least avg_read_latency %v: %w", c.Name, c.P99Read,
			c.AvgRead, syscall.EINVAL)
	}
	if c.AvgWrite < 0 || c.P99Write < c.AvgWrite {
		return fmt.Errorf("delay bdev %q: p99_write_latency %v must be at least avg_write_latency %v: %w", c.Name, c.P99Write,
			c.AvgWrite, syscall.EINVAL)
	}
	return nil
}

// The latencies by SPDK's names, indexes of Device.lines.
const (
	avgRead = iota
	p99Read
	avgWrite
	p99Write
	kinds
)

var kindNames = [kinds]string{"avg_read", "p99_read", "avg_write", "p99_write"}

// Device is a slow device.
type Device struct {
	*passthru.Device
	lines [kinds]line
	then  func(*bdev.Request, nvme.Status, *bdev.Batch) // d.hold, bound once
}

// Create makes and registers a device on reg. EINVAL for bad latencies, ENODEV
// for an unknown base, EPERM for a claimed one, EEXIST for a name in use.
func Create(reg *bdev.Registry, c Config) (*Device, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	p, err := passthru.Open(reg, passthru.Config{Name: c.Name, UUID: c.UUID, Base: c.Base, Product: "delay"})
	if err != nil {
		return nil, err
	}
	d := &Device{Device: p}
	d.then = d.hold
	for i, l := range []time.Duration{c.AvgRead, c.P99Read, c.AvgWrite, c.P99Write} {
		d.lines[i].latency.Store(int64(l))
	}
	if err := p.Register(d); err != nil {
		return nil, err
	}
	return d, nil
}

// SetLatency changes one of avg_read, p99_read, avg_write, p99_write for the
// requests that complete below from now on. EINVAL for another kind.
func (d *Device) SetLatency(kind string, l time.Duration) error {
	for i, n := range kindNames {
		if n == kind && l >= 0 {
			d.lines[i].latency.Store(int64(l))
			return nil
		}
	}
	return fmt.Errorf("delay bdev %q: latency_type %q with %v: must be one of %v and not negative: %w", d.Info().Name, kind, l,
		kindNames, syscall.EINVAL)
}

// Config returns what makes a device like this one, with its latencies as they
// are now.
func (d *Device) Config() Config {
	at := func(i int) time.Duration { return time.Duration(d.lines[i].latency.Load()) }
	i := d.Info()
	return Config{Name: i.Name, UUID: i.UUID, Base: d.Base(), AvgRead: at(avgRead), P99Read: at(p99Read),
		AvgWrite: at(avgWrite), P99Write: at(p99Write)}
}

// DriverSpecific is the device's object in bdev_get_bdevs; microseconds.
func (d *Device) DriverSpecific() any {
	us := func(i int) int64 { return d.lines[i].latency.Load() / int64(time.Microsecond) }
	return map[string]any{"delay": map[string]any{
		"name": d.Info().Name, "base_bdev_name": d.Base(),
		"avg_read_latency": us(avgRead), "p99_read_latency": us(p99Read),
		"avg_write_latency": us(avgWrite), "p99_write_latency": us(p99Write)}}
}

// Submit has the base do r.
func (d *Device) Submit(r *bdev.Request, b *bdev.Batch) {
	then := passthru.Complete
	if r.Op == bdev.OpRead || r.Op == bdev.OpWrite {
		then = d.then
	}
	d.Forward(r, b, then)
}

// hold delays a request that the base has done.
func (d *Device) hold(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	i := avgRead
	if r.Op == bdev.OpWrite {
		i = avgWrite
	}
	if rand.Uint32N(100) == 0 {
		i++
	}
	d.lines[i].add(r, s, b)
}

// line holds requests of one kind in the order in which they will be let go.
type line struct {
	latency atomic.Int64 // ns

	mu      sync.Mutex
	waiting []held
	running bool // a goroutine lets go
}

type held struct {
	r   *bdev.Request
	s   nvme.Status
	due time.Time
}

func (l *line) add(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	latency := time.Duration(l.latency.Load())
	if latency == 0 {
		r.Complete(s, b)
		return
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, held{r, s, time.Now().Add(latency)})
	start := !l.running
	l.running = true
	l.mu.Unlock()
	if start {
		go l.run()
	}
}

// run completes what is due until nothing waits.
func (l *line) run() {
	var b bdev.Batch
	var due []held
	for {
		l.mu.Lock()
		now := time.Now()
		n := 0
		for n < len(l.waiting) && !l.waiting[n].due.After(now) {
			n++
		}
		due = append(due[:0], l.waiting[:n]...)
		rest := copy(l.waiting, l.waiting[n:])
		clear(l.waiting[rest:])
		l.waiting = l.waiting[:rest]
		var pause time.Duration
		if rest > 0 {
			pause = l.waiting[0].due.Sub(now)
		} else {
			l.running = false
		}
		l.mu.Unlock()
		for _, h := range due {
			h.r.Complete(h.s, &b)
		}
		b.Flush()
		if rest == 0 {
			return
		}
		time.Sleep(pause)
	}
}
