package bdevnvme

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// retryPause is the pause before a parked request is tried again when nothing
// has changed.
const retryPause = 20 * time.Millisecond

// path is one attachment.
type path struct {
	cfg      AttachConfig
	ctl      *host.Controller
	deleting atomic.Bool
}

// controller is what one name stands for: paths, and the disks that lead over
// them. Its worker follows what happens to the paths.
type controller struct {
	m      *Module
	name   string
	policy Policy        // of its bdevs, from the start
	turn   chan struct{} // held by who changes paths

	mu    sync.Mutex
	paths []*path
	disks map[uint32]*disk

	reconciling sync.Mutex
	refused     map[uint32]string // why a namespace has no bdev; guarded by reconciling

	events  chan struct{} // something happened to a path
	parked  chan struct{} // a request waits
	stop    chan struct{}
	stopped sync.Once
	started sync.Once
}

func newController(m *Module, c *AttachConfig) *controller {
	return &controller{m: m, name: c.Name, policy: c.Policy, turn: make(chan struct{}, 1), disks: map[uint32]*disk{},
		refused: map[uint32]string{},
		events:  make(chan struct{}, 1), parked: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (g *controller) snapshot() []*path {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.paths)
}

func (g *controller) diskList() []*disk {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*disk, 0, len(g.disks))
	for _, d := range g.disks {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *disk) int { return int(a.nsid) - int(b.nsid) })
	return out
}

// kick has the worker look at the paths. It never blocks.
func (g *controller) kick() {
	select {
	case g.events <- struct{}{}:
	default:
	}
}

func (g *controller) wake() {
	select {
	case g.parked <- struct{}{}:
	default:
	}
}

func (g *controller) start() { g.started.Do(func() { go g.work() }) }

func (g *controller) end() { g.stopped.Do(func() { close(g.stop) }) }

// work is the controller's goroutine, from the first path to the last.
func (g *controller) work() {
	var b bdev.Batch
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-g.events:
			g.reconcile()
			g.dropLost()
		case <-g.parked:
			timer.Reset(retryPause)
			continue
		case <-timer.C:
		}
		again := false
		for _, d := range g.diskList() {
			again = d.retry(&b) || again
		}
		b.Flush()
		if again {
			timer.Reset(retryPause)
		}
	}
}

// reconcile makes the disks those that the paths show.
func (g *controller) reconcile() {
	g.reconciling.Lock()
	defer g.reconciling.Unlock()
	ways := map[uint32][]*way{}
	for _, p := range g.snapshot() {
		if p.deleting.Load() {
			continue
		}
		for _, ns := range p.ctl.Namespaces() {
			if l := ways[ns.ID()]; len(l) > 0 && !identical(l[0].ns, ns) {
				g.m.log.Error("namespaces with one id are not identical", "controller", g.name, "nsid", ns.ID(), "traddr", p.cfg.Traddr)
				continue
			}
			ways[ns.ID()] = append(ways[ns.ID()], &way{path: p, ns: ns})
		}
	}
	for _, d := range g.diskList() {
		l := ways[d.nsid]
		if len(l) == 0 || !d.same(l[0].ns) {
			g.dropDisk(d)
			continue
		}
		delete(ways, d.nsid)
		if d.setWays(l) {
			g.m.reg.Resized(d.name)
		}
	}
	for nsid, l := range ways {
		g.addDisk(nsid, l)
	}
}

func identical(a, b *host.Namespace) bool {
	x, y := a.Identity(), b.Identity()
	return x.UUID == y.UUID && x.NGUID == y.NGUID && x.EUI64 == y.EUI64 && x.BlockSize == y.BlockSize
}

