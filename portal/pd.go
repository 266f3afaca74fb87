package portal

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// CreatePd adds a physical disk to a dn and has it formatted and stamped,
// unless it carries this very stamp already. The capacity in the reply is what
// the node has found; it is 0 when the node did not answer.
func (s *Server) CreatePd(ctx context.Context, req *apiv1.CreatePdRequest) (*apiv1.CreatePdReply, error) {
	if err := vda.CheckName("pd_name", req.PdName); err != nil {
		return nil, err
	}
	medium, err := parsePDConf("pd_conf", req.PdConf)
	if err != nil {
		return nil, err
	}
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	var dn *vda.Node
	pd := &vda.PD{ID: store.NewID(), Name: req.PdName, Conf: req.PdConf, Online: orTrue(req.Online)}
	err = s.update(ctx, func(tx store.Tx) (err error) {
		if dn, err = findNode(tx, vda.DiskNode, req.DnName); err != nil {
			return err
		}
		// No pd comes to a dn that is locked; pds themselves are locked before dns.
		old, err := tx.Unlocked().PDByName(dn.ID, pd.Name)
		if err := taken(err, func() error {
			return existsTagged(tx, old.ID, tags, "pd", pd.Name+" of dn "+dn.Name, parameter{"pd_conf", compactJSON(old.Conf), compactJSON(pd.Conf)},
				parameter{"online", old.Online, pd.Online})
		}); err != nil {
			return err
		}
		if err := mediumFree(tx.Unlocked(), dn, medium); err != nil {
			return err
		}
		pd.DNID = dn.ID
		return setTags(tx, pd.ID, tags, array.AddPD(tx, pd))
	})
	if err != nil {
		return nil, err
	}
	notes := s.syncSteps(ctx, []node{nodeOf(vda.DiskNode, dn)})
	var now *apiv1.PdMsg
	err = s.view(ctx, func(tx store.Reader) error {
		dn, pd, err := findPD(tx, dn.Name, pd.Name)
		if err != nil {
			return err
		}
		now = pdMsg(pd, dn)
		if err := describe(tx, now); err != nil {
			return err
		}
		// The node has just answered, whatever was last seen of it.
		if notes == nil && pd.Health.Error {
			notes = []string{"the disk could not be set up (" + pd.Health.Msg + ")"}
		}
		return nil
	})
	msg, remarks := shown(now, err, pdMsg(pd, dn))
	if c, err := vda.ParsePDConf("pd_conf", req.PdConf); err == nil && c.VolatileCache == "" && msg.WriteCache == string(vda.CacheNotFlushed) {
		remarks = append(remarks, fileOnSPDK)
	}
	return &apiv1.CreatePdReply{ReplyInfo: done("the pd is created", notes, remarks...), PdMsg: msg}, nil
}

// mediumFree refuses a second pd on one disk. A disk that is still being
// removed counts: its node may be about to format it.
func mediumFree(tx store.Reader, dn *vda.Node, medium string) error {
	if medium == "" {
		return nil
	}
	pds, _, err := tx.DNObjects(dn.ID, 0)
	if err != nil {
		return err
	}
	for i := range pds {
		if m, err := parsePDConf("pd_conf", pds[i].Conf); err == nil && m == medium {
			return refuse(codeAddressTaken, vda.AlreadyExists, "%s of dn %s is that of pd %s", medium, dn.Name,
				tombstoned(pds[i].Name, pds[i].Deleted))
		}
	}
	return nil
}

// compactJSON is text, which parsed already, with its keys in order and
// without spaces, so that equal confs compare equal.
func compactJSON(text string) string {
	var m map[string]json.RawMessage
	err := json.Unmarshal([]byte(text), &m)
	if err != nil {
		return text
	}
	b, err := json.Marshal(m)
	if err != nil {
		return text
	}
	return string(b)
}

