package cn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// source is what a clone is copied from: a snapshot of another array, to which its primary
// connects like a host, by all of that array's controllers. The volume is made as a clone of
// that namespace, which it knows by its UUID. Until all is copied, and SQL says so, the
// volume is nothing without it: when no controller of the source can be reached, it is not
// there, or its I/O gets path errors, and never zeros.
//
// The namespace's contents are a tenant's, so nobody examines it: it may look like an
// lvstore.
type source struct{ *pass }

func (r source) name() string { return srcPrefix + r.c.DaId }

func (r source) have() bool { return r.inv.Controller(r.name()) != nil }

func (r source) want() string { return "" }

// make connects to the source by the first controller that answers; the copy connects to
// the others. That none answers is an error of the volume if that needs it.
func (r source) make(ctx context.Context) error {
	r.away = nil
	if r.c.Source == nil || r.have() && r.inv.BdevName(r.name()+"n1") != "" {
		return nil
	}
	if err := r.mayClone(); err != nil {
		return err
	}
	var errs []error
	for _, l := range r.c.Source.Listeners {
		err := r.path(ctx, l)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("at %s port %s: %w", l.Traddr, l.Trsvcid, err))
	}
	if _, err := r.Plane.BdevGet(ctx, r.name()+"n1", 0); err == nil { // one shows it by now
		return nil
	}
	if errs == nil {
		errs = append(errs, errors.New("it has no controllers"))
	}
	r.away = fmt.Errorf("disk array %s is not copied yet, and what it is copied from, snapshot %s, cannot be reached: %w", r.c.DaName,
		r.c.Source.Name, errors.Join(errs...))
	return nil
}

// mayClone says why the data plane cannot carry a clone.
func (r source) mayClone() error {
	if r.Plane.Driver().Mirrors() {
		return nil
	}
	return fmt.Errorf("disk array %s is a clone that is not copied yet, which SPDK cannot copy in parts; run vda_tgt on this node", r.c.DaName)
}

// path connects to one controller of the source.
func (r source) path(ctx context.Context, l *apiv1.ListenerConf) error {
	s, at := r.c.Source, spdk.At(l.Listener())
	bdevs, err := r.Plane.Attach(ctx, spdk.NvmeAttach{
		Name: r.name(), TrType: at.TrType, TrAddr: at.TrAddr, AdrFam: at.AdrFam, TrSvcID: at.TrSvcID, SubNQN: s.Nqn, HostNQN: s.HostNqn,
		Multipath: "multipath", FastIOFailTimeoutSec: r.Plane.Driver().FastIOFail(backendFastIOFail),
		FabricsConnectTimeoutUs: spdk.Ptr(uint64(plane.ProxyConnectTimeout / time.Microsecond)),
		CtrlrLossTimeoutSec:     spdk.Ptr[int32](noCtrlrLossTimeout),
		ReconnectDelaySec:       spdk.Ptr(uint32(plane.ReconnectDelay / time.Second)),
	}, s.HopKey)
	if err == nil && len(bdevs) == 0 || spdk.IsExists(err) { // in the second case it is connected already
		err = fmt.Errorf("subsystem %s shows no namespace yet that can be used", s.Nqn)
	}
	return err
}

func (r source) unmake(ctx context.Context) error {
	if !r.have() {
		return nil
	}
	return agent.Drop(r.Plane.BdevNvmeDetachController(ctx, r.name()))
}

// clone makes the volume. It grows to the array's size as any volume.
func (r source) clone(ctx context.Context) (string, error) {
	b, err := r.Plane.BdevGet(ctx, r.name()+"n1", 0)
	if err != nil {
		return "", err
	}
	if b.UUID != r.c.Source.Uuid || b.Bytes() != r.c.Source.Size {
		return "", fmt.Errorf("what is found at the place of snapshot %s has UUID %s and %d bytes, not %s and %d", r.c.Source.Name, b.UUID,
			b.Bytes(), r.c.Source.Uuid, r.c.Source.Size)
	}
	return r.Plane.BdevLvolCloneBdev(ctx, b.Name, daPrefix+r.c.DaId, volPrefix+r.c.DaId)
}

