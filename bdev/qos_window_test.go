package bdev_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// hostLoad is what one host does: depth requests at a time, of so many blocks of 512 bytes, in one direction, so that those
// that wait in the other keep none of them from being sent.
type hostLoad struct {
	depth, blocks int
	op            bdev.Op
}

// passed is one request that the device has carried out.
type passed struct {
	at    time.Duration
	op    bdev.Op
	bytes float64
}

// limitsPhase is a time in which the limits are the same.
type limitsPhase struct {
	from, to time.Duration
	limits   bdev.Limits
}

// measure is what one limit counts.
type measure struct {
	name  string
	limit func(bdev.Limits) float64 // per second; 0: none
	units func(passed) float64
}

var measures = []measure{
	{"rw_ios", func(l bdev.Limits) float64 { return float64(l.RWIOs) }, func(passed) float64 { return 1 }},
	{"rw_mb", func(l bdev.Limits) float64 { return float64(l.RWMB << 20) }, func(p passed) float64 { return p.bytes }},
	{"r_mb", func(l bdev.Limits) float64 { return float64(l.RMB << 20) }, func(p passed) float64 {
		if p.op == bdev.OpRead {
			return p.bytes
		}
		return 0
	}},
	{"w_mb", func(l bdev.Limits) float64 { return float64(l.WMB << 20) }, func(p passed) float64 {
		if p.op == bdev.OpWrite {
			return p.bytes
		}
		return 0
	}},
}

// TestQoSInAnyTenSeconds: whatever hosts send, in any 10 s no limit lets more than 5 % too much through, also when the
// limits change or the hosts have rested before, and while they want more than they get, none lets more than 5 % too
// little through that another does not hold back. What is let through, and when, is seen where it passes.
func TestQoSInAnyTenSeconds(t *testing.T) {
	for seed := range uint64(qosSeeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { anyTenSeconds(t, rand.New(rand.NewPCG(seed, 13))) })
		})
	}
}

const window = 10 * time.Second

func anyTenSeconds(t *testing.T, r *rand.Rand) {
	hosts, one := make([]hostLoad, 1+r.IntN(5)), 8<<r.IntN(6)
	smallest := 256
	for i := range hosts {
		hosts[i] = hostLoad{depth: 1 << r.IntN(7), blocks: 8 << r.IntN(6), op: []bdev.Op{bdev.OpRead, bdev.OpWrite}[r.IntN(2)]}
		smallest = min(smallest, hosts[i].blocks)
	}
	// At most 3000 requests per second: of bytes, as many as that makes.
	mb := func() uint64 { return 1 + r.Uint64N(max(uint64(smallest)*512*3000>>20, 1)) }
	pick := func() (l bdev.Limits) {
		switch r.IntN(4) {
		case 0:
			l.RWIOs = 1000 * (1 + r.Uint64N(3))
		case 1:
			l.RWMB = mb()
		case 2:
			l.RMB, l.WMB = mb(), mb()
		case 3:
			l.RWMB, l.RMB = mb(), mb()
		}
		return l
	}
	if r.IntN(4) == 0 { // two that are of all requests: of one size, or neither is what holds back
		for i := range hosts {
			hosts[i].blocks = one
		}
		smallest = one
		single := pick
		pick = func() bdev.Limits {
			l := single()
			l.RWIOs = 1000 * (1 + r.Uint64N(3))
			return l
		}
	}
	reg := bdev.NewRegistry()
	defer reg.Close()
	h := add(t, reg, memory(t, "Malloc0"))
	defer h.Close()
	var mu sync.Mutex
	var all []passed
	var phases []limitsPhase
	begin := time.Now()
	var set bdev.Limits
	load := func(l bdev.Limits, d time.Duration) {
		if l != set { // or it would begin to count again
			if err := reg.SetQoS("Malloc0", l); err != nil {
				t.Fatal(err)
			}
			set = l
		}
		from := time.Since(begin)
		phases = append(phases, limitsPhase{from, from + d, l})
		end := time.Now().Add(d)
		var wg sync.WaitGroup
		for _, host := range hosts {
			wg.Go(func() {
				free := make(chan *bdev.Request, host.depth)
				for range host.depth {
					r := &bdev.Request{Op: host.op, Blocks: uint64(host.blocks), Iov: [][]byte{make([]byte, host.blocks*512)}}
					r.Done = func(r *bdev.Request, _ *bdev.Batch) {
						mu.Lock()
						all = append(all, passed{time.Since(begin), r.Op, float64(r.Blocks * 512)})
						mu.Unlock()
						if r.Status != nvme.Success {
							t.Error(r.Status)
						}
						free <- r
					}
					free <- r
				}
				var b bdev.Batch
				for time.Now().Before(end) {
					h.Submit(<-free, &b)
					b.Flush()
				}
				for range host.depth {
					<-free
				}
			})
		}
		wg.Wait()
		phases[len(phases)-1].to = time.Since(begin)
	}
	load(pick(), 13*time.Second)
	last := pick()
	load(last, 12*time.Second) // changed in the middle
	time.Sleep(time.Duration(1+r.IntN(5000)) * time.Millisecond)
	load(last, 12*time.Second) // after a rest
	t.Logf("hosts %v, limits %v", hosts, phases)
	neverTooMuch(t, all, phases)
	for _, p := range phases {
		for _, at := range []time.Duration{p.from, p.from + time.Second, p.from + 2*time.Second} {
			enough(t, hosts, all, p, at)
		}
	}
}

// neverTooMuch looks at the 10 s before each request that passed. Between phases the limits are those of the one before.
func neverTooMuch(t *testing.T, all []passed, phases []limitsPhase) {
	for _, m := range measures {
		sum, first := 0.0, 0
		for _, p := range all {
			sum += m.units(p)
			for all[first].at <= p.at-window {
				sum -= m.units(all[first])
				first++
			}
			allowed, limited := 0.0, true
			for i, ph := range phases {
				to := p.at
				if i+1 < len(phases) {
					to = min(to, phases[i+1].from)
				}
				if d := to - max(ph.from, p.at-window); d > 0 || ph.from == p.at {
					limited = limited && m.limit(ph.limits) > 0
					allowed += m.limit(ph.limits) * d.Seconds()
				}
			}
			// The first seconds are not 10 s yet: 5 % of what passes in 10 s is what may be ahead of the limit.
			if short := window - p.at; short > 0 {
				allowed += m.limit(phases[0].limits) * short.Seconds()
			}
			if limited && sum > 1.05*allowed {
				t.Fatalf("%s: %.0f passed in the 10 s to %v, and %.0f may", m.name, sum, p.at, allowed)
			}
		}
	}
}

// enough looks at 10 s from at on: what hosts want in each direction is held back by a limit that is used up.
func enough(t *testing.T, hosts []hostLoad, all []passed, phase limitsPhase, at time.Duration) {
	if at+window > phase.to {
		return
	}
	used := make([]float64, len(measures))
	for _, p := range all {
		if p.at < at || p.at >= at+window {
			continue
		}
		for i, m := range measures {
			used[i] += m.units(p)
		}
	}
	for i, m := range measures {
		if l := m.limit(phase.limits); l > 0 {
			used[i] /= l * window.Seconds()
		} else {
			used[i] = 0
		}
	}
	for _, h := range hosts {
		direction := 2
		if h.op == bdev.OpWrite {
			direction = 3
		}
		if max(used[0], used[1], used[direction]) < 0.95 {
			t.Errorf("from %v on: of the limits, these parts were used in 10 s: %.3f, by %v with %+v", at, used, hosts, phase.limits)
			return
		}
	}
}
