package portal

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// placeAttempts is how often an array is placed again because others took its
// places between the look and the transaction. Each time, somebody else's
// array has been made, so it takes as many rivals to run out.
const placeAttempts = 30

// CreateDa makes a disk array.
func (s *Server) CreateDa(ctx context.Context, req *apiv1.CreateDaRequest) (*apiv1.CreateDaReply, error) {
	id := store.NewID()
	from, err := newOrigin(req, id)
	if err == nil && from != nil {
		err = s.originOf(ctx, req, from)
	}
	if err != nil {
		return nil, err
	}
	da, err := newDA(req)
	if err != nil {
		return nil, err
	}
	da.ID = id
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	vdBytes := placement.VDSize(da.PhysicalSize, da.ClusterSize, da.StripeCount, uint64(da.StripeSizeKB)<<10)
	if err := da.CheckAutoGrowLimit(placement.MostPhysical(vdBytes*uint64(da.StripeCount), da.ClusterSize, 1)); err != nil {
		return nil, err
	}
	var p *plan
	var steps [][]node
	if from != nil {
		if err := s.view(ctx, func(tx store.Reader) error { return daNameFree(tx, da, tags) }); err != nil {
			return nil, err
		}
		if err := s.become(ctx, da, from); err != nil {
			return nil, err
		}
		vdBytes = placement.VDSize(da.PhysicalSize, da.ClusterSize, da.StripeCount, uint64(da.StripeSizeKB)<<10)
	}
	for range placeAttempts {
		if p, err = s.place(ctx, da, tags, vdBytes, placement.Strictness(req.Strict)); err != nil {
			break
		}
		err = s.update(ctx, func(tx store.Tx) (err error) {
			if err := daNameFree(tx, da, tags); err != nil {
				return err
			}
			todo, err := from.createRows(tx, da, p)
			if err := setTags(tx, da.ID, tags, err); err != nil {
				return err
			}
			steps, err = stepsOf(tx, todo)
			return err
		})
		if !errors.Is(err, array.ErrStale) {
			break
		}
	}
	if err != nil {
		s.dropSnap(ctx, from)
	}
	if errors.Is(err, array.ErrStale) {
		return nil, vda.Errorf(vda.Conflict, "the places chosen for %s were taken by others %d times in a row", da.Name, placeAttempts)
	}
	if err != nil {
		return nil, err
	}
	read := func() (*apiv1.DaMsg, error) { return s.daMsg(ctx, byID(da.ID)) }
	notes := s.syncSteps(ctx, steps...)
	now, err := read()
	if notes == nil {
		now, err = settle(ctx, s.cfg.SettleTime, now, err, func(m *apiv1.DaMsg) bool { return notUp(m) == "" }, func() (*apiv1.DaMsg, error) {
			s.syncSteps(ctx, steps...)
			return read()
		})
	}
	msg, remarks := shown(now, err, daMsg(da))
	why := notUp(msg)
	if notes == nil && why != "" {
		notes = []string{"not all of it is up yet (" + why + ")"}
	}
	if err == nil && why != "" {
		if err := s.undoForSpace(ctx, da); err != nil {
			return nil, err
		}
	}
	if da.Thin() {
		const thin = "the array is thin: it promises %d bytes and has bought %d; writes fail when those are used up"
		p.warnings = append(p.warnings, fmt.Sprintf(thin, da.Size, da.PhysicalSize))
	}
	if err == nil {
		err = s.view(ctx, func(tx store.Reader) error {
			w, err := unflushed(tx, da.ID)
			p.warnings = append(p.warnings, w...)
			return err
		})
		if err != nil && !isKind(err, vda.NotFound) { // made it is all the same
			remarks = append(remarks, "whether it outlives a power cut cannot be read ("+reason.Of(err)+")")
		}
	}
	return &apiv1.CreateDaReply{ReplyInfo: done("the da is created", notes, remarks...), DaMsg: msg, WarningList: p.warnings}, nil
}

