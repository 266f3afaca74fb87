package array

import (
	"fmt"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// What happens to nodes, disks and arrays is recorded where it is decided, in the
// transaction that decides it: there is no other place that could say why.

// daEvent is an event of an array.
func daEvent(da *vda.DA, kind vda.EventKind, format string, args ...any) vda.Event {
	return vda.Event{Kind: kind, Object: "da", Name: da.Name, ObjectID: da.ID, Text: fmt.Sprintf(format, args...)}
}

// SetNodeHealth writes the health of a node, whose turn to be locked it is.
func SetNodeHealth(tx store.Tx, at Node, h vda.Health) error {
	n, err := tx.Node(at.Kind, at.ID)
	if err != nil {
		return err
	}
	if err := tx.SetHealth(store.NodeObject(at.Kind), at.ID, h); err != nil || n.Health.Error == h.Error {
		return err
	}
	e := vda.Event{Kind: vda.EventNodeDown, Object: string(at.Kind), Name: n.Name, ObjectID: n.ID, Text: h.Msg}
	if !h.Error {
		e.Kind, e.Text, e.Since = vda.EventNodeUp, "it is well again, after: "+n.Health.Msg, n.Health.Since
	}
	return tx.Record(e)
}

// SetDiskHealth writes the health of a pd. A disk that is in error since its dn is says
// nothing of its own.
func SetDiskHealth(tx store.Tx, id string, h vda.Health) error {
	if err := tx.SetHealth(store.ObjPD, id, h); err != nil {
		return err
	}
	u := tx.Unlocked()
	pd, err := u.PD(id)
	if err != nil {
		return err
	}
	dn, err := u.Node(vda.DiskNode, pd.DNID)
	if err != nil || pd.Deleted {
		return err
	}
	last, err := u.LastEvent(id, vda.EventDiskFault, vda.EventDiskOK)
	if err != nil {
		return err
	}
	faulty := last != nil && last.Kind == vda.EventDiskFault
	e := vda.Event{Kind: vda.EventDiskFault, Object: "pd", Name: pd.Name, Parent: dn.Name, ObjectID: id, Text: h.Msg}
	switch {
	case h.Error && (faulty || strings.HasPrefix(h.Msg, vda.DiskNode.Title(dn.Name)+": ")), !h.Error && !faulty:
		return nil
	case !h.Error:
		e.Kind, e.Text, e.Since = vda.EventDiskOK, "it is well again, after: "+last.Text, last.At
	}
	return tx.Record(e)
}

// noteHealth records that an array has another health.
func (c *Change) noteHealth(da *vda.DA, h vda.Health) error {
	if da.Health.Error == h.Error || !da.Created || da.Deleted {
		return nil
	}
	e := daEvent(da, vda.EventDAError, "%s", h.Msg)
	if !h.Error {
		e.Kind, e.Text, e.Since = vda.EventDAOK, "it is well again, after: "+da.Health.Msg, da.Health.Since
	}
	return c.tx.Record(e)
}

// Served notes that the primary of a term serves: a failover has ended, if there was one.
// The array is locked.
func (c *Change) Served(primary *vda.Cntlr, term uint64) error {
	if !primary.Primary || primary.Deleted || !c.moving[primary.DAID] {
		return nil
	}
	da, err := c.tx.DA(primary.DAID)
	if err != nil || da.Term != term || da.Moving.IsZero() {
		return err
	}
	e := daEvent(da, vda.EventFailoverEnd, "its primary is controller %d on cn %s", primary.Idx,
		nodeName(c.tx, vda.ControllerNode, primary.CNID))
	e.Since = da.Moving
	da.Moving = time.Time{}
	if err := c.tx.UpdateDA(da); err != nil {
		return err
	}
	return c.tx.Record(e)
}

// nodeName is a node's name for a text, its id when it is gone.
func nodeName(tx store.Reader, k vda.NodeKind, id string) string {
	n, err := tx.Unlocked().Node(k, id)
	if err != nil {
		return id
	}
	return n.Name
}

// dnName is nodeName of a dn, read once.
func (c *Change) dnName(id string) string {
	name, known := c.names[id]
	if !known {
		name = nodeName(c.tx, vda.DiskNode, id)
		c.names[id] = name
	}
	return name
}

// note records an event of a leg, with the rows of the change.
func (l *legs) note(v *vda.VD, kind vda.EventKind, what string) {
	l.c.then(func() error {
		e := vda.Event{Kind: kind, Object: "vd", Name: v.ID, Parent: l.da.Name, ObjectID: v.ID,
			Text: fmt.Sprintf("vd %d of group %d on dn %s: %s", v.Idx, v.GrpIdx, l.c.dnName(v.DNID), what)}
		if kind == vda.EventRebuildEnd {
			begin, err := l.c.tx.LastEvent(v.ID, vda.EventRebuildBegin)
			if err != nil {
				return err
			}
			if begin != nil {
				e.Since = begin.At
			}
		}
		return l.c.tx.Record(e)
	})
}

// drained records that the last vd has left what is being drained. The pd is locked.
func (c *Change) drained(v *vda.VD) error {
	u := c.tx.Unlocked()
	pd, err := u.PD(v.PDID)
	if err != nil || pd.VDCount > 0 {
		return vda.IgnoreNotFound(err)
	}
	dn, err := u.DN(pd.DNID)
	if err != nil {
		return vda.IgnoreNotFound(err)
	}
	if pd.Drain {
		e := vda.Event{Kind: vda.EventDrainEnd, Object: "pd", Name: pd.Name, Parent: dn.Name, ObjectID: pd.ID, Text: "no vd is on it now"}
		if err := c.tx.Record(e); err != nil {
			return err
		}
	}
	if !dn.Drain {
		return nil
	}
	pds, _, err := u.ListPD(store.PDFilter{DNID: &dn.ID}, store.Page{})
	if err != nil {
		return err
	}
	for i := range pds {
		if pds[i].VDCount > 0 {
			return nil
		}
	}
	return c.tx.Record(vda.Event{Kind: vda.EventDrainEnd, Object: "dn", Name: dn.Name, ObjectID: dn.ID, Text: "no vd is on it now"})
}
