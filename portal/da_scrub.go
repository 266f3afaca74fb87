package portal

import (
	"context"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// Scrubber gives orders to scrub to the primary of an array; usually the Syncer.
type Scrubber interface {
	Scrub(ctx context.Context, order array.Scrub, stop bool) (problems []string, err error)
}

// ScrubDa has the primary of a mirrored array compare the legs of its columns, or end
// that.
func (s *Server) ScrubDa(ctx context.Context, req *apiv1.ScrubDaRequest) (*apiv1.ScrubDaReply, error) {
	from := req.GetRepairFrom()
	switch {
	case req.RepairFrom != nil && req.Stop:
		return nil, invalid("repair_from is for a scrub that begins; with stop nothing is repaired")
	case req.RepairFrom != nil && from == "":
		return nil, invalid("repair_from is empty; it must be the id of a vd, as da get shows it")
	}
	scrubber, can := s.cfg.Syncer.(Scrubber)
	if !can {
		return nil, refuse(codeUnimplemented, vda.FailedPrecondition, "this portal cannot scrub a da")
	}
	var da *vda.DA
	var order array.Scrub
	err := s.update(ctx, func(tx store.Tx) (err error) {
		if da, err = findDA(tx, req.DaName); err != nil {
			return err
		}
		if req.Stop {
			order, err = array.LastScrub(tx, da)
		} else {
			order, err = array.BeginScrub(tx, da, from)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	problems, err := scrubber.Scrub(ctx, order, req.Stop)
	if err == nil && len(problems) > 0 {
		err = refuse(codePrecondition, vda.FailedPrecondition, "%s", strings.Join(problems, "; "))
	}
	if err != nil {
		if !req.Stop {
			err2 := s.update(ctx, func(tx store.Tx) error { return array.VoidScrub(tx, order) })
			if err2 != nil {
				s.cfg.Log.Warn("a scrub that did not begin is shown as running", "da", da.Name, "err", reason.Of(err2))
			}
		}
		return nil, err
	}
	what := "the scrub has begun"
	if req.Stop {
		what = "the scrub ends"
	}
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	return &apiv1.ScrubDaReply{ReplyInfo: done(what, nil, remarks...), DaMsg: msg}, nil
}

// scrubMsgs are what is known of the last scrub of an array; none when there was none.
func scrubMsgs(tx store.Reader, da *vda.DA) ([]*apiv1.ScrubMsg, error) {
	if !da.Redundancy.Mirrored() {
		return nil, nil
	}
	mirrors, err := tx.MirrorsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	var msg *apiv1.ScrubMsg
	last := ""
	for i := range mirrors {
		last = max(last, mirrors[i].Scrub.ID)
	}
	states := map[vda.ScrubState]bool{}
	for i := range mirrors {
		s := &mirrors[i].Scrub
		if s.ID == "" {
			continue
		}
		if msg == nil {
			msg = &apiv1.ScrubMsg{}
		}
		msg.Mismatches += s.Mismatches
		msg.Repaired += s.Repaired
		if s.ID != last {
			continue // the last one was of another column
		}
		msg.DoneBytes += s.Done
		msg.TotalBytes += mirrors[i].Size
		if s.State == vda.ScrubRunning && s.Term != da.Term {
			states[vda.ScrubStopped] = true // its primary is not the primary any more
		} else {
			states[s.State] = true
		}
	}
	if msg == nil {
		return nil, nil
	}
	msg.MismatchList = array.Unequal(mirrors)
	for _, st := range slices.Backward([]vda.ScrubState{vda.ScrubRunning, vda.ScrubStopped, vda.ScrubDone}) {
		if states[st] {
			msg.State = string(st)
		}
	}
	return []*apiv1.ScrubMsg{msg}, nil
}
