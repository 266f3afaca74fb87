package portal

import (
	"context"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// CreateDn adds a disk node. It is there even when its agent does not answer.
func (s *Server) CreateDn(ctx context.Context, req *apiv1.CreateDnRequest) (*apiv1.CreateDnReply, error) {
	dn, err := vda.NewNode(vda.DiskNode, req.DnName, req.DnAddr, req.DnListenerConf, req.Location, orTrue(req.Online))
	if err != nil {
		return nil, err
	}
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	notes, err := s.createNode(ctx, vda.DiskNode, dn, tags)
	if err != nil {
		return nil, err
	}
	now, err := s.dnMsg(ctx, dn.Name, false, false)
	msg, remarks := shown(now, err, dnMsg(dn))
	return &apiv1.CreateDnReply{ReplyInfo: done("the dn is created", notes, remarks...), DnMsg: msg}, nil
}

// DeleteDn forgets a disk node without pds. With force it forgets a node that
// is lost for good, together with what still waits for its confirmation.
func (s *Server) DeleteDn(ctx context.Context, req *apiv1.DeleteDnRequest) (*apiv1.DeleteDnReply, error) {
	return &apiv1.DeleteDnReply{}, s.deleteNode(ctx, vda.DiskNode, req.DnName, req.Force)
}

// ModifyDn changes what the request sets.
func (s *Server) ModifyDn(ctx context.Context, req *apiv1.ModifyDnRequest) (*apiv1.ModifyDnReply, error) {
	var made *apiv1.DnMsg
	notes, err := s.modifyNode(ctx, vda.DiskNode, req.DnName, nodeChange{req.NewDnAddr, req.NewDnListenerConf, req.NewLocation,
		nil, req.NewOnline, tagChange{req.Label, req.NewDescription}},
		func(tx store.Reader, n *vda.Node) error {
			made = dnMsg(n)
			row, err := tx.DN(n.ID)
			if err == nil && row.Drain && n.Online {
				err = refuse(codePrecondition, vda.FailedPrecondition, "new_online is true, and dn %s is being drained; dn undrain ends that and "+
					"takes it back into placement", n.Name)
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	now, err := s.dnMsg(ctx, req.DnName, false, false)
	msg, remarks := shown(now, err, made)
	return &apiv1.ModifyDnReply{ReplyInfo: done("the dn is modified", notes, remarks...), DnMsg: msg}, nil
}

// ListDn lists disk nodes by name.
func (s *Server) ListDn(ctx context.Context, req *apiv1.ListDnRequest) (*apiv1.ListDnReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	f, err := nodeFilter(req.Location, req.Online, req.Error, req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListDnReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		rows, next, err := tx.ListDN(f, p)
		if err != nil {
			return err
		}
		pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		reply.DnMsgList, reply.NextToken = nil, next
		disks := map[string][]*vda.PD{}
		for i := range pds {
			disks[pds[i].DNID] = append(disks[pds[i].DNID], &pds[i])
		}
		for i := range rows {
			msg := dnMsg(&rows[i].Node)
			for _, pd := range disks[rows[i].ID] {
				addDisk(msg, pd)
			}
			msg.Drain = rows[i].Drain
			reply.DnMsgList = append(reply.DnMsgList, msg)
		}
		if err != nil {
			return err
		}
		return describe(tx, reply.DnMsgList...)
	})
	return reply, err
}

// GetDn shows a disk node and its pds.
func (s *Server) GetDn(ctx context.Context, req *apiv1.GetDnRequest) (*apiv1.GetDnReply, error) {
	msg, err := s.dnMsg(ctx, req.DnName, true, req.WithVds)
	return &apiv1.GetDnReply{DnMsg: msg}, err
}

// SyncupDn brings a disk node to its desired state now, all of it.
func (s *Server) SyncupDn(ctx context.Context, req *apiv1.SyncupDnRequest) (*apiv1.SyncupDnReply, error) {
	notes, err := s.syncupNode(ctx, vda.DiskNode, req.DnName, req.AllowEmpty)
	if err != nil {
		return nil, err
	}
	msg, err := s.dnMsg(ctx, req.DnName, true, false)
	if err != nil {
		return nil, err
	}
	return &apiv1.SyncupDnReply{ReplyInfo: done("the dn was asked", notes), DnMsg: msg}, nil
}

// dnMsg reads a dn, with its pds when all is set, and what is on these when vds is.
func (s *Server) dnMsg(ctx context.Context, name string, all, vds bool) (*apiv1.DnMsg, error) {
	var msg *apiv1.DnMsg
	err := s.view(ctx, func(tx store.Reader) error {
		dn, err := findNode(tx, vda.DiskNode, name)
		if err != nil {
			return err
		}
		row, err := tx.DN(dn.ID)
		if err != nil {
			return err
		}
		msg = dnMsg(dn)
		msg.Drain = row.Drain
		if err := describe(tx, msg); err != nil {
			return err
		}
		pds, _, err := tx.ListPD(store.PDFilter{DNID: &dn.ID}, store.Page{})
		if err != nil {
			return err
		}
		for i := range pds {
			addDisk(msg, &pds[i])
		}
		if !all {
			return nil
		}
		if row.Drain {
			d, err := drainOf(tx, func(v *vda.VD) bool { return v.DNID == dn.ID })
			if err != nil {
				return err
			}
			msg.DrainVdCnt, msg.DrainLackBytes, msg.StuckVdMsgList = d.vds, d.lack, d.stuck
		}
		for i := range pds {
			msg.PdMsgList = append(msg.PdMsgList, pdMsg(&pds[i], dn))
		}
		if vds {
			if err := showVDs(tx, dn, pds, msg.PdMsgList); err != nil {
				return err
			}
		}
		return describe(tx, msg.PdMsgList...)
	})
	return msg, err
}
