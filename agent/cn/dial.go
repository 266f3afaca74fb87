package cn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// dialGrace is how long a pass waits for a leg that others could do without. A leg whose
// last attempt failed is not waited for at all.
const dialGrace = time.Second

// dial is an attempt to connect to a leg of a mirror. It outlives the pass that began it:
// a dn that hangs keeps it waiting for fabricsConnectTimeout, and a pass has more urgent
// things to do, such as to tell the mirror which legs I/O need not wait for. A pass that
// takes connections away waits for it first.
type dial struct {
	to    string        // what it connects to, and as whom
	grace time.Time     // until when passes wait for it
	done  chan struct{} // closed at its end
	drop  func(error)   // ends it, if it has not begun to connect
	err   error         // after that
	last  error         // of the attempt before
	left  bool          // a pass went on without it; guarded by the agent's mutex
}

func (d *dial) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// target names what v has to be connected to, and as whom.
func (p *pass) target(v *apiv1.VdTarget) string {
	return fmt.Sprintf("%s %s %s", spdk.At(v.Listener.Listener()), v.Nqn, vda.LegHostNQN(p.c.HostNqn, v.Epoch))
}

// dial returns the attempt to connect to a vd that is under way, or begins one.
func (r connections) dial(v *apiv1.VdTarget) *dial {
	name := vdPrefix + v.VdId
	r.Agent.mu.Lock()
	defer r.Agent.mu.Unlock()
	old := r.dials[name]
	if old != nil && !old.ended() {
		return old
	}
	d := &dial{to: r.target(v), grace: time.Now(), done: make(chan struct{})}
	if old == nil {
		d.grace = d.grace.Add(dialGrace)
	} else {
		d.last = old.err
	}
	r.dials[name] = d
	ctx, drop := context.WithCancelCause(r.life)
	d.drop = drop
	r.beyond.Go(func() {
		defer drop(nil)
		d.err = agent.Guard(func() error {
			err := r.attachVD(ctx, v) // a call that is under way is waited for, also when it is dropped
			if spdk.IsExists(err) && r.connectedSince(ctx, v) {
				return nil
			}
			return err
		})
		r.Agent.mu.Lock()
		if d.err == nil {
			delete(r.dials, name)
		}
		left := d.left
		r.Agent.mu.Unlock()
		close(d.done)
		if left && d.err == nil { // else the loop tries again after a while
			r.Loop.KickNamed(r.c.Id, false)
		}
	})
	return d
}

// connectedSince reports that an attempt which ended after the pass had looked has
// connected to v as it is to be.
func (r connections) connectedSince(ctx context.Context, v *apiv1.VdTarget) bool {
	now := &pass{Agent: r.Agent, c: r.c, spec: r.spec}
	var err error
	if now.inv, err = now.look(ctx); err != nil {
		return false
	}
	c := now.inv.Controller(vdPrefix + v.VdId)
	return c != nil && now.fits(c, v)
}

// dialAll connects to legs, and returns those that are not connected and why. It waits
// for the others as long as the array cannot be used without them, and for a short
// while beyond. ctx's cause is the only error.
func (r connections) dialAll(ctx context.Context, vds []*apiv1.VdTarget) (missing []*apiv1.VdTarget, errs []error, err error) {
	dials := map[*apiv1.VdTarget]*dial{}
	for _, v := range vds {
		if name := vdPrefix + v.VdId; r.inv.Controller(name) == nil || r.changed(name, false) {
			dials[v] = r.dial(v)
		}
	}
	if err := r.settleProxies(ctx); err != nil {
		return nil, nil, err
	}
	ended := make(chan *apiv1.VdTarget, len(dials))
	stop := make(chan struct{})
	defer close(stop)
	var grace time.Time
	for v, d := range dials {
		missing = append(missing, v)
		if d.grace.After(grace) {
			grace = d.grace
		}
		go func() {
			select {
			case <-d.done:
				ended <- v
			case <-stop:
			}
		}()
	}
	timer := time.NewTimer(time.Until(grace))
	defer timer.Stop()
	over := false
	for left := len(dials); left > 0 && !(over && usable(r.c, missing)); {
		select {
		case v := <-ended:
			left--
			if d := dials[v]; d.err == nil && d.to == r.target(v) {
				r.note(vdPrefix+v.VdId, true)
				missing = without(missing, v)
			}
		case <-timer.C:
			over = true
		case <-ctx.Done():
			err, left = context.Cause(ctx), 0
		}
	}
	r.Agent.mu.Lock()
	defer r.Agent.mu.Unlock()
	for _, v := range missing {
		d := dials[v]
		switch {
		case !d.ended():
			d.left = true
			errs = append(errs, cmp.Or(d.last, fmt.Errorf("vd %s at %s: it is being connected to", v.VdId, address(v.Listener))))
		case d.err != nil:
			errs = append(errs, d.err)
		default:
			errs = append(errs, fmt.Errorf("vd %s at %s: it has just been connected to as it was", v.VdId, address(v.Listener)))
		}
	}
	return missing, errs, err
}

// without returns vds without one of them.
func without(vds []*apiv1.VdTarget, one *apiv1.VdTarget) (rest []*apiv1.VdTarget) {
	for _, v := range vds {
		if v != one {
			rest = append(rest, v)
		}
	}
	return rest
}

// dialing are the attempts to connect to vds of the controller that are under way.
func (p *pass) dialing() map[string]*dial {
	p.Agent.mu.Lock()
	defer p.Agent.mu.Unlock()
	now := map[string]*dial{}
	for _, v := range vdsOf(p.c) {
		if d := p.dials[vdPrefix+v.VdId]; d != nil && !d.ended() {
			now[vdPrefix+v.VdId] = d
		}
	}
	return now
}

// errGivenUp ends attempts that wait for their turn.
var errGivenUp = errors.New("the attempt to connect was given up, as the array is not to be here any more")

// awaitDials waits for the attempts that are under way, gives up those that wait for
// their turn, and returns the names of all.
func (p *pass) awaitDials(ctx context.Context) (names []string, err error) {
	all := p.dialing()
	for _, d := range all {
		d.drop(errGivenUp)
	}
	for name, d := range all {
		select {
		case <-d.done:
			names = append(names, name)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return names, nil
}

// forgetDials forgets attempts that have failed, but for those to the vds that are named.
func (a *Agent) forgetDials(named map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, d := range a.dials {
		if d.ended() && !named[name] {
			delete(a.dials, name)
		}
	}
}
