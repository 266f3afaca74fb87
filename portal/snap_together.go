package portal

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// Holder has primaries take snapshots and hold their arrays' I/O; see syncer.Syncer.
type Holder interface {
	HoldSnap(ctx context.Context, h array.HeldSnap, limit time.Duration) error
	ReleaseSnap(ctx context.Context, h array.HeldSnap) (held time.Duration, inForce bool, err error)
}

const (
	// maxTogether bounds the arrays that are snapshotted at one instant: hosts of all wait for
	// the slowest.
	maxTogether = 32
	// holdTime bounds how long the portal waits for all of them to be held.
	holdTime = 5 * time.Second
	// holdLimit is when a hold ends by itself, when the portal or its node has died.
	holdLimit = 10 * time.Second
)

// createSnaps takes snapshots of several arrays at one instant. All are taken when the reply
// says so, and none is left when it is an error. The rows say that all are taken, or that all
// are to go, from one transaction on; when this portal dies before it, a monitor sees to it.
func (s *Server) createSnaps(ctx context.Context, das []string, name string, tags vda.Tags) (*apiv1.CreateSnapReply, error) {
	if err := soundTogether(das); err != nil {
		return nil, err
	}
	holder, ok := s.cfg.Syncer.(Holder)
	if !ok {
		return nil, vda.Errorf(vda.Internal, "this portal cannot hold arrays' I/O")
	}
	snaps, held, steps, err := s.askTogether(ctx, das, name, tags)
	if err != nil {
		return nil, err
	}
	pause, why := s.holdAll(ctx, holder, held, steps)
	if why == "" {
		if why, err = s.tookTogether(ctx, held); err != nil {
			return nil, err
		}
	}
	if why != "" {
		return nil, s.cancelTogether(ctx, held, das, name, why)
	}
	reply := &apiv1.CreateSnapReply{PauseUsec: uint64(pause.Microseconds())}
	err = s.view(ctx, func(tx store.Reader) error {
		reply.SnapMsgList = nil
		for i, sn := range snaps {
			row, err := tx.Snap(sn.ID)
			if err != nil {
				return err
			}
			msg := snapMsg(row, das[i], nil)
			msg.LabelList, msg.Description = tags.LabelList(), tags.Description
			reply.SnapMsgList = append(reply.SnapMsgList, msg)
		}
		return nil
	})
	if err != nil {
		reply.ReplyInfo = done("the snaps are taken", nil, "they are not shown, as the database cannot be read ("+reason.Of(err)+")")
	} else {
		reply.SnapMsg = reply.SnapMsgList[0]
	}
	return reply, nil
}

// soundTogether refuses names of arrays that cannot be snapshotted at one instant.
func soundTogether(das []string) error {
	seen := map[string]bool{}
	for _, name := range das {
		if err := vda.CheckName("da_name", name); err != nil {
			return err
		}
		if seen[name] {
			return invalid("da_name has %s twice", name)
		}
		seen[name] = true
	}
	if len(das) > maxTogether {
		return invalid("da_name has %d das; %d at most are snapshotted at one instant", len(das), maxTogether)
	}
	return nil
}