func (g *controller) addDisk(nsid uint32, l []*way) {
	d := newDisk(g, nsid, l)
	if err := g.m.reg.Register(d); err != nil {
		// A bdev of the same name or UUID: SPDK attaches without one, too.
		if g.refused[nsid] != err.Error() {
			g.refused[nsid] = err.Error()
			g.m.log.Error("nvme namespace without bdev", "controller", g.name, "nsid", nsid, "err", err)
		}
		return
	}
	delete(g.refused, nsid)
	g.mu.Lock()
	g.disks[nsid] = d
	g.mu.Unlock()
}

// dropDisk unregisters a disk whose namespace is gone. Its holders may take
// their time; the name is theirs until then.
func (g *controller) dropDisk(d *disk) {
	g.mu.Lock()
	delete(g.disks, d.nsid)
	g.mu.Unlock()
	d.close()
	go func() {
		if err := g.m.reg.Unregister(d.name); err != nil && !errors.Is(err, bdev.ErrNoDevice) {
			g.m.log.Error("nvme bdev did not close", "bdev", d.name, "err", err)
		}
		g.kick() // a new namespace may wait for the name
	}()
}

// dropLost removes paths whose controller was given up.
func (g *controller) dropLost() {
	for _, p := range g.snapshot() {
		if p.ctl.State() != host.Deleting || p.deleting.Swap(true) {
			continue
		}
		go func() {
			g.turn <- struct{}{}
			g.removePaths([]*path{p})
			g.m.release(g)
		}()
	}
}

// remove removes the paths that match at, all when it is nil; the caller has
// the turn. It reports whether there were any.
func (g *controller) remove(at *Path) bool {
	var gone []*path
	matched := false
	for _, p := range g.snapshot() {
		if at != nil && (at.SubNQN != "" && at.SubNQN != p.cfg.SubNQN || at.HostAddr != "" && at.HostAddr != p.cfg.HostAddr) {
			continue
		}
		all := true
		for _, a := range p.ctl.Addresses() {
			if at != nil && (at.Traddr != "" && !vda.SameTraddr(at.Traddr, a.Traddr) || at.Trsvcid != "" && at.Trsvcid != a.Trsvcid) {
				all = false
				continue
			}
			matched = true
		}
		if all {
			gone = append(gone, p)
			continue
		}
		for _, a := range p.ctl.Addresses() {
			if (at.Traddr == "" || vda.SameTraddr(at.Traddr, a.Traddr)) && (at.Trsvcid == "" || at.Trsvcid == a.Trsvcid) {
				p.ctl.RemoveAddress(a)
			}
		}
	}
	for _, p := range gone {
		p.deleting.Store(true)
	}
	g.removePaths(gone)
	return matched
}

// removePaths ends paths that are marked deleting; the caller has the turn.
func (g *controller) removePaths(gone []*path) {
	var stay []*path
	for _, p := range g.snapshot() {
		if !slices.Contains(gone, p) {
			stay = append(stay, p)
		}
	}
	closing := func() {
		var wg sync.WaitGroup
		for _, p := range gone {
			wg.Go(p.ctl.Close)
		}
		wg.Wait()
	}
	if len(stay) > 0 {
		g.reconcile()
		closing() // what was in flight on them goes on elsewhere
	} else {
		g.reconciling.Lock()
		disks := g.diskList()
		g.mu.Lock()
		clear(g.disks)
		g.mu.Unlock()
		g.reconciling.Unlock()
		hard := time.AfterFunc(detachGrace, closing)
		var wg sync.WaitGroup
		for _, d := range disks {
			wg.Go(func() {
				d.close()
				if err := g.m.reg.Unregister(d.name); err != nil {
					<-g.m.reg.Gone(d.name)
				}
			})
		}
		wg.Wait()
		hard.Stop()
		closing()
	}
	g.mu.Lock()
	g.paths = slices.DeleteFunc(g.paths, func(p *path) bool { return slices.Contains(gone, p) })
	g.mu.Unlock()
}

func bdevName(controller string, nsid uint32) string { return fmt.Sprintf("%sn%d", controller, nsid) }
