package cn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// What SPDK holds back. I/O for a connection that is lost waits there and is
// tried again once a second, each in its own second, whether or not the host
// that sent it has given up since. That host may have sent a write again
// elsewhere. If the second copy were carried out first and acknowledged, and
// newer writes after it, the first copy would then take their place.
//
// So the paths that lead to a connection are closed as soon as it is lost, and
// opened when nothing is held any more: on a primary that has its vd back after
// what was held has ended (agent.Plane.Ensure), on a secondary after the
// proxy was cut, which ends what is held, and connected anew (release).
//
// vda_tgt needs none of this. It carries held I/O out in the order in which
// it came, before newer, and not at all when the host has left.

// held knows of each connection whether something may be held on it. Safe for
// concurrent use.
type held struct {
	mu    sync.Mutex
	conns map[string]heldConn // by controller
}

type heldConn struct {
	// cntlid is the controller id that the connection had when nothing was
	// held on it: one that was lost and made anew, however quickly, has
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
// held on it. Whoever goes by lists of his own shows them first: nobody else
// may have looked since the connection was lost and made anew.
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

// holds reports that the data plane is one that holds I/O in the way above,
// and that can be told not to.
func (a *Agent) holds() bool { return a.Plane.Able().CutNVMe }

// cutStep is the pause between two trials to cut a connection that is just
// being made anew, and cutTimeout bounds them all.
const (
	cutStep    = 10 * time.Millisecond
	cutTimeout = proxyConnectTimeout + 2*reconnectDelaySec*time.Second
)

// cut has all I/O of a connection fail that is there or comes, within a
// second, and keeps its bdev. SPDK refuses while a trial to reconnect is under
// way, which takes up to proxyConnectTimeout with a primary that hangs.
func (p *pass) cut(ctx context.Context, name string) error {
	begin := time.Now()
	for {
		err := p.Plane.BdevNvmeDisableController(ctx, name)
		switch {
		case err == nil, spdk.IsNoSuchDevice(err), spdk.IsExists(err):
			return nil
		case !errors.Is(err, syscall.EBUSY):
			return err
		case time.Since(begin) > cutTimeout:
			return fmt.Errorf("%s can't be cut: %w", name, err)
		}
		if err := sleep(ctx, cutStep); err != nil {
			return err
		}
	}
}

// release ends what is held on a secondary's path that has just been closed,
// and has the proxy connect again. It is done once, until the path is opened.
// It reports whether the path may be opened now.
func (p *pass) release(ctx context.Context, e *apiv1.ExpSpec) (bool, error) {
	name := pxPrefix + e.Id
	if !p.holds() || p.held.isReleased(name) {
		return false, nil
	}
	if err := p.cut(ctx, name); err != nil {
		return false, err
	}
	if err := p.Plane.Drain(ctx, e.Nqn, 1); err != nil {
		return false, err
	}
	p.held.release(name)
	// It is answered when the first trial has ended, which a promotion must
	// not wait for.
	tried := make(chan error, 1)
	p.beyond.Go(func() {
		tried <- agent.Guard(func() error { return p.Plane.BdevNvmeEnableController(context.WithoutCancel(ctx), name) })
	})
	select {
	case err := <-tried:
		if err != nil {
			return false, nil // SPDK goes on trying
		}
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	closed, err := p.Plane.ClosedPaths(ctx)
	return !closed[name+"n1"], err
}

// closeHeld closes a primary's paths when one of its vds is lost, or was since
// they were opened. The caller that reopens them waits for held I/O to drain.
func (p *pass) closeHeld(ctx context.Context, lost bool) error {
	if !p.holds() {
		return nil
	}
	broken := false
	for _, v := range p.vds() {
		if c := p.inv.Controllers[vdPrefix+v.VdId]; c != nil {
			broken = p.held.see(c.Name, enabled(c), cntlid(c)) || broken
		}
	}
	if !lost && !broken {
		return nil
	}
	if err := p.closeNow(ctx); err != nil || lost {
		return err
	}
	for _, v := range p.vds() {
		if c := p.inv.Controllers[vdPrefix+v.VdId]; c != nil {
			p.held.clean(c.Name, cntlid(c))
		}
	}
	return nil
}
