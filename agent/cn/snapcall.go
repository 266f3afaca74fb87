package cn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// A call that takes or deletes a snapshot ends when all I/O of the volume has ended,
// and that may wait for what only another pass can do, as for a mirror to be told which
// leg it goes on without. So it outlives the pass that began it. One is under way per
// array at most: how it ended must be known before anything else is done about the
// array's snapshots, or one would appear after its tombstone was carried out; and on a
// data plane whose lvstore does not survive writes meanwhile the paths stay closed.
//
// The call also outlives its agent, and an agent that has waited for too long: the data
// plane goes on with it. Therefore a mark is in the agent's state from before the call
// until it is answered. Where there is one that nobody waits for, the array is in doubt:
// nothing is done about its snapshots, as if the call were under way, until the data
// plane is seen to be done with them (see settle).
type snapCall struct {
	done chan struct{}
	err  error // once done is closed
	left bool  // a pass has given up waiting for it; guarded by Agent.mu
}

// snapWait is how long a pass waits for a call for a snapshot.
const snapWait = 5 * time.Second

// snapMark marks, in the agent's state, an array of which a call for a snapshot may be
// under way.
const snapMark = "-snap"

// do has the data plane take or delete a snapshot, and waits for it.
func (r snapshots) do(ctx context.Context, f func(context.Context) error) error {
	call := &snapCall{done: make(chan struct{})}
	doubt := r.snapDoubt(r.c.DaId)
	r.Agent.mu.Lock()
	other := r.snapCalls[r.c.DaId] != nil || doubt
	if !other {
		r.snapCalls[r.c.DaId] = call
	}
	r.Agent.mu.Unlock()
	if other { // since this pass has begun it
		return errors.New("the data plane is still at an earlier call for a snapshot of the array")
	}
	if err := r.State.SetMade(r.c.DaId+snapMark, true); err != nil {
		call.err = fmt.Errorf("the agent cannot note in its state directory that it is about to do so: %w", err)
		close(call.done)
		return r.await(ctx, call)
	}
	r.start(call, f)
	return r.await(ctx, call)
}

// notSent is the error of a call that the data plane was not sent.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// begin starts a call where none is under way.
func (r snapshots) begin(f func(context.Context) error) *snapCall {
	call := &snapCall{done: make(chan struct{})}
	r.Agent.mu.Lock()
	r.snapCalls[r.c.DaId] = call
	r.Agent.mu.Unlock()
	r.start(call, f)
	return call
}

// start carries a call out. When it has been answered, whether by an error or not, the
// array is not in doubt.
func (r snapshots) start(call *snapCall, f func(context.Context) error) {
	r.beyond.Go(func() {
		call.err = agent.Guard(func() error { return f(r.life) })
		var answer *spdk.RPCError
		var not notSent
		doubt := call.err != nil && !errors.As(call.err, &answer) && !errors.As(call.err, &not)
		if !doubt {
			if err := r.State.SetMade(r.c.DaId+snapMark, false); err != nil {
				r.Log.Warn("a mark is left in the state directory", "da", r.c.DaName, "err", err)
			}
		}
		r.Agent.mu.Lock()
		r.snapDoubts[r.c.DaId] = doubt
		left := call.left
		r.Agent.mu.Unlock()
		close(call.done)
		if left {
			r.Loop.KickNamed(r.c.Id, false)
		}
	})
}

// await returns how a call has ended.
func (r snapshots) await(ctx context.Context, call *snapCall) error {
	leave := func(err error) error {
		r.Agent.mu.Lock()
		defer r.Agent.mu.Unlock()
		call.left = true
		return err
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		return leave(context.Cause(ctx))
	case <-time.After(snapWait):
		return leave(errors.New("the data plane is still at it"))
	}
	r.Agent.mu.Lock()
	defer r.Agent.mu.Unlock()
	if r.snapCalls[r.c.DaId] == call { // else another has waited for it, too
		delete(r.snapCalls, r.c.DaId)
	}
	return call.err
}

