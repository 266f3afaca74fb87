package array

import (
	"errors"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// An array that serves gets more physical size as a new group of vds, which is put
// behind those that it has, in this order:
//
//   - The rows are written. The group is joining: it has no data, and the array goes on,
//     and moves, without it.
//   - The dns make its vds, and the primary connects to them and assembles what it stands
//     on, beside the array. It says so, and the group is joined: from here on no primary
//     brings the array up without it.
//   - The primary puts it behind the other groups and has the lvstore grow.
//
// Each is in SQL before the next begins, and each is done again by the next primary, so
// that whatever dies, it is finished. Until it is joined the group can be taken back.

// mayBuy refuses more physical size for an array that cannot have it as it is.
func mayBuy(tx store.Reader, da *vda.DA, size uint64) (grps []vda.Grp, err error) {
	refuse := func(format string, args ...any) error {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: "grow", Object: "da " + da.Name, Msg: fmt.Sprintf(format, args...)}
	}
	if err := vda.CheckSize("physical_size", size, da.ClusterSize); err != nil {
		return nil, err
	}
	if grps, err = tx.GrpsOfDA(da.ID); err != nil {
		return nil, err
	}
	joining := slices.IndexFunc(grps, func(g vda.Grp) bool { return g.Joining })
	switch {
	case joining >= 0:
		return nil, refuse("it is getting %d bytes more already; wait until it has them (da get), or give physical_size %d, as it is now, to "+
			"have that taken back", grps[joining].Adds, da.PhysicalSize)
	case size < da.PhysicalSize:
		return nil, refuse("physical_size is %d bytes, and the array has %d: it is not made smaller, as there may be data on any of its vds",
			size, da.PhysicalSize)
	case !da.Created:
		return nil, refuse("it has never been up")
	case da.Source.Copying():
		return nil, refuse("it is a clone, and is being copied; wait until it has all data (da get)")
	case len(grps) == 0:
		return nil, refuse("it has no vds")
	case len(grps) >= vda.MaxGrps:
		return nil, refuse("it has grown %d times, and has %d groups of vds, the most there are", vda.MaxGrps-1, vda.MaxGrps)
	}
	snaps, err := tx.SnapsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	most := mostPhysical(da, grps, len(snaps))
	if size > most {
		return nil, refuse("physical_size is %d bytes, and with %d snapshots the metadata that were set aside when it was made suffice for %d; "+
			"make a new array for more, with a greater physical_size from the beginning", size, len(snaps), most)
	}
	return grps, noSPDK(tx, da)
}

// noSPDK refuses more physical size for an array with a controller on SPDK.
func noSPDK(tx store.Reader, da *vda.DA) error {
	return eachCN(tx, da, func(cn *vda.CN) error {
		if cn.OnSPDK() {
			return &vda.Error{Kind: vda.FailedPrecondition, Op: "grow", Object: "da " + da.Name, Msg: fmt.Sprintf("cn %s of it runs SPDK (%s), "+
				"which cannot add disks to an array that is in use; run vda_tgt on all its cns", cn.Name, cn.DataPlaneVersion)}
		}
		return nil
	})
}

// mostPhysical is the greatest physical size that an array with so many snapshots can
// get: as much as the metadata of its lvstore, made on its first group, can tell of.
func mostPhysical(da *vda.DA, grps []vda.Grp, snaps int) uint64 {
	stripe := uint64(da.StripeCount) * uint64(da.StripeSizeKB) << 10
	return placement.MostPhysical(grps[0].Size/stripe*stripe, da.ClusterSize, uint64(1+snaps))
}

// MaxSnaps is how many snapshots an array may have: what vda.MaxSnaps says, and of one
// that has got more physical size no more than its metadata suffice for.
func MaxSnaps(tx store.Reader, da *vda.DA) (int, error) {
	n := vda.MaxSnaps(da.PhysicalSize, da.ClusterSize)
	grps, err := tx.GrpsOfDA(da.ID)
	if err != nil || len(grps) < 2 {
		return n, err
	}
	size := da.PhysicalSize
	for i := range grps {
		size += grps[i].Adds
	}
	for n > 0 && mostPhysical(da, grps, n) < size {
		n--
	}
	return n, nil
}