// DeletePd removes a pd without vds: its node wipes the disk and lets go of it.
// With force the disk is lost: nothing on it is waited for.
func (s *Server) DeletePd(ctx context.Context, req *apiv1.DeletePdRequest) (*apiv1.DeletePdReply, error) {
	var dn *vda.Node
	err := s.update(ctx, func(tx store.Tx) error {
		var pd *vda.PD
		var err error
		u := tx.Unlocked()
		if dn, pd, err = findPD(u, req.DnName, req.PdName); req.Force && isKind(err, vda.NotFound) {
			dn, pd, err = findDeletedPD(u, req.DnName, req.PdName, "", err)
		}
		if err == nil {
			pd, err = lockPD(tx, dn, pd, req.Force)
		}
		if err != nil {
			return err
		}
		vds, err := u.VDsOfPD(pd.ID) // none comes to a pd that is locked
		if err != nil {
			return err
		}
		if req.Force {
			vds = slices.DeleteFunc(vds, func(vd vda.VD) bool { return vd.Deleted })
			if pd.Conf, err = lostConf(pd.Conf); err != nil {
				return err
			}
		}
		names, err := dasOfVDs(tx, vds)
		if err != nil {
			return err
		}
		if names != nil {
			return inUse("pd", pd.Name+" of dn "+dn.Name, "vds of the das", names)
		}
		return array.RemovePD(tx, pd)
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.DeletePdReply{ReplyInfo: done("the pd is deleted", s.syncSteps(ctx, []node{nodeOf(vda.DiskNode, dn)}))}, nil
}

// findDeletedPD finds a pd that has been deleted and whose node has not
// confirmed it, the one of that id unless that is ""; notFound when there is none.
func findDeletedPD(tx store.Reader, dnName, name, id string, notFound error) (*vda.Node, *vda.PD, error) {
	dn, err := findNode(tx, vda.DiskNode, dnName)
	if err != nil {
		return nil, nil, err
	}
	pds, _, err := tx.DNObjects(dn.ID, 0)
	if err != nil {
		return nil, nil, err
	}
	for i := range pds {
		if pds[i].Deleted && pds[i].Name == name && (id == "" || pds[i].ID == id) {
			return dn, &pds[i], nil
		}
	}
	return nil, nil, notFound
}

// lostConf adds to the conf of a pd that its disk is lost, which its node's
// agent goes by; see agent/dn. No user can say so in a conf.
func lostConf(conf string) (string, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(conf), &m); err != nil {
		return "", err
	}
	m["lost"] = json.RawMessage("true")
	b, err := json.Marshal(m)
	return string(b), err
}

// dasOfVDs names the arrays that vds belong to, each once. It locks none: the
// vds' pd or dn is locked already.
func dasOfVDs(tx store.Reader, vds []vda.VD) ([]string, error) {
	known, err := holders(tx, sortedIDs(vds, func(v vda.VD) string { return v.DAID }))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var names []string
	for i := range vds {
		if id := vds[i].DAID; !seen[id] {
			seen[id] = true
			names = append(names, tombstoned(known[id], vds[i].Deleted))
		}
	}
	return names, nil
}

// ModifyPd takes a pd in or out of placement, and changes its tags.
func (s *Server) ModifyPd(ctx context.Context, req *apiv1.ModifyPdRequest) (*apiv1.ModifyPdReply, error) {
	tags := tagChange{req.Label, req.NewDescription}
	if req.NewOnline == nil && tags.none() {
		return nil, nothingToModify("new_online, " + tagFields)
	}
	if err := tags.check(); err != nil {
		return nil, err
	}
	var dn *vda.Node
	var pd *vda.PD
	err := s.update(ctx, func(tx store.Tx) (err error) {
		if dn, pd, err = findPD(tx.Unlocked(), req.DnName, req.PdName); err != nil {
			return err
		}
		if pd, err = lockPD(tx, dn, pd, false); err != nil {
			return err
		}
		if err := tags.apply(tx, pd.ID); err != nil {
			return err
		}
		if pd.Drain && req.GetNewOnline() {
			return refuse(codePrecondition, vda.FailedPrecondition, "new_online is true, and pd %s of dn %s is being drained; pd undrain ends "+
				"that and takes it back into placement", pd.Name, dn.Name)
		}
		setIf(&pd.Online, req.NewOnline)
		return tx.UpdatePD(pd)
	})
	if err != nil {
		return nil, err
	}
	now, err := s.pdMsg(ctx, req.DnName, req.PdName, "")
	msg, remarks := shown(now, err, pdMsg(pd, dn))
	return &apiv1.ModifyPdReply{ReplyInfo: done("the pd is modified", nil, remarks...), PdMsg: msg}, nil
}

// ListPd lists physical disks by name.
func (s *Server) ListPd(ctx context.Context, req *apiv1.ListPdRequest) (*apiv1.ListPdReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	labels, err := vda.ParseLabelMatches(req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListPdReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		filter := store.PDFilter{Online: req.Online, Error: req.Error, Labels: labels}
		if req.DnName != nil {
			dn, err := findNode(tx, vda.DiskNode, *req.DnName)
			if err != nil {
				return err
			}
			filter.DNID = &dn.ID
		}
		rows, next, err := tx.ListPD(filter, p)
		if err != nil {
			return err
		}
		reply.PdMsgList, reply.NextToken = nil, next
		names := newNames(tx)
		for i := range rows {
			dn, err := names.dn(rows[i].DNID)
			if err != nil {
				return err
			}
			reply.PdMsgList = append(reply.PdMsgList, pdMsg(&rows[i], dn))
		}
		return describe(tx, reply.PdMsgList...)
	})
	return reply, err
}

// GetPd shows a physical disk.
func (s *Server) GetPd(ctx context.Context, req *apiv1.GetPdRequest) (*apiv1.GetPdReply, error) {
	msg, err := s.pdMsg(ctx, req.DnName, req.PdName, req.PdId)
	return &apiv1.GetPdReply{PdMsg: msg}, err
}

// pdMsg describes a pd; id is "", or as in GetPdRequest.
func (s *Server) pdMsg(ctx context.Context, dnName, name, id string) (*apiv1.PdMsg, error) {
	var msg *apiv1.PdMsg
	err := s.view(ctx, func(tx store.Reader) error {
		dn, pd, err := findPD(tx, dnName, name)
		if id != "" && (isKind(err, vda.NotFound) || err == nil && pd.ID != id) {
			gone := vda.Errorf(vda.NotFound, "dn %s has no pd %q with the id %q", dnName, vda.Shorten(name, 80), vda.Shorten(id, 80))
			if dn, pd, err = findDeletedPD(tx, dnName, name, id, gone); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		msg = pdMsg(pd, dn)
		if err := describe(tx, msg); err != nil {
			return err
		}
		row, err := tx.DN(dn.ID)
		if err != nil || !pd.Drain && !row.Drain {
			return err
		}
		d, err := drainOf(tx, func(v *vda.VD) bool { return v.PDID == pd.ID })
		msg.DrainVdCnt, msg.DrainLackBytes, msg.StuckVdMsgList = d.vds, d.lack, d.stuck
		return err
	})
	return msg, err
}
