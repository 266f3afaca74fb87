package plane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// What SPDK holds back; the package comment says why that is dangerous.

// held knows of each connection whether something may be held on it. Safe for
// concurrent use.
type held struct {
	mu    sync.Mutex
	conns map[string]heldConn // by controller
}

type heldConn struct {
	// cntlid is the controller id that the connection had when nothing was
	// held on it: one that was lost and made again, however quickly, has
	// another. 0: not known.
	cntlid   uint16
	broken   bool // it was lost since
	released bool // a proxy on which nothing is held: its path has been closed, and it was cut since
}

// clean notes that nothing is held on a connection.
func (h *held) clean(name string, cntlid uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[name] = heldConn{cntlid: cntlid}
}

// see notes what a connection looks like, and reports whether something may be
// held on it.
func (h *held) see(name string, well bool, cntlid uint16) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conns[name]
	switch {
	case c.released:
		return false
	case !well, c.cntlid != 0 && c.cntlid != cntlid:
		c.broken = true
	case c.cntlid == 0: // of a run of the agent before this one
		c.cntlid = cntlid
	}
	h.conns[name] = c
	return c.broken
}

// release notes that nothing is held on a proxy that has been cut.
func (h *held) release(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[name] = heldConn{released: true}
}

func (h *held) isReleased(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns[name].released
}

// StateWhileLost: what hosts send would be held.
func (d *spdkTgt) StateWhileLost() string {
	if d.cuts {
		return spdk.ANAInaccessible
	}
	return spdk.ANAOptimized
}

// ProxyState: a version that cannot cut carries out what it holds for a lost
// primary, after the hosts have sent it again by the next one.
func (d *spdkTgt) ProxyState() string {
	if d.cuts {
		return spdk.ANANonOptimized
	}
	return spdk.ANAInaccessible
}

// StandsBy: then there is nothing that a proxy could hold for the old primary.
func (d *spdkTgt) StandsBy() bool { return true }

// WatchesSilence: nothing bounds SPDK's own keep-alive commands, and the
// connection stands until TCP gives it up after a quarter of an hour.
func (d *spdkTgt) WatchesSilence() bool { return d.cuts }

func (d *spdkTgt) ClosedPaths(ctx context.Context, bdevs ...string) (map[string]bool, error) {
	if !d.cuts {
		return nil, nil
	}
	closed := map[string]bool{}
	add := func(l []spdk.NvmeIOPath) {
		for _, path := range l {
			if !path.Connected || !path.Accessible {
				closed[path.BdevName] = true
			}
		}
	}
	if len(bdevs) == 0 {
		l, err := d.API.BdevNvmeGetIOPaths(ctx)
		add(l)
		return closed, err
	}
	for _, bdev := range bdevs {
		l, err := d.API.BdevNvmeGetIOPathsOf(ctx, bdev)
		if err != nil {
			return nil, err
		}
		add(l)
	}
	return closed, nil
}

// FastIOFail: SPDK, up to 26.05 at least, never re-arms this timer once it has
// fired: when the connection is lost the next time, it fails all I/O at once,
// with an error that is not a path error, while the path still looks well to
// hosts. They try again some times on the same path and then report an I/O
// error. So where a connection can be cut, I/O waits for as long as it takes, and
// what stands in the way is cut: by Release on a secondary, by CutLost when a
// controller is taken down. A primary's waits for the vd, as another path would
// end at the same disk.
func (d *spdkTgt) FastIOFail(limit time.Duration) *uint32 {
	if d.cuts {
		return nil
	}
	return seconds(limit)
}

