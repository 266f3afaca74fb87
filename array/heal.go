package array

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// MaxLegs is how many legs a mirror has at most: three members and one that
// replaces one of them.
const MaxLegs = 4

// AddLeg gives a mirror one more leg, stale, on the place that PlaceLegs has chosen,
// and marks the one that it is to replace as leaving. ErrStale when the place or
// that leg is not what it was, as when it is leaving already.
func AddLeg(tx store.Tx, n NewLeg) (Plan, error) {
	plans, errs, err := AddLegs(tx, []NewLeg{n})
	if err != nil {
		return nil, err
	}
	return plans[0], errs[0]
}

// AddLegs is AddLeg for mirrors of many arrays, in one transaction. Each is judged by itself,
// as by ChangeManyLegs: the plans and errors are theirs, in their order.
func AddLegs(tx store.Tx, legs []NewLeg) (plans []Plan, errs []error, err error) {
	plans, errs = make([]Plan, len(legs)), make([]error, len(legs))
	var das, pdIDs, dnIDs []string
	for i := range legs {
		das, pdIDs, dnIDs = append(das, legs[i].DAID), append(pdIDs, legs[i].At.PDID), append(dnIDs, legs[i].At.DNID)
	}
	c := Begin(tx)
	all, err := c.beginLegs(das)
	if err != nil {
		return nil, nil, err
	}
	r := room{pds: map[string]*vda.PD{}, online: map[string]bool{}}
	err = lock(pdIDs, func(id string) (err error) { r.pds[id], err = tx.PD(id); return err })
	if err != nil {
		return nil, nil, err
	}
	err = lock(dnIDs, func(id string) error {
		row, err := tx.Node(vda.DiskNode, id)
		r.online[id] = err == nil && row.Online
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	more := map[*vda.Column]bool{} // have got one
	for i := range legs {
		l := all[legs[i].DAID]
		if l == nil {
			errs[i] = ErrStale
			continue
		}
		column, old := l.find(legs[i].InsteadOf)
		if errs[i] = ErrStale; old == nil || more[column] || !l.mayAdd(column, old, &legs[i]) || !r.take(&legs[i]) {
			continue
		}
		if err := tx.TakePD(legs[i].At.PDID, legs[i].At.Clusters); err != nil {
			return nil, nil, err
		}
		errs[i], more[column] = nil, true
		l.addOne(column, old, &legs[i])
	}
	of := map[string]Plan{}
	for i := range legs {
		if id := legs[i].DAID; errs[i] == nil {
			if of[id] == nil {
				of[id] = all[id].plan()
			}
			plans[i] = of[id]
		}
	}
	return plans, errs, c.Write()
}

// room is what locked disks have left.
type room struct {
	pds    map[string]*vda.PD
	online map[string]bool // of dns
}

// take reports that a leg has its place, and takes it.
func (r *room) take(n *NewLeg) bool {
	pd := r.pds[n.At.PDID]
	if pd == nil || pd.Deleted || !pd.Online || !r.online[n.At.DNID] || pd.FreeClusters < n.At.Clusters ||
		pd.ClusterSize*n.At.Clusters != n.At.Size {
		return false
	}
	pd.FreeClusters -= n.At.Clusters
	return true
}

// mayAdd reports that a column may have one more leg on a place, instead of an old one.
func (l *legs) mayAdd(c *vda.Column, old *vda.VD, n *NewLeg) bool {
	m := l.mirrorOf(c)
	taken := slices.ContainsFunc(c.Legs, func(v *vda.VD) bool { return v.DNID == n.At.DNID })
	return m != nil && !taken && !old.Leaving && len(c.Legs) < MaxLegs && n.At.Size >= m.Size+vda.LegTail && l.da.Created
}

// addOne is what AddLeg does, to a leg that has its room.
func (l *legs) addOne(c *vda.Column, old *vda.VD, n *NewLeg) {
	m := l.mirrorOf(c)
	fresh := &vda.VD{ID: store.NewID(), DAID: n.DAID, GrpIdx: c.GrpIdx, Idx: c.Idx, PDID: n.At.PDID, DNID: n.At.DNID,
		Clusters: n.At.Clusters, Size: n.At.Size, MirrorID: m.ID, Role: vda.Stale, Epoch: 1, Lack: m.Size}
	l.insert(fresh)
	why := "it is lost"
	if n.Moved {
		why = "it moves"
	}
	l.note(fresh, vda.EventLegReplacement, fmt.Sprintf("it takes the place of vd %s on dn %s: %s", old.ID, l.c.dnName(old.DNID), why))
	old.Leaving, old.Moved = true, n.Moved
	l.setLeg(old)
}

// TrimLegs has the legs go that an array's mirrors do not need: those that are
// leaving and those that lost the race to replace them, of a mirror that has all
// its members without them. A leg goes in two steps: it becomes stale, and when
// the primary has let go of it a tombstone. A member stays while those that are to stay
// lack what it has: they broke and catch up, by what the database or the primary says; behind
// are the vds of which the latter does. The plan is empty when there is nothing to do yet.
func TrimLegs(tx store.Tx, daID string, behind ...string) (Plan, error) {
	return Trimmed(daID, behind...).one(tx)
}

// Trimmed is TrimLegs together with others.
func Trimmed(daID string, behind ...string) LegChange {
	return LegChange{daID: daID, do: func(l *legs) error {
		told, err := l.primaryKnows()
		if err == nil {
			l.trim(told, behind)
		}
		return err
	}}
}

// trim is TrimLegs. told: the primary has carried out what it was told last.
func (l *legs) trim(told bool, behind []string) {
	for i := range l.columns {
		c := &l.columns[i]
		m := l.mirrorOf(c)
		if m == nil {
			continue
		}
		fewer := false
		lacks := func(v *vda.VD) bool { return v.Copied() || slices.Contains(behind, v.ID) }
		stay, surplus := l.needed(c)
		// A new primary says which legs catch up when it serves; the database does not know before.
		whole := l.da.Moving.IsZero() && slices.ContainsFunc(stay, func(v *vda.VD) bool { return !lacks(v) })
		for _, v := range surplus {
			switch {
			case v.Role == vda.Member && !whole: // until then, also when it is said to lack something, which may have been before
				v.Leaving = true
				l.setLeg(v)
			case v.Role != vda.Stale:
				fewer = fewer || v.Role == vda.Member
				v.Leaving = true
				l.expel(v)
			case told:
				v.Deleted = true
				l.update(v)
				l.changed = true
			}
		}
		if fewer {
			l.raiseGen(m)
		}
	}
}

// surplus are the legs that a column does not need.
func (l *legs) surplus(c *vda.Column) []*vda.VD {
	_, surplus := l.needed(c)
	return surplus
}

// needed are the members that a column is to have, and the legs that it does not need.
func (l *legs) needed(c *vda.Column) (stay, surplus []*vda.VD) {
	stay = slices.DeleteFunc(c.Of(vda.Member), func(v *vda.VD) bool { return v.Leaving })
	need := max(int(l.da.Redundancy), 1)
	if len(stay) < need {
		return stay, nil
	}
	// Two may have joined at once, or a move was called off while a peer was missing.
	slices.SortStableFunc(stay, func(a, b *vda.VD) int { return cmp.Compare(ailing(a), ailing(b)) })
	stay = stay[:need]
	return stay, slices.DeleteFunc(slices.Clone(c.Legs), func(v *vda.VD) bool { return slices.Contains(stay, v) })
}

// ailing is above 0 of a vd that is not well, or is copied to.
func ailing(v *vda.VD) (n int) {
	if v.Health.Error {
		n++
	}
	if v.Copied() {
		n++
	}
	return n
}

// primaryKnows reports that the array's primary has carried out what it was told
// last, whatever the cn has not of other arrays. A cn does not come to know less, so it is not locked.
func (l *legs) primaryKnows() (bool, error) {
	at := slices.IndexFunc(l.cntlrs, func(v vda.Cntlr) bool { return v.Primary && !v.Deleted })
	if at < 0 {
		return false, nil
	}
	id := l.cntlrs[at].CNID
	come, known := l.c.comes[id]
	if !known {
		cn, err := l.c.tx.Unlocked().Node(vda.ControllerNode, id)
		if err != nil {
			return false, err
		}
		come = cn.Applied
		l.c.comes[id] = come
	}
	return l.cntlrs[at].CarriedOut(come), nil
}
