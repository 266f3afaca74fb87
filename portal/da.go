package portal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// DeleteDa removes a disk array without exporters, and its data; or puts it into the
// trash for some time.
func (s *Server) DeleteDa(ctx context.Context, req *apiv1.DeleteDaRequest) (*apiv1.DeleteDaReply, error) {
	keep, err := vda.ParseKeep("keep", req.Keep)
	if err != nil {
		return nil, err
	}
	var steps [][]node
	var gone *vda.DA
	mark := func(tx store.Tx) error {
		da, err := findDA(tx, req.DaName)
		if err != nil {
			return err
		}
		before := *da
		gone = &before
		exps, err := tx.ExpsOfDA(da.ID)
		if err != nil {
			return err
		}
		var names []string
		for i := range exps {
			if !exps[i].Deleted {
				names = append(names, exps[i].Name)
			}
		}
		if names, err = withoutClones(tx.Unlocked(), "da", da.Name, names); err != nil {
			return err
		}
		if names != nil {
			return inUse("da", da.Name, "exps", names)
		}
		snaps, err := liveSnaps(tx, da.ID)
		if err != nil {
			return err
		}
		if snaps != nil {
			if err := letGo(da.Name, exps, snaps); err != nil {
				return err
			}
			return inUse("da", da.Name, "snaps", snaps)
		}
		if keep > 0 {
			da.Purge = time.Now().Add(keep)
			return tx.UpdateDA(da)
		}
		plan, err := array.Delete(tx, da)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	}
	if err := s.unlessSpent(ctx, req.DaName, func() error { return s.update(ctx, mark) }); err != nil {
		return nil, err
	}
	if keep > 0 {
		return &apiv1.DeleteDaReply{}, nil
	}
	notes := s.carryOut(ctx, gone.ID, steps)
	s.dropOrigin(ctx, gone)
	return &apiv1.DeleteDaReply{ReplyInfo: done("the da is deleted", notes)}, nil
}

// carryOut has the nodes delete an array that has been turned into a tombstone.
// The primary destroys the lvstore while the vds are still there; they go when
// the last controller has confirmed. A controller that cannot confirm must not
// keep the space. The last of the steps is the dns.
func (s *Server) carryOut(ctx context.Context, daID string, steps [][]node) []string {
	cntlrs, dns := steps[:len(steps)-1], steps[len(steps)-1]
	notes := s.syncAll(ctx, cntlrs...)
	if notes != nil {
		if err := s.update(ctx, func(tx store.Tx) error { return array.DeleteVDs(tx, daID) }); err != nil {
			notes = append(notes, "its vds are not deleted yet ("+reason.Of(err)+")")
		}
	}
	return append(notes, s.syncAll(ctx, dns)...)
}

