package portal

import (
	"context"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// CreateDn adds a disk node. It is there even when its agent does not answer.
func (s *Server) CreateDn(ctx context.Context, req *apiv1.CreateDnRequest) (*apiv1.CreateDnReply, error) {
	n, err := vda.NewNode(vda.DiskNode, req.DnName, req.DnListenerConf, req.Location, orTrue(req.Online))
	if err != nil {
		return nil, err
	}
	dn := &vda.DN{Node: *n}
	err = s.update(ctx, func(tx store.Tx) error {
		old, err := tx.NodeByName(vda.DiskNode, dn.Name)
		if err := taken(err, func() error {
			return exists("dn", dn.Name, nodeParameters(old.Listener, dn.Listener, old.Location, dn.Location, old.Online, dn.Online)...)
		}); err != nil {
			return err
		}
		if err := addressFree(tx, n.Listener, ""); err != nil {
			return err
		}
		if dn.ID, err = nodeID(tx, "dn", dn.Name); err != nil {
			return err
		}
		return array.AddNode(tx, vda.DiskNode, &dn.Node)
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, []node{dnNode(dn)})
	now, err := s.dnMsg(ctx, dn.Name, false)
	msg, remarks := shown(now, err, dnMsg(dn))
	return &apiv1.CreateDnReply{ReplyInfo: done("the dn is created", notes, remarks...), DnMsg: msg}, nil
}

// nodeParameters are what a repeated create of a node is compared by.
func nodeParameters(isL, l vda.Listener, isLoc, loc string, isOn, on bool) []parameter {
	return []parameter{{"listener conf", isL.JSON(), l.JSON()}, {"location", isLoc, loc}, {"online", isOn, on}}
}

// DeleteDn forgets a disk node without pds. With force it forgets a node that
// is lost for good, together with what still waits for its confirmation.
func (s *Server) DeleteDn(ctx context.Context, req *apiv1.DeleteDnRequest) (*apiv1.DeleteDnReply, error) {
	err := s.update(ctx, func(tx store.Tx) error {
		dn, err := findDN(tx, req.DnName)
		if err != nil {
			return err
		}
		if req.Force {
			das, err := array.ForgetDN(tx, dn.ID)
			return usedBy(tx, "dn", dn.Name, "vds of the das", das, err)
		}
		pds, _, err := tx.DNObjects(dn.ID, 0)
		if err != nil {
			return err
		}
		var names []string
		for i := range pds {
			names = append(names, tombstoned(pds[i].Name, pds[i].Deleted))
		}
		if names != nil {
			return inUse("dn", dn.Name, "pds", names)
		}
		return tx.DeleteNode(vda.DiskNode, dn.ID)
	})
	return &apiv1.DeleteDnReply{}, err
}

// usedBy refuses to delete what arrays need; nil when there are none.
func usedBy(tx store.Reader, kind, name, by string, das []string, err error) error {
	if err != nil || das == nil {
		return err
	}
	known, err := tx.DANames(das)
	if err != nil {
		return err
	}
	var names []string
	for _, id := range das {
		if n := known[id]; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return inUse(kind, name, by, names)
}

// live are the rows that are not tombstones.
func live[T any](rows []T, deleted func(*T) bool) []T {
	return slices.DeleteFunc(slices.Clone(rows), func(r T) bool { return deleted(&r) })
}

// tombstoned marks a name whose object its node still has to remove.
func tombstoned(name string, deleted bool) string {
	if deleted {
		return name + " (deleted, but its node has not confirmed it yet)"
	}
	return name
}

// ModifyDn changes what the request sets.
func (s *Server) ModifyDn(ctx context.Context, req *apiv1.ModifyDnRequest) (*apiv1.ModifyDnReply, error) {
	if req.NewDnListenerConf == nil && req.NewLocation == nil && req.NewOnline == nil {
		return nil, nothingToModify("new_dn_listener_conf, new_location or new_online")
	}
	listener, err := newListener("new_dn_listener_conf", req.NewDnListenerConf)
	if err != nil {
		return nil, err
	}
	if err := vda.CheckLocation("new_location", req.GetNewLocation()); err != nil {
		return nil, err
	}
	var changed []node
	var dn *vda.DN
	err = s.update(ctx, func(tx store.Tx) (err error) {
		changed = nil
		if dn, err = findDN(tx, req.DnName); err != nil {
			return err
		}
		moved := listener != nil && *listener != dn.Listener
		if moved {
			if err := dnListenerFree(tx, dn, *listener); err != nil {
				return err
			}
			dn.Listener = *listener
			changed = []node{dnNode(dn)}
		}
		setIf(&dn.Location, req.NewLocation)
		setIf(&dn.Online, req.NewOnline)
		return array.UpdateNode(tx, vda.DiskNode, &dn.Node, moved)
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, changed)
	now, err := s.dnMsg(ctx, req.DnName, false)
	msg, remarks := shown(now, err, dnMsg(dn))
	return &apiv1.ModifyDnReply{ReplyInfo: done("the dn is modified", notes, remarks...), DnMsg: msg}, nil
}

// dnListenerFree refuses to move the address of a dn whose vds are in use:
// every array on it would lose its disks.
func dnListenerFree(tx store.Reader, dn *vda.DN, to vda.Listener) error {
	_, vds, err := tx.DNObjects(dn.ID, 0)
	if err != nil {
		return err
	}
	names, err := dasOfVDs(tx, vds)
	if err != nil {
		return err
	}
	if names != nil {
		return inUse("dn", dn.Name, "vds on its present address, of the das", names)
	}
	return addressFree(tx, to, dn.ID)
}

func nothingToModify(fields string) error {
	return invalid("nothing to modify: give at least one of %s", fields)
}

func newListener(field string, text *string) (*vda.Listener, error) {
	if text == nil {
		return nil, nil
	}
	l, err := vda.ParseListener(field, *text)
	return &l, err
}

func setIf[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// ListDn lists disk nodes by name.
func (s *Server) ListDn(ctx context.Context, req *apiv1.ListDnRequest) (*apiv1.ListDnReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	if err := vda.CheckLocation("location", req.GetLocation()); err != nil {
		return nil, err
	}
	reply := &apiv1.ListDnReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		rows, next, err := tx.ListDN(store.NodeFilter{Location: req.Location, Online: req.Online, Error: req.Error}, p)
		reply.DnMsgList, reply.NextToken = nil, next
		for i := range rows {
			reply.DnMsgList = append(reply.DnMsgList, dnMsg(&rows[i]))
		}
		return err
	})
	return reply, err
}

// GetDn shows a disk node and its pds.
func (s *Server) GetDn(ctx context.Context, req *apiv1.GetDnRequest) (*apiv1.GetDnReply, error) {
	msg, err := s.dnMsg(ctx, req.DnName, true)
	return &apiv1.GetDnReply{DnMsg: msg}, err
}

// SyncupDn brings a disk node to its desired state now, all of it.
func (s *Server) SyncupDn(ctx context.Context, req *apiv1.SyncupDnRequest) (*apiv1.SyncupDnReply, error) {
	var dn *vda.DN
	err := s.view(ctx, func(tx store.Reader) (err error) {
		dn, err = findDN(tx, req.DnName)
		return err
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, []node{dnNode(dn).whole(req.AllowEmpty)})
	msg, err := s.dnMsg(ctx, dn.Name, true)
	if err != nil {
		return nil, err
	}
	return &apiv1.SyncupDnReply{ReplyInfo: done("the dn was asked", notes), DnMsg: msg}, nil
}

// dnMsg reads a dn, with its pds when all is set.
func (s *Server) dnMsg(ctx context.Context, name string, all bool) (*apiv1.DnMsg, error) {
	var msg *apiv1.DnMsg
	err := s.view(ctx, func(tx store.Reader) error {
		dn, err := findDN(tx, name)
		if err != nil {
			return err
		}
		msg = dnMsg(dn)
		if !all {
			return nil
		}
		pds, _, err := tx.ListPD(store.PDFilter{DNID: &dn.ID}, store.Page{})
		for i := range pds {
			msg.PdMsgList = append(msg.PdMsgList, pdMsg(&pds[i], dn))
		}
		return err
	})
	return msg, err
}
