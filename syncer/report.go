package syncer

import (
	"fmt"

	"vda"
	apiv1 "vda/api/v1"
	"vda/store"
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

// node is the health of the node itself. Several objects in error don't make
// the node bad: they say so themselves.
func (r *Report) node() *apiv1.ObjectState {
	return &apiv1.ObjectState{Error: r.Problem != "", ErrorMsg: r.Problem}
}

// ReportDn writes what a heartbeat found out about a dn, its pds and vds, and
// the arrays above. Rows that say it already are not written.
func ReportDn(tx store.Tx, dnID string, r Report) error {
	dn, err := tx.DN(dnID)
	if err != nil {
		return passOver(err)
	}
	if err := setHealth(tx, store.ObjDN, dn.ID, dn.Health, r.node()); err != nil {
		return err
	}
	if r.DataPlaneVersion != "" && r.DataPlaneVersion != dn.DataPlaneVersion {
		dn.DataPlaneVersion = r.DataPlaneVersion
		if err := tx.UpdateDN(dn); err != nil {
			return err
		}
	}
	pds, vds, err := tx.DNObjects(dnID, 0)
	if err != nil {
		return err
	}
	name := "dn " + dn.Name
	for i := range pds {
		pd := &pds[i]
		if err := setHealth(tx, store.ObjPD, pd.ID, pd.Health, r.state(name, pd.ID, pd.Version)); err != nil {
			return err
		}
	}
	das := touched{}
	for i := range vds {
		vd := &vds[i]
		st := r.state(name, vd.ID, vd.Version)
		if st != nil && !same(vd.Health, st) {
			das.add(vd.DAID)
		}
		if err := setHealth(tx, store.ObjVD, vd.ID, vd.Health, st); err != nil {
			return err
		}
	}
	return das.finish(tx)
}

// ReportCn is ReportDn for a cn, its controllers and their exporters' states.
func ReportCn(tx store.Tx, cnID string, r Report) error {
	cn, err := tx.CN(cnID)
	if err != nil {
		return passOver(err)
	}
	if err := setHealth(tx, store.ObjCN, cn.ID, cn.Health, r.node()); err != nil {
		return err
	}
	if r.DataPlaneVersion != "" && r.DataPlaneVersion != cn.DataPlaneVersion {
		cn.DataPlaneVersion = r.DataPlaneVersion
		if err := tx.UpdateCN(cn); err != nil {
			return err
		}
	}
	cntlrs, err := tx.CNObjects(cnID, 0)
	if err != nil {
		return err
	}
	name := "cn " + cn.Name
	das := touched{}
	for i := range cntlrs {
		c := &cntlrs[i]
		st := r.state(name, c.ID, c.Version)
		if st != nil && !same(c.Health, st) {
			das.add(c.DAID)
		}
		if err := setHealth(tx, store.ObjCntlr, c.ID, c.Health, st); err != nil {
			return err
		}
		ess, err := tx.ESsOfCntlr(c.ID)
		if err != nil {
			return err
		}
		for j := range ess {
			es := &ess[j]
			if err := setHealth(tx, store.ObjES, es.ID, es.Health, r.state(name, es.ID, c.Version)); err != nil {
				return err
			}
		}
	}
	return das.finish(tx)
}

func same(h vda.Health, st *apiv1.ObjectState) bool {
	return h.Error == st.Error && h.Msg == st.ErrorMsg
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
