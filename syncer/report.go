package syncer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// Report is what a heartbeat found out about a node and its objects.
type Report struct {
	// Problem is why the node as a whole is not well; "" when it is.
	Problem string
	// Down: its objects cannot be told apart, all of them share Problem.
	Down bool
	// Version is what the agent holds; objects above it are left alone. When
	// Down it is the node's version in SQL.
	Version uint64
	// Errors are the objects in error, by id, when the node is not down.
	Errors map[string]string
	// DataPlaneVersion is the data plane's own, "" when it did not say.
	DataPlaneVersion string
	// AgentVersion is the agent's, likewise.
	AgentVersion string
	// CanMirror: the data plane of a cn has mirrors. It is not known when Down.
	CanMirror bool
	// CanAuth: a cn can have hosts authenticate. It is not known when Down.
	CanAuth bool
	// CanReserve: hosts' reservations hold by a cn and others of an array. It is not known when Down.
	CanReserve bool
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
	if !bad && len(r.Errors) > 0 {
		if msg, bad = r.Errors[hopES(id)]; bad {
			msg = atBackend + msg
		}
	}
	return &apiv1.ObjectState{Error: bad, ErrorMsg: msg}
}

// nodeState is the health of the node itself. Several objects in error do not make
// the node bad: they say so themselves.
func (r *Report) nodeState() *apiv1.ObjectState {
	return &apiv1.ObjectState{Error: r.Problem != "", ErrorMsg: r.Problem}
}

// finding is a health to be written.
type finding struct {
	object store.Object
	id     string
	daID   string // the array above; "" when its health does not follow
	health vda.Health
}

// findings gathers what a report changes, from a view: most reports change
// nothing, and none should lock a node's every row.
type findings struct {
	node  array.Node
	title string // of the node, for messages
	list  []finding
	das   []string
	own   *vda.Health // the node's
	plane string      // its DataPlaneVersion; "" when it is not another one
	agent string      // likewise its AgentVersion
	// mirrors is a cn's CanMirror; nil when it is not another one
	mirrors  *bool
	auth     *bool // likewise of its CanAuth
	reserves *bool // likewise of its CanReserve
}

// maxVersion bounds what an agent says of its version, as the database does.
const maxVersion = 200

func findingsOf(k vda.NodeKind, n *vda.Node, r *Report) findings {
	f := findings{node: array.Node{Kind: k, ID: n.ID}, title: k.Title(n.Name)}
	if h := healthOf(r.nodeState()); !array.SameHealth(n.Health, h) {
		f.own = &h
	}
	if r.DataPlaneVersion != n.DataPlaneVersion {
		f.plane = r.DataPlaneVersion
	}
	if is := vda.Shorten(r.AgentVersion, maxVersion); is != n.AgentVersion {
		f.agent = is
	}
	return f
}

func (f *findings) add(o store.Object, id, daID string, old vda.Health, st *apiv1.ObjectState) {
	if st == nil || array.SameHealth(old, healthOf(st)) {
		return
	}
	f.list = append(f.list, finding{o, id, daID, healthOf(st)})
	if daID != "" {
		f.das = append(f.das, daID)
	}
}

func (f *findings) none() bool { return len(f.list) == 0 && !f.ownNews() }

// ownNews reports that something is found of the node itself.
func (f *findings) ownNews() bool {
	return f.own != nil || f.plane != "" || f.agent != "" || f.mirrors != nil || f.auth != nil || f.reserves != nil
}

