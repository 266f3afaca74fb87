package plane

import (
	"context"
	"sync"

	"github.com/virtual-disk-array/vda/spdk"
)

// Counter is what a data plane counts of the I/O of hosts, for /metrics.
type Counter interface {
	// Counts returns what went through some bdevs, by name or alias, and through the
	// subsystems of some NQNs. What there is not is left out.
	Counts(ctx context.Context, bdevs, nqns []string) (*Counts, error)
}

// Counts is what was counted.
type Counts struct {
	// Bounds of latencies, see spdk.VdaIOStats; nil where none are counted.
	Bounds []uint64
	Bdevs  map[string]spdk.IOCounts // by the name that was asked for
	Paths  map[string]PathCounts    // by NQN
}

// PathCounts is what hosts do through one subsystem.
type PathCounts struct {
	spdk.IOCounts
	Hosts map[string]int // controllers that hosts have connected, by host NQN
}

func newCounts() *Counts {
	return &Counts{Bdevs: map[string]spdk.IOCounts{}, Paths: map[string]PathCounts{}}
}

// Counts: vda_tgt counts each namespace by itself, though they share a bdev. An older one is
// asked as SPDK is.
func (d *vdaTgt) Counts(ctx context.Context, bdevs, nqns []string) (*Counts, error) {
	if !d.counts {
		return countSPDK(ctx, d.API, bdevs, nqns)
	}
	s, err := d.API.VdaGetIOStat(ctx, bdevs, nqns)
	if err != nil {
		return nil, err
	}
	c := newCounts()
	c.Bounds = s.Bounds
	for _, b := range s.Bdevs {
		c.Bdevs[b.Name] = b.IOCounts
	}
	for _, sub := range s.Subsystems {
		p := PathCounts{Hosts: map[string]int{}}
		for _, h := range sub.Hosts {
			p.Hosts[h.NQN] = h.Controllers
		}
		if len(sub.Namespaces) > 0 { // an exporter has one
			p.IOCounts = sub.Namespaces[0].IOCounts
		}
		c.Paths[sub.NQN] = p
	}
	return c, nil
}

// Counts: each exporter has a bdev of its own behind it, so that of its namespace is the
// path's. What other exporters send by links goes through the first one's too.
func (d *spdkTgt) Counts(ctx context.Context, bdevs, nqns []string) (*Counts, error) {
	return countSPDK(ctx, d.API, bdevs, nqns)
}

// maxCounting bounds the questions that are under way at once.
const maxCounting = 16

// countSPDK asks for each by itself, as one name that there is not fails all of a call. The
// error is that of the data plane's connection; what else is refused is left out.
func countSPDK(ctx context.Context, api spdk.API, bdevs, nqns []string) (*Counts, error) {
	c := newCounts()
	var mu sync.Mutex
	var lost error
	note := func(err error, f func()) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			f()
		case spdk.IsConnection(err) || ctx.Err() != nil:
			lost = err
		}
	}
	count := func(bdev string) (io spdk.IOCounts, err error) {
		s, err := api.BdevGetIOStat(ctx, bdev)
		if err == nil && len(s.Bdevs) == 1 {
			io = s.Bdevs[0].Counts(s.TickRate)
		}
		return io, err
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, maxCounting)
	each := func(names []string, f func(name string)) {
		for _, n := range names {
			free <- struct{}{}
			wg.Go(func() {
				defer func() { <-free }()
				f(n)
			})
		}
	}
	each(bdevs, func(name string) {
		io, err := count(name)
		note(err, func() { c.Bdevs[name] = io })
	})
	each(nqns, func(nqn string) {
		p := PathCounts{}
		sub, err := api.NvmfGetSubsystem(ctx, nqn)
		if err == nil && len(sub.Namespaces) > 0 {
			p.IOCounts, err = count(sub.Namespaces[0].BdevName)
		}
		if hosts, asked := api.NvmfSubsystemGetControllers(ctx, nqn); asked == nil {
			p.Hosts = map[string]int{}
			for _, h := range hosts {
				p.Hosts[h.HostNQN]++
			}
		}
		note(err, func() { c.Paths[nqn] = p })
	})
	wg.Wait()
	return c, lost
}