// PlacePhysical chooses places for the vds by which an array gets a greater physical
// size, as many per column as its redundancy says. vda.FailedPrecondition and
// vda.InvalidArgument say why it cannot, vda.ResourceExhausted that there is no place.
// The strings are what could not be spread.
func PlacePhysical(tx store.Reader, da *vda.DA, size uint64, strict placement.Strictness) ([]placement.Column, []string, error) {
	if _, err := mayBuy(tx, da, size); err != nil {
		return nil, nil, err
	}
	pds, leftOut, err := DiskCandidates(tx)
	if err != nil {
		return nil, nil, err
	}
	n, strip := uint64(da.StripeCount), uint64(da.StripeSizeKB)<<10
	each := (size - da.PhysicalSize + n - 1) / n
	each = (each + strip - 1) / strip * strip
	if da.Redundancy.Mirrored() {
		columns, warnings, err := placement.Mirrors(pds, int(n), int(da.Redundancy), each, strict)
		return columns, warnings, placement.Explain(err, leftOut)
	}
	vds, warnings, err := placement.VDs(pds, int(n), each, strict)
	if err != nil {
		return nil, nil, placement.Explain(err, leftOut)
	}
	return placement.Columns(each, vds), warnings, nil
}

// GrowPhysical writes the rows of the group by which an array gets a greater physical
// size, whose places PlacePhysical has chosen, and takes its space. ErrStale when a place
// is gone. The plan is the dns, then the primary.
func GrowPhysical(tx store.Tx, da *vda.DA, size uint64, columns []placement.Column) (Plan, error) {
	grps, err := mayBuy(tx.Unlocked(), da, size)
	if err != nil {
		return nil, err
	}
	if err := checkColumns(da, columns); err != nil {
		return nil, err
	}
	c := Begin(tx)
	da.StaysThin = da.Thin()
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	if err := c.takeSpace(placement.Legs(columns)); err != nil {
		return nil, err
	}
	plan := stages(Disks, Primary)
	grp := c.addGroup(da, grps[len(grps)-1].Idx+1, columns, &plan)
	grp.Joining, grp.Adds = true, size-da.PhysicalSize
	disks := c.nodes()
	for _, n := range disks {
		c.At(n, func() error {
			row, err := tx.Node(n.Kind, n.ID)
			if err == nil && !row.Online {
				return ErrStale
			}
			return stale(err)
		})
	}
	return plan, errors.Join(c.tellPrimary(da.ID, &plan), c.Write())
}

// tellPrimary has an array's primary learn of a change.
func (c *Change) tellPrimary(daID string, plan *Plan) error {
	cntlrs, err := c.tx.CntlrsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range cntlrs {
		if v := &cntlrs[i]; v.Primary && !v.Deleted {
			c.updateCntlr(v)
			plan.addCntlr(v)
		}
	}
	return nil
}

// TakeBackPhysical undoes GrowPhysical as long as the group has not joined; it reports
// whether there was anything to undo. The plan is the primary, which lets go of the vds,
// then the dns.
func TakeBackPhysical(tx store.Tx, da *vda.DA) (undone bool, _ Plan, _ error) {
	grps, err := tx.GrpsOfDA(da.ID)
	if err != nil {
		return false, nil, err
	}
	at := slices.IndexFunc(grps, func(g vda.Grp) bool { return g.Joining })
	if at < 0 {
		return false, nil, nil
	}
	if _, err := tx.DA(da.ID); err != nil { // locks it
		return false, nil, err
	}
	g := &grps[at]
	c := Begin(tx)
	vds, err := tx.VDsOfDA(da.ID)
	if err != nil {
		return false, nil, err
	}
	mirrors, err := tx.MirrorsOfDA(da.ID)
	if err != nil {
		return false, nil, err
	}
	plan := stages(Primary, Disks)
	if err := c.tellPrimary(da.ID, &plan); err != nil {
		return false, nil, err
	}
	gone := slices.DeleteFunc(vds, func(v vda.VD) bool { return v.GrpIdx != g.Idx })
	plan.addDisks(gone)
	c.deleteVDs(gone)
	for i := range mirrors {
		if m := &mirrors[i]; m.GrpIdx == g.Idx {
			c.then(func() error { return tx.DeleteMirror(m.ID) })
		}
	}
	c.then(func() error { return tx.DeleteGrp(g.ID) })
	return true, plan, c.Write()
}

// JoinedGrp notes that the primary of a term has a group beside the array, so that it can
// be part of it: no primary brings the array up without it any more. It reports whether
// that is news. The array is locked.
func (c *Change) JoinedGrp(primary *vda.Cntlr, term uint64, grpID string) (bool, error) {
	da, err := c.tx.DA(primary.DAID)
	if err != nil || da.Deleted || !primary.Primary || da.Term != term {
		return false, err
	}
	grps, err := c.tx.GrpsOfDA(da.ID)
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(grps, func(g vda.Grp) bool { return g.ID == grpID && g.Joining })
	if at < 0 {
		return false, nil
	}
	g := grps[at]
	da.PhysicalSize += g.Adds
	g.Joining, g.Adds = false, 0
	if err := errors.Join(c.tx.UpdateDA(da), c.tx.UpdateGrp(&g)); err != nil {
		return false, err
	}
	c.updateCntlr(primary)
	return true, nil
}