// split returns the findings in parts of at most n objects: who waits for one of their arrays, as I/O
// may, does not wait for all of a node's. What is found of the node itself comes first.
func (f *findings) split(n int) []findings {
	if len(f.list) <= n {
		return []findings{*f}
	}
	first := *f
	first.list, first.das = nil, nil
	parts := []findings{first}
	for some := range slices.Chunk(f.list, n) {
		p := findings{node: f.node, title: f.title, list: some}
		for _, h := range some {
			if h.daID != "" {
				p.das = append(p.das, h.daID)
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// write writes the findings of several nodes, in the lock order, with as many statements for a
// thousand objects that have come to the same health as for one.
func write(tx store.Tx, all []findings) error {
	change := array.Begin(tx)
	var das []string
	var disks []finding
	var alike array.Healths
	for i := range all {
		f := &all[i]
		das = append(das, f.das...)
		for _, h := range f.list {
			if h.object == store.ObjPD {
				disks = append(disks, h)
			} else {
				alike.Add(h.object, h.id, h.health)
			}
		}
		if f.ownNews() {
			change.At(f.node, func() error { return vda.IgnoreNotFound(f.writeNode(tx)) })
		}
	}
	if err := change.LockArrays(das...); err != nil {
		return err
	}
	slices.SortFunc(disks, func(a, b finding) int { return cmp.Compare(a.id, b.id) })
	for _, h := range disks {
		if err := vda.IgnoreNotFound(array.SetDiskHealth(tx, h.id, h.health)); err != nil {
			return err
		}
	}
	if err := alike.Write(tx); err != nil {
		return err
	}
	if err := change.Settle(das...); err != nil {
		return err
	}
	return change.Write()
}

func (f *findings) writeNode(tx store.Tx) error {
	if f.own != nil {
		if err := array.SetNodeHealth(tx, f.node, *f.own); err != nil {
			return err
		}
	}
	if f.mirrors != nil {
		if err := tx.SetCNMirrors(f.node.ID, *f.mirrors); err != nil {
			return err
		}
	}
	if f.auth != nil {
		if err := tx.SetCNAuth(f.node.ID, *f.auth); err != nil {
			return err
		}
	}
	if f.reserves != nil {
		if err := tx.SetCNReserves(f.node.ID, *f.reserves); err != nil {
			return err
		}
	}
	if f.plane == "" && f.agent == "" {
		return nil
	}
	n, err := tx.Node(f.node.Kind, f.node.ID)
	if err != nil {
		return err
	}
	n.DataPlaneVersion, n.AgentVersion = cmp.Or(f.plane, n.DataPlaneVersion), cmp.Or(f.agent, n.AgentVersion)
	return tx.UpdateNode(f.node.Kind, n)
}

// NodeReport is what a heartbeat found out about a node.
type NodeReport struct {
	Node array.Node
	Report
}

// maxFindings is after how many findings a transaction of reports ends.
const maxFindings = 256

// Reports writes what heartbeats found out about nodes, their objects, and the
// arrays above, many nodes per transaction. Rows that say it already are not
// written; nodes that are gone are passed over. After an error, some may be
// written.
func (s *Syncer) Reports(ctx context.Context, all []NodeReport) error {
	var found []findings
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		found = nil
		for i := range all {
			f, err := lookAt(tx, all[i].Node, &all[i].Report)
			if err != nil {
				if vda.KindOf(err) == vda.NotFound {
					continue
				}
				return err
			}
			if !f.none() {
				found = append(found, f.split(maxFindings)...)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for len(found) > 0 {
		n, rows := 0, 0
		for n == 0 || n < len(found) && rows+len(found[n].list) <= maxFindings {
			rows += 1 + len(found[n].list)
			n++
		}
		part := found[:n]
		if err := s.cfg.Store.Update(ctx, func(tx store.Tx) error { return write(tx, part) }); err != nil {
			return err
		}
		found = found[n:]
	}
	return nil
}

// lookAt finds what a report changes. The error is NotFound when the node is gone.
func lookAt(tx store.Reader, n array.Node, r *Report) (findings, error) {
	row, err := tx.Node(n.Kind, n.ID)
	if err != nil {
		return findings{}, err
	}
	f := findingsOf(n.Kind, row, r)
	if n.Kind == vda.DiskNode {
		return f, f.disks(tx, r)
	}
	cn, err := tx.CN(n.ID)
	if err != nil {
		return f, err
	}
	if !r.Down && cn.Mirrors != r.CanMirror {
		f.mirrors = &r.CanMirror
	}
	if !r.Down && cn.Auth != r.CanAuth {
		f.auth = &r.CanAuth
	}
	if !r.Down && cn.Reserves != r.CanReserve {
		f.reserves = &r.CanReserve
	}
	return f, f.cntlrs(tx, r)
}

// disks adds what is found of a dn's pds and vds.
func (f *findings) disks(tx store.Reader, r *Report) error {
	pds, vds, err := tx.DNObjects(f.node.ID, 0)
	for i := range pds {
		pd := &pds[i]
		f.add(store.ObjPD, pd.ID, "", pd.Health, r.state(f.title, pd.ID, pd.Version))
	}
	for i := range vds {
		vd := &vds[i]
		f.add(store.ObjVD, vd.ID, vd.DAID, vd.Health, r.state(f.title, vd.ID, vd.Version))
	}
	return err
}

// cntlrs adds what is found of a cn's controllers and their exporters' states.
func (f *findings) cntlrs(tx store.Reader, r *Report) error {
	cntlrs, err := tx.CNObjects(f.node.ID, 0)
	if err != nil {
		return err
	}
	var snaps map[string][]vda.Snap
	if !r.Down { // of a node that is down nothing is known of them
		if snaps, err = by(func(v *vda.Snap) string { return v.DAID }, tx.SnapsOnCN, f.node.ID, 0); err != nil {
			return err
		}
	}
	ess, err := by(func(v *vda.ES) string { return v.CntlrID }, tx.ESsOnCN, f.node.ID, 0)
	if err != nil {
		return err
	}
	for i := range cntlrs {
		c := &cntlrs[i]
		f.add(store.ObjCntlr, c.ID, c.DAID, c.Health, r.state(f.title, c.ID, c.Version))
		if c.Primary && !c.Deleted {
			for j := range snaps[c.DAID] {
				s := &snaps[c.DAID][j]
				f.add(store.ObjSnap, s.ID, c.DAID, s.Health, r.state(f.title, s.ID, c.Version))
			}
		}
		for j := range ess[c.ID] {
			es := &ess[c.ID][j]
			f.add(store.ObjES, es.ID, "", es.Health, r.state(f.title, es.ID, c.Version))
		}
	}
	return nil
}

// Fingerprint is equal for reports that write the same. Objects that are new
// to a node get their health from the Sync that brings them, so a version
// makes a difference only while the node is down and nothing is synced.
func (r *Report) Fingerprint() string {
	if r.Down {
		return fmt.Sprintf("down at %d: %q", r.Version, r.Problem)
	}
	return fmt.Sprintf("%q %q %q %q %v %v %v", r.Problem, r.Errors, r.DataPlaneVersion, r.AgentVersion, r.CanMirror, r.CanAuth, r.CanReserve)
}
