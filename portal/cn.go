package portal

import (
	"context"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// CreateCn adds a controller node. It is there even when its agent does not answer.
func (s *Server) CreateCn(ctx context.Context, req *apiv1.CreateCnRequest) (*apiv1.CreateCnReply, error) {
	cn, err := vda.NewNode(vda.ControllerNode, req.CnName, req.CnAddr, req.CnListenerConf, req.Location, orTrue(req.Online))
	if err != nil {
		return nil, err
	}
	if err := cn.SetBackend("cn_backend_listener_conf", req.CnBackendListenerConf); err != nil {
		return nil, err
	}
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	notes, err := s.createNode(ctx, vda.ControllerNode, cn, tags)
	if err != nil {
		return nil, err
	}
	now, err := s.cnMsg(ctx, cn.Name, false)
	msg, remarks := shown(now, err, cnMsg(&vda.CN{Node: *cn}))
	return &apiv1.CreateCnReply{ReplyInfo: done("the cn is created", notes, remarks...), CnMsg: msg}, nil
}

// DeleteCn forgets a controller node without controllers. With force it
// forgets a node that is lost for good, together with what still waits for its
// confirmation.
func (s *Server) DeleteCn(ctx context.Context, req *apiv1.DeleteCnRequest) (*apiv1.DeleteCnReply, error) {
	return &apiv1.DeleteCnReply{}, s.deleteNode(ctx, vda.ControllerNode, req.CnName, req.Force)
}

// ModifyCn changes what the request sets.
func (s *Server) ModifyCn(ctx context.Context, req *apiv1.ModifyCnRequest) (*apiv1.ModifyCnReply, error) {
	var made *apiv1.CnMsg
	notes, err := s.modifyNode(ctx, vda.ControllerNode, req.CnName, nodeChange{req.NewCnAddr, req.NewCnListenerConf, req.NewLocation,
		req.NewCnBackendListenerConf, req.NewOnline, tagChange{req.Label, req.NewDescription}},
		func(tx store.Reader, n *vda.Node) error {
			cn, err := tx.CN(n.ID) // with its counts
			if err == nil {
				made = cnMsg(cn)
			}
			if err == nil && cn.Drain != vda.NoDrain && n.Online {
				err = refuse(codePrecondition, vda.FailedPrecondition, "new_online is true, and cn %s is being drained; cn undrain ends that and "+
					"takes it back into placement", n.Name)
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	now, err := s.cnMsg(ctx, req.CnName, false)
	msg, remarks := shown(now, err, made)
	return &apiv1.ModifyCnReply{ReplyInfo: done("the cn is modified", notes, remarks...), CnMsg: msg}, nil
}

// ListCn lists controller nodes by name.
func (s *Server) ListCn(ctx context.Context, req *apiv1.ListCnRequest) (*apiv1.ListCnReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	f, err := nodeFilter(req.Location, req.Online, req.Error, req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListCnReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		rows, next, err := tx.ListCN(f, p)
		reply.CnMsgList, reply.NextToken = nil, next
		for i := range rows {
			reply.CnMsgList = append(reply.CnMsgList, cnMsg(&rows[i]))
		}
		if err != nil {
			return err
		}
		return describe(tx, reply.CnMsgList...)
	})
	return reply, err
}

// GetCn shows a controller node.
func (s *Server) GetCn(ctx context.Context, req *apiv1.GetCnRequest) (*apiv1.GetCnReply, error) {
	msg, err := s.cnMsg(ctx, req.CnName, req.WithCntlrs)
	return &apiv1.GetCnReply{CnMsg: msg}, err
}

// SyncupCn brings a controller node to its desired state now, all of it.
func (s *Server) SyncupCn(ctx context.Context, req *apiv1.SyncupCnRequest) (*apiv1.SyncupCnReply, error) {
	notes, err := s.syncupNode(ctx, vda.ControllerNode, req.CnName, req.AllowEmpty)
	if err != nil {
		return nil, err
	}
	msg, err := s.cnMsg(ctx, req.CnName, false)
	if err != nil {
		return nil, err
	}
	return &apiv1.SyncupCnReply{ReplyInfo: done("the cn was asked", notes), CnMsg: msg}, nil
}

// cnMsg reads a cn, with its controllers when cntlrs is set.
func (s *Server) cnMsg(ctx context.Context, name string, cntlrs bool) (*apiv1.CnMsg, error) {
	var msg *apiv1.CnMsg
	err := s.view(ctx, func(tx store.Reader) error {
		n, err := findNode(tx, vda.ControllerNode, name)
		if err != nil {
			return err
		}
		cn, err := tx.CN(n.ID)
		if err != nil {
			return err
		}
		msg = cnMsg(cn)
		if err := showDrain(tx, msg, cn); err != nil {
			return err
		}
		if cntlrs {
			if err := showCntlrs(tx, cn, msg); err != nil {
				return err
			}
		}
		return describe(tx, msg)
	})
	return msg, err
}
