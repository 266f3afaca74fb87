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
	cfg      AttachConfig // FailAtOnce as it was at first
	ctl      *host.Controller
	atOnce   atomic.Bool // FailAtOnce
	keys     atomic.Pointer[Keys]
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

func (ctrl *controller) snapshot() []*path {
	ctrl.mu.Lock()
	defer ctrl.mu.Unlock()
	return slices.Clone(ctrl.paths)
}

func (ctrl *controller) diskList() []*disk {
	ctrl.mu.Lock()
	defer ctrl.mu.Unlock()
	out := make([]*disk, 0, len(ctrl.disks))
	for _, d := range ctrl.disks {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *disk) int { return int(a.nsid) - int(b.nsid) })
	return out
}

// kick has the worker look at the paths. It never blocks.
func (ctrl *controller) kick() {
	select {
	case ctrl.events <- struct{}{}:
	default:
	}
}

func (ctrl *controller) wake() {
	select {
	case ctrl.parked <- struct{}{}:
	default:
	}
}

func (ctrl *controller) start() { ctrl.started.Do(func() { go ctrl.work() }) }

func (ctrl *controller) end() { ctrl.stopped.Do(func() { close(ctrl.stop) }) }

// work is the controller's goroutine, from the first path to the last.
func (ctrl *controller) work() {
	var b bdev.Batch
	timer, patience := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer timer.Stop()
	defer patience.Stop()
	told := false // that no path leads anywhere
	for {
		over := false
		select {
		case <-ctrl.stop:
			return
		case <-ctrl.events:
			ctrl.reconcile()
			ctrl.dropLost()
			patience.Reset(cutOffAfter)
		case <-patience.C:
			over = true
		case <-ctrl.parked:
			timer.Reset(retryPause)
			continue
		case <-timer.C:
		}
		cut := ctrl.cutOff(over)
		if cut && !told {
			for _, d := range ctrl.diskList() {
				ctrl.m.reg.CutOff(d.name)
			}
		}
		told = cut || told && !ctrl.connected()
		again := false
		for _, d := range ctrl.diskList() {
			again = d.retry(&b) || again
		}
		b.Flush()
		if again {
			timer.Reset(retryPause)
		}
	}
}

// cutOffAfter is how long the first attempt to connect again may take until the
// holders of the bdevs are told that they are cut off.
const cutOffAfter = 300 * time.Millisecond

// connected reports that a path is.
func (ctrl *controller) connected() bool {
	return slices.ContainsFunc(ctrl.snapshot(), func(p *path) bool { return p.ctl.State() == host.Enabled })
}

// cutOff reports that no path is connected and none came back at once; over says
// that no more is waited for those that are being connected.
func (ctrl *controller) cutOff(over bool) bool {
	paths := ctrl.snapshot()
	return len(paths) > 0 && !slices.ContainsFunc(paths, func(p *path) bool {
		s := p.ctl.State()
		return s == host.Enabled || s == host.Resetting && !over
	})
}

// reconcile makes the disks those that the paths show.
func (ctrl *controller) reconcile() {
	ctrl.reconciling.Lock()
	defer ctrl.reconciling.Unlock()
	paths := map[uint32][]*ioPath{}
	for _, p := range ctrl.snapshot() {
		if p.deleting.Load() {
			continue
		}
		for _, ns := range p.ctl.Namespaces() {
			if l := paths[ns.ID()]; len(l) > 0 && !identical(l[0].ns, ns) {
				ctrl.m.log.Error("namespaces with one id are not identical", "controller", ctrl.name, "nsid", ns.ID(), "traddr", p.cfg.Traddr)
				continue
			}
			paths[ns.ID()] = append(paths[ns.ID()], &ioPath{path: p, ns: ns})
		}
	}
	for _, d := range ctrl.diskList() {
		l := paths[d.nsid]
		if len(l) == 0 || !d.same(l[0].ns) {
			ctrl.dropDisk(d)
			continue
		}
		delete(paths, d.nsid)
		if d.died(l) { // before I/O goes there, see lives
			ctrl.m.reg.CutOff(d.name)
		}
		if d.setIOPaths(l) {
			ctrl.m.reg.Resized(d.name)
		}
	}
	for nsid, l := range paths {
		ctrl.addDisk(nsid, l)
	}
}

