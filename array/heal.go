package array

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// MaxLegs is how many legs a mirror has at most: three members and one that
// replaces one of them.
const MaxLegs = 4

// AddLeg gives a mirror one more leg, stale, on the place that PlaceLeg has chosen,
// and marks the one that it is to replace as leaving. ErrStale when the place or
// that leg is not what it was, as when it is leaving already.
func AddLeg(tx store.Tx, n NewLeg) (Plan, error) {
	return changeLeg(tx, n.DAID, n.InsteadOf, func(l *legs, c *vda.Column, old *vda.VD) error {
		m := l.mirrorOf(c)
		taken := slices.ContainsFunc(c.Legs, func(v *vda.VD) bool { return v.DNID == n.At.DNID })
		if m == nil || taken || old.Leaving || len(c.Legs) >= MaxLegs || n.At.Size < m.Size+vda.LegTail || !l.da.Created {
			return ErrStale
		}
		if err := l.c.takeSpace([]placement.VD{n.At}); err != nil {
			return err
		}
		fresh := &vda.VD{ID: store.NewID(), DAID: n.DAID, GrpIdx: c.GrpIdx, Idx: c.Idx, PDID: n.At.PDID, DNID: n.At.DNID,
			Clusters: n.At.Clusters, Size: n.At.Size, MirrorID: m.ID, Role: vda.Stale, Epoch: 1, Lack: m.Size}
		l.insert(fresh)
		why := "it is lost"
		if n.Moved {
			why = "it moves"
		}
		l.note(fresh, vda.EventLegReplacement, fmt.Sprintf("it takes the place of vd %s on dn %s: %s", old.ID,
			nodeName(tx, vda.DiskNode, old.DNID), why))
		old.Leaving, old.Moved = true, n.Moved
		l.setLeg(old)
		return l.c.allOnline()
	})
}

// TrimLegs has the legs go that an array's mirrors do not need: those that are
// leaving and those that lost the race to replace them, of a mirror that has all
// its members without them. A leg goes in two steps: it becomes stale, and when
// the primary has let go of it a tombstone. The plan is empty when there is nothing
// to do yet.
func TrimLegs(tx store.Tx, daID string) (Plan, error) { return Trimmed(daID).one(tx) }

// Trimmed is TrimLegs together with others.
func Trimmed(daID string) LegChange {
	return LegChange{daID: daID, do: func(l *legs) error {
		told, err := l.primaryKnows()
		if err == nil {
			l.trim(told)
		}
		return err
	}}
}

// trim is TrimLegs. told: the primary has carried out what it was told last.
func (l *legs) trim(told bool) {
	for i := range l.columns {
		c := &l.columns[i]
		m := l.mirrorOf(c)
		if m == nil {
			continue
		}
		fewer := false
		for _, v := range l.surplus(c) {
			switch {
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
	stay := slices.DeleteFunc(c.Of(vda.Member), func(v *vda.VD) bool { return v.Leaving })
	need := max(int(l.da.Redundancy), 1)
	if len(stay) < need {
		return nil
	}
	// Two may have joined at once, or a move was called off while a peer was missing.
	slices.SortStableFunc(stay, func(a, b *vda.VD) int { return cmp.Compare(ailing(a), ailing(b)) })
	stay = stay[:need]
	return slices.DeleteFunc(slices.Clone(c.Legs), func(v *vda.VD) bool { return slices.Contains(stay, v) })
}

// ailing is 1 of a vd that is not well, and 0 of others.
func ailing(v *vda.VD) int {
	if v.Health.Error {
		return 1
	}
	return 0
}

// primaryKnows reports that the array's primary has carried out what it was told
// last. A cn does not come to know less, so it is not locked.
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
	return come >= l.cntlrs[at].Version, nil
}