// place chooses places for a new array whose name is free. It waits a little for
// monitors to ask cns that have just been added what they can.
func (s *Server) place(ctx context.Context, da *vda.DA, tags vda.Tags, vdBytes uint64, strict placement.Strictness) (*plan, error) {
	type choice struct {
		*plan
		unheard bool
		err     error
	}
	look := func() (c choice, _ error) {
		c.err = s.view(ctx, func(tx store.Reader) (err error) {
			if err := daNameFree(tx, da, tags); err != nil {
				return err
			}
			c.plan, c.unheard, err = placeDA(tx, da, vdBytes, strict)
			return err
		})
		return c, nil
	}
	c, err := look()
	c, _ = settle(ctx, s.cfg.SettleTime, c, err, func(c choice) bool { return !c.unheard }, look)
	return c.plan, c.err
}

// notUp is what is not up of a new array, "" when all is: of a mirrored one all legs
// are, though it is usable without some.
func notUp(m *apiv1.DaMsg) string {
	switch {
	case m.Error:
		return m.ErrorMsg
	case m.RedundancyState == "" || m.RedundancyState == string(vda.RedundancyFull):
		return ""
	}
	for _, g := range m.GrpMsgList {
		for _, v := range g.VdMsgList {
			if v.Error {
				return "a leg on " + v.PdName + " of dn " + v.DnName + ": " + v.ErrorMsg
			}
		}
	}
	return "its redundancy is " + m.RedundancyState
}

// newDA checks a request and makes the row of it.
func newDA(req *apiv1.CreateDaRequest) (*vda.DA, error) {
	da := &vda.DA{ID: store.NewID(), Name: req.DaName, Size: req.DaSize, PhysicalSize: req.DaSize, CntlrCnt: max(req.CntlrCnt, 1),
		Conf: req.DaConf, ClusterSize: vda.ClusterSizeFor(req.DaSize), MinLegs: max(req.MinLegs, 1), Term: 1,
		Limits: vda.Limits{RWIOs: req.RwIosPerSec, RWMB: req.RwMbytesPerSec, RMB: req.RMbytesPerSec, WMB: req.WMbytesPerSec,
			RebuildMB: req.RebuildMbps},
		AutoGrow: vda.AutoGrow{Limit: req.AutoGrow, LowPercent: uint64(req.AutoGrowBelow)}, Reservations: req.Reservations}
	da.AutoGrow.Fill()
	if (req.FromSnap != "" || req.FromDa != "") && req.AutoGrow > 0 {
		return nil, invalid("auto_grow is given for a clone; set it with ModifyDa when the clone has all data")
	}
	if req.PhysicalSize != nil {
		da.PhysicalSize = *req.PhysicalSize
	}
	var err error
	if da.Redundancy, err = vda.ParseRedundancy("redundancy", req.Redundancy); err != nil {
		return nil, err
	}
	if err := da.Validate(); err != nil {
		return nil, err
	}
	st, err := vda.ParseDAConf("da_conf", req.DaConf)
	if err != nil {
		return nil, err
	}
	if da.Conf == "" {
		da.Conf = st.JSON()
	}
	da.StripeCount, da.StripeSizeKB = st.Count, st.SizeKB
	return da, nil
}

func daNameFree(tx store.Reader, da *vda.DA, tags vda.Tags) error {
	old, err := tx.DAByName(da.Name)
	return taken(err, func() error {
		return existsTagged(tx, old.ID, tags, "da", da.Name,
			parameter{"da_size", old.Size, da.Size}, parameter{"physical_size", old.PhysicalSize, da.PhysicalSize},
			parameter{"cntlr_cnt", old.CntlrCnt, da.CntlrCnt},
			parameter{"stripe_count", old.StripeCount, da.StripeCount}, parameter{"stripe_size_kb", old.StripeSizeKB, da.StripeSizeKB},
			parameter{"redundancy", old.Redundancy, da.Redundancy}, parameter{"min_legs", old.MinLegs, da.MinLegs},
			parameter{"rw_ios_per_sec", old.Limits.RWIOs, da.Limits.RWIOs}, parameter{"rw_mbytes_per_sec", old.Limits.RWMB, da.Limits.RWMB},
			parameter{"r_mbytes_per_sec", old.Limits.RMB, da.Limits.RMB}, parameter{"w_mbytes_per_sec", old.Limits.WMB, da.Limits.WMB},
			parameter{"rebuild_mbps", old.Limits.RebuildMB, da.Limits.RebuildMB},
			parameter{"auto_grow", old.AutoGrow.Limit, da.AutoGrow.Limit},
			parameter{"auto_grow_below", old.AutoGrow.LowPercent, da.AutoGrow.LowPercent},
			parameter{"reservations", old.Reservations, da.Reservations})
	})
}
