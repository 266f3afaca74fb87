package portal

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// CreateExp exports a disk array to one host, on all its controllers.
func (s *Server) CreateExp(ctx context.Context, req *apiv1.CreateExpRequest) (*apiv1.CreateExpReply, error) {
	exp, err := newExp(req)
	if err != nil {
		return nil, err
	}
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	var steps [][]node
	err = s.update(ctx, func(tx store.Tx) error {
		da, err := findDA(tx, req.DaName)
		if err != nil {
			return err
		}
		if err := expFree(tx, da, exp, tags); err != nil {
			return err
		}
		writable := false
		if exp.SnapName != "" {
			snap, err := findSnapOf(tx, da, exp.SnapName)
			if err != nil {
				return err
			}
			if snap.State != vda.SnapTaken {
				return vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not %s yet: snap get says when it is", snap.Name, da.Name, verb(snap))
			}
			writable = snap.Writable()
		}
		if err := formerHostsGone(tx, da, exp, writable); err != nil {
			return err
		}
		if exp.SnapName == "" {
			if err := notRolling(tx, da); err != nil {
				return err
			}
		}
		exp.DAID = da.ID
		if len(exp.Keys) > 0 {
			if err := mayAuthenticate(tx.Unlocked(), exp); err != nil {
				return err
			}
		}
		plan, err := array.CreateExp(tx, exp)
		if err := setTags(tx, exp.ID, tags, err); err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err != nil {
		return nil, err
	}
	var disks vda.Health // as of the last read
	read := func() (msg *apiv1.ExpMsg, err error) {
		err = s.view(ctx, func(tx store.Reader) error {
			_, row, err := findExp(tx, req.DaName, exp.Name)
			if err != nil {
				return err
			}
			ailing, err := healthOfDisks(tx, []vda.Exp{*row})
			if err != nil {
				return err
			}
			disks = ailing[row.ID]
			msg, err = expMsg(tx, row)
			return err
		})
		return msg, err
	}
	notes := s.syncSteps(ctx, steps...)
	now, err := read()
	if notes == nil {
		well := func(m *apiv1.ExpMsg) bool { return notExported(m, disks) == nil }
		now, err = settle(ctx, s.cfg.SettleTime, now, err, well, func() (*apiv1.ExpMsg, error) {
			s.syncSteps(ctx, steps...)
			return read()
		})
	}
	msg, remarks := shown(now, err, &apiv1.ExpMsg{ExpId: exp.ID, ExpName: exp.Name, ExpNqn: exp.NQN, DaName: req.DaName,
		InitiatorNqn: exp.InitiatorNQN, SnapName: exp.SnapName})
	if notes == nil {
		notes = notExported(msg, disks)
	}
	if disks.Error {
		remarks = append(remarks, "the disks of da "+req.DaName+" are not well ("+disks.Msg+")")
	}
	return &apiv1.CreateExpReply{ReplyInfo: done("the exp is created", notes, remarks...), ExpMsg: msg}, nil
}

// notExported has a sentence for each controller that has an error of its own,
// beside that of the disks.
func notExported(msg *apiv1.ExpMsg, disks vda.Health) (notes []string) {
	for _, es := range msg.EsMsgList {
		if own := strings.TrimPrefix(strings.TrimPrefix(es.ErrorMsg, disks.Msg), "; "); es.Error && own != "" {
			notes = append(notes, "cn "+es.CnName+" does not export it yet ("+own+")")
		}
	}
	return notes
}

// newExp checks a request and makes the row of it.
func newExp(req *apiv1.CreateExpRequest) (*vda.Exp, error) {
	ns := uuid.New()
	// The serial number is 20 printable characters (NVM Express base
	// specification 2.0, figure 275, bytes 23:04).
	serial := "VDA" + strings.ToUpper(strings.ReplaceAll(ns.String(), "-", ""))[:17]
	exp := &vda.Exp{ID: store.NewID(), Name: req.ExpName, NQN: vda.ExpNQN(req.DaName, req.ExpName), InitiatorNQN: req.InitiatorNqn,
		SnapName: req.SnapName, Serial: serial, NSUUID: ns.String()}
	if err := exp.Validate(req.DaName); err != nil {
		return nil, err
	}
	pair, err := newKeyPair(req.DhchapKey, req.DhchapCtrlrKey)
	if pair.Host != "" {
		exp.Keys = []vda.HostKeys{{NQN: exp.InitiatorNQN, New: pair}}
	}
	return exp, err
}

// expFree refuses a name that its da has already, and an NQN that another da
// and exp join to: a-b, c and a, b-c.
func expFree(tx store.Reader, da *vda.DA, exp *vda.Exp, tags vda.Tags) error {
	old, err := tx.ExpByName(da.ID, exp.Name)
	if err := taken(err, func() error {
		is, asked := keysWord(old, exp)
		return existsTagged(tx, old.ID, tags, "exp", exp.Name+" of da "+da.Name, parameter{"initiator_nqn", old.InitiatorNQN, exp.InitiatorNQN},
			parameter{"snap_name", old.SnapName, exp.SnapName}, parameter{"dhchap_key", is, asked})
	}); err != nil {
		return err
	}
	other, err := tx.ExpByNQN(exp.NQN)
	return taken(err, func() error {
		da, err := tx.DA(other.DAID)
		if err != nil {
			return err
		}
		return refuse(codeNQNTaken, vda.AlreadyExists, "the NQN %s would be that of exp %s of da %s too; choose another exp_name", exp.NQN,
			other.Name, da.Name)
	})
}

// ModifyExp changes which hosts are let in, and tags; hosts that are not let in any
// more are disconnected.
func (s *Server) ModifyExp(ctx context.Context, req *apiv1.ModifyExpRequest) (*apiv1.ModifyExpReply, error) {
	tags := tagChange{req.Label, req.NewDescription}
	if err := tags.check(); err != nil {
		return nil, err
	}
	add, err := newKeyPair(req.DhchapKey, req.DhchapCtrlrKey)
	if err != nil {
		return nil, err
	}
	keys := vda.KeyChange{Host: req.DhchapHost, Add: add, DropOld: req.DropOldDhchapKey}
	hosts := keys != (vda.KeyChange{}) || req.NewInitiatorNqn != nil || len(req.AddInitiatorNqn)+len(req.RemoveInitiatorNqn) > 0
	switch some := len(req.AddInitiatorNqn)+len(req.RemoveInitiatorNqn) > 0; {
	case !hosts && tags.none():
		return nil, nothingToModify("new_initiator_nqn, add_initiator_nqn, remove_initiator_nqn, dhchap_key, drop_old_dhchap_key, " + tagFields)
	case req.NewInitiatorNqn != nil && some:
		return nil, invalid("new_initiator_nqn is the one host from now on; give it without add_initiator_nqn and remove_initiator_nqn")
	case req.NewInitiatorNqn != nil:
		if err := vda.CheckInitiator("new_initiator_nqn", *req.NewInitiatorNqn); err != nil {
			return nil, err
		}
	}
	var steps [][]node
	var made *apiv1.ExpMsg
	var warnings []string
	err = s.update(ctx, func(tx store.Tx) error {
		_, exp, err := findExp(tx, req.DaName, req.ExpName)
		if err != nil {
			return err
		}
		if err := notACloneSource(exp); hosts && err != nil {
			return err
		}
		if err := tags.apply(tx, exp.ID); err != nil {
			return err
		}
		if !hosts {
			steps = nil
			made, err = expMsg(tx, exp)
			return err
		}
		before := exp.Hosts()
		if req.NewInitiatorNqn != nil {
			exp.InitiatorNQN, exp.MoreHosts = *req.NewInitiatorNqn, nil
		} else if err := exp.ChangeHosts(req.AddInitiatorNqn, req.RemoveInitiatorNqn); err != nil {
			return err
		}
		if err := exp.ChangeKeys(before, keys); err != nil {
			return err
		}
		if keys.Add.Host != "" {
			if err := mayAuthenticate(tx.Unlocked(), exp); err != nil {
				return err
			}
		}
		if warnings, err = unshared(tx.Unlocked(), exp); err != nil {
			return err
		}
		plan, err := array.UpdateExp(tx, exp)
		if err != nil {
			return err
		}
		if steps, err = stepsOf(tx, plan); err != nil {
			return err
		}
		made, err = expMsg(tx, exp)
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncAll(ctx, steps...)
	now, err := s.expMsg(ctx, req.DaName, req.ExpName, false)
	msg, remarks := shown(now, err, made)
	remarks = append(remarks, warnings...)
	return &apiv1.ModifyExpReply{ReplyInfo: done("the exp is modified", notes, remarks...), ExpMsg: msg}, nil
}

// unshared warns where several hosts must not rely on reservations: SPDK offers
// them, and each controller has its own.
func unshared(tx store.Reader, exp *vda.Exp) (warnings []string, err error) {
	if len(exp.MoreHosts) == 0 {
		return nil, nil
	}
	cntlrs, err := tx.CntlrsOfDA(exp.DAID)
	if err != nil {
		return nil, err
	}
	for i := range cntlrs {
		cn, err := tx.CN(cntlrs[i].CNID)
		if err != nil {
			return nil, err
		}
		if cn.OnSPDK() && !cntlrs[i].Deleted {
			warnings = append(warnings, "cn "+cn.Name+" runs SPDK, whose reservations are one controller's alone: "+
				"the hosts must not rely on them")
		}
	}
	return warnings, nil
}

// ListExp lists exporters by name.
func (s *Server) ListExp(ctx context.Context, req *apiv1.ListExpRequest) (*apiv1.ListExpReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	if req.InitiatorNqn != nil {
		if err := vda.CheckHostNQN("initiator_nqn", *req.InitiatorNqn); err != nil {
			return nil, err
		}
	}
	labels, err := vda.ParseLabelMatches(req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListExpReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		filter := store.ExpFilter{InitiatorNQN: req.InitiatorNqn, Error: req.Error, Labels: labels}
		if req.DaName != nil {
			da, err := findDA(tx, *req.DaName)
			if err != nil {
				return err
			}
			filter.DAID = &da.ID
		}
		rows, next, err := tx.ListExp(filter, p)
		if err != nil {
			return err
		}
		reply.NextToken = next
		reply.ExpMsgList, err = expMsgs(tx, rows)
		return err
	})
	return reply, err
}

// GetExp shows an exporter: where to connect, and the health of each way.
func (s *Server) GetExp(ctx context.Context, req *apiv1.GetExpRequest) (*apiv1.GetExpReply, error) {
	msg, err := s.expMsg(ctx, req.DaName, req.ExpName, req.WithNsUuid)
	return &apiv1.GetExpReply{ExpMsg: msg}, err
}

func (s *Server) expMsg(ctx context.Context, daName, name string, withUUID bool) (*apiv1.ExpMsg, error) {
	var msg *apiv1.ExpMsg
	err := s.view(ctx, func(tx store.Reader) error {
		_, exp, err := findExp(tx, daName, name)
		if err != nil {
			return err
		}
		if msg, err = expMsg(tx, exp); err == nil && withUUID {
			msg.NsUuid = exp.NSUUID
		}
		return err
	})
	return msg, err
}
