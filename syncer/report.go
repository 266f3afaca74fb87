package syncer

import (
	"context"
	"fmt"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// Report is what a heartbeat found out about a node and its objects.
type Report struct {
	// Problem is why the node as a whole is not well; "" when it is.
	Problem string
	// Down: its objects can't be told apart, all of them share Problem.
	Down bool
	// Version is what the agent holds; objects above it are left alone. When
	// Down it is the node's version in SQL.
	Version uint64
	// Errors are the objects in error, by id, when the node is not down.
	Errors map[string]string
	// DataPlaneVersion is the data plane's own, "" when it didn't say.
	DataPlaneVersion string
}

// state is the health of an object of the node; nil when the report does not
// know it.
func (r *Report) state(node, id string, version uint64) *apiv1.ObjectState {
	if r.Down {
		return &apiv1.ObjectState{Error: true, ErrorMsg: node + ": " + r.Problem}
	}
	if version > r.Version {
		return nil
	}
	msg, bad := r.Errors[id]
	return &apiv1.ObjectState{Error: bad, ErrorMsg: msg}
}

// nodeState is the health of the node itself. Several objects in error don't make
// the node bad: they say so themselves.
func (r *Report) nodeState() *apiv1.ObjectState {
	return &apiv1.ObjectState{Error: r.Problem != "", ErrorMsg: r.Problem}
}

// change is a health to be written.
type change struct {
	object store.Object
	id     string
	health vda.Health
}

// changes gathers what a report changes, from a view: most reports change
// nothing, and none should lock a node's every row.
type changes struct {
	node string // for messages
	list []change
	das  touched
}

func (c *changes) add(o store.Object, id, daID string, old vda.Health, st *apiv1.ObjectState) {
	if st == nil || same(old, st) {
		return
	}
	c.list = append(c.list, change{o, id, vda.Health{Error: st.Error, Msg: st.ErrorMsg}})
	if daID != "" {
		c.das.add(daID)
	}
}

func (c *changes) write(tx store.Tx) error {
	if err := c.das.lock(tx); err != nil {
		return err
	}
	for _, ch := range c.list {
		if err := passOver(tx.SetHealth(ch.object, ch.id, ch.health)); err != nil {
			return err
		}
	}
	return c.das.finish(tx)
}

// ReportDn writes what a heartbeat found out about a dn, its pds and vds, and
// the arrays above. Rows that say it already are not written.
func (s *Syncer) ReportDn(ctx context.Context, dnID string, r Report) error {
	c := &changes{}
	newPlane := false
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		dn, err := tx.DN(dnID)
		if err != nil {
			return err
		}
		pds, vds, err := tx.DNObjects(dnID, 0)
		if err != nil {
			return err
		}
		c.node, c.list, c.das = "dn "+dn.Name, nil, touched{}
		newPlane = r.DataPlaneVersion != "" && r.DataPlaneVersion != dn.DataPlaneVersion
		c.add(store.ObjDN, dn.ID, "", dn.Health, r.nodeState())
		for i := range pds {
			pd := &pds[i]
			c.add(store.ObjPD, pd.ID, "", pd.Health, r.state(c.node, pd.ID, pd.Version))
		}
		for i := range vds {
			vd := &vds[i]
			c.add(store.ObjVD, vd.ID, vd.DAID, vd.Health, r.state(c.node, vd.ID, vd.Version))
		}
		return nil
	})
	if err != nil || len(c.list) == 0 && !newPlane {
		return passOver(err)
	}
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := c.write(tx); err != nil || !newPlane {
			return err
		}
		dn, err := tx.DN(dnID)
		if err != nil {
			return passOver(err)
		}
		dn.DataPlaneVersion = r.DataPlaneVersion
		return tx.UpdateNode(vda.DiskNode, &dn.Node)
	})
}

// ReportCn is ReportDn for a cn, its controllers and their exporters' states.
func (s *Syncer) ReportCn(ctx context.Context, cnID string, r Report) error {
	c := &changes{}
	newPlane := false
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		cn, err := tx.CN(cnID)
		if err != nil {
			return err
		}
		cntlrs, err := tx.CNObjects(cnID, 0)
		if err != nil {
			return err
		}
		c.node, c.list, c.das = "cn "+cn.Name, nil, touched{}
		newPlane = r.DataPlaneVersion != "" && r.DataPlaneVersion != cn.DataPlaneVersion
		c.add(store.ObjCN, cn.ID, "", cn.Health, r.nodeState())
		for i := range cntlrs {
			ct := &cntlrs[i]
			c.add(store.ObjCntlr, ct.ID, ct.DAID, ct.Health, r.state(c.node, ct.ID, ct.Version))
			ess, err := tx.ESsOfCntlr(ct.ID)
			if err != nil {
				return err
			}
			for j := range ess {
				es := &ess[j]
				c.add(store.ObjES, es.ID, "", es.Health, r.state(c.node, es.ID, ct.Version))
			}
		}
		return nil
	})
	if err != nil || len(c.list) == 0 && !newPlane {
		return passOver(err)
	}
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := c.write(tx); err != nil || !newPlane {
			return err
		}
		cn, err := tx.CN(cnID)
		if err != nil {
			return passOver(err)
		}
		cn.DataPlaneVersion = r.DataPlaneVersion
		return tx.UpdateNode(vda.ControllerNode, &cn.Node)
	})
}

func same(h vda.Health, st *apiv1.ObjectState) bool {
	return h.Error == st.Error && h.Msg == store.CleanMsg(st.ErrorMsg)
}

// Fingerprint is equal for reports that write the same. Objects that are new
// to a node get their health from the Sync that brings them, so a version
// makes a difference only while the node is down and nothing is synced.
func (r *Report) Fingerprint() string {
	if r.Down {
		return fmt.Sprintf("down at %d: %q", r.Version, r.Problem)
	}
	return fmt.Sprintf("%q %q %q", r.Problem, r.Errors, r.DataPlaneVersion)
}