// ready returns when no call for a snapshot of the array is under way; else it says
// why nothing may be done about its snapshots. An error of a call that another pass has
// begun is returned once, and the next pass begins again.
func (r snapshots) ready(ctx context.Context) error {
	r.Agent.mu.Lock()
	call := r.snapCalls[r.c.DaId]
	r.Agent.mu.Unlock()
	if call == nil && r.snapDoubt(r.c.DaId) {
		call = r.begin(r.settle)
	}
	if call == nil {
		return nil
	}
	return r.await(ctx, call)
}

// snapDoubt reports that a call for a snapshot of an array may be under way that nobody
// waits for.
func (a *Agent) snapDoubt(daID string) bool {
	a.mu.Lock()
	doubt, known := a.snapDoubts[daID]
	a.mu.Unlock()
	if known {
		return doubt
	}
	marked, err := a.State.Made(daID + snapMark)
	doubt = marked || err != nil
	a.mu.Lock()
	defer a.mu.Unlock()
	a.snapDoubts[daID] = doubt
	return doubt
}

// snapUnderWay reports that a snapshot of an array is being taken or deleted, or may be.
func (a *Agent) snapUnderWay(daID string) bool {
	a.mu.Lock()
	call := a.snapCalls[daID]
	a.mu.Unlock()
	if call == nil {
		return a.snapDoubt(daID)
	}
	select {
	case <-call.done:
		return a.snapDoubt(daID)
	default:
		return true
	}
}

// settle returns when the data plane is done with the array's snapshots.
func (r snapshots) settle(ctx context.Context) error {
	lvs, err := r.Plane.BdevLvolGetLvstore(ctx, daPrefix+r.c.DaId)
	if err != nil {
		return unsettled(err)
	}
	tooLarge := (lvs.TotalDataClusters+1)*r.c.ClusterSize>>20 + 1
	for _, s := range r.c.Snaps {
		if s.Rollback != apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED {
			select { // a rename waits for no I/O: one that has been read has ended by then
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(2 * settlePause):
			}
		}
		if s.Stage() == apiv1.SnapState_SNAP_STATE_TAKEN {
			continue // nobody takes it, and nobody was told to delete it
		}
		if err := r.settleOne(ctx, s, tooLarge); err != nil {
			return unsettled(err)
		}
	}
	r.Log.Info("the data plane is done with calls for snapshots that may have been under way", "da", r.c.DaName)
	return nil
}

// unsettled is an error of settle, never the answer to the call: it leaves the array in doubt.
func unsettled(err error) error {
	return fmt.Errorf("the data plane may still be at an earlier call for a snapshot of the array: %s", reason.Full(err))
}

// settlePause is between two looks at the same name. A call that an agent of before has
// sent and that the data plane, having hung, has not read yet is read meanwhile.
const settlePause = time.Second

// settleOne returns when the data plane is done with one snapshot: an lvol that is being
// made or deleted has its name already, or still, though it is not listed. Whether the
// name is free, the data plane says when it is asked for an lvol that is larger than the
// lvstore: it looks at the name first, and changes nothing.
func (r snapshots) settleOne(ctx context.Context, s *apiv1.SnapSpec, tooLarge uint64) error {
	for free := 0; ; {
		_, err := r.Plane.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: daPrefix + r.c.DaId, LvolName: lvolName(s),
			SizeInMiB: tooLarge, ClearMethod: "none"})
		switch {
		case spdk.IsNoSpace(err):
			if free++; free == 2 {
				return nil
			}
		case spdk.IsNameTaken(err):
			free = 0
			b, err := r.Plane.BdevGet(ctx, r.snapAlias(s.Id), 0)
			if agent.Drop(err) != nil || b != nil {
				return agent.Drop(err)
			}
		case err == nil:
			return fmt.Errorf("it has made an lvol of %d MiB in a smaller lvstore", tooLarge)
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settlePause):
		}
	}
}