// askTogether makes the rows. steps are the primaries' nodes.
func (s *Server) askTogether(ctx context.Context, das []string, name string, tags vda.Tags) (snaps []*vda.Snap, held []array.HeldSnap,
	steps [][]node, err error) {
	now, together := time.Now().UTC(), store.NewID()
	for range das {
		snaps = append(snaps, &vda.Snap{ID: store.NewID(), Name: name, State: vda.SnapTogether, Together: together, Asked: now})
	}
	err = s.update(ctx, func(tx store.Tx) error {
		rows := make([]*vda.DA, len(das))
		var ids []string
		for i, name := range das {
			da, err := findDA(tx.Unlocked(), name)
			if err != nil {
				return err
			}
			rows[i], ids = da, append(ids, da.ID)
		}
		if err := array.Begin(tx).LockArrays(ids...); err != nil {
			return err
		}
		for i, da := range rows {
			da, err := findDA(tx, da.Name)
			if err != nil {
				return err
			}
			if err := snapFits(tx, da, snaps[i]); err != nil {
				return err
			}
		}
		var plan array.Plan
		if held, plan, err = array.CreateSnaps(tx, snaps); err != nil {
			return err
		}
		for _, sn := range snaps {
			if err := setTags(tx, sn.ID, tags, nil); err != nil {
				return err
			}
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	return snaps, held, steps, err
}

// holdAll has all primaries take their snapshots and hold, and then releases all, whatever
// came of it. why: not all were held at one instant.
func (s *Server) holdAll(ctx context.Context, holder Holder, held []array.HeldSnap, steps [][]node) (pause time.Duration, why string) {
	if notes := s.syncSteps(ctx, steps...); notes != nil {
		return 0, notes[0]
	}
	whys := make([]string, len(held))
	each(held, func(i int, h array.HeldSnap) {
		ctx, cancel := context.WithTimeout(ctx, holdTime)
		defer cancel()
		if err := holder.HoldSnap(ctx, h, holdLimit); err != nil {
			whys[i] = fmt.Sprintf("da %s: %s", h.DAName, because(err))
		}
	})
	var mu sync.Mutex
	each(held, func(i int, h array.HeldSnap) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		d, inForce, err := holder.ReleaseSnap(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		pause = max(pause, d)
		switch {
		case whys[i] != "":
		case err != nil:
			whys[i] = fmt.Sprintf("da %s: whether its I/O was held until all were taken is not known: %s", h.DAName, because(err))
		case !inForce:
			whys[i] = fmt.Sprintf("da %s: its I/O was not held until all were taken, for %v at most", h.DAName, holdLimit)
		}
	})
	for _, w := range whys {
		if w != "" {
			return pause, w
		}
	}
	return pause, ""
}

// each calls f for all at once.
func each(held []array.HeldSnap, f func(i int, h array.HeldSnap)) {
	var wg sync.WaitGroup
	for i, h := range held {
		wg.Go(func() { f(i, h) })
	}
	wg.Wait()
}

// tookTogether records that all are taken. why: they cannot be, as what was asked for is not
// so any more. An error: it is not known whether that is recorded.
func (s *Server) tookTogether(ctx context.Context, held []array.HeldSnap) (why string, err error) {
	var steps [][]node
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	err = s.update(ctx, func(tx store.Tx) error {
		plan, err := array.TookTogether(tx, held, time.Now().UTC())
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	switch {
	case err == nil:
		s.syncAll(ctx, steps...) // what it does not reach, the monitor does
		return "", nil
	case reason.Database(err) == nil:
		return reason.Of(err), nil
	}
	return "", refuse(codeDatabase, vda.Unavailable, "it is not known whether the snaps are taken (%s): snap get of each says, in %v at "+
		"the latest; all are, or none", reason.Of(err), vda.TogetherTime)
}

// cancelTogether makes tombstones of snapshots that were not all taken, and returns what to
// answer.
func (s *Server) cancelTogether(ctx context.Context, held []array.HeldSnap, das []string, name, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) error {
		plan, _, err := array.DropTogether(tx, held)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	what := fmt.Sprintf("snap %s of das %s is not taken: %s", name, strings.Join(das, ", "), why)
	if err != nil {
		return refuse(codeDatabase, vda.Unavailable, "%s; none is left in %v at the latest, when the database answers again (%s)", what,
			vda.TogetherTime, reason.Of(err))
	}
	left := "none is left"
	if s.syncAll(ctx, steps...) != nil {
		left = "what there may be of them is deleted when the arrays' primaries can be reached"
	}
	return vda.Errorf(vda.FailedPrecondition, "%s; %s", what, left)
}