func (d *spdkTgt) Attach(ctx context.Context, n spdk.NvmeAttach) ([]string, error) {
	d.held.clean(n.Name, 0)
	bdevs, err := d.API.BdevNvmeAttachController(ctx, n)
	if err != nil || len(bdevs) == 0 || !d.cuts {
		return bdevs, err
	}
	c, err := d.API.BdevNvmeGetController(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	d.Clean(c)
	return bdevs, nil
}

func (d *spdkTgt) MayHold(c *spdk.NvmeController, well bool) bool {
	return d.cuts && d.held.see(c.Name, well, c.Cntlid())
}

func (d *spdkTgt) Clean(c *spdk.NvmeController) { d.held.clean(c.Name, c.Cntlid()) }

func (d *spdkTgt) Released(name string) bool { return d.cuts && d.held.isReleased(name) }

// Settle cuts a connection: the primary may hang, or the path that a link leads
// to be closed. A version that cannot cut fails what waits after a while.
func (d *spdkTgt) Settle(ctx context.Context, name string) error {
	if d.held.isReleased(name) {
		return nil
	}
	if d.cuts {
		return d.cut(ctx, name)
	}
	now, err := d.API.BdevNvmeGetController(ctx, name)
	switch {
	case spdk.IsNoSuchDevice(err):
		return nil
	case err != nil:
		return err
	case len(now.Ctrlrs) > 0 && now.Ctrlrs[0].Connected():
		return nil
	}
	// The last I/O that came before the path was closed fails then.
	return sleep(ctx, ProxyFastIOFail+200*time.Millisecond)
}

// cutStep is the pause between two trials to cut a connection that is just
// being made again, and cutTimeout bounds them all.
const (
	cutStep    = 10 * time.Millisecond
	cutTimeout = ProxyConnectTimeout + 2*ReconnectDelay
)

// cut has all I/O of a connection fail that is there or comes, within a
// second, and keeps its bdev. SPDK refuses while a trial to reconnect is under
// way, which takes up to ProxyConnectTimeout with a primary that hangs.
func (d *spdkTgt) cut(ctx context.Context, name string) error {
	begin := time.Now()
	for {
		err := d.API.BdevNvmeDisableController(ctx, name)
		switch {
		case err == nil, spdk.IsNoSuchDevice(err), spdk.IsExists(err):
			return nil
		case !errors.Is(err, syscall.EBUSY):
			return err
		case time.Since(begin) > cutTimeout:
			return fmt.Errorf("%s cannot be cut: %w", name, err)
		}
		if err := sleep(ctx, cutStep); err != nil {
			return err
		}
	}
}

func (d *spdkTgt) Release(ctx context.Context, name, nqn string) (bool, error) {
	if !d.cuts || d.held.isReleased(name) {
		return false, nil
	}
	if err := d.cut(ctx, name); err != nil {
		return false, err
	}
	if err := d.Drain(ctx, nqn, 1); err != nil {
		return false, err
	}
	d.held.release(name)
	// It is answered when the first trial has ended, which a promotion must
	// not wait for.
	tried := d.Go(func() error { return d.API.BdevNvmeEnableController(context.WithoutCancel(ctx), name) })
	select {
	case err := <-tried:
		if err != nil {
			return false, nil // SPDK goes on trying
		}
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	closed, err := d.ClosedPaths(ctx, name+"n1")
	return !closed[name+"n1"], err
}

// EndOfLinks: I/O for a lost vd waits until it is cut.
func (d *spdkTgt) EndOfLinks(lost bool) End {
	if d.cuts && lost {
		return Cut
	}
	return Drained
}

// DropProxy: the namespace that stands on the proxy would vanish with it.
func (d *spdkTgt) DropProxy(context.Context, string) (bool, error) { return false, nil }

func (d *spdkTgt) CutLost(ctx context.Context, names []string, lost func(*spdk.NvmeController) bool, fail func(string, error)) bool {
	if !d.cuts || len(names) == 0 {
		return false
	}
	l, err := controllers(ctx, d.API, names)
	if err != nil {
		return true // the pass meets it as well
	}
	for i := range l {
		if !lost(&l[i]) || l[i].Disabled() {
			continue
		}
		err := d.API.BdevNvmeDisableController(ctx, l[i].Name)
		// Busy: connecting just now. ENXIO: being detached already.
		if err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENXIO) && !spdk.IsNoSuchDevice(err) && ctx.Err() == nil {
			fail(l[i].Name, err)
		}
	}
	return true
}
