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

// Orphans asks a node for its orphans. The error is about the node as a whole
// when OfNode says so.
func (s *Syncer) Orphans(ctx context.Context, n array.Node) (*apiv1.OrphansReply, error) {
	req := &apiv1.OrphansRequest{NodeId: n.ID}
	var at vda.At
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		row, err := tx.Node(n.Kind, n.ID)
		if err != nil {
			return err
		}
		at = row.At(n.Kind)
		req.ClusterId, err = tx.ClusterID()
		return err
	})
	if err != nil {
		return nil, err
	}
	agent, err := DialAgent(s.cfg.Dial, at)
	if err != nil {
		return nil, err
	}
	r, err := agent.Orphans(ctx, req)
	if err != nil {
		return nil, nodeError(n.Kind.Title(at.Name), 0, err)
	}
	return r, nil
}

// OrphansOf are orphans of one node that are to be deleted.
type OrphansOf struct {
	Node   array.Node
	Pds    []*apiv1.PdSpec    // of a dn
	Vds    []*apiv1.VdSpec    // of a dn
	Cntlrs []*apiv1.CntlrSpec // of a cn
}

// DropOrphans has a node delete orphans, by tombstones in a change of its own to
// what the agent holds. Applied stays where it is, so that the next Sync names all
// that SQL has changed meanwhile. An id that a row has by now is not touched.
func (s *Syncer) DropOrphans(ctx context.Context, o OrphansOf) error {
	var c *call
	var at vda.At
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		version, err := array.NextVersion(tx, o.Node)
		if err != nil {
			return err
		}
		row, err := tx.Node(o.Node.Kind, o.Node.ID)
		if err != nil {
			return err
		}
		cluster, err := tx.Unlocked().ClusterID()
		if err != nil {
			return err
		}
		at = row.At(o.Node.Kind)
		c = &call{at: o.Node, node: o.Node.Kind.Title(row.Name)}
		base := max(row.Applied, 1)
		if o.Node.Kind == vda.DiskNode {
			c.request, err = dropOfDn(tx, newDnRequest(cluster, row, version, base), &o)
		} else {
			c.request, err = dropOfCn(tx, newCnRequest(cluster, row, version, base), &o)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.allowEmpty()
	if err := c.dial(s.cfg.Dial, at); err != nil {
		return err
	}
	return s.drop(ctx, c)
}

func dropOfDn(tx store.Reader, req *apiv1.SyncDnRequest, o *OrphansOf) (request, error) {
	for _, p := range o.Pds {
		if _, err := tx.PD(p.Id); !isNotFound(err) {
			return nil, unlessNil(err, "pd", p.Id)
		}
		p = proto.CloneOf(p)
		p.Deleted, p.Format, p.Version = true, false, req.Version
		req.Pds = append(req.Pds, p)
	}
	for _, v := range o.Vds {
		if _, err := tx.VD(v.Id); !isNotFound(err) {
			return nil, unlessNil(err, "vd", v.Id)
		}
		v = proto.CloneOf(v)
		v.Nqn = vda.VdNQN(v.Id)
		v.Deleted, v.Version = true, req.Version
		req.Vds = append(req.Vds, v)
	}
	return &dnRequest{SyncDnRequest: req}, nil
}

func dropOfCn(tx store.Reader, req *apiv1.SyncCnRequest, o *OrphansOf) (request, error) {
	for _, c := range o.Cntlrs {
		if _, err := tx.Cntlr(c.Id); !isNotFound(err) {
			return nil, unlessNil(err, "cntlr", c.Id)
		}
		c = proto.CloneOf(c)
		c.Deleted, c.Create, c.DestroyData, c.Version = true, false, false, req.Version
		for _, e := range c.Exps {
			e.Deleted = true
		}
		req.Cntlrs = append(req.Cntlrs, c)
	}
	return &cnRequest{SyncCnRequest: req, fence: func(context.Context, fences) {}}, nil
}

// unlessNil is the error of looking for an orphan's row that must not be there.
func unlessNil(err error, kind, id string) error {
	if err != nil {
		return err
	}
	return vda.Errorf(vda.FailedPrecondition, "%s %s is not an orphan: the database knows it by now", kind, id)
}

// drop sends tombstones and returns the first that was not carried out.
func (s *Syncer) drop(ctx context.Context, c *call) error {
	r, err := s.send(ctx, c)
	if err != nil {
		return nodeError(c.node, c.GetVersion(), err)
	}
	if at := slices.IndexFunc(r.States, func(st *apiv1.ObjectState) bool { return st.Error }); at >= 0 {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: opSync, Object: c.node, Msg: r.States[at].Id + ": " + r.States[at].ErrorMsg}
	}
	return nil
}
