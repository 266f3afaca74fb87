package syncer

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// Orphans are objects of the cluster that a node has and the database does not
// know: the agent remembers what they were. They stand in no row, so that they
// are neither placed nor synced; what is done about them is done in one call.

// OrphansOfDn asks a dn for its orphans. The error is about the node as a whole
// when OfNode says so.
func (s *Syncer) OrphansOfDn(ctx context.Context, dnID string) (*apiv1.OrphansReply, error) {
	var req *apiv1.OrphansRequest
	name := ""
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		dn, err := tx.DN(dnID)
		if err != nil {
			return err
		}
		name = dn.Name
		req, err = orphansRequest(tx, dnID)
		return err
	})
	if err != nil {
		return nil, err
	}
	client, err := s.cfg.Dial.Dn(name)
	if err != nil {
		return nil, err
	}
	r, err := client.Orphans(ctx, req)
	if err != nil {
		return nil, nodeError(&call{node: "dn " + name}, err)
	}
	return r, nil
}

// OrphansOfCn is OrphansOfDn for a cn.
func (s *Syncer) OrphansOfCn(ctx context.Context, cnID string) (*apiv1.OrphansReply, error) {
	var req *apiv1.OrphansRequest
	name := ""
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		cn, err := tx.CN(cnID)
		if err != nil {
			return err
		}
		name = cn.Name
		req, err = orphansRequest(tx, cnID)
		return err
	})
	if err != nil {
		return nil, err
	}
	client, err := s.cfg.Dial.Cn(name)
	if err != nil {
		return nil, err
	}
	r, err := client.Orphans(ctx, req)
	if err != nil {
		return nil, nodeError(&call{node: "cn " + name}, err)
	}
	return r, nil
}

func orphansRequest(tx store.Reader, nodeID string) (*apiv1.OrphansRequest, error) {
	cluster, err := tx.ClusterID()
	return &apiv1.OrphansRequest{ClusterId: cluster, NodeId: nodeID}, err
}

// OrphansOf are orphans of one node that are to be deleted.
type OrphansOf struct {
	DNID, CNID string // one of them
	Pds        []*apiv1.PdSpec
	Vds        []*apiv1.VdSpec
	Cntlrs     []*apiv1.CntlrSpec
}

// DropOrphans has a node delete orphans, by tombstones in a change of its own to
// what the agent holds. Applied stays where it is, so that the next Sync names all
// that SQL has changed meanwhile. An id that a row has by now is not touched.
func (s *Syncer) DropOrphans(ctx context.Context, o OrphansOf) error {
	if o.DNID != "" {
		return s.dropOfDn(ctx, o)
	}
	return s.dropOfCn(ctx, o)
}

func (s *Syncer) dropOfDn(ctx context.Context, o OrphansOf) error {
	req := &apiv1.SyncDnRequest{NodeId: o.DNID, AllowEmpty: true}
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		req.Pds, req.Vds = nil, nil
		version, err := array.NextVersion(tx, array.Node{Kind: vda.DiskNode, ID: o.DNID})
		if err != nil {
			return err
		}
		dn, err := tx.DN(o.DNID)
		if err != nil {
			return err
		}
		if req.ClusterId, err = tx.ClusterID(); err != nil {
			return err
		}
		req.NodeName, req.Version, req.BaseVersion, req.Listener = dn.Name, version, max(dn.Applied, 1), apiv1.NewListenerConf(dn.Listener)
		for _, p := range o.Pds {
			if _, err := tx.PD(p.Id); !isNotFound(err) {
				return unlessNil(err, "pd", p.Id)
			}
			p = proto.CloneOf(p)
			p.Deleted, p.Format, p.Version = true, false, version
			req.Pds = append(req.Pds, p)
		}
		for _, v := range o.Vds {
			if _, err := tx.VD(v.Id); !isNotFound(err) {
				return unlessNil(err, "vd", v.Id)
			}
			v = proto.CloneOf(v)
			v.Nqn = vda.VdNQN(v.Id)
			v.Deleted, v.Version = true, version
			req.Vds = append(req.Vds, v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Dial.Dn(req.NodeName)
	if err != nil {
		return err
	}
	return s.drop(ctx, &call{node: "dn " + req.NodeName, version: req.Version, send: func(ctx context.Context) (*apiv1.SyncReply, error) { return client.Sync(ctx, req) }})
}

func (s *Syncer) dropOfCn(ctx context.Context, o OrphansOf) error {
	req := &apiv1.SyncCnRequest{NodeId: o.CNID, AllowEmpty: true}
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		req.Cntlrs = nil
		version, err := array.NextVersion(tx, array.Node{Kind: vda.ControllerNode, ID: o.CNID})
		if err != nil {
			return err
		}
		cn, err := tx.CN(o.CNID)
		if err != nil {
			return err
		}
		if req.ClusterId, err = tx.ClusterID(); err != nil {
			return err
		}
		req.NodeName, req.Version, req.BaseVersion, req.Listener = cn.Name, version, max(cn.Applied, 1), apiv1.NewListenerConf(cn.Listener)
		for _, c := range o.Cntlrs {
			if _, err := tx.Cntlr(c.Id); !isNotFound(err) {
				return unlessNil(err, "cntlr", c.Id)
			}
			c = proto.CloneOf(c)
			c.Deleted, c.Create, c.DestroyData, c.Version = true, false, false, version
			for _, e := range c.Exps {
				e.Deleted = true
			}
			req.Cntlrs = append(req.Cntlrs, c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Dial.Cn(req.NodeName)
	if err != nil {
		return err
	}
	return s.drop(ctx, &call{node: "cn " + req.NodeName, version: req.Version, send: func(ctx context.Context) (*apiv1.SyncReply, error) { return client.Sync(ctx, req) }})
}

// unlessNil is the error of looking for an orphan's row that must not be there.
func unlessNil(err error, kind, id string) error {
	if err != nil {
		return err
	}
	return vda.Errorf(vda.FailedPrecondition, "%s %s is no orphan: the database knows it by now", kind, id)
}

// drop sends tombstones and returns the first that was not carried out.
func (s *Syncer) drop(ctx context.Context, c *call) error {
	r, err := s.send(ctx, c)
	if err != nil {
		return nodeError(c, err)
	}
	if at := slices.IndexFunc(r.States, func(st *apiv1.ObjectState) bool { return st.Error }); at >= 0 {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: opSync, Object: c.node, Msg: r.States[at].Id + ": " + r.States[at].ErrorMsg}
	}
	return nil
}
