package portal

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// moveAttempts is how often a place is chosen again because the cluster has changed
// between the choice and the transaction.
const moveAttempts = 3

// MoveVd gives a vd's column another leg, which takes the vd's place when it has all
// data; or, with cancel, ends that.
func (s *Server) MoveVd(ctx context.Context, req *apiv1.MoveVdRequest) (*apiv1.MoveVdReply, error) {
	if req.Cancel {
		return s.keepVd(ctx, req)
	}
	var plan array.Plan
	var warning string
	err := array.ErrStale
	for n := 0; n < moveAttempts && errors.Is(err, array.ErrStale); n++ {
		plan, warning, err = s.moveVd(ctx, req)
	}
	if errors.Is(err, array.ErrStale) {
		err = refuse(codeBusy, vda.Unavailable, "the cluster changes too fast to place vd %s, try again", vda.Shorten(req.VdId, 80))
	}
	if err != nil {
		return nil, err
	}
	notes := s.carry(ctx, plan)
	reply := &apiv1.MoveVdReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		v, err := findVD(tx, req.VdId)
		if err != nil {
			return err
		}
		if reply.VdMsg, err = wholeVdMsg(tx, v); err != nil {
			return err
		}
		next, err := successor(tx, v)
		if err == nil && next != nil {
			reply.NewVdMsg, err = wholeVdMsg(tx, next)
		}
		return err
	})
	_, remarks := shown(reply, err, reply)
	if warning != "" {
		reply.WarningList = []string{warning}
	}
	reply.ReplyInfo = done("the vd moves", notes, remarks...)
	return reply, nil
}

// moveVd chooses a place and takes it.
func (s *Server) moveVd(ctx context.Context, req *apiv1.MoveVdRequest) (plan array.Plan, warning string, err error) {
	var leg array.NewLeg
	err = s.view(ctx, func(tx store.Reader) error {
		v, err := findVD(tx, req.VdId)
		if err != nil {
			return err
		}
		to, err := moveTo(tx, req)
		if err != nil {
			return err
		}
		m, err := array.NewMover(tx)
		if err == nil {
			leg, warning, err = m.Place(v.DAID, v.ID, to)
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	err = s.update(ctx, func(tx store.Tx) error { plan, err = array.AddLeg(tx, leg); return err })
	return plan, warning, err
}

// keepVd ends the move of a vd.
func (s *Server) keepVd(ctx context.Context, req *apiv1.MoveVdRequest) (*apiv1.MoveVdReply, error) {
	if req.ToDn != nil || req.ToPd != nil {
		return nil, invalid("to_dn and to_pd say where a vd moves; with cancel it moves nowhere")
	}
	var plan array.Plan
	err := s.update(ctx, func(tx store.Tx) error {
		v, err := findVD(tx.Unlocked(), req.VdId)
		if err != nil {
			return err
		}
		if !v.Moved {
			return refuse(codePrecondition, vda.FailedPrecondition, "vd %s is not being moved", v.ID)
		}
		plan, err = array.KeepLegs(tx, v.DAID, func(o *vda.VD) bool { return o.ID == v.ID })
		if err == nil && plan == nil {
			err = refuse(codePrecondition, vda.FailedPrecondition, "another vd has taken the place of vd %s already", v.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.carry(ctx, plan)
	msg, err := s.vdMsg(ctx, req.VdId)
	_, remarks := shown(msg, err, nil)
	return &apiv1.MoveVdReply{ReplyInfo: done("the vd stays", notes, remarks...), VdMsg: msg}, nil
}

// GetVd shows a vd.
func (s *Server) GetVd(ctx context.Context, req *apiv1.GetVdRequest) (*apiv1.GetVdReply, error) {
	msg, err := s.vdMsg(ctx, req.VdId)
	return &apiv1.GetVdReply{VdMsg: msg}, err
}

func (s *Server) vdMsg(ctx context.Context, id string) (msg *apiv1.VdMsg, err error) {
	err = s.view(ctx, func(tx store.Reader) error {
		v, err := findVD(tx, id)
		if err == nil {
			msg, err = wholeVdMsg(tx, v)
		}
		return err
	})
	return msg, err
}

// wholeVdMsg is vdMsg with the name of the array.
func wholeVdMsg(tx store.Reader, v *vda.VD) (*apiv1.VdMsg, error) {
	msg, err := vdMsg(newNames(tx), v)
	if err != nil {
		return nil, err
	}
	names, err := tx.DANames([]string{v.DAID})
	msg.DaName = names[v.DAID]
	return msg, err
}

func findVD(tx store.Reader, id string) (*vda.VD, error) {
	v, err := tx.VD(id)
	if isKind(err, vda.NotFound) {
		return nil, vda.Errorf(vda.NotFound, "there is no vd %q; da get shows the ids of an array's vds", vda.Shorten(id, 80))
	}
	return v, err
}

// successor is the leg that is to take the place of one that is leaving: the newest
// of its column that stays; nil when there is none.
func successor(tx store.Reader, v *vda.VD) (next *vda.VD, err error) {
	vds, err := tx.VDsOfDA(v.DAID)
	for i := range vds {
		if o := &vds[i]; o.GrpIdx == v.GrpIdx && o.Idx == v.Idx && o.ID != v.ID && !o.Deleted && !o.Leaving && (next == nil || o.ID > next.ID) {
			next = o
		}
	}
	return next, err
}

// moveTo is where a request wants a vd.
func moveTo(tx store.Reader, req *apiv1.MoveVdRequest) (to array.MoveTo, err error) {
	switch {
	case req.ToDn != nil && req.ToPd != nil:
		_, pd, err := findPD(tx, *req.ToDn, *req.ToPd)
		if err != nil {
			return to, err
		}
		return array.MoveTo{PDID: pd.ID}, nil
	case req.ToDn != nil:
		dn, err := findNode(tx, vda.DiskNode, *req.ToDn)
		if err != nil {
			return to, err
		}
		return array.MoveTo{DNID: dn.ID}, nil
	case req.ToPd == nil:
		return to, nil
	}
	if err := vda.CheckName("to_pd", *req.ToPd); err != nil {
		return to, err
	}
	pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return to, err
	}
	for i := range pds {
		switch {
		case pds[i].Name != *req.ToPd:
		case to.PDID != "":
			return to, invalid("to_pd is %q, and several dns have a pd of that name; to_dn has to say which dn", *req.ToPd)
		default:
			to.PDID = pds[i].ID
		}
	}
	if to.PDID == "" {
		return to, vda.Errorf(vda.NotFound, "there is no pd %q on any dn", *req.ToPd)
	}
	return to, nil
}
