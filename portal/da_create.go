package portal

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// placeAttempts is how often an array is placed again because others took its
// places between the look and the transaction. Each time, somebody else's
// array has been made, so it takes as many rivals to run out.
const placeAttempts = 30

// CreateDa makes a disk array.
func (s *Server) CreateDa(ctx context.Context, req *apiv1.CreateDaRequest) (*apiv1.CreateDaReply, error) {
	da, err := newDA(req)
	if err != nil {
		return nil, err
	}
	vdBytes := placement.VDSize(da.PhysicalSize, da.ClusterSize, da.StripeCount, uint64(da.StripeSizeKB)<<10)
	var p *plan
	var steps [][]node
	for range placeAttempts {
		err = s.view(ctx, func(tx store.Reader) (err error) {
			if err := daNameFree(tx, da); err != nil {
				return err
			}
			p, err = placeDA(tx, da, vdBytes, placement.Strictness(req.Strict))
			return err
		})
		if err != nil {
			return nil, err
		}
		err = s.update(ctx, func(tx store.Tx) (err error) {
			if err := daNameFree(tx, da); err != nil {
				return err
			}
			todo, err := array.Create(tx, da, p.columns, p.cntlrs)
			if err != nil {
				return err
			}
			steps, err = stepsOf(tx, todo)
			return err
		})
		if !errors.Is(err, array.ErrStale) {
			break
		}
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
		now, err = settle(ctx, s.cfg.SettleTime, now, err, func(m *apiv1.DaMsg) bool { return !m.Error }, func() (*apiv1.DaMsg, error) {
			s.syncSteps(ctx, steps...)
			return read()
		})
	}
	msg, remarks := shown(now, err, daMsg(da))
	if notes == nil && msg.Error {
		notes = []string{"not all of it is up yet (" + msg.ErrorMsg + ")"}
	}
	if err == nil && msg.Error {
		if err := s.undoForSpace(ctx, da); err != nil {
			return nil, err
		}
	}
	if da.Thin() {
		const thin = "the array is thin: it promises %d bytes and has bought %d; writes fail when those are used up"
		p.warnings = append(p.warnings, fmt.Sprintf(thin, da.Size, da.PhysicalSize))
	}
	return &apiv1.CreateDaReply{ReplyInfo: done("the da is created", notes, remarks...), DaMsg: msg, WarningList: p.warnings}, nil
}

// newDA checks a request and makes the row of it.
func newDA(req *apiv1.CreateDaRequest) (*vda.DA, error) {
	da := &vda.DA{ID: store.NewID(), Name: req.DaName, Size: req.DaSize, PhysicalSize: req.DaSize, CntlrCnt: max(req.CntlrCnt, 1),
		Conf: req.DaConf, ClusterSize: vda.ClusterSizeFor(req.DaSize), MinLegs: max(req.MinLegs, 1), Term: 1}
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

func daNameFree(tx store.Reader, da *vda.DA) error {
	old, err := tx.DAByName(da.Name)
	return taken(err, func() error {
		return exists("da", da.Name,
			parameter{"da_size", old.Size, da.Size}, parameter{"physical_size", old.PhysicalSize, da.PhysicalSize},
			parameter{"cntlr_cnt", old.CntlrCnt, da.CntlrCnt},
			parameter{"stripe_count", old.StripeCount, da.StripeCount}, parameter{"stripe_size_kb", old.StripeSizeKB, da.StripeSizeKB})
	})
}