func identical(a, b *host.Namespace) bool {
	x, y := a.Identity(), b.Identity()
	return x.UUID == y.UUID && x.NGUID == y.NGUID && x.EUI64 == y.EUI64 && x.BlockSize == y.BlockSize
}

func (ctrl *controller) addDisk(nsid uint32, l []*ioPath) {
	d := newDisk(ctrl, nsid, l)
	if err := ctrl.m.reg.Register(d); err != nil {
		// A bdev of the same name or UUID: SPDK attaches without one, too.
		if ctrl.refused[nsid] != err.Error() {
			ctrl.refused[nsid] = err.Error()
			ctrl.m.log.Error("nvme namespace without bdev", "controller", ctrl.name, "nsid", nsid, "err", err)
		}
		return
	}
	delete(ctrl.refused, nsid)
	ctrl.mu.Lock()
	ctrl.disks[nsid] = d
	ctrl.mu.Unlock()
}

// dropDisk unregisters a disk whose namespace is gone. Its holders may take
// their time; the name is theirs until then.
func (ctrl *controller) dropDisk(d *disk) {
	ctrl.mu.Lock()
	delete(ctrl.disks, d.nsid)
	ctrl.mu.Unlock()
	d.close()
	go func() {
		if err := ctrl.m.reg.Unregister(d.name); err != nil && !errors.Is(err, bdev.ErrNoDevice) {
			ctrl.m.log.Error("nvme bdev did not close", "bdev", d.name, "err", err)
		}
		ctrl.kick() // a new namespace may wait for the name
	}()
}

// dropLost removes paths whose controller was given up.
func (ctrl *controller) dropLost() {
	for _, p := range ctrl.snapshot() {
		if p.ctl.State() != host.Deleting || p.deleting.Swap(true) {
			continue
		}
		go func() {
			ctrl.turn <- struct{}{}
			ctrl.removePaths([]*path{p})
			ctrl.m.release(ctrl)
		}()
	}
}

// remove removes the paths that match at, all when it is nil; the caller has
// the turn. It reports whether there were any.
func (ctrl *controller) remove(at *Path) bool {
	var gone []*path
	matched := false
	for _, p := range ctrl.snapshot() {
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
	ctrl.removePaths(gone)
	return matched
}

// removePaths ends paths that are marked deleting; the caller has the turn.
func (ctrl *controller) removePaths(gone []*path) {
	var stay []*path
	for _, p := range ctrl.snapshot() {
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
		ctrl.reconcile()
		closing() // what was in flight on them goes on elsewhere
	} else {
		ctrl.reconciling.Lock()
		disks := ctrl.diskList()
		ctrl.mu.Lock()
		clear(ctrl.disks)
		ctrl.mu.Unlock()
		ctrl.reconciling.Unlock()
		hard := time.AfterFunc(detachGrace, closing)
		var wg sync.WaitGroup
		for _, d := range disks {
			wg.Go(func() {
				d.close()
				if err := ctrl.m.reg.Unregister(d.name); err != nil {
					<-ctrl.m.reg.Gone(d.name)
				}
			})
		}
		wg.Wait()
		hard.Stop()
		closing()
	}
	ctrl.mu.Lock()
	ctrl.paths = slices.DeleteFunc(ctrl.paths, func(p *path) bool { return slices.Contains(gone, p) })
	ctrl.mu.Unlock()
}

func bdevName(controller string, nsid uint32) string { return fmt.Sprintf("%sn%d", controller, nsid) }