// ModifyDa changes the name, the limits and the tags of a disk array.
func (s *Server) ModifyDa(ctx context.Context, req *apiv1.ModifyDaRequest) (*apiv1.ModifyDaReply, error) {
	limits := []*uint64{req.RwIosPerSec, req.RwMbytesPerSec, req.RMbytesPerSec, req.WMbytesPerSec, req.RebuildMbps}
	tags := tagChange{req.Label, req.NewDescription}
	others := req.NewDaName != nil || req.DaSize != nil || req.AutoGrow != nil || req.AutoGrowBelow != nil || req.Reservations != nil ||
		!tags.none() ||
		slices.ContainsFunc(limits, func(l *uint64) bool { return l != nil })
	switch {
	case req.Redundancy != nil || req.MinLegs != nil:
		if others || req.PhysicalSize != nil {
			return nil, invalid("redundancy and min_legs are given beside other fields; change them in a request of their own")
		}
		return s.changeRedundancy(ctx, req)
	case req.PhysicalSize != nil && others:
		return nil, invalid("physical_size is given beside other fields; change it in a request of its own, before da_size")
	case req.PhysicalSize != nil:
		return s.growPhysical(ctx, req.DaName, *req.PhysicalSize)
	case !others:
		return nil, nothingToModify("new_da_name, da_size, physical_size, redundancy, min_legs, rw_ios_per_sec, rw_mbytes_per_sec, " +
			"r_mbytes_per_sec, w_mbytes_per_sec, rebuild_mbps, auto_grow, auto_grow_below, reservations, " + tagFields)
	}
	if req.NewDaName != nil {
		if err := vda.CheckName("new_da_name", *req.NewDaName); err != nil {
			return nil, err
		}
	}
	if err := tags.check(); err != nil {
		return nil, err
	}
	var da *vda.DA
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) (err error) {
		if da, err = findDA(tx, req.DaName); err != nil {
			return err
		}
		if err := tags.apply(tx, da.ID); err != nil {
			return err
		}
		if req.NewDaName != nil {
			if err := rename(tx, da, *req.NewDaName); err != nil {
				return err
			}
		}
		before, size, reserved := da.Limits, da.Size, da.Reservations
		if req.DaSize != nil {
			if err := notCopying(da, "grown"); *req.DaSize > da.Size && err != nil {
				return err
			}
			if err := array.MayGrow(tx, da, *req.DaSize); err != nil {
				return err
			}
			da.Size = *req.DaSize
		}
		if err := setAutoGrow(tx, da, req); err != nil {
			return err
		}
		for i, to := range []*uint64{&da.Limits.RWIOs, &da.Limits.RWMB, &da.Limits.RMB, &da.Limits.WMB, &da.Limits.RebuildMB} {
			setIf(to, limits[i])
		}
		if req.Reservations != nil {
			da.Reservations = *req.Reservations
			if err := array.CheckReservations(tx.Unlocked(), da); err != nil {
				return err
			}
		}
		if da.Limits == before && da.Size == size && da.Reservations == reserved {
			steps = nil
			return tx.UpdateDA(da)
		}
		if err := vda.CheckLimits(da.Limits); err != nil {
			return err
		}
		modify := array.Modify
		if da.Reservations != reserved {
			modify = array.SetReservations
		}
		plan, err := modify(tx, da)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, steps...)
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	return &apiv1.ModifyDaReply{ReplyInfo: done("the da is modified", notes, remarks...), DaMsg: msg}, nil
}

// setAutoGrow changes in memory how an array grows by itself. 0 ends it.
func setAutoGrow(tx store.Tx, da *vda.DA, req *apiv1.ModifyDaRequest) error {
	if req.AutoGrow == nil && req.AutoGrowBelow == nil {
		return nil
	}
	setIf(&da.AutoGrow.Limit, req.AutoGrow)
	if req.AutoGrowBelow != nil {
		da.AutoGrow.LowPercent = uint64(*req.AutoGrowBelow)
	} else if da.AutoGrow.Limit == 0 {
		da.AutoGrow.LowPercent = 0
	}
	da.AutoGrow.Fill()
	return array.CheckAutoGrow(tx.Unlocked(), da)
}

// rename changes the name of an array in memory. It is refused while the array has
// exporters: their NQNs carry its name.
func rename(tx store.Reader, da *vda.DA, name string) error {
	if da.Name == name {
		return nil
	}
	_, err := tx.DAByName(name)
	if err := taken(err, func() error {
		return refuse(codeNameTaken, vda.AlreadyExists, "da %s already exists", name)
	}); err != nil {
		return err
	}
	exps, err := tx.ExpsOfDA(da.ID)
	if err != nil {
		return err
	}
	for i := range exps {
		if !exps[i].Deleted {
			return refuse(codeInUse, vda.FailedPrecondition, "da %s has the exp %s, whose NQN %s carries the array's name; delete it first",
				da.Name, exps[i].Name, exps[i].NQN)
		}
	}
	da.Name = name
	return nil
}

// ListDa lists disk arrays by name, without their groups and controllers.
func (s *Server) ListDa(ctx context.Context, req *apiv1.ListDaRequest) (*apiv1.ListDaReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	labels, err := vda.ParseLabelMatches(req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListDaReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		rows, next, err := tx.ListDA(store.DAFilter{Trash: req.Trash, Error: req.Error, Labels: labels}, p)
		if err != nil {
			return err
		}
		reply.NextToken = next
		if reply.DaMsgList, err = daMsgs(tx, rows); err != nil || !req.Trash {
			return err
		}
		return showRawSize(tx, reply.DaMsgList)
	})
	return reply, err
}

// GetDa shows a disk array with its groups, vds, controllers and exporters.
func (s *Server) GetDa(ctx context.Context, req *apiv1.GetDaRequest) (*apiv1.GetDaReply, error) {
	msg, err := s.daMsg(ctx, byName(req.DaName))
	return &apiv1.GetDaReply{DaMsg: msg}, err
}

