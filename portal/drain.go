package portal

import (
	"context"
	"errors"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// A drain is a mark on a dn or pd, which the monitors go by: monitor/drain.go. The
// portal sets it, ends it, and tells how far it is.

// DrainDn has all vds leave a dn, which takes no more of them.
func (s *Server) DrainDn(ctx context.Context, req *apiv1.DrainDnRequest) (*apiv1.DrainDnReply, error) {
	if _, err := s.drainDN(ctx, req.DnName, true); err != nil {
		return nil, err
	}
	msg, err := s.dnMsg(ctx, req.DnName, true, false)
	if err != nil {
		return nil, err
	}
	return &apiv1.DrainDnReply{ReplyInfo: done("the dn is being drained", nil, stuckRemark(msg.StuckVdMsgList)...), DnMsg: msg}, nil
}

// UndrainDn ends a drain.
func (s *Server) UndrainDn(ctx context.Context, req *apiv1.UndrainDnRequest) (*apiv1.UndrainDnReply, error) {
	dn, err := s.drainDN(ctx, req.DnName, false)
	if err != nil {
		return nil, err
	}
	notes := s.keep(ctx, func(v *vda.VD) bool { return v.DNID == dn.ID })
	now, err := s.dnMsg(ctx, req.DnName, true, false)
	msg, remarks := shown(now, err, dnMsg(dn))
	return &apiv1.UndrainDnReply{ReplyInfo: done("the dn is not drained any more", notes, remarks...), DnMsg: msg}, nil
}

// drainDN sets or clears the mark of a dn.
func (s *Server) drainDN(ctx context.Context, name string, drain bool) (dn *vda.Node, err error) {
	err = s.update(ctx, func(tx store.Tx) error {
		if dn, err = findNode(tx, vda.DiskNode, name); err != nil {
			return err
		}
		dn.Online = !drain
		return errors.Join(array.UpdateNode(tx, vda.DiskNode, dn, false), tx.SetDNDrain(dn.ID, drain))
	})
	return dn, err
}

// DrainPd has all vds leave a pd, which takes no more of them.
func (s *Server) DrainPd(ctx context.Context, req *apiv1.DrainPdRequest) (*apiv1.DrainPdReply, error) {
	if _, _, err := s.drainPD(ctx, req.DnName, req.PdName, true); err != nil {
		return nil, err
	}
	msg, err := s.pdMsg(ctx, req.DnName, req.PdName, "")
	if err != nil {
		return nil, err
	}
	return &apiv1.DrainPdReply{ReplyInfo: done("the pd is being drained", nil, stuckRemark(msg.StuckVdMsgList)...), PdMsg: msg}, nil
}

// UndrainPd ends a drain.
func (s *Server) UndrainPd(ctx context.Context, req *apiv1.UndrainPdRequest) (*apiv1.UndrainPdReply, error) {
	dn, pd, err := s.drainPD(ctx, req.DnName, req.PdName, false)
	if err != nil {
		return nil, err
	}
	notes := s.keep(ctx, func(v *vda.VD) bool { return v.PDID == pd.ID })
	now, err := s.pdMsg(ctx, req.DnName, req.PdName, "")
	msg, remarks := shown(now, err, pdMsg(pd, dn))
	return &apiv1.UndrainPdReply{ReplyInfo: done("the pd is not drained any more", notes, remarks...), PdMsg: msg}, nil
}

func (s *Server) drainPD(ctx context.Context, dnName, name string, drain bool) (dn *vda.Node, pd *vda.PD, err error) {
	err = s.update(ctx, func(tx store.Tx) error {
		if dn, pd, err = findPD(tx.Unlocked(), dnName, name); err != nil {
			return err
		}
		if pd, err = lockPD(tx, dn, pd, false); err != nil {
			return err
		}
		pd.Online, pd.Drain = !drain, drain
		return tx.UpdatePD(pd)
	})
	return dn, pd, err
}

// keep ends the moves of the vds for which which is true. What it does not get to is a
// note: those moves go on to their end.
func (s *Server) keep(ctx context.Context, which func(*vda.VD) bool) (notes []string) {
	var das []string
	err := s.view(ctx, func(tx store.Reader) error {
		das = nil
		vds, err := tx.UnsettledLegs()
		for i := range vds {
			if v := &vds[i]; v.Moved && which(v) && !slices.Contains(das, v.DAID) {
				das = append(das, v.DAID)
			}
		}
		return err
	})
	var plans []array.Plan
	for _, id := range das {
		if err != nil {
			break
		}
		var plan array.Plan
		err = s.update(ctx, func(tx store.Tx) (err error) { plan, err = array.KeepLegs(tx, id, which); return err })
		plans = append(plans, plan)
	}
	if err != nil {
		notes = []string{"moves that are under way may go on to their end (" + reason.Of(err) + ")"}
	}
	return append(notes, s.carry(ctx, plans...)...)
}

// carry has the nodes of plans learn of them.
func (s *Server) carry(ctx context.Context, plans ...array.Plan) []string {
	var steps [][]node
	err := s.view(ctx, func(tx store.Reader) (err error) { steps, err = stepsOf(tx, array.Join(plans...)); return err })
	if err != nil {
		return []string{"nodes have not been told yet (" + reason.Of(err) + ")"}
	}
	return s.syncSteps(ctx, steps...)
}

// maxStuck is how many vds that cannot move are listed.
const maxStuck = 100

// drainState is how far a drain is.
type drainState struct {
	vds   uint32
	lack  uint64
	stuck []*apiv1.StuckVdMsg
}

// drainOf looks at the vds that are to leave.
func drainOf(tx store.Reader, which func(*vda.VD) bool) (d drainState, err error) {
	vds, err := tx.DrainingVDs()
	if err != nil {
		return d, err
	}
	vds = slices.DeleteFunc(vds, func(v vda.VD) bool { return !which(&v) })
	names, err := tx.DANames(sortedIDs(vds, func(v vda.VD) string { return v.DAID }))
	if err != nil {
		return d, err
	}
	mover, err := array.NewMover(tx)
	if err != nil {
		return d, err
	}
	n := newNames(tx)
	columns := map[string][]vda.Column{}
	for i := range vds {
		v := &vds[i]
		d.vds++
		if _, known := columns[v.DAID]; !known {
			all, err := tx.VDsOfDA(v.DAID)
			if err != nil {
				return d, err
			}
			columns[v.DAID] = vda.Columns(all)
		}
		d.lack += lackBefore(columns[v.DAID], v)
		if v.Leaving || len(d.stuck) >= maxStuck {
			continue
		}
		_, _, err := mover.Place(v.DAID, v.ID, array.MoveTo{})
		switch kind := vda.KindOf(err); {
		case err == nil, errors.Is(err, array.ErrStale):
		case kind == vda.FailedPrecondition || kind == vda.ResourceExhausted:
			pd, err2 := n.pd(v.PDID)
			if err2 != nil {
				return d, err2
			}
			d.stuck = append(d.stuck, &apiv1.StuckVdMsg{VdId: v.ID, DaName: names[v.DAID], PdName: pd.Name, Reason: reason.Of(err)})
		default:
			return d, err
		}
	}
	return d, nil
}

// lackBefore is how many bytes are to be copied before a vd can go.
func lackBefore(columns []vda.Column, v *vda.VD) uint64 {
	at := slices.IndexFunc(columns, func(c vda.Column) bool { return c.GrpIdx == v.GrpIdx && c.Idx == v.Idx })
	if at < 0 {
		return 0
	}
	lack := uint64(0)
	if !v.Leaving {
		lack = v.Size
	}
	for _, o := range columns[at].Legs {
		switch {
		case o.Leaving:
		case o.Role == vda.Target:
			lack += o.Lack
		case o.Role == vda.Stale:
			lack += o.Size
		}
	}
	return lack
}

// stuckRemark says how many vds cannot leave.
func stuckRemark(stuck []*apiv1.StuckVdMsg) []string {
	if len(stuck) == 0 {
		return nil
	}
	return []string{"some vds cannot leave now, and are tried again; stuck_vd_msg_list says which and why"}
}
