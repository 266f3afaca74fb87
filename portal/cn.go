package portal

import (
	"context"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// CreateCn adds a controller node. It is there even when its agent does not answer.
func (s *Server) CreateCn(ctx context.Context, req *apiv1.CreateCnRequest) (*apiv1.CreateCnReply, error) {
	n, err := vda.NewNode(vda.ControllerNode, req.CnName, req.CnListenerConf, req.Location, orTrue(req.Online))
	if err != nil {
		return nil, err
	}
	cn := &vda.CN{Node: *n}
	err = s.update(ctx, func(tx store.Tx) error {
		old, err := tx.NodeByName(vda.ControllerNode, cn.Name)
		if err := taken(err, func() error {
			return exists("cn", cn.Name, nodeParameters(old.Listener, cn.Listener, old.Location, cn.Location, old.Online, cn.Online)...)
		}); err != nil {
			return err
		}
		if err := addressFree(tx, n.Listener, ""); err != nil {
			return err
		}
		if cn.ID, err = nodeID(tx, "cn", cn.Name); err != nil {
			return err
		}
		return array.AddNode(tx, vda.ControllerNode, &cn.Node)
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, []node{cnNode(cn)})
	now, err := s.cnMsg(ctx, cn.Name)
	msg, remarks := shown(now, err, cnMsg(cn))
	return &apiv1.CreateCnReply{ReplyInfo: done("the cn is created", notes, remarks...), CnMsg: msg}, nil
}

// DeleteCn forgets a controller node without controllers. With force it
// forgets a node that is lost for good, together with what still waits for its
// confirmation.
func (s *Server) DeleteCn(ctx context.Context, req *apiv1.DeleteCnRequest) (*apiv1.DeleteCnReply, error) {
	err := s.update(ctx, func(tx store.Tx) error {
		cn, err := findCN(tx, req.CnName)
		if err != nil {
			return err
		}
		if req.Force {
			das, err := array.ForgetCN(tx, cn.ID)
			return usedBy(tx, "cn", cn.Name, "controllers of the das", das, err)
		}
		cntlrs, err := tx.CntlrsOfCN(cn.ID)
		if err != nil {
			return err
		}
		names, err := dasOfCntlrs(tx, cntlrs)
		if err != nil {
			return err
		}
		if names != nil {
			return inUse("cn", cn.Name, "controllers of the das", names)
		}
		return tx.DeleteNode(vda.ControllerNode, cn.ID)
	})
	return &apiv1.DeleteCnReply{}, err
}

// dasOfCntlrs names the arrays that controllers belong to.
func dasOfCntlrs(tx store.Reader, cntlrs []vda.Cntlr) ([]string, error) {
	var names []string
	for i := range cntlrs {
		da, err := tx.DA(cntlrs[i].DAID)
		if err != nil {
			return nil, err
		}
		names = append(names, tombstoned(da.Name, cntlrs[i].Deleted))
	}
	return names, nil
}

// ModifyCn changes what the request sets.
func (s *Server) ModifyCn(ctx context.Context, req *apiv1.ModifyCnRequest) (*apiv1.ModifyCnReply, error) {
	if req.NewCnListenerConf == nil && req.NewLocation == nil && req.NewOnline == nil {
		return nil, nothingToModify("new_cn_listener_conf, new_location or new_online")
	}
	listener, err := newListener("new_cn_listener_conf", req.NewCnListenerConf)
	if err != nil {
		return nil, err
	}
	if err := vda.CheckLocation("new_location", req.GetNewLocation()); err != nil {
		return nil, err
	}
	var changed []node
	var cn *vda.CN
	err = s.update(ctx, func(tx store.Tx) (err error) {
		changed = nil
		if cn, err = findCN(tx, req.CnName); err != nil {
			return err
		}
		moved := listener != nil && *listener != cn.Listener
		if moved {
			if err := cnListenerFree(tx, cn, *listener); err != nil {
				return err
			}
			cn.Listener = *listener
			changed = []node{cnNode(cn)}
		}
		setIf(&cn.Location, req.NewLocation)
		setIf(&cn.Online, req.NewOnline)
		return array.UpdateNode(tx, vda.ControllerNode, &cn.Node, moved)
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, changed)
	now, err := s.cnMsg(ctx, req.CnName)
	msg, remarks := shown(now, err, cnMsg(cn))
	return &apiv1.ModifyCnReply{ReplyInfo: done("the cn is modified", notes, remarks...), CnMsg: msg}, nil
}

// cnListenerFree refuses to move the address of a cn that hosts are connected
// to.
func cnListenerFree(tx store.Reader, cn *vda.CN, to vda.Listener) error {
	cntlrs, err := tx.CntlrsOfCN(cn.ID)
	if err != nil {
		return err
	}
	names, err := dasOfCntlrs(tx, cntlrs)
	if err != nil {
		return err
	}
	if names != nil {
		return inUse("cn", cn.Name, "controllers on its present address, of the das", names)
	}
	return addressFree(tx, to, cn.ID)
}

// ListCn lists controller nodes by name.
func (s *Server) ListCn(ctx context.Context, req *apiv1.ListCnRequest) (*apiv1.ListCnReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	if err := vda.CheckLocation("location", req.GetLocation()); err != nil {
		return nil, err
	}
	reply := &apiv1.ListCnReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		rows, next, err := tx.ListCN(store.NodeFilter{Location: req.Location, Online: req.Online, Error: req.Error}, p)
		reply.CnMsgList, reply.NextToken = nil, next
		for i := range rows {
			reply.CnMsgList = append(reply.CnMsgList, cnMsg(&rows[i]))
		}
		return err
	})
	return reply, err
}

// GetCn shows a controller node.
func (s *Server) GetCn(ctx context.Context, req *apiv1.GetCnRequest) (*apiv1.GetCnReply, error) {
	msg, err := s.cnMsg(ctx, req.CnName)
	return &apiv1.GetCnReply{CnMsg: msg}, err
}

// SyncupCn brings a controller node to its desired state now, all of it.
func (s *Server) SyncupCn(ctx context.Context, req *apiv1.SyncupCnRequest) (*apiv1.SyncupCnReply, error) {
	var cn *vda.CN
	err := s.view(ctx, func(tx store.Reader) (err error) {
		cn, err = findCN(tx, req.CnName)
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, []node{cnNode(cn).whole(req.AllowEmpty)})
	msg, err := s.cnMsg(ctx, cn.Name)
	if err != nil {
		return nil, err
	}
	return &apiv1.SyncupCnReply{ReplyInfo: done("the cn was asked", notes), CnMsg: msg}, nil
}

func (s *Server) cnMsg(ctx context.Context, name string) (*apiv1.CnMsg, error) {
	var msg *apiv1.CnMsg
	err := s.view(ctx, func(tx store.Reader) error {
		cn, err := findCN(tx, name)
		if err != nil {
			return err
		}
		msg = cnMsg(cn)
		return nil
	})
	return msg, err
}