// show has the data plane look for the source of a volume that it has loaded without it,
// and reports whether the volume is there now.
func (r source) show(ctx context.Context) (bool, error) {
	_, err := r.Plane.VdaLvolAbsorb(ctx, r.volAlias(), 1, !r.c.Thin)
	if err != nil && !spdk.IsNoSuchDevice(err) && !spdk.IsNoSpace(err) {
		return false, err
	}
	b, err := r.Plane.BdevGet(ctx, r.volAlias(), 0)
	if err != nil {
		if spdk.IsNoSuchDevice(err) {
			err = nil
		}
		return false, err
	}
	return true, volume(r).accept(b)
}

// cloneCopy copies the source of a clone while its array serves. What it has copied stays
// so, and its lvstore knows it: the next one, of another agent or primary, goes on from
// there.
type cloneCopy struct {
	term        uint64
	done, total uint64 // bytes
	independent bool
	running     bool
	err         error
}

const (
	copyMiB       = 16              // of one call, at most: as much as is not longer than copyLong
	copyLong      = 4 * time.Second // well below what a call may take
	copyPause     = time.Second     // after an error
	sourcePathsAt = 5 * time.Second
)

// absorb has a copy under way while the array is a clone, and says what is wrong with it.
// When SQL knows that it needs its source no more, it lets go of that.
func (p *pass) absorb(ctx context.Context) {
	src := source{p}
	if p.c.Source == nil {
		p.Agent.mu.Lock()
		delete(p.clones, p.c.DaId)
		p.Agent.mu.Unlock()
		if err := src.unmake(ctx); err != nil {
			p.fail(p.c.Id, fmt.Errorf("disk array %s does not let go of what it was copied from: %w", p.c.DaName, err))
		}
		return
	}
	p.Agent.mu.Lock()
	c := p.clones[p.c.DaId]
	if c == nil || c.term != p.c.Term {
		c = &cloneCopy{term: p.c.Term}
		p.clones[p.c.DaId] = c
	}
	start, err := !c.running && !c.independent && p.vol != "", c.err
	c.running = c.running || start
	p.Agent.mu.Unlock()
	if err != nil {
		p.ail(p.c.Id, fmt.Errorf("disk array %s serves, and the copy of snapshot %s does not go on: %w", p.c.DaName, p.c.Source.Name, err))
	}
	if start {
		own := &pass{Agent: p.Agent, c: p.c} // it outlives this pass
		p.beyond.Go(func() { own.copySource(c) })
	}
}

