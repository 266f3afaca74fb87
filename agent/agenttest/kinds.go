package agenttest

import (
	"context"
	"maps"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Dn is a disk node's agent in the suite. Each request carries a pd beside its
// vds, which the vds are on.
type Dn struct {
	apiv1.DnAgentServer
	// PdConf is the conf of a pd on which three vds of 4 MiB have room.
	PdConf string
	// Start ends the server, which may be nil, and starts another on what it kept.
	Start func(apiv1.DnAgentServer) apiv1.DnAgentServer

	live map[string]bool // vds that the agent was told to have
}

const pd = "a0000000000000000000000000000001"

// Restart is Agent's.
func (d *Dn) Restart() { d.DnAgentServer = d.Start(d.DnAgentServer) }

// Sync is Agent's.
func (d *Dn) Sync(ctx context.Context, r Request) (*apiv1.SyncReply, error) {
	req := &apiv1.SyncDnRequest{ClusterId: r.Cluster, NodeId: r.Node, Version: r.Version, BaseVersion: r.Base, AllowEmpty: r.AllowEmpty,
		Marks: apiv1.NewVersionMarks(r.Marks)}
	live := map[string]bool{}
	if r.Base != 0 {
		maps.Copy(live, d.live)
	}
	for _, o := range r.Objects {
		if o.Deleted {
			delete(live, o.ID)
		} else {
			live[o.ID] = true
		}
		req.Vds = append(req.Vds, &apiv1.VdSpec{Id: o.ID, PdId: pd, DaId: o.DA, Term: o.Term, Deleted: o.Deleted,
			Version: r.Version, Size: 4 << 20, Epoch: o.Epoch,
			Nqn: vda.VdNQN(o.ID), Uuid: o.ID, HostNqn: vda.LegHostNQN(vda.PrimaryHostNQN(o.DA, o.Term), o.Epoch)})
	}
	// The pd goes with the last vd, so that an agent without vds is an agent
	// without objects.
	if len(req.Vds) > 0 {
		req.Pds = []*apiv1.PdSpec{{Id: pd, Name: "pd0", ConfJson: d.PdConf, Format: true, Version: r.Version, Deleted: len(live) == 0}}
	}
	reply, err := d.DnAgentServer.Sync(ctx, req)
	if err == nil {
		d.live = live
	}
	return reply, err
}

// Orphans is Agent's.
func (d *Dn) Orphans(ctx context.Context, r *apiv1.OrphansRequest) (ids []string, err error) {
	reply, err := d.DnAgentServer.Orphans(ctx, r)
	for _, v := range reply.GetVds() {
		ids = append(ids, v.Id)
	}
	return ids, err
}

// Cn is a controller node's agent in the suite, with secondaries as its objects.
type Cn struct {
	apiv1.CnAgentServer
	// Start ends the server, which may be nil, and starts another on what it kept.
	Start func(apiv1.CnAgentServer) apiv1.CnAgentServer
}

// Restart is Agent's.
func (c *Cn) Restart() { c.CnAgentServer = c.Start(c.CnAgentServer) }

// Sync is Agent's.
func (c *Cn) Sync(ctx context.Context, r Request) (*apiv1.SyncReply, error) {
	req := &apiv1.SyncCnRequest{ClusterId: r.Cluster, NodeId: r.Node, Version: r.Version, BaseVersion: r.Base, AllowEmpty: r.AllowEmpty,
		Marks: apiv1.NewVersionMarks(r.Marks)}
	for _, o := range r.Objects {
		req.Cntlrs = append(req.Cntlrs, &apiv1.CntlrSpec{Id: o.ID, DaId: o.DA, DaName: "da-" + o.DA, Term: o.Term,
			Deleted: o.Deleted, Version: r.Version,
			Size: 4 << 20, HostNqn: vda.PrimaryHostNQN(o.DA, o.Term), MinCntlid: 1, MaxCntlid: 1000,
			PrimaryListener: &apiv1.ListenerConf{Trtype: "tcp", Traddr: "127.0.0.1", Adrfam: "ipv4", Trsvcid: "4499"}})
	}
	return c.CnAgentServer.Sync(ctx, req)
}

// Orphans is Agent's.
func (c *Cn) Orphans(ctx context.Context, r *apiv1.OrphansRequest) (ids []string, err error) {
	reply, err := c.CnAgentServer.Orphans(ctx, r)
	for _, v := range reply.GetCntlrs() {
		ids = append(ids, v.Id)
	}
	return ids, err
}
