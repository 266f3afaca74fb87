package portal

import (
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// RecoverDa makes a leg that lacks writes the only member of its column. It is never
// done but by a user who says that the loss is accepted, and the log says who asked.
func (s *Server) RecoverDa(ctx context.Context, req *apiv1.RecoverDaRequest) (*apiv1.RecoverDaReply, error) {
	if !req.AcceptDataLoss {
		return nil, invalid("accept_data_loss is false; it must be true, as writes that were acknowledged and are not on the vd are lost")
	}
	var da *vda.DA
	var vd *vda.VD
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) (err error) {
		if da, err = findDA(tx, req.DaName); err != nil {
			return err
		}
		if vd, err = recoverable(tx, da, req.VdId); err != nil {
			return err
		}
		plan, err := array.Recover(tx, da.ID, vd.ID)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		slices.Reverse(steps) // the dn lets the primary in first
		return err
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Warn("an array goes on with a leg that lacks writes, at a user's word", "req_id", rpc.RequestID(ctx), "da", da.Name, "vd", vd.ID,
		"was", vd.Role.String(), "lack_bytes", vd.Lack)
	notes := s.syncSteps(ctx, steps...)
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	if vd.Lack > 0 {
		remarks = append(remarks, fmt.Sprintf("a copy to the vd was under way: in %d bytes it has older data than in the others, or none",
			vd.Lack))
	}
	return &apiv1.RecoverDaReply{ReplyInfo: done("the da is recovered", notes, remarks...), DaMsg: msg}, nil
}

// recoverable is a vd that its column may go on with: one that lacks writes, on a dn
// that is well, as long as none that has them is.
func recoverable(tx store.Reader, da *vda.DA, vdID string) (*vda.VD, error) {
	no := func(format string, args ...any) error {
		return refuse(codePrecondition, vda.FailedPrecondition, format, args...)
	}
	vds, err := tx.VDsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	columns := vda.Columns(vds)
	alone := !da.Redundancy.Mirrored() // since lately, where a column has more legs or one that lacks something
	for i := range columns {
		c := &columns[i]
		at := slices.IndexFunc(c.Legs, func(v *vda.VD) bool { return v.ID == vdID })
		if at < 0 || alone && len(c.Legs) == 1 && !c.Legs[at].Copied() {
			continue
		}
		v := c.Legs[at]
		if v.Role == vda.Member && !v.Copied() {
			return nil, no("vd %s has all data of its column; the array goes on when it is back, and needs no recovery", v.ID)
		}
		for _, other := range c.Of(vda.Member) {
			if other != v && !other.Health.Error && !other.Copied() {
				return nil, no("vd %s of the same column has all data and is well; the array goes on with that", other.ID)
			}
		}
		if v.Health.Error {
			return nil, no("vd %s is not well itself: %s", v.ID, v.Health.Msg)
		}
		return v, fit(tx, da, c, v)
	}
	if alone {
		return nil, no("da %s has redundancy none: each vd has data that no other has, and there is nothing to recover from", da.Name)
	}
	return nil, vda.Errorf(vda.NotFound, "da %s has no vd %q; da get shows the ids of its vds", da.Name, vda.Shorten(vdID, 80))
}

// fit refuses a vd that holds nothing to go on with, and one that lacks more than
// another that is well.
func fit(tx store.Reader, da *vda.DA, c *vda.Column, v *vda.VD) error {
	no := func(format string, args ...any) error {
		return refuse(codePrecondition, vda.FailedPrecondition, format, args...)
	}
	mirrors, err := tx.MirrorsOfDA(da.ID)
	if err != nil {
		return err
	}
	for i := range mirrors {
		if m := &mirrors[i]; m.ID == v.MirrorID && v.Role != vda.Member && v.Lack >= m.Size {
			return no("vd %s has none of the data: it was made to take another's place, and nothing had been copied to it", v.ID)
		}
	}
	for _, o := range c.Legs {
		switch member := o.Role == vda.Member; {
		case o == v || o.Health.Error:
		case member && v.Role != vda.Member:
			return no("vd %s was dropped and misses writes that nobody has counted; vd %s of the same column is a member and lacks %d bytes: "+
				"recover from that", v.ID, o.ID, o.Lack)
		case member == (v.Role == vda.Member) && o.Lack < v.Lack:
			return no("vd %s lacks %d bytes, as a copy to it was under way; vd %s of the same column is well and lacks %d: recover from that",
				v.ID, v.Lack, o.ID, o.Lack)
		}
	}
	return nil
}