// copySource copies until all is copied, or the array is not this primary's any more.
func (p *pass) copySource(c *cloneCopy) {
	ctx := p.life
	defer func() {
		p.Agent.mu.Lock()
		defer p.Agent.mu.Unlock()
		c.running = false
	}()
	paths, part := time.Time{}, uint64(1) // MiB
	for p.copies(c) {
		if time.Since(paths) >= sourcePathsAt {
			source{p}.allPaths(ctx)
			paths = time.Now()
		}
		begin := time.Now()
		var a spdk.LvolAbsorbed
		err := agent.Guard(func() (err error) {
			a, err = p.Plane.VdaLvolAbsorb(ctx, p.volAlias(), part, !p.c.Thin)
			return err
		})
		if err != nil {
			err = source{p}.why(ctx, err)
		}
		// Busy: a call that has outlived its time, or its agent, goes on.
		if !spdk.IsBusy(err) && p.noteCopy(c, a, err) {
			return
		}
		pause, took, most := time.Duration(0), time.Since(begin), uint64(copyMiB)
		if mb := p.c.Limits.GetRebuildMbps(); mb > 0 {
			pause = time.Duration(part)*time.Second/time.Duration(mb) - took
			most = min(most, mb)
		}
		switch {
		case err != nil:
			pause, part = copyPause, 1
		case took > copyLong:
			part /= 2
		case took < copyLong/4:
			part *= 2
		}
		part = max(min(part, most), 1)
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// why says of a copy that has failed that its source cannot be read, where that is so.
func (r source) why(ctx context.Context, failed error) error {
	if spdk.IsNoSpace(failed) || spdk.IsBusy(failed) || spdk.IsConnection(failed) {
		return failed
	}
	have, err := r.Plane.Driver().Controllers(ctx, r.name())
	if err != nil {
		return failed
	}
	var lost []string
	for i := range have {
		for _, path := range have[i].Ctrlrs {
			if path.Connected() {
				lost = nil
				break
			}
			lost = append(lost, path.TrID.TrAddr+" port "+path.TrID.TrSvcID)
		}
	}
	if lost != nil {
		return fmt.Errorf("no controller of it can be reached, at %s; it goes on by itself when one can", strings.Join(lost, ", "))
	}
	paths, err := r.Plane.BdevNvmeGetIOPathsOf(ctx, r.name()+"n1")
	if err == nil && len(paths) > 0 && !slices.ContainsFunc(paths, func(p spdk.NvmeIOPath) bool { return p.Connected && p.Accessible }) {
		return errors.New("its array has no primary that serves it; it goes on by itself when there is one")
	}
	return failed
}

// copies reports that a copy is still that of the array's primary here.
func (p *pass) copies(c *cloneCopy) bool {
	p.Agent.mu.Lock()
	defer p.Agent.mu.Unlock()
	now := p.set.cntlrs[p.c.Id]
	ok := p.life.Err() == nil && p.clones[p.c.DaId] == c && now != nil && now.Primary && !now.Deleted && now.Term == c.term &&
		now.Source != nil
	if ok { // what it goes by may have changed
		p.c = now
	}
	return ok
}

// noteCopy keeps what a call has said, and reports that there is nothing left to copy.
func (p *pass) noteCopy(c *cloneCopy, a spdk.LvolAbsorbed, err error) bool {
	p.Agent.mu.Lock()
	had := c.err
	c.err = err
	if err == nil {
		c.done, c.total, c.independent = a.Done*p.c.ClusterSize, a.Total*p.c.ClusterSize, a.Independent
	}
	done := c.independent
	p.Agent.mu.Unlock()
	if done {
		p.Log.Info("a clone needs nothing of its source any more", "da", p.c.DaName, "source", p.c.Source.Name)
		p.Tell()
	}
	if (had == nil) != (err == nil) {
		p.Loop.KickNamed(p.c.Id, false)
	}
	return done
}

// allPaths connects to the controllers of the source to which there is no connection yet.
func (r source) allPaths(ctx context.Context) {
	have, err := r.Plane.Driver().Controllers(ctx, r.name())
	if err == nil && len(have) > 0 { // no two by different keys
		err = r.Plane.Prove(ctx, r.name(), r.c.Source.HopKey)
	}
	if err != nil {
		r.Log.Debug("the controllers of a clone's source stay as they are", "da", r.c.DaName, "err", err)
		return
	}
	for _, l := range r.c.Source.Listeners {
		at := spdk.At(l.Listener())
		if slices.ContainsFunc(have, func(c spdk.NvmeController) bool {
			return slices.ContainsFunc(c.Ctrlrs, func(p spdk.NvmePath) bool { return p.TrID.Same(at) })
		}) {
			continue
		}
		if err := r.path(ctx, l); err != nil {
			r.Log.Debug("a controller of a clone's source is not reached", "da", r.c.DaName, "traddr", l.Traddr, "err", err)
		}
	}
}

// cloneStates are what a heartbeat says of clones.
func (a *Agent) cloneStates() (all []*apiv1.CloneState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.standings {
		spec := a.set.cntlrs[id]
		c := a.clones[spec.DaId]
		if c == nil || c.term != spec.Term || spec.Source == nil || c.total == 0 && !c.independent {
			continue
		}
		all = append(all, &apiv1.CloneState{DaId: spec.DaId, Term: c.term, DoneBytes: c.done, TotalBytes: c.total, Independent: c.independent})
	}
	return all
}
