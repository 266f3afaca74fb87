package portal

import (
	"context"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// DeleteExp ends an export; its host is disconnected. With fence in the request it
// fails until that is sure; without a name it deletes none, and fails until that is sure of
// all that are deleted.
func (s *Server) DeleteExp(ctx context.Context, req *apiv1.DeleteExpRequest) (*apiv1.DeleteExpReply, error) {
	var steps [][]node
	var gone []string // ids of the exps that are to be gone: one, and tombstones of that name, or all
	err := s.update(ctx, func(tx store.Tx) error {
		gone, steps = nil, nil
		da, err := findDA(tx, req.DaName)
		if err != nil {
			return err
		}
		if req.Fence {
			if gone, steps, err = tombstones(tx.Unlocked(), da, req.ExpName); err != nil {
				return err
			}
			if req.ExpName == "" {
				return nil
			}
		}
		_, exp, err := findExp(tx, req.DaName, req.ExpName)
		switch {
		case isKind(err, vda.NotFound) && gone != nil: // what is left is to be confirmed
			return nil
		case err != nil:
			return err
		}
		if err := notACloneSource(exp); err != nil {
			return err
		}
		plan, err := array.DeleteExp(tx, exp)
		if err != nil {
			return err
		}
		gone = append(gone, exp.ID)
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncAll(ctx, steps...)
	if req.Fence {
		for _, id := range gone {
			if err := s.fenced(ctx, id); err != nil {
				return nil, err
			}
		}
	}
	return &apiv1.DeleteExpReply{ReplyInfo: done("the exp is deleted", notes)}, nil
}

// tombstones are the exps of that name that are deleted and not gone yet, with the
// nodes that have not confirmed it; nil when there are none. Without a name they are all
// through which hosts could write.
func tombstones(tx store.Reader, da *vda.DA, name string) (ids []string, steps [][]node, err error) {
	exps, err := tx.ExpsOfDA(da.ID)
	if err != nil {
		return nil, nil, err
	}
	snaps, err := tx.SnapsOfDA(da.ID)
	if err != nil {
		return nil, nil, err
	}
	writes := func(e *vda.Exp) bool { // hosts of it may
		return e.SnapName == "" ||
			slices.ContainsFunc(snaps, func(s vda.Snap) bool { return s.Writable() && s.Name == e.SnapName })
	}
	for i := range exps {
		if e := &exps[i]; e.Deleted && (e.Name == name || name == "" && writes(e)) {
			ids = append(ids, e.ID)
		}
	}
	if ids == nil {
		return nil, nil, nil
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, nil, err
	}
	plan := array.Plan{{}, {}} // secondaries lead to the primary
	for i := range cntlrs {
		at := 0
		if cntlrs[i].Primary {
			at = 1
		}
		plan[at].Nodes = append(plan[at].Nodes, array.Node{Kind: vda.ControllerNode, ID: cntlrs[i].CNID})
	}
	steps, err = stepsOf(tx, plan)
	return ids, steps, err
}

// fenced refuses when hosts of a deleted exp may still write. They cannot once every
// controller has confirmed that it is gone. One whose node does not answer may be
// missing, as its hosts' writes pass the primary, which must have confirmed: the one of
// a term in which it has served, before which the dns have shut the former one out.
func (s *Server) fenced(ctx context.Context, expID string) error {
	return s.view(ctx, func(tx store.Reader) error {
		exp, err := tx.Exp(expID)
		if err != nil {
			return vda.IgnoreNotFound(err)
		}
		da, err := tx.DA(exp.DAID)
		if err != nil {
			return err
		}
		states, err := tx.ESsOfExp(expID)
		if err != nil {
			return err
		}
		notYet := func(why string) error {
			return vda.Errorf(vda.FailedPrecondition,
				"exp %s of da %s is deleted, but its hosts may still write: %s; repeat the call until it succeeds",
				exp.Name, da.Name, why)
		}
		for i := range states {
			c, err := tx.Cntlr(states[i].CntlrID)
			if err != nil {
				return err
			}
			cn, err := tx.CN(c.CNID)
			if err != nil {
				return err
			}
			if c.Primary || !cn.Health.Error {
				return notYet("cn " + cn.Name + " has not confirmed that they are disconnected")
			}
		}
		if len(states) > 0 && !da.Moving.IsZero() {
			return notYet("its new primary does not serve yet")
		}
		return nil
	})
}

// formerHostsGone refuses an exp that takes over the NQN of a deleted one before all
// controllers have confirmed that that is gone. A secondary that has not still has a
// connection to the primary for it: once the primary shows the NQN again, it would pass
// on what the former hosts send. They may be hosts of the new one, too, to the same data; a
// writable snapshot may have other data than the one of that name had before.
func formerHostsGone(tx store.Reader, da *vda.DA, exp *vda.Exp, writable bool) error {
	exps, err := tx.ExpsOfDA(da.ID)
	if err != nil {
		return err
	}
	for i := range exps {
		old := &exps[i]
		same := old.SnapName == exp.SnapName && !writable && len(exp.Keys) == 0 &&
			!slices.ContainsFunc(old.Hosts(), func(h string) bool { return !slices.Contains(exp.Hosts(), h) })
		if !old.Deleted || old.NQN != exp.NQN || same {
			continue
		}
		states, err := tx.ESsOfExp(old.ID)
		if err != nil {
			return err
		}
		for i := range states {
			c, err := tx.Cntlr(states[i].CntlrID)
			if err != nil {
				return err
			}
			cn, err := tx.CN(c.CNID)
			if err != nil {
				return err
			}
			return vda.Errorf(vda.FailedPrecondition, "exp_name %s of da %s: the exp of that name is deleted, but cn %s has not confirmed "+
				"that its hosts (%s) are disconnected, and they would get in again; choose another exp_name, or repeat the call when that cn answers",
				exp.Name, da.Name, cn.Name, strings.Join(old.Hosts(), ", "))
		}
	}
	return nil
}