// SyncupDa brings all nodes of a disk array to their desired state now.
func (s *Server) SyncupDa(ctx context.Context, req *apiv1.SyncupDaRequest) (*apiv1.SyncupDaReply, error) {
	var steps [][]node
	var da *vda.DA
	err := s.view(ctx, func(tx store.Reader) (err error) {
		if da, err = findDA(tx, req.DaName); err != nil {
			return err
		}
		plan, err := array.Members(tx, da.ID)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, nodes := range steps {
		whole(nodes)
	}
	notes := s.syncAll(ctx, steps...)
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	return &apiv1.SyncupDaReply{ReplyInfo: done("the da's nodes were asked", notes, remarks...), DaMsg: msg}, nil
}

// FailoverDa moves the primary of a disk array to another of its controllers.
func (s *Server) FailoverDa(ctx context.Context, req *apiv1.FailoverDaRequest) (*apiv1.FailoverDaReply, error) {
	var da *vda.DA
	var toID string
	err := s.view(ctx, func(tx store.Reader) (err error) {
		if da, err = findDA(tx, req.DaName); err != nil {
			return err
		}
		toID, err = failoverTarget(tx, da, req.ToCn)
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.cfg.Failover == nil {
		return nil, refuse(codeUnimplemented, vda.FailedPrecondition, "this portal cannot switch the primary of a da")
	}
	moveErr := s.cfg.Failover.FailoverDa(ctx, da.ID, toID)
	now, err := s.daMsg(ctx, byID(da.ID))
	if moveErr != nil && (err != nil || now.Term == da.Term || !syncer.OfNode(moveErr) && reason.Database(moveErr) == nil) { // not recorded
		return nil, moveErr
	}
	msg, remarks := shown(now, err, daMsg(da))
	var notes []string
	if moveErr != nil {
		notes = []string{"not every node has carried it out (" + reason.Of(moveErr) + ")"}
	}
	return &apiv1.FailoverDaReply{ReplyInfo: done("the primary is moved", notes, remarks...), DaMsg: msg}, nil
}

// failoverTarget is the id of the cn to move to, "" when the user leaves the
// choice.
func failoverTarget(tx store.Reader, da *vda.DA, toCN string) (string, error) {
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return "", err
	}
	var secondaries []string
	for i := range cntlrs {
		if cntlrs[i].Deleted {
			continue
		}
		cn, err := tx.CN(cntlrs[i].CNID)
		if err != nil {
			return "", err
		}
		if !cntlrs[i].Primary {
			secondaries = append(secondaries, cn.Name)
		}
		if toCN == "" || cn.Name != toCN {
			continue
		}
		switch {
		case cntlrs[i].Primary:
			return "", vda.Errorf(vda.FailedPrecondition, "the primary of da %s is on cn %s already", da.Name, toCN)
		case cn.Health.Error:
			return "", vda.Errorf(vda.FailedPrecondition, "cn %s is in error: %s", toCN, cn.Health.Msg)
		}
		return cn.ID, nil
	}
	switch {
	case toCN != "":
		return "", vda.Errorf(vda.FailedPrecondition, "to_cn %q has no controller of da %s; its secondaries are on %v", vda.Shorten(toCN, 80),
			da.Name, secondaries)
	case len(secondaries) == 0:
		return "", vda.Errorf(vda.FailedPrecondition, "da %s has one controller only: there is nothing to move its primary to", da.Name)
	}
	return "", nil
}

// byName finds the array that has a name now; byID one that may have got
// another name since.
func byName(name string) func(store.Reader) (*vda.DA, error) {
	return func(tx store.Reader) (*vda.DA, error) { return findDA(tx, name) }
}

func byID(id string) func(store.Reader) (*vda.DA, error) {
	return func(tx store.Reader) (*vda.DA, error) {
		da, err := tx.DA(id)
		if err == nil && (da.Deleted || !da.Purge.IsZero()) {
			err = vda.Errorf(vda.NotFound, "da %s is deleted", da.Name)
		}
		return da, err
	}
}

// daMsg reads a whole array.
func (s *Server) daMsg(ctx context.Context, find func(store.Reader) (*vda.DA, error)) (*apiv1.DaMsg, error) {
	var msg *apiv1.DaMsg
	err := s.view(ctx, func(tx store.Reader) error {
		da, err := find(tx)
		if err != nil {
			return err
		}
		if msg, err = wholeDaMsg(tx, da); err != nil {
			return fmt.Errorf("read da %s: %w", da.Name, err)
		}
		return nil
	})
	return msg, err
}
